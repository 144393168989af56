/** Puts together what a job finds in its folder: parts and shared inputs, under one name. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { fromBytePath } from './byte-path.ts';
import type { SharedInput, SourcePart, SourceTree } from './source-part.ts';

const SMALL_ENTRIES = 50;
const SMALL_BYTES = 32 * 1024;

/**
 * A tree of these parts.
 * @throws UsageError when things of two local folders would be placed under one name at the top of the job's folder.
 */
export function sourceTree(parts: readonly SourcePart[], shared: readonly SharedInput[]): SourceTree {
  const all = [...parts, ...shared.map(({ part }) => part)];
  refuseSamePlace(all);
  const sum = (amount: (part: SourcePart) => number) => all.reduce((total, part) => total + amount(part), 0);
  const bytes = sum((part) => part.bytes);
  const [first] = parts;
  return {
    id: treeId(parts, shared),
    parts,
    shared,
    files: sum(({ files }) => files),
    bytes,
    isSmall:
      first !== undefined &&
      all.length === 1 &&
      first.entries.length <= SMALL_ENTRIES &&
      bytes <= SMALL_BYTES &&
      first.entries.every(({ kind }) => kind !== 'link'),
  };
}

function treeId(parts: readonly SourcePart[], shared: readonly SharedInput[]): string {
  const [first] = parts;
  if (shared.length === 0 && parts.length <= 1) return first?.id ?? '';
  // The order in which they were named makes no other tree.
  const lines = [
    ...parts.map(({ id }) => `part ${id}\0`).sort(),
    ...shared.map(({ part, path }) => `share ${part.id} ${path}\0`).sort(),
  ];
  return createHash('sha256').update(lines.join(''), 'latin1').digest('hex').slice(0, 40);
}

function refuseSamePlace(parts: readonly SourcePart[]): void {
  const [first] = parts;
  if (first === undefined || parts.every(({ root }) => root === first.root)) return;
  const roots = new Map<string, string>();
  for (const { root, entries } of parts) {
    for (const name of topNames(entries)) {
      const other = roots.get(name) ?? root;
      roots.set(name, other);
      if (other === root) continue;
      const shown = fromBytePath(name);
      const [one, two, place] = [join(other, shown), join(root, shown), shown].map(visibleText);
      throw new UsageError(
        `--copy-forwards, --share-forwards: ${one} and ${two} would both be placed at ${place}`,
      );
    }
  }
}

const topNamesOf = new WeakMap<SourcePart['entries'], ReadonlySet<string>>();

/** Names at the top of the job's folder. */
function topNames(entries: SourcePart['entries']): ReadonlySet<string> {
  let names = topNamesOf.get(entries); // a thousand jobs may have the same part
  if (names === undefined) {
    names = new Set(entries.map(({ path }) => path.split('/', 1)[0] ?? path));
    topNamesOf.set(entries, names);
  }
  return names;
}
