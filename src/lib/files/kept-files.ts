/**
 * Contents of files, each once, by their digests: `FOLDER/xx/DIGEST`, of which kept parts hold hard links. A content comes
 * here when it has been checked and is on the disk, so what is here is whole. Nobody writes into it any more: the mode is
 * 0444, and that of an entry stays in its part's listing.
 *
 * Where the disk has no hard links nothing is kept here, and each part has copies of its own.
 */
import { createHash } from 'node:crypto';
import { constants, linkSync, lstatSync, mkdirSync, readdirSync, type Stats, unlinkSync } from 'node:fs';
import { chmod, copyFile, type FileHandle, open, rm, truncate } from 'node:fs/promises';
import { SchedulerError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { below, fromBytePath, fsPath } from './byte-path.ts';
import type { SourceEntry } from './source-part.ts';

/** A source tree cannot be kept: a file is not any more what was listed, or the disk of the data folder has no room. */
export class KeepError extends SchedulerError {
  override readonly name = 'KeepError';
}

const COPIES_AT_ONCE = 16;
const BUFFER_BYTES = 1024 * 1024;
/** From this size on it is worth asking whether the disk shares the blocks of a copy. */
const CLONE_FROM_BYTES = 1024 * 1024;
const READ_ONLY = 0o444;
/** Without waiting: a FIFO that has taken a file's place has no writer. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** The disk has no hard links, or a file has as many as it can have. */
const NO_LINK: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);
const NAME = /^[0-9a-f]{64}$/;

/** Contents below one folder. Paths are absolute, as bytes. */
export class KeptFiles {
  readonly #folder: string;
  /** Copies under way, by digest. They never reject. */
  readonly #copying = new Map<string, Promise<void>>();
  /** Devices whose files cannot be cloned to here. */
  readonly #withoutClones = new Set<number>();
  readonly #waiting: (() => void)[] = [];
  #copies = 0;

  /** Makes the folder where it is not there. */
  constructor(folder: string) {
    this.#folder = folder;
    for (let i = 0; i < 256; i++)
      mkdirSync(fsPath(below(folder, i.toString(16).padStart(2, '0'))), { recursive: true, mode: 0o700 });
  }

  /** Makes `to` a link to the content of an entry; false when it is not here. */
  link({ digest, size }: SourceEntry, to: string): boolean {
    const kept = this.#place(digest);
    try {
      linkSync(fsPath(kept), fsPath(to));
    } catch (error) {
      const code = errorCode(error);
      // What has all the links that a file can have makes room for the next copy.
      if (code === 'EMLINK') unlinkSync(fsPath(kept));
      else if (code !== 'ENOENT' && !NO_LINK.has(code)) throw error;
      return false;
    }
    const stats = lstatSync(fsPath(to));
    if (stats.isFile() && stats.size === size && (stats.mode & 0o222) === 0) return true;
    // Somebody has been at it.
    unlinkSync(fsPath(to));
    unlinkSync(fsPath(kept));
    return false;
  }

  /**
   * Makes `to` a file with the content of an entry, which is read from `from` unless it is here meanwhile, and keeps it.
   * @throws KeepError naming `from` when it cannot be read, or does not begin with the content that was listed.
   */
  async copy(entry: SourceEntry, from: string, to: string): Promise<void> {
    for (let other = this.#copying.get(entry.digest); other !== undefined; ) {
      await other;
      other = this.#copying.get(entry.digest);
    }
    if (this.link(entry, to)) return;
    const copying = this.#oneOfFew(() => this.#copy(entry, from, to));
    const settled = copying.catch(() => {});
    this.#copying.set(entry.digest, settled);
    try {
      await copying;
    } finally {
      this.#copying.delete(entry.digest);
    }
  }

  /** Removes a content that no part has. Returns its bytes; 0 when it stays, or is not here. */
  forget(digest: string): number {
    return this.#forget(this.#place(digest));
  }

  /** Removes all that no part has, as after a crash. */
  forgetUnused(): number {
    let bytes = 0;
    for (const folder of readdirSync(fsPath(this.#folder), 'latin1')) {
      const within = below(this.#folder, folder);
      for (const name of readdirSync(fsPath(within), 'latin1'))
        if (NAME.test(name)) bytes += this.#forget(below(within, name));
    }
    return bytes;
  }

  #forget(path: string): number {
    try {
      const { nlink, size } = lstatSync(fsPath(path));
      if (nlink > 1) return 0;
      unlinkSync(fsPath(path));
      return size;
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return 0;
      throw error;
    }
  }

  async #copy(entry: SourceEntry, from: string, to: string): Promise<void> {
    const source = await open(fsPath(from), OPEN_FLAGS).catch((error: unknown) => {
      throw cannotRead(from, error);
    });
    try {
      const stats = await source.stat();
      if (!stats.isFile()) throw changed(from, 'is no file any more');
      // One that only grew, such as a log, is kept as it was.
      if (stats.size < entry.size) throw changed(from, 'was changed');
      const isCloned = await this.#clone(source, stats, entry, to);
      const target = await open(fsPath(to), isCloned ? 'r' : 'wx', 0o600);
      try {
        const digest = isCloned
          ? await copyBytes(target, undefined, entry.size, to)
          : await copyBytes(source, target, entry.size, from);
        if (digest !== entry.digest) throw changed(from, 'was changed');
        await target.utimes(stats.atime, stats.mtime);
        await target.chmod(READ_ONLY);
        await target.sync();
      } finally {
        await target.close();
      }
    } finally {
      await source.close();
    }
    try {
      linkSync(fsPath(to), fsPath(this.#place(entry.digest)));
    } catch (error) {
      const code = errorCode(error);
      if (code !== 'EEXIST' && !NO_LINK.has(code)) throw error;
    }
  }

  /** Copies so that both share their blocks on the disk; false where that cannot be. What is cloned is still to be checked. */
  async #clone(source: FileHandle, stats: Stats, entry: SourceEntry, to: string): Promise<boolean> {
    if (process.platform !== 'linux' || entry.size < CLONE_FROM_BYTES || this.#withoutClones.has(stats.dev))
      return false;
    try {
      // By the open file, not by its name: at that may stand a FIFO by now, for which this would wait.
      const flags = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE;
      await copyFile(`/proc/self/fd/${source.fd}`, fsPath(to), flags);
      await chmod(fsPath(to), 0o600);
      await truncate(fsPath(to), entry.size);
      return true;
    } catch {
      // Whatever it is: where it matters the copy meets it too, and can name it.
      await rm(fsPath(to), { force: true });
      this.#withoutClones.add(stats.dev);
      return false;
    }
  }

  /** So many files are open at once, whoever keeps what: each copy takes its turn. */
  async #oneOfFew<T>(task: () => Promise<T>): Promise<T> {
    if (this.#copies >= COPIES_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#copies += 1;
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#copies -= 1;
      else next();
    }
  }

  #place(digest: string): string {
    if (!NAME.test(digest)) throw new Error(`Internal error: ${digest} is no digest`);
    return below(this.#folder, `${digest.slice(0, 2)}/${digest}`);
  }
}

/** Reads so many bytes, and writes them where that is asked. Returns their digest. `path` is for messages. */
async function copyBytes(
  source: FileHandle,
  target: FileHandle | undefined,
  size: number,
  path: string,
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(size, BUFFER_BYTES));
  for (let left = size; left > 0; ) {
    const { bytesRead } = await source
      .read(buffer, 0, Math.min(left, buffer.length), null)
      .catch((error: unknown) => {
        throw cannotRead(path, error);
      });
    if (bytesRead === 0) throw changed(path, 'became shorter');
    const piece = buffer.subarray(0, bytesRead);
    hash.update(piece);
    for (let at = 0; at < bytesRead && target !== undefined; )
      at += (await target.write(piece, at)).bytesWritten;
    left -= bytesRead;
  }
  return hash.digest('hex');
}

/** The error for a file that is not what was listed any more. */
function changed(path: string, how: string): KeepError {
  const shown = visibleText(fromBytePath(path));
  return new KeepError(
    `cannot keep ${shown}: it ${how} since it was listed; try again when it stays as it is`,
  );
}

function cannotRead(path: string, cause: unknown): KeepError {
  const code = errorCode(cause);
  const hows: Readonly<Record<string, string>> = {
    ENOENT: 'has vanished',
    ENOTDIR: 'has vanished',
    ELOOP: 'became a link',
    ENXIO: 'is no file any more',
  };
  const how = hows[code];
  if (how !== undefined) return changed(path, how);
  const why = code === 'EACCES' || code === 'EPERM' ? 'permission denied' : code;
  const shown = visibleText(fromBytePath(path));
  return new KeepError(`cannot keep ${shown}: it cannot be read (${why})`, { cause });
}

/** What functions of `node:fs` say went wrong. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}
