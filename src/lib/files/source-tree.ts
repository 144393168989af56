/**
 * What goes forward to the machines: the files below the paths that the user named, listed and named by their content
 * when the batch starts. A tree is the same tree wherever its paths, modes and bytes are the same, so a machine that
 * has it needs nothing sent.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import PQueue from 'p-queue';
import { UsageError } from '../domain/errors.ts';

/** Files of one tree that lie below one local folder. */
export interface TreeGroup {
  /** Absolute local folder that the paths are relative to. */
  readonly root: string;
  /** Paths as the file system has them, byte for byte (latin1). Folders come before what they hold. */
  readonly paths: readonly string[];
}

/** A listed source tree. */
export interface SourceTree {
  /** Its name: a hash of all paths, modes and contents. Empty when there is nothing to send. */
  readonly id: string;
  readonly groups: readonly TreeGroup[];
  readonly files: number;
  readonly bytes: number;
  /** Few files, few bytes and no links: machines keep copies of such a tree ready. */
  readonly isSmall: boolean;
}

const SMALL_ENTRIES = 50;
const SMALL_BYTES = 32 * 1024;

/** How a tree is listed. */
export interface SourceTreeOptions {
  /** Folder that relative paths start from. */
  readonly cwd: string;
  /** What the user named; `undefined` for the whole of `cwd`. */
  readonly paths: readonly string[] | undefined;
  /** Absolute paths never sent: the results folder, machine files, the keys that they name. */
  readonly neverSend: readonly string[];
  /** @default the user's home folder */
  readonly home?: string;
}

interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly kind: 'file' | 'folder' | 'link';
  readonly size: number;
  digest: string;
}

// Hashing is bound by the disk and one core; more at once only costs memory.
const FILES_HASHED_AT_ONCE = 8;
const STREAM_FROM_BYTES = 1024 * 1024;
const NO_TREE: SourceTree = { id: '', groups: [], files: 0, bytes: 0, isSmall: false };

/**
 * Lists what is to be sent. A path inside `cwd` keeps its place relative to it; a path outside (absolute, `../`) is
 * placed at the top under its own name.
 * @throws UsageError for a path that does not exist, and when the whole of `cwd` is meant and it is `/` or the home folder.
 */
export async function listSourceTree(options: SourceTreeOptions): Promise<SourceTree> {
  const cwd = await realpath(options.cwd);
  const never = new Set(await Promise.all(options.neverSend.map((path) => realOrSame(resolve(cwd, path)))));
  if (options.paths === undefined) await refuseWholeHome(cwd, options.home ?? homedir());
  const named = options.paths ?? ['.'];
  const roots = new Map<string, Entry[]>();
  const tops = new Map<string, string>();
  for (const path of named) {
    const place = placeOf(cwd, path);
    const other = tops.get(place.within);
    if (other !== undefined && other !== join(place.root, place.within)) {
      throw new UsageError(
        `--copy-forwards: ${other} and ${join(place.root, place.within)} would both be placed at ${place.within}`,
      );
    }
    tops.set(place.within, join(place.root, place.within));
    const entries = roots.get(place.root) ?? [];
    roots.set(place.root, entries);
    await list(place.root, place.within, entries, never, path);
  }
  const queue = new PQueue({ concurrency: FILES_HASHED_AT_ONCE });
  const hash = createHash('sha256');
  const groups: TreeGroup[] = [];
  const all: Entry[] = [];
  for (const [root, entries] of roots) {
    const unique = [...new Map(entries.map((entry) => [entry.path, entry])).values()];
    await queue.addAll(
      unique
        .filter((entry) => entry.kind === 'file')
        .map((entry) => async () => {
          entry.digest = await digestFile(bytesPath(root, entry.path), entry.size);
        }),
    );
    all.push(...unique);
    groups.push({ root, paths: unique.map((entry) => entry.path) });
  }
  if (all.length === 0) return NO_TREE;
  for (const entry of all.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    hash.update(`${entry.kind} ${entry.mode.toString(8)} ${entry.digest} ${entry.path}\0`, 'latin1');
  }
  const files = all.filter((entry) => entry.kind === 'file');
  const bytes = files.reduce((sum, entry) => sum + entry.size, 0);
  return {
    id: hash.digest('hex').slice(0, 40),
    groups: groups.filter((group) => group.paths.length > 0),
    files: files.length,
    bytes,
    isSmall:
      all.length <= SMALL_ENTRIES && bytes <= SMALL_BYTES && all.every((entry) => entry.kind !== 'link'),
  };
}

async function refuseWholeHome(cwd: string, home: string): Promise<void> {
  if (cwd !== '/' && cwd !== (await realOrSame(home))) return;
  throw new UsageError(
    `the working directory is ${cwd === '/' ? '/' : `your home folder (${cwd})`}, all of which would be sent: ` +
      'go to the folder of your project, or name what to send with --copy-forwards',
  );
}

function placeOf(cwd: string, path: string): { readonly root: string; readonly within: string } {
  const absolute = resolve(cwd, path);
  const within = relative(cwd, absolute);
  if (within === '') return { root: cwd, within: '.' };
  if (within.split(sep)[0] === '..' || isAbsolute(within)) {
    if (absolute === '/') throw new UsageError('--copy-forwards: / cannot be sent whole');
    return { root: dirname(absolute), within: basename(absolute) };
  }
  return { root: cwd, within };
}

/** Paths are held as latin1 so that names which are no UTF-8 stay what they are. */
function bytesPath(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}

async function list(
  root: string,
  within: string,
  entries: Entry[],
  never: ReadonlySet<string>,
  named: string,
): Promise<void> {
  const top = Buffer.from(within).toString('latin1');
  // Parents of a named path, so that the machine gets their modes; the top itself is made there.
  const parents = top.split('/').slice(0, -1);
  const tellMissing = (error: NodeJS.ErrnoException): never => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
    throw new UsageError(`--copy-forwards: ${named} does not exist (looked at ${join(root, within)})`);
  };
  for (let i = 1; i <= parents.length; i++) {
    const kind = await add(root, parents.slice(0, i).join('/'), entries).catch(tellMissing);
    if (kind === 'link') entries.pop(); // a folder there, since it holds what was named
  }
  if (top === '.') return await walk(root, '', entries, never);
  await refuseSensitiveFile(bytesPath(root, top), never, named);
  const kind = await add(root, top, entries).catch(tellMissing);
  if (kind === 'folder') await walk(root, top, entries, never);
}

/** A folder that is left out of others (the results) may be named; a machine file or a key may not. */
async function refuseSensitiveFile(path: Buffer, never: ReadonlySet<string>, named: string): Promise<void> {
  const stat = await lstat(path).catch(() => undefined); // what is not there is told below
  if (!stat?.isFile() || !never.has(await realpath(path))) return;
  throw new UsageError(`--copy-forwards: ${named} is a machine file or a key that one names, and never sent`);
}

async function add(root: string, path: string, entries: Entry[]): Promise<Entry['kind'] | 'other'> {
  const full = bytesPath(root, path);
  const stat = await lstat(full);
  const mode = stat.mode & 0o777;
  if (stat.isSymbolicLink()) {
    const target = await readlink(full, 'latin1');
    entries.push({ path, mode: 0o777, kind: 'link', size: 0, digest: target });
    return 'link';
  }
  if (stat.isDirectory()) {
    entries.push({ path, mode, kind: 'folder', size: 0, digest: '' });
    return 'folder';
  }
  if (!stat.isFile()) return 'other'; // sockets, FIFOs and devices have no content to send
  entries.push({ path, mode, kind: 'file', size: stat.size, digest: '' });
  return 'file';
}

async function walk(
  root: string,
  folder: string,
  entries: Entry[],
  never: ReadonlySet<string>,
): Promise<void> {
  const full = folder === '' ? root : bytesPath(root, folder);
  const names = await readdir(full, { encoding: 'buffer' });
  const real = await realpath(full); // a named path may lead through links
  for (const name of names.map((bytes) => bytes.toString('latin1')).sort()) {
    const path = folder === '' ? name : `${folder}/${name}`;
    if (name === '.git' || never.has(bytesPath(real, name).toString('utf8'))) continue;
    if ((await add(root, path, entries)) === 'folder') await walk(root, path, entries, never);
  }
}

async function digestFile(path: Buffer, size: number): Promise<string> {
  if (size < STREAM_FROM_BYTES)
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer); // a file without encoding
  return hash.digest('hex');
}

async function realOrSame(path: string): Promise<string> {
  return await realpath(path).catch(() => path);
}
