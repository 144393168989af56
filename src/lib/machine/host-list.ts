/** Reads a list of hosts, `lab.yaml,gpu[01-12],@rack3,!gpu07`, into its items. What they mean is found elsewhere. */
import { UsageError } from '../domain/errors.ts';
import { expandRange, MOST_HOSTS, splitHostList } from './host-range.ts';

/** One item of a list; a range gives an item for each of its names. */
export interface HostItem {
  /** A name (of a machine, a file, an ssh destination), a group `@name`, or a list of hosts in a file `^path`. */
  readonly type: 'name' | 'group' | 'list';
  /** Without `!`, `@` and `^`. */
  readonly text: string;
  /** It began with `!`. */
  readonly isExcluded: boolean;
  /** It stands in the list as it is, and is no name of a range. */
  readonly isLiteral: boolean;
  /** The item of the list that it comes from: itself, or its range. */
  readonly written: string;
}

/**
 * The items of one list in their order; where nothing stands between two commas, or after the last, is no item.
 * `isFile` says whether a name is that of a file as it stands, with commas and brackets: then it is no list and no range.
 * @throws UsageError for a mistake in a range, a list of nothing, and for more than 10,000 items to take or to exclude.
 */
export function readHostList(text: string, isFile: (name: string) => boolean): readonly HostItem[] {
  if (isFile(text)) return [{ type: 'name', text, isExcluded: false, isLiteral: true, written: text }];
  const items: HostItem[] = [];
  for (const part of splitHostList(text)) {
    if (part === '') continue;
    const isExcluded = part.startsWith('!');
    const rest = isExcluded ? part.slice(1).trim() : part;
    // An empty variable of a shell must not make an exclusion that excludes nothing.
    if (rest === '') throw new UsageError('found a `!` with nothing after it, expected what it leaves out');
    const type = rest.startsWith('@') ? 'group' : rest.startsWith('^') ? 'list' : 'name';
    const written = type === 'name' ? rest : rest.slice(1);
    const isPath = type === 'list' || (type === 'name' && /[[\]]/.test(written) && isFile(written));
    for (const name of isPath ? [written] : expandRange(written)) {
      items.push({ type, text: name, isExcluded, isLiteral: name === written, written });
    }
    refuseTooManyItems(items);
  }
  if (items.length === 0) {
    const found = text.trim() === '' ? 'an empty list of hosts' : 'a list of hosts with nothing but commas';
    throw new UsageError(`found ${found}, expected machine files, \`local\` or [user@]host[:port]`);
  }
  return items;
}

/** @throws UsageError for more items to take, or to exclude, than a list may have. */
export function refuseTooManyItems(items: readonly HostItem[]): void {
  if (items.length <= MOST_HOSTS) return;
  const excluded = items.filter(({ isExcluded }) => isExcluded).length;
  refuseTooMany(Math.max(excluded, items.length - excluded));
}

/** @throws UsageError for more hosts than a list may have. */
export function refuseTooMany(count: number): void {
  if (count <= MOST_HOSTS) return;
  throw new UsageError(`found a list of more than ${MOST_HOSTS} hosts, expected at most ${MOST_HOSTS}`);
}

/** An item as somebody would write it. */
export function textOfItem({ type, text }: HostItem): string {
  return { name: '', group: '@', list: '^' }[type] + text;
}

/** Whether the items are one name as it stands: nothing in it needs a list. */
export function isPlainName(items: readonly HostItem[]): boolean {
  const [item] = items;
  return (
    items.length === 1 && item !== undefined && item.type === 'name' && item.isLiteral && !item.isExcluded
  );
}
