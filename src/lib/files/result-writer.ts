/**
 * Writes what an untrusted archive holds below one folder, and nowhere else. Only what this writer made itself is
 * written below or linked to; symbolic links are made last, so that nothing can be written through one.
 *
 * Calls are synchronous: a promise for each step of each small file costs more than the step.
 */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  futimesSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { EntryError, nameText, type TarEntry, type TarSink } from './tar-reader.ts';

/** Read, write and execute: no file comes home setuid, setgid or sticky. */
const PERMISSIONS = 0o777;
// What all file systems can hold: 1901 to 2446 (ext4's last second).
const EARLIEST_SECONDS = -(2 ** 31);
const LATEST_SECONDS = 15_032_385_535;

/** Linux's PATH_MAX: no call takes a longer path, so the folders above need not be made to find out. */
const LONGEST_PATH_BYTES = 4096;

type Made = 'file' | 'symlink' | 'folder' | 'parent';
type Known = { readonly path: string; readonly entry: TarEntry };

/** A folder that fills from an archive. `finish` completes it; after an error `abort` lets go of what is open. */
export class ResultWriter implements TarSink {
  /** Files and hard links so far. */
  files = 0;
  readonly #root: string;
  /** What stands where, by path without `./`; a `parent` is a folder that no entry has named yet. */
  readonly #made = new Map<string, Made>();
  readonly #links: Known[] = [];
  readonly #folders: Known[] = [];
  readonly #linkTargets = new Map<string, string>();
  #lastParent = '';
  #current: TarEntry | undefined;
  #fd: number | undefined;

  /** `folder` exists. */
  constructor(folder: string) {
    this.#root = Buffer.from(folder).toString('latin1');
  }

  entry(entry: TarEntry): void {
    this.#current = entry;
    const parts = safeParts(entry, entry.path, 'its name');
    if (parts.length === 0) {
      if (entry.kind === 'folder') return; // the folder itself
      throw new EntryError(entry.path || '.', `is a ${entry.kind} and yet is named like the folder itself`);
    }
    const path = parts.join('/');
    this.#makeParents(parts);
    const made = this.#made.get(path);
    if (made !== undefined && !(made === 'parent' && entry.kind === 'folder'))
      throw new EntryError(entry.path, `comes as a ${entry.kind} and was a ${madeText(made)} before`);
    if (entry.kind === 'folder') this.#makeFolder(path);
    if (entry.kind === 'file') this.#openFile(path);
    if (entry.kind === 'symlink') this.#noteLink(path, entry.target);
    if (entry.kind === 'hardlink') this.#makeHardLink(path);
  }

  content(piece: Buffer): void {
    const fd = this.#fd;
    if (fd === undefined) throw new Error('Internal error: content without a file');
    this.#step(() => {
      for (let at = 0; at < piece.length; ) at += writeSync(fd, piece, at, piece.length - at);
    });
  }

  entryEnd(): void {
    const [fd, entry] = [this.#fd, this.#current];
    if (fd === undefined || entry === undefined) return;
    this.#step(() => {
      fchmodSync(fd, entry.mode & PERMISSIONS); // not what the umask leaves of it
      const time = fileTime(entry);
      if (time !== undefined) futimesSync(fd, time, time);
      this.#fd = undefined;
      closeSync(fd); // some disks tell only now that they are full
    });
  }

  /** Makes the links, then gives folders their modes and times, the deepest first: a read-only one is full by then. */
  finish(): void {
    for (const { path, entry } of this.#links) {
      this.#current = entry;
      const target = Buffer.from(this.#linkTargets.get(path) ?? entry.target, 'latin1');
      this.#step(() => {
        symlinkSync(target, this.#place(path));
        const time = fileTime(entry);
        if (time !== undefined) lutimesSync(this.#place(path), time, time);
      });
    }
    for (const { path, entry } of this.#folders.sort((a, b) => b.path.length - a.path.length)) {
      this.#current = entry;
      this.#step(() => {
        chmodSync(this.#place(path), entry.mode & PERMISSIONS);
        const time = fileTime(entry);
        if (time !== undefined) utimesSync(this.#place(path), time, time);
      });
    }
  }

  /** Closes a half-written file. */
  abort(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Names are bytes, which Node takes as a Buffer. */
  #place(path: string): Buffer {
    return Buffer.from(`${this.#root}/${path}`, 'latin1');
  }

  #makeParents(parts: readonly string[]): void {
    const parent = parts.slice(0, -1).join('/');
    if (parent === this.#lastParent) return;
    for (let i = 1; i < parts.length; i++) {
      const path = parts.slice(0, i).join('/');
      const made = this.#made.get(path);
      if (made === undefined) this.#mkdir(path, 'parent');
      else if (made !== 'folder' && made !== 'parent')
        throw new EntryError(this.#name, `lies below ${nameText(path)}, which is a ${madeText(made)}`);
    }
    this.#lastParent = parent;
  }

  #mkdir(path: string, made: Made): void {
    this.#step(() => {
      try {
        mkdirSync(this.#place(path));
      } catch (error) {
        // A folder that stood here before is as good; a link to one is not.
        if (errorCode(error) !== 'EEXIST' || !lstatSync(this.#place(path)).isDirectory()) throw error;
      }
    });
    this.#made.set(path, made);
  }

  #makeFolder(path: string): void {
    if (this.#made.get(path) === undefined) this.#mkdir(path, 'folder');
    this.#made.set(path, 'folder');
    if (this.#current !== undefined) this.#folders.push({ path, entry: this.#current });
  }

  #openFile(path: string): void {
    // Exclusive: neither a file that is there nor one behind a link is written to.
    this.#fd = this.#step(() => openSync(this.#place(path), 'wx', 0o600));
    this.#made.set(path, 'file');
    this.files += 1;
  }

  #noteLink(path: string, target: string): void {
    if (target === '' || target.includes('\0'))
      throw new EntryError(this.#name, 'is a symlink that leads nowhere');
    this.#made.set(path, 'symlink');
    this.#linkTargets.set(path, target);
    if (this.#current !== undefined) this.#links.push({ path, entry: this.#current });
  }

  #makeHardLink(path: string): void {
    const entry = this.#current;
    if (entry === undefined) return;
    const to = safeParts(entry, entry.target, 'the name that it is a hard link to').join('/');
    const linkTarget = this.#linkTargets.get(to);
    if (linkTarget !== undefined) {
      this.#noteLink(path, linkTarget); // a second name of a symlink is one
      return;
    }
    if (this.#made.get(to) !== 'file')
      throw new EntryError(
        this.#name,
        `is a hard link to ${nameText(entry.target)}, which is no file that came before`,
      );
    this.#step(() => {
      try {
        linkSync(this.#place(to), this.#place(path));
      } catch (error) {
        if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'ENOSYS'].includes(errorCode(error) ?? ''))
          throw error;
        copyFileSync(this.#place(to), this.#place(path), constants.COPYFILE_EXCL); // a disk without hard links
      }
    });
    this.#made.set(path, 'file');
    this.files += 1;
  }

  get #name(): string {
    return this.#current?.path ?? '';
  }

  /** Does a step; an error of the file system is told with the entry's name. */
  #step<T>(step: () => T): T {
    try {
      return step();
    } catch (error) {
      throw new EntryError(this.#name, reasonHere(error), { cause: error });
    }
  }
}

/** Why something could not be written here: a full disk in plain words. */
export function reasonHere(error: unknown): string {
  const code = errorCode(error);
  if (code === 'ENOSPC') return 'no space left on device here';
  if (code === 'EDQUOT') return 'disk quota exceeded here';
  const text = error instanceof Error ? error.message : String(error);
  return `cannot be written here (${text.split(',')[0]})`;
}

/** The parts of a path that stays inside; none for the folder itself. */
function safeParts(entry: TarEntry, path: string, what: string): string[] {
  if (path.includes('\0')) throw new EntryError(entry.path, `${what} holds a NUL byte`);
  if (path.length > LONGEST_PATH_BYTES)
    throw new EntryError(
      entry.path,
      `${what} has ${path.length} bytes, more than the ${LONGEST_PATH_BYTES} that can be`,
    );
  if (path.startsWith('/')) throw new EntryError(entry.path, `${what} is absolute`);
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new EntryError(entry.path, `${what} leads out by ..`);
  return parts;
}

function fileTime({ modifiedAtSeconds }: TarEntry): number | undefined {
  const isPossible = modifiedAtSeconds >= EARLIEST_SECONDS && modifiedAtSeconds <= LATEST_SECONDS;
  return isPossible ? modifiedAtSeconds : undefined;
}

function madeText(made: Made): string {
  return made === 'parent' ? 'folder' : made;
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
