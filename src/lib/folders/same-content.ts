/**
 * Whether two files are the same: exactly and lazily. The same inode is the same file, another size is another content,
 * and only then are bytes read, no further than the first that differ.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { SchedulerError } from '../domain/errors.ts';
import { failureText } from './failure-text.ts';
import { type SystemPath, shownPath } from './tree-path.ts';

/** A file as it was listed. */
export interface ListedFile {
  /** Absolute. */
  readonly place: SystemPath;
  readonly size: number;
  readonly dev: number;
  readonly ino: number;
}

const FIRST_BLOCK = 64 * 1024;
const BLOCK = 1024 * 1024;

/** Compares files; one instance keeps its buffers, and a small file is read once against any number of others. */
export class FileComparer {
  /** Files opened so far. */
  opened = 0;
  readonly #a = Buffer.allocUnsafe(BLOCK);
  readonly #b = Buffer.allocUnsafe(BLOCK);
  #held: ListedFile | undefined;

  /** @throws SchedulerError when a file cannot be read, or is no longer as long as it was when it was listed */
  isSame(a: ListedFile, b: ListedFile): boolean {
    if (a.size !== b.size) return false;
    // An inode number beyond 2^53 is rounded in a double, and some file systems give none: both prove nothing.
    if (a.dev === b.dev && a.ino === b.ino && a.ino !== 0 && Number.isSafeInteger(a.ino)) return true;
    if (a.size === 0) return true;
    return a.size <= FIRST_BLOCK ? this.#isSameSmall(a, b) : this.#isSameLarge(a, b);
  }

  #isSameSmall(a: ListedFile, b: ListedFile): boolean {
    if (this.#held !== a) {
      this.#held = undefined;
      using file = this.#open(a);
      file.read(this.#a, a.size);
      this.#held = a;
    }
    using other = this.#open(b);
    other.read(this.#b, b.size);
    return this.#a.compare(this.#b, 0, a.size, 0, a.size) === 0;
  }

  #isSameLarge(a: ListedFile, b: ListedFile): boolean {
    this.#held = undefined;
    using one = this.#open(a);
    using other = this.#open(b);
    for (let at = 0; at < a.size; ) {
      const length = Math.min(at === 0 ? FIRST_BLOCK : BLOCK, a.size - at);
      one.read(this.#a, length);
      other.read(this.#b, length);
      if (this.#a.compare(this.#b, 0, length, 0, length) !== 0) return false;
      at += length;
    }
    return true;
  }

  #open(file: ListedFile): OpenFile {
    this.opened++;
    return openListed(file);
  }
}

/** A file being read from its beginning. */
export interface OpenFile extends Disposable {
  /** Fills the beginning of a buffer. @throws SchedulerError when the file ends before */
  read(into: Buffer, length: number): void;
}

/** Opens a file to read it. @throws SchedulerError with the path when it cannot be read */
export function openListed({ place }: Pick<ListedFile, 'place'>): OpenFile {
  const path = shownPath(place);
  const guarded = <T>(action: () => T): T => {
    try {
      return action();
    } catch (error) {
      if (error instanceof SchedulerError) throw error;
      throw new SchedulerError(`cannot read ${path}: ${failureText(error)}`, { cause: error });
    }
  };
  const fd = guarded(() => openSync(place, 'r'));
  return {
    read: (into, length) =>
      guarded(() => {
        for (let at = 0; at < length; ) {
          const count = readSync(fd, into, at, length - at, null);
          if (count === 0) throw new SchedulerError(`${path} became shorter while it was read`);
          at += count;
        }
      }),
    [Symbol.dispose]: () => closeSync(fd),
  };
}
