/**
 * Remembers the hashes of a folder's files from one run to the next, so that an unchanged tree costs a stat per file. A
 * file is taken for unchanged while its size, its times and its inode are the same.
 *
 * One file per working directory in `~/.cache/ssh-scheduler/hashes/`: a line with version and checksum, then JSON in
 * columns, which loads 10,000 hashes in some 10 ms. It is replaced by rename, so two controllers at once do no harm: the
 * one that ends last is believed. Whatever is wrong with it, it only costs hashing anew.
 */
import { hash, randomBytes } from 'node:crypto';
import { lstatSync, type Stats } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { below, fsPath, toBytePath } from './byte-path.ts';
import type { ContentLook } from './content-look.ts';

/** What a file is known by to be the same as before. */
export type FileStamp = Pick<Stats, 'size' | 'mtimeMs' | 'ctimeMs' | 'ino'>;

/** What is remembered of a file's content. */
export interface ContentNote {
  /** SHA-256 in hex. */
  readonly digest: string;
  readonly look: ContentLook;
}

const FORMAT = 'ssh-scheduler-hashes 1';
const DIGEST_LETTERS = 64;
/**
 * A file that was changed so shortly before it was hashed may be changed again within the same tick of the file
 * system's clock (up to 2 s on FAT, 10 ms on ext4, and another clock's on NFS) and then has the same stamp with another
 * content. It is not remembered; the next run hashes it again. Git calls this a racy entry.
 */
const DOUBTFUL_MS = 2000;
const DAY_MS = 24 * 3600 * 1000;
const UNUSED_DAYS = 60;
const PRUNED_IN_A_TURN = 500;

interface Remembered extends FileStamp, ContentNote {
  /** Looked for or hashed by this run. */
  isUsed: boolean;
}

/** The folder of such files: below `XDG_CACHE_HOME` where that is set, else in `~/.cache`. */
export function hashCacheFolder(home: string = homedir()): string {
  const { XDG_CACHE_HOME: base = '' } = process.env;
  return join(isAbsolute(base) ? base : join(home, '.cache'), 'ssh-scheduler', 'hashes');
}

/**
 * The remembered hashes of the files that one working directory sends. A file is named by an absolute folder and its path
 * below that, as bytes.
 */
export class HashCache {
  readonly #folder: string;
  readonly #root: string;
  readonly #notes: Map<string, Remembered>;
  #isChanged = false;

  /** Loads what is remembered for the working directory `cwd`; nothing, where there is nothing that can be read. */
  static async open(cwd: string, folder: string): Promise<HashCache> {
    const root = toBytePath(cwd);
    const text = await readFile(join(folder, fileName(root)), 'latin1').catch(() => '');
    return new HashCache(folder, root, parse(text, root));
  }

  private constructor(folder: string, root: string, notes: Map<string, Remembered>) {
    this.#folder = folder;
    this.#root = root;
    this.#notes = notes;
  }

  /** What is known about a file that looks like this now. */
  find(root: string, path: string, stamp: FileStamp): ContentNote | undefined {
    const note = this.#notes.get(this.#key(root, path));
    if (note === undefined) return undefined;
    note.isUsed = true;
    const { size, mtimeMs, ctimeMs, ino } = stamp;
    const isSame =
      note.size === size && note.mtimeMs === mtimeMs && note.ctimeMs === ctimeMs && note.ino === ino;
    return isSame ? note : undefined;
  }

  /** Remembers a file that was read at a time (epoch ms, before the reading began) and did not change meanwhile. */
  keep(root: string, path: string, stamp: FileStamp, { digest, look }: ContentNote, readAt: number): void {
    const key = this.#key(root, path);
    const { size, mtimeMs, ctimeMs, ino } = stamp;
    if (Math.max(mtimeMs, ctimeMs) > readAt - DOUBTFUL_MS) {
      this.#notes.delete(key);
      return;
    }
    this.#isChanged = true;
    this.#notes.set(key, { size, mtimeMs, ctimeMs, ino, digest, look, isUsed: true });
  }

  /** Writes down what is new; else marks the file as used, once a day. Whatever fails here is no matter. */
  async save(): Promise<void> {
    const file = join(this.#folder, fileName(this.#root));
    try {
      if (!this.#isChanged) {
        if (this.#notes.size === 0 || Date.now() - (await stat(file)).mtimeMs < DAY_MS) return;
        await utimes(file, new Date(), new Date());
      } else {
        await this.#prune();
        await mkdir(this.#folder, { recursive: true, mode: 0o700 });
        const partial = `${file}.${randomBytes(6).toString('hex')}.partial`;
        await writeFile(partial, format(this.#root, this.#notes), { encoding: 'latin1', mode: 0o600 });
        await rename(partial, file);
        this.#isChanged = false;
      }
      await removeUnused(this.#folder);
    } catch {
      // A read-only home or a full disk: the next run hashes again.
    }
  }

  /** Forgets files that this run did not meet and that are gone. What is merely not sent this time stays. */
  async #prune(): Promise<void> {
    let looked = 0;
    for (const [key, { isUsed }] of this.#notes) {
      if (isUsed) continue;
      const path = key.startsWith('/') ? key : below(this.#root, key);
      try {
        if (lstatSync(fsPath(path), { throwIfNoEntry: false }) === undefined) this.#notes.delete(key);
      } catch {
        this.#notes.delete(key); // it cannot even be asked for
      }
      if (++looked % PRUNED_IN_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Short for what lies in the working directory. */
  #key(root: string, path: string): string {
    return root === this.#root ? path : below(root, path);
  }
}

function fileName(root: string): string {
  return hash('sha256', Buffer.from(root, 'latin1'), 'hex').slice(0, 32);
}

/** The columns: `stamps` has four numbers per path, `digests` 64 letters, `looks` the indexes of what is not plain. */
interface Columns {
  readonly root: string;
  readonly paths: readonly string[];
  readonly stamps: readonly number[];
  readonly digests: string;
  readonly secrets: readonly number[];
  readonly machineFiles: readonly number[];
}

function format(root: string, notes: ReadonlyMap<string, Remembered>): string {
  const all = [...notes.values()];
  const indexesOf = (wanted: ContentLook) => all.flatMap(({ look }, i) => (look === wanted ? [i] : []));
  const columns: Columns = {
    root,
    paths: [...notes.keys()],
    stamps: all.flatMap(({ size, mtimeMs, ctimeMs, ino }) => [size, mtimeMs, ctimeMs, ino]),
    digests: all.map(({ digest }) => digest).join(''),
    secrets: indexesOf('secret'),
    machineFiles: indexesOf('machine-file'),
  };
  const body = JSON.stringify(columns);
  return `${FORMAT} ${checksum(body)}\n${body}`;
}

function parse(text: string, root: string): Map<string, Remembered> {
  const notes = new Map<string, Remembered>();
  const end = text.indexOf('\n');
  const body = text.slice(end + 1);
  if (end < 0 || text.slice(0, end) !== `${FORMAT} ${checksum(body)}`) return notes;
  const columns = JSON.parse(body) as Columns; // the checksum tells that we wrote it
  if (columns.root !== root) return notes;
  const { paths, stamps, digests } = columns;
  const looks = new Map<number, ContentLook>();
  for (const index of columns.secrets) looks.set(index, 'secret');
  for (const index of columns.machineFiles) looks.set(index, 'machine-file');
  paths.forEach((path, i) => {
    notes.set(path, {
      size: stamps[4 * i] ?? -1,
      mtimeMs: stamps[4 * i + 1] ?? -1,
      ctimeMs: stamps[4 * i + 2] ?? -1,
      ino: stamps[4 * i + 3] ?? -1,
      digest: digests.slice(DIGEST_LETTERS * i, DIGEST_LETTERS * (i + 1)),
      look: looks.get(i) ?? 'plain',
      isUsed: false,
    });
  });
  return notes;
}

function checksum(body: string): string {
  return hash('sha256', Buffer.from(body, 'latin1'), 'hex');
}

async function removeUnused(folder: string): Promise<void> {
  const oldest = Date.now() - UNUSED_DAYS * DAY_MS;
  for (const name of await readdir(folder)) {
    const file = join(folder, name);
    if ((await stat(file)).mtimeMs < oldest) await rm(file, { force: true });
  }
}
