/**
 * Puts one file or link into DEST: under a temporary name in its own folder first, with mode and time, then by rename,
 * so that nothing half is ever seen under a final name. By descriptors and synchronous calls: a promise per call would
 * cost several times the work itself with many small files.
 */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  futimesSync,
  linkSync,
  lstatSync,
  lutimesSync,
  openSync,
  readlinkSync,
  readSync,
  renameSync,
  type Stats,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import type { PlannedEntry } from './plan.ts';
import { below, parentOf, type SystemPath, systemPath, temporaryName } from './tree-path.ts';

/** Where from and where to, and how. */
export interface CopyWork {
  /** Absolute, latin1. */
  readonly dest: string;
  readonly sources: readonly string[];
  /** Hard links where possible. */
  readonly link: boolean;
  /** Folders below DEST that were made just now, on a disk that tells cases apart: nothing can be in the way there. */
  readonly freshFolders: ReadonlySet<string>;
}

/** What was done. */
export interface CopyTally {
  linked: number;
  copiedInstead: number;
}

// From here on the system copies, as a reflink where the file system can; below, one read and one write are faster.
const LARGE_BYTES = 256 * 1024;
/** Another file system, too many links of one file, a disk without links, or a file of somebody else's. */
const CANNOT_LINK = new Set(['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** Copies one entry after the other; each instance has a temporary name of its own. */
export class EntryCopier {
  readonly tally: CopyTally = { linked: 0, copiedInstead: 0 };
  readonly #work: CopyWork;
  readonly #temporaryName = temporaryName();
  readonly #buffer = Buffer.allocUnsafe(LARGE_BYTES);

  constructor(work: CopyWork) {
    this.#work = work;
  }

  /** @throws Error of the file system, or one that says that the source changed; DEST then lacks the entry */
  copy(entry: PlannedEntry): void {
    const { dest, sources, link, freshFolders } = this.#work;
    const folder = parentOf(entry.as);
    const from = systemPath(sources[entry.source] ?? '', entry.path);
    const to = systemPath(dest, entry.as);
    const temporary = systemPath(dest, below(folder, this.#temporaryName));
    try {
      if (entry.kind === 'link') copyLink(from, temporary, entry.mtimeMs);
      else if (!link || !this.#link(from, temporary, entry)) this.#copyFile(from, temporary, entry);
      // A rename takes the place of whatever is there: nothing is, or the plan says so.
      const isFree = entry.replaces || freshFolders.has(folder);
      if (!isFree && lstatSync(to, { throwIfNoEntry: false }) !== undefined) {
        throw Object.assign(new Error('exists'), { code: 'EEXIST' });
      }
      renameSync(temporary, to);
    } catch (error) {
      unlinkQuietly(temporary);
      throw error;
    }
  }

  #link(from: SystemPath, to: SystemPath, entry: PlannedEntry): boolean {
    try {
      linkSync(from, to);
    } catch (error) {
      if (!CANNOT_LINK.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      this.tally.copiedInstead++;
      return false;
    }
    checkUnchanged(lstatSync(to), entry);
    this.tally.linked++;
    return true;
  }

  #copyFile(from: SystemPath, to: SystemPath, entry: PlannedEntry): void {
    const time = timeOf(entry.mtimeMs);
    if (entry.size >= LARGE_BYTES) {
      copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      checkUnchanged(lstatSync(from), entry);
      chmodSync(to, entry.mode);
      utimesSync(to, time, time);
      return;
    }
    this.#read(from, entry);
    const fd = openSync(to, 'wx', 0o600);
    try {
      for (let at = 0; at < entry.size; ) at += writeSync(fd, this.#buffer, at, entry.size - at);
      fchmodSync(fd, entry.mode);
      futimesSync(fd, time, time);
    } finally {
      closeSync(fd);
    }
  }

  /** Reads a small file into the buffer. */
  #read(from: SystemPath, entry: PlannedEntry): void {
    const fd = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      let at = 0;
      for (let count = 1; at < entry.size && count > 0; at += count) {
        count = readSync(fd, this.#buffer, at, entry.size - at, null);
      }
      checkUnchanged(fstatSync(fd), entry);
      if (at < entry.size) throw new ChangedError();
    } finally {
      closeSync(fd);
    }
  }
}

class ChangedError extends Error {
  constructor() {
    super('it changed since it was compared');
  }
}

function checkUnchanged(stat: Stats, { size, mtimeMs }: PlannedEntry): void {
  if (!stat.isFile() || stat.size !== size || stat.mtimeMs !== mtimeMs) throw new ChangedError();
}

function copyLink(from: SystemPath, to: SystemPath, mtimeMs: number): void {
  symlinkSync(readlinkSync(from, 'buffer'), to);
  lutimesSync(to, timeOf(mtimeMs), timeOf(mtimeMs));
}

/** As the time functions take it: Node turns a negative number into now, but not a date before 1970. */
export function timeOf(mtimeMs: number): number | Date {
  return mtimeMs < 0 ? new Date(mtimeMs) : mtimeMs / 1000;
}

function unlinkQuietly(path: SystemPath): void {
  try {
    unlinkSync(path);
  } catch {
    // It was not made, or already has its final name; a later run removes what stays.
  }
}
