/** What becomes of the files and links that have one path: they are the same, or the user has said which one wins. */
import { posix } from 'node:path';
import { contentHash, type Found, isSameContent } from './found.ts';
import type { Conflict, OnConflict, Plan } from './plan.ts';
import { HASH_LENGTHS, renamedTo } from './renamed-path.ts';
import type { FileComparer } from './same-content.ts';
import { below, parentOf, readablePath } from './tree-path.ts';

/** The merge that things are settled for. */
export interface Settlement {
  readonly plan: Plan;
  readonly comparer: FileComparer;
  readonly onConflict: OnConflict;
  /** Puts a file or link of a source into DEST, perhaps under another path, perhaps in the place of another. */
  take(found: Found, as?: string, replaces?: boolean): void;
  conflict(type: Conflict['type'], found: readonly Found[]): void;
}

/** What has a name in DEST in the end. */
export interface TakenNames {
  get(name: string): Found | undefined;
  set(name: string, found: Found): void;
}

/** Plans for all that has one path and is no folder, first come first. Returns what has to go by another name. */
export function settle(merge: Settlement, all: readonly Found[]): readonly Found[] {
  const [first, ...rest] = all;
  if (first === undefined) return [];
  const different: Found[] = [];
  for (const found of rest) {
    if (isSameContent(first, found, merge.comparer)) merge.plan.counts.identical++;
    else different.push(found);
  }
  if (different.length === 0) {
    merge.take(first);
    return [];
  }
  const isOneKind = all.every(({ kind }) => kind === first.kind);
  const isFixed = first.kind !== 'file' && first.kind !== 'link'; // DEST has a socket there, say
  const { onConflict } = merge;
  switch (isFixed ? 'error' : onConflict) {
    case 'error':
      merge.conflict(isOneKind ? 'content' : 'kind', [first, ...different]);
      return [];
    case 'keep-first':
      merge.plan.counts.dropped += different.length;
      merge.take(first);
      return [];
    case 'keep-newest':
      keepNewest(merge, all, different);
      return [];
    case 'rename':
      merge.take(first);
      return different;
  }
}

function keepNewest(merge: Settlement, all: readonly Found[], different: readonly Found[]): void {
  const [first] = all;
  if (first === undefined) return;
  const newest = all.reduce((best, found) => (found.mtimeMs > best.mtimeMs ? found : best));
  merge.plan.counts.dropped += different.length; // of those that differ from the first, one may win: then the first lost
  // What DEST has is not replaced by the same content of a later date.
  if (!different.includes(newest)) merge.take(first.tree.source === undefined ? first : newest);
  else merge.take(newest, newest.path, first.tree.source === undefined);
}

/** Plans a file or link under `name.<hash>.ext`, with more of the hash where that is taken by other content. */
export function giveOtherName(merge: Settlement, found: Found, taken: TakenNames): void {
  const folder = parentOf(found.path);
  const hash = contentHash(found);
  for (const length of HASH_LENGTHS) {
    const name = renamedTo(posix.basename(found.path), hash.slice(0, length));
    const owner = taken.get(name);
    if (owner !== undefined && !isSameContent(owner, found, merge.comparer)) continue;
    if (owner === undefined) {
      const to = below(folder, name);
      taken.set(name, found);
      merge.take(found, to);
      merge.plan.renamed.push({
        folder: found.tree.name,
        path: readablePath(found.path),
        to: readablePath(to),
      });
    } else merge.plan.counts.identical++;
    return;
  }
  merge.conflict('content', [found]); // all four names are taken by others: nobody does that by chance
}
