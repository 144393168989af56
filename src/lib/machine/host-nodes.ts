/** Lists of hosts as they were read, before it is known what they mean. */
import { UsageError } from '../domain/errors.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { type HostItem, textOfItem } from './host-list.ts';
import type { LoadedMachineFile } from './machine-file-store.ts';

/** Lists of hosts that are one list together: what one of them excludes is excluded from all. */
export interface ReadHosts {
  readonly nodes: readonly Node[];
  readonly context: Context;
  /** Every list is one name as it stands: nothing is asked for that needs lists. */
  readonly isPlain: boolean;
  /** There are hosts, and each of them is excluded. */
  readonly isAllExcluded: boolean;
}

/** Where lists are written: it decides what their names mean. */
export interface Context {
  /** The folder that paths are seen from. */
  readonly here: string;
  /** The machine file whose group it is; undefined for the lists of the call and of the files that these name by `^`. */
  readonly own: LoadedMachineFile | undefined;
  /** Files named by `^` that were read, by real path. */
  readonly lists: Map<string, ReadHosts>;
}

/** An item and what was read with it. */
export interface Node extends HostItem {
  /** The machine file that the item is. */
  readonly file?: LoadedMachineFile;
  /** What the file named by `^` holds. */
  readonly list?: ReadHosts;
  /** For messages, where it is not in the call itself. */
  readonly place: string | undefined;
}

/** What the lists exclude, as hosts. */
export function turned(hosts: ReadHosts): ReadHosts {
  const nodes = hosts.nodes.map((node) => ({ ...node, isExcluded: false }));
  return { ...hosts, nodes, isPlain: false, isAllExcluded: false };
}

/** A name is left out as it stands as well, though it may also be that of a machine file. */
export function nameOf({ type, text, file }: Node): readonly string[] {
  return type === 'name' && file === undefined ? [text] : [];
}

/** @throws UsageError for lists that are nothing but exclusions. */
export function refuseOnlyExcluded({ nodes, isAllExcluded }: ReadHosts): void {
  if (!isAllExcluded) return;
  const text = cutToWidth(visibleText(nodes.map((node) => `!${textOfItem(node)}`).join(',')), 80);
  throw new UsageError(`found only what is excluded (${text}), expected hosts to exclude it from`);
}
