/** Tells where the bytes of a listing are, for a person who wonders what takes so long. */
import { foldersAbove } from './byte-path.ts';
import type { SourceEntry } from './source-part.ts';

/** A folder or file and the bytes of the files in it. */
export interface LargePath {
  /** As in the listing: bytes. */
  readonly path: string;
  readonly bytes: number;
}

/** A folder that holds this share of what is around it says more than that. */
const MOST_OF_IT = 0.9;

/**
 * The largest things of a listing, none of them in another, the largest first: what lies at the top, or, where one folder
 * holds nearly all of a thing, that folder.
 */
export function largestFolders(entries: readonly SourceEntry[], count: number): LargePath[] {
  const bytesOf = new Map<string, number>([['', 0]]);
  const childrenOf = new Map<string, Set<string>>();
  for (const { path, kind, size } of entries) {
    if (kind !== 'file' || size === 0) continue;
    let parent = '';
    for (const one of [...foldersAbove(path), path]) {
      const children = childrenOf.get(parent) ?? new Set();
      childrenOf.set(parent, children.add(one));
      bytesOf.set(one, (bytesOf.get(one) ?? 0) + size);
      parent = one;
    }
    bytesOf.set('', (bytesOf.get('') ?? 0) + size);
  }
  const bytes = (path: string) => bytesOf.get(path) ?? 0;
  const inside = (path: string) => [...(childrenOf.get(path) ?? [])].sort((a, b) => bytes(b) - bytes(a));
  const narrowed = (path: string, isFileRight: boolean): string => {
    const [largest] = inside(path);
    if (largest === undefined || bytes(largest) < MOST_OF_IT * bytes(path)) return path;
    return isFileRight || childrenOf.has(largest) ? narrowed(largest, isFileRight) : path;
  };
  return inside(narrowed('', false))
    .slice(0, count)
    .map((path) => narrowed(path, true))
    .map((path) => ({ path, bytes: bytes(path) }));
}
