/** The listing of a part as its machine keeps it, so that later parts find what they have in common with it. */
import type { SourceEntry } from './source-part.ts';

/** A listing. */
export interface PartListing {
  /** Sorted by bytes, each with its newline. */
  readonly bytes: Buffer;
  /** The line of each entry, in the entries' order, without its newline. latin1. */
  readonly lines: readonly string[];
}

const LETTERS = { file: 'f', folder: 'd', link: 'l' } as const;

/** Lists entries, a line each: `DIGEST KIND MODE SIZE PATH`; see tree-store.sh, which reads it. */
export function partListing(entries: readonly SourceEntry[]): PartListing {
  const lines = entries.map(({ path, kind, mode, size, digest }) => {
    // What a folder or a link has for a digest is no hash: a folder's is empty, a link's holds blanks and newlines.
    const name = kind === 'link' ? `->${escaped(digest).replaceAll(' ', '\\0040')}` : digest || '-';
    return `${name} ${LETTERS[kind]} ${mode.toString(8)} ${size} ${escaped(path)}`;
  });
  // latin1 has a character per byte, so this is the order of `LC_ALL=C sort`.
  const sorted = [...lines].sort((a, b) => (a < b ? -1 : 1));
  return { bytes: Buffer.from(sorted.map((line) => `${line}\n`).join(''), 'latin1'), lines };
}

/** A path on one line, as `printf %b` takes it back. */
export function escaped(path: string): string {
  return path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
