/** What combining folders will do, as data: made before anything is written, carried out by `write.ts`. */

/** How the same path with different content is settled. */
export type OnConflict = 'error' | 'keep-first' | 'keep-newest' | 'rename';

/** A file or symbolic link to put into DEST. Paths are latin1. */
export interface PlannedEntry {
  /** Which of the sources has it: an index. */
  readonly source: number;
  /** Below its source. */
  readonly path: string;
  /** Below DEST: the same, unless it was renamed. */
  readonly as: string;
  readonly kind: 'file' | 'link';
  /** Permission bits, 0 to 0o1777: setuid and setgid are dropped, since the copy may belong to somebody else. */
  readonly mode: number;
  readonly mtimeMs: number;
  readonly size: number;
  /** A file of DEST with this name gives way to it. */
  readonly replaces: boolean;
}

/** A folder of DEST that is made, or whose time stamp has to be put back after something was put into it. */
export interface PlannedFolder {
  readonly path: string;
  readonly isNew: boolean;
  /** What it has in the end; absent where it stays as it is. */
  readonly mode?: number;
  readonly mtimeMs: number;
}

/** Why a path cannot be combined, and who has it. */
export interface Conflict {
  /** Relative, for people. */
  readonly path: string;
  /** `content` files or links that differ, `kind` a file, link or folder against another kind, `case` names that the disk takes for one. */
  readonly type: 'content' | 'kind' | 'case';
  /** The folders that have it, with what it is there: `file`, `folder`, `link`, `socket` ...; for `case` with the name there. */
  readonly found: readonly { readonly folder: string; readonly what: string }[];
}

/** Something in a source that is not combined. */
export interface LeftOut {
  readonly folder: string;
  readonly path: string;
  /** `unfinished`: a half file, or the journal, of a run of this command that was killed there. */
  readonly what: 'socket' | 'fifo' | 'device' | 'unfinished';
}

/** A file that goes by another name, since its own is taken by other content. */
export interface Renamed {
  readonly folder: string;
  readonly path: string;
  readonly to: string;
}

/** How much of what there is. Of a dry run, what there would be. */
export interface CombineCounts {
  /** Files put into DEST, and their bytes together. */
  files: number;
  bytes: number;
  /** Symbolic links and folders made in DEST. */
  links: number;
  folders: number;
  /** Files and links of sources that were not put into DEST because the same is there or comes from an earlier source. */
  identical: number;
  /** Files and links that lost against others of their path (`keep-first`, `keep-newest`). */
  dropped: number;
  /** Files and links of DEST that newer ones took the place of; they count as `files` and `links` too. */
  replaced: number;
  /** Files whose bytes were read to compare them. */
  compared: number;
  /** With `link`: files that were linked, and those that had to be copied because they lie on another file system. */
  linked: number;
  copiedInstead: number;
}

/** All that is to be done, and what was found on the way. */
export interface Plan {
  readonly entries: PlannedEntry[];
  /** A folder comes before what is in it. */
  readonly folders: PlannedFolder[];
  /** Half files of killed runs in DEST, to be removed. */
  readonly leftovers: string[];
  readonly conflicts: Conflict[];
  readonly leftOut: LeftOut[];
  readonly renamed: Renamed[];
  readonly counts: CombineCounts;
}

/** A plan that does nothing yet. */
export function emptyPlan(): Plan {
  return {
    ...{ entries: [], folders: [], leftovers: [], conflicts: [], leftOut: [], renamed: [] },
    counts: {
      ...{ files: 0, bytes: 0, links: 0, folders: 0, identical: 0, dropped: 0, replaced: 0 },
      ...{ compared: 0, linked: 0, copiedInstead: 0 },
    },
  };
}
