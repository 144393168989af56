/**
 * Source parts kept in a folder of our own, so that what is edited later does not reach jobs that wait:
 *
 *     FOLDER/ID/tree/              the part's files and folders; its links are in the listing alone
 *     FOLDER/ID/list               what it is (kept-list.ts)
 *     FOLDER/ID.partial-RANDOM/    on its way; ID.removed-RANDOM/ on its way out
 *     FOLDER/files/xx/DIGEST       each content once (kept-files.ts); files of parts are hard links to these
 *
 * A part gets its name by a rename when all of it is on the disk: it is whole or not there. One process at a time has
 * such a folder; whoever opens it sees to that.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, renameSync, unlinkSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../util/size.ts';
import { visibleText } from '../util/terminal-text.ts';
import { below, fsPath, toBytePath } from './byte-path.ts';
import { inLanes, inTurns } from './in-turns.ts';
import { errorCode, KeepError, KeptFiles } from './kept-files.ts';
import { makeFolders, syncFolder } from './kept-folders.ts';
import { readKeptList, writeKeptList } from './kept-list.ts';
import { isPartId, keptName, parsedName } from './kept-name.ts';
import type { SharedInput, SourceEntry, SourcePart, SourceTree } from './source-part.ts';
import { sourceTree } from './source-tree.ts';

export { KeepError } from './kept-files.ts';

/** How parts are kept. */
export interface KeptPartsOptions {
  /**
   * So long after a `keep` its parts stay, whether they are said to be in use or not: whoever kept them may not have
   * written that down yet. @default ten minutes
   */
  readonly settleMs?: number;
}

/** What was removed. */
export interface RemovedParts {
  readonly parts: number;
  /** Of contents that no other part has. */
  readonly bytes: number;
}

const SETTLE_MS = 10 * 60_000;
const LEFTOVER = /^[0-9a-f]{40}\.(partial|removed)-[0-9a-f]+$/;
const BLOCK_BYTES = 4096;
/** Of an entry in a listing, without its path. */
const LINE_BYTES = 80;

/** Parts below one folder. */
export class KeptParts {
  readonly #folder: string;
  readonly #settleMs: number;
  readonly #files: KeptFiles;
  readonly #keeping = new Map<string, Promise<boolean>>();
  /** How many calls of `keep` that are under way want a part. */
  readonly #wanted = new Map<string, number>();
  /** When a part was last returned by `keep`, by the steady clock. */
  readonly #keptAt = new Map<string, number>();
  readonly #parts = new Map<string, WeakRef<SourcePart>>();

  /**
   * Opens a folder, which is made where it is not there, and clears away what a crash has left.
   * @throws an error of the file system when the folder cannot be used.
   */
  static async open(folder: string, { settleMs = SETTLE_MS }: KeptPartsOptions = {}): Promise<KeptParts> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700); // what is in it has no modes of its own
    const files = new KeptFiles(toBytePath(join(folder, 'files')));
    const leftovers = (await readdir(folder)).filter((name) => LEFTOVER.test(name));
    for (const name of leftovers) await rm(join(folder, name), { recursive: true, force: true });
    if (leftovers.length > 0) files.forgetUnused();
    return new KeptParts(folder, settleMs, files);
  }

  private constructor(folder: string, settleMs: number, files: KeptFiles) {
    this.#folder = folder;
    this.#settleMs = settleMs;
    this.#files = files;
  }

  /**
   * Keeps all parts of a tree. What is here already is not read again, even if it has changed in its place since.
   * Returns names by which `tree` finds them: `ID` of a part, `share:ID:PATH` of a shared input, in whose PATH bytes that
   * do not print are `%xx`.
   * @throws KeepError naming a file that was changed or cannot be read, or saying what room was needed; nothing of the
   * tree is kept then that was not here before.
   */
  async keep(tree: SourceTree): Promise<readonly string[]> {
    const parts = new Map(
      [...tree.parts, ...tree.shared.map(({ part }) => part)].map((one) => [one.id, one]),
    );
    const made: string[] = [];
    for (const id of parts.keys()) this.#wanted.set(id, (this.#wanted.get(id) ?? 0) + 1);
    let isKept = false;
    try {
      for (const part of parts.values()) if (await this.#keepOnce(part)) made.push(part.id);
      isKept = true;
    } finally {
      for (const id of parts.keys()) {
        const others = (this.#wanted.get(id) ?? 1) - 1;
        if (others === 0) this.#wanted.delete(id);
        else this.#wanted.set(id, others);
        if (isKept) this.#keptAt.set(id, performance.now());
      }
      const isOurs = (id: string) => !this.#wanted.has(id) && !this.#keptAt.has(id);
      // The reason why it was not kept matters more than what is left: that goes with the next `removeExcept`.
      if (!isKept) for (const id of made) if (isOurs(id)) await this.#remove(id).catch(() => {});
    }
    return [
      ...tree.parts.map(({ id }) => keptName(id)),
      ...tree.shared.map(({ part, path }) => keptName(part.id, path)),
    ];
  }

  /**
   * The tree of these names, whose files are read from here. It has the ids of the tree that was kept, so machines that
   * have that get nothing sent.
   * @throws KeepError for a name of what is not here, or is damaged.
   */
  async tree(names: readonly string[]): Promise<SourceTree> {
    const parts: SourcePart[] = [];
    const shared: SharedInput[] = [];
    for (const name of names) {
      const { id, path } = parsedName(name);
      const part = await this.#part(id);
      if (path === undefined) parts.push(part);
      else shared.push({ part, path });
    }
    // Of one folder, as most were when they were listed: that no two stand in one place was looked at then.
    const unplaced = (part: SourcePart): SourcePart => ({ ...part, root: '' });
    const tree = sourceTree(
      parts.map(unplaced),
      shared.map(({ part, path }) => ({ part: unplaced(part), path })),
    );
    return { ...tree, parts, shared };
  }

  /**
   * Removes the parts that none of these names means, and contents that no part has then.
   * @throws KeepError for a name that is none: nothing is removed then.
   */
  async removeExcept(inUse: Iterable<string>): Promise<RemovedParts> {
    const used = new Set([...inUse].map((name) => parsedName(name).id));
    let parts = 0;
    let bytes = 0;
    for (const id of await readdir(this.#folder)) {
      if (!isPartId(id) || used.has(id) || this.#wanted.has(id)) continue;
      const keptAt = this.#keptAt.get(id);
      if (keptAt !== undefined && performance.now() - keptAt < this.#settleMs) continue;
      const removed = await this.#remove(id);
      if (removed === undefined) continue;
      parts += 1;
      bytes += removed;
    }
    return { parts, bytes };
  }

  /** Whether it was not here, and is now. */
  #keepOnce(part: SourcePart): Promise<boolean> {
    const known = this.#keeping.get(part.id);
    if (known !== undefined) return known;
    const keeping = this.#keep(part).finally(() => this.#keeping.delete(part.id));
    this.#keeping.set(part.id, keeping);
    return keeping;
  }

  async #keep(part: SourcePart): Promise<boolean> {
    const { id, entries } = part;
    if (await stat(this.#at(id, 'list')).catch(isNotThere)) return false;
    const partial = `${id}.partial-${randomBytes(6).toString('hex')}`;
    let lacking: readonly SourceEntry[] = [];
    let needed = roomFor(entries, entries);
    try {
      const tree = toBytePath(this.#at(partial, 'tree'));
      mkdirSync(this.#at(partial), { mode: 0o700 });
      const folders = await makeFolders(tree, entries);
      lacking = await this.#linkKnown(tree, entries);
      needed = roomFor(entries, lacking);
      if (needed > (await freeBytes(this.#folder))) throw await this.#noRoom(needed);
      const root = toBytePath(part.root);
      await inLanes(lacking, (entry) =>
        this.#files.copy(entry, below(root, entry.path), below(tree, entry.path)),
      );
      await inLanes(folders, syncFolder);
      await writeKeptList(this.#at(partial, 'list'), entries);
      await syncFolder(toBytePath(this.#at(partial)));
      await rename(this.#at(partial), this.#at(id));
      await syncFolder(toBytePath(this.#folder));
      return true;
    } catch (error) {
      await rm(this.#at(partial), { recursive: true, force: true });
      for (const { digest } of lacking) this.#files.forget(digest);
      throw await this.#explained(error, needed);
    }
  }

  /** Takes over the contents that are here; returns the files whose contents are not. */
  async #linkKnown(tree: string, entries: readonly SourceEntry[]): Promise<SourceEntry[]> {
    const lacking: SourceEntry[] = [];
    await inTurns(entries, (entry) => {
      if (entry.kind === 'file' && !this.#files.link(entry, below(tree, entry.path))) lacking.push(entry);
    });
    return lacking;
  }

  async #noRoom(neededBytes: number, why = 'no space left on device', cause?: unknown): Promise<KeepError> {
    const [needed, free] = [neededBytes, await freeBytes(this.#folder)].map(formatBytes);
    return new KeepError(
      `cannot keep the source tree: ${why}: it needs ${needed}, and the disk of ${this.#shown} has ${free} free`,
      { cause },
    );
  }

  async #explained(error: unknown, neededBytes: number): Promise<unknown> {
    const code = errorCode(error);
    if (code === 'ENOSPC') return await this.#noRoom(neededBytes, undefined, error);
    if (code === 'EDQUOT') return await this.#noRoom(neededBytes, 'disk quota exceeded', error);
    if (error instanceof KeepError || !(error instanceof Error) || !('code' in error)) return error;
    return new KeepError(`cannot keep the source tree in ${this.#shown}: ${visibleText(error.message)}`, {
      cause: error,
    });
  }

  async #part(id: string): Promise<SourcePart> {
    const known = this.#parts.get(id)?.deref();
    if (known !== undefined) return known;
    const list = this.#at(id, 'list');
    const entries = await readKeptList(list).catch((cause: unknown) => {
      const code = errorCode(cause);
      const why = code === 'ENOENT' ? 'is not there' : `cannot be read (${code})`;
      throw new KeepError(`a source tree needs the kept part ${id}: ${visibleText(list)} ${why}`, { cause });
    });
    if (entries === undefined) throw new KeepError(`${visibleText(list)} is damaged`);
    const files = entries.filter(({ kind }) => kind === 'file');
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    const part = { id, root: this.#at(id, 'tree'), entries, files: files.length, bytes };
    this.#parts.set(id, new WeakRef(part));
    return part;
  }

  /** Removes a part; its name is free before anything else happens. Undefined when it is not here. */
  async #remove(id: string): Promise<number | undefined> {
    const removed = `${id}.removed-${randomBytes(6).toString('hex')}`;
    try {
      renameSync(this.#at(id), this.#at(removed));
    } catch (error) {
      return isNotThere(error);
    }
    this.#keptAt.delete(id);
    this.#parts.delete(id);
    const entries = await readKeptList(this.#at(removed, 'list')).catch(() => undefined);
    const tree = toBytePath(this.#at(removed, 'tree'));
    let bytes = 0;
    // One by one, since the last link to a content is the one that frees it.
    await inTurns(entries ?? [], ({ kind, path }) => {
      if (kind !== 'file') return;
      const file = fsPath(below(tree, path));
      const stats = lstatSync(file, { throwIfNoEntry: false });
      if (stats === undefined) return;
      if (stats.nlink === 1) bytes += stats.size;
      unlinkSync(file);
    });
    await rm(this.#at(removed), { recursive: true, force: true });
    if (entries === undefined) return bytes + this.#files.forgetUnused();
    await inTurns(entries, ({ kind, digest }) => {
      if (kind === 'file') bytes += this.#files.forget(digest);
    });
    return bytes;
  }

  get #shown(): string {
    return visibleText(this.#folder);
  }

  #at(...path: string[]): string {
    return join(this.#folder, ...path);
  }
}

/** Bytes that a part takes whose contents are not all here. Files and folders take whole blocks. */
function roomFor(entries: readonly SourceEntry[], lacking: readonly SourceEntry[]): number {
  const sizes = new Map<string, number>();
  for (const { kind, digest, size } of lacking) if (kind === 'file') sizes.set(digest, size);
  const folders = entries.filter(({ kind }) => kind === 'folder').length + 2;
  const listing = entries.reduce((sum, { path }) => sum + LINE_BYTES + path.length, 0);
  const blocks = [...sizes.values()].reduce((sum, size) => sum + Math.ceil(size / BLOCK_BYTES), folders);
  return blocks * BLOCK_BYTES + listing;
}

async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** For what may not be there: undefined then. */
function isNotThere(error: unknown): undefined {
  if (errorCode(error) === 'ENOENT') return undefined;
  throw error;
}
