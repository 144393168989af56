/**
 * Where the socket of a service is: `DATA/door/socket`, or, where that path is longer than the system allows, in a folder of
 * its own below the runtime directory that `DATA/door/where` names. Whoever can enter that folder can run anything as its owner.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { DoorGroup } from './door-group.ts';
import { DoorError } from './door-protocol.ts';

/** The longest path that a socket can have here; a longer one would be cut without a word. */
export const MAX_SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

const OWN_FOLDER = 'ssh-scheduler-';
const SOCKET = 'socket';
const WHERE_LIMIT_BYTES = 4096;

/** What a system says of a path, as far as it matters here. */
export interface PathFacts {
  readonly kind: 'folder' | 'socket' | 'file' | 'other';
  readonly uid: number;
  /** The permission bits. */
  readonly mode: number;
}

/** Where a service is to listen. */
export interface DoorPlace {
  readonly socketPath: string;
  /** Other paths where an earlier service may have listened. */
  readonly formerPaths: readonly string[];
}

/**
 * Makes the folder of the door and decides where its socket goes. `dataFolder` is absolute and without links.
 * @throws UsageError when a folder is not ours or no short enough path can be had
 */
export function prepareDoor(dataFolder: string, group?: DoorGroup, env = process.env): DoorPlace {
  const door = join(dataFolder, 'door');
  mkdirSync(door, { recursive: true, mode: 0o700 });
  openFolderTo(door, group);
  // Members of the group have to get through the data folder, and no further than to the door.
  if (group !== undefined) chownSync(dataFolder, ownUid(), group.id);
  chmodSync(dataFolder, group === undefined ? 0o700 : 0o710);
  const direct = join(door, SOCKET);
  const former = readWhere(door);
  if (isShort(direct)) return { socketPath: direct, formerPaths: former === undefined ? [] : [former] };
  const socketPath = former !== undefined && isOursStill(former) ? former : newPath(env, group);
  openFolderTo(dirname(socketPath), group);
  return { socketPath, formerPaths: former === undefined || former === socketPath ? [] : [former] };
}

/** Tells clients where the socket is, now that somebody listens there. */
export function announceDoor(dataFolder: string, socketPath: string, group?: DoorGroup): void {
  const door = join(dataFolder, 'door');
  const where = join(door, 'where');
  if (dirname(socketPath) === door) {
    rmSync(where, { force: true });
    return;
  }
  const fresh = `${where}.${process.pid}-${randomBytes(4).toString('hex')}`;
  writeFileSync(fresh, `${socketPath}\n`, { mode: 0o600 });
  if (group !== undefined) {
    chownSync(fresh, ownUid(), group.id);
    chmodSync(fresh, 0o640);
  }
  renameSync(fresh, where);
}

/** Removes what tells of a door that is closed. */
export function removeDoor(dataFolder: string, socketPath: string): void {
  const door = join(dataFolder, 'door');
  rmSync(socketPath, { force: true });
  if (dirname(socketPath) === door) return;
  rmSync(join(door, 'where'), { force: true });
  try {
    rmdirSync(dirname(socketPath));
  } catch {
    // somebody put something there: the folder stays
  }
}

/** A socket for a client to connect to, and whom it belongs to. @throws DoorError `no-service` or `refused` */
export function findDoor(dataFolder: string): { readonly socketPath: string; readonly ownerUid: number } {
  const door = join(dataFolder, 'door');
  const data = factsOf(dataFolder, true);
  if (data === undefined || factsOf(door) === undefined) throw noService(dataFolder);
  checkFolder(door, factsOf(door), data.uid);
  const where = join(door, 'where');
  const facts = factsOf(where);
  if (facts !== undefined && (facts.kind !== 'file' || facts.uid !== data.uid))
    throw refused(where, `it is no file of the user with the id ${data.uid}`);
  const socketPath = readWhere(door) ?? join(door, SOCKET);
  if (factsOf(socketPath) === undefined) throw noService(dataFolder);
  return { socketPath, ownerUid: data.uid };
}

/** Makes sure that folder and socket are those of `ownerUid`, and nobody else can put another there. */
export function checkSocket(socketPath: string, ownerUid: number): void {
  checkFolder(dirname(socketPath), factsOf(dirname(socketPath)), ownerUid);
  checkSocketFacts(socketPath, factsOf(socketPath), ownerUid);
}

/** @throws DoorError `refused` */
export function checkFolder(path: string, facts: PathFacts | undefined, ownerUid: number): void {
  if (facts?.kind !== 'folder') throw refused(path, 'it is no folder');
  if (facts.uid !== ownerUid)
    throw refused(path, `it belongs to the user with the id ${facts.uid}, not to ${ownerUid}`);
  if ((facts.mode & 0o022) !== 0) throw refused(path, 'others than its owner may write there');
}

/** @throws DoorError `refused` */
export function checkSocketFacts(path: string, facts: PathFacts | undefined, ownerUid: number): void {
  if (facts?.kind !== 'socket') throw refused(path, 'it is no socket');
  if (facts.uid !== ownerUid)
    throw refused(path, `it belongs to the user with the id ${facts.uid}, not to ${ownerUid}`);
}

/** What a path is; undefined when nothing is there. @throws DoorError `refused` when that may not be known */
export function factsOf(path: string, followsLinks = false): PathFacts | undefined {
  try {
    const found = followsLinks ? statSync(path) : lstatSync(path);
    const kind = found.isDirectory()
      ? 'folder'
      : found.isSocket()
        ? 'socket'
        : found.isFile()
          ? 'file'
          : 'other';
    return { kind, uid: found.uid, mode: found.mode & 0o7777 };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw code === 'EACCES'
      ? refused(path, 'its owner lets nobody else in (job_queue start --group)')
      : refused(path, message);
  }
}

/** Nobody serves there. */
export function noService(dataFolder: string): DoorError {
  return new DoorError('no-service', `no service runs on ${dataFolder}: start one with job_queue start`);
}

function refused(path: string, reason: string): DoorError {
  return new DoorError('refused', `cannot use the door at ${path}: ${reason}`);
}

/** Whether the path of a door is one that a service may have written. */
export function isSocketPath(path: string): boolean {
  return isAbsolute(path) && isShort(path) && !/\p{Cc}/u.test(path);
}

function isShort(path: string): boolean {
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES;
}

function readWhere(door: string): string | undefined {
  let text: string;
  try {
    const where = join(door, 'where');
    if (lstatSync(where).size > WHERE_LIMIT_BYTES) return undefined;
    text = readFileSync(where, 'utf8');
  } catch {
    return undefined;
  }
  const path = text.endsWith('\n') ? text.slice(0, -1) : text;
  return isSocketPath(path) ? path : undefined;
}

/** Whether a path named by an earlier service is in a folder that such a one made, and that nobody else has made anew. */
function isOursStill(socketPath: string): boolean {
  try {
    const folder = dirname(socketPath);
    const facts = factsOf(folder);
    return (
      basename(folder).startsWith(OWN_FOLDER) &&
      basename(socketPath) === SOCKET &&
      facts?.kind === 'folder' &&
      facts.uid === ownUid()
    );
  } catch {
    return false;
  }
}

function newPath(env: NodeJS.ProcessEnv, group: DoorGroup | undefined): string {
  // The runtime directory is closed to the group, however it may wish.
  const bases = [...(group === undefined ? [env.XDG_RUNTIME_DIR ?? ''] : []), tmpdir()];
  for (const base of bases) {
    if (!isAbsolute(base) || !isShort(join(base, `${OWN_FOLDER}XXXXXX`, SOCKET))) continue;
    if (base !== tmpdir() && !isPrivate(base)) continue;
    return join(mkdtempSync(join(base, OWN_FOLDER)), SOCKET);
  }
  throw new UsageError(
    `the socket's path would be longer than ${MAX_SOCKET_PATH_BYTES} bytes, here and in ${bases.join(' and ')}: choose a shorter data folder`,
  );
}

/** The specification of XDG_RUNTIME_DIR asks for as much. */
function isPrivate(folder: string): boolean {
  try {
    const facts = factsOf(folder, true);
    return facts?.kind === 'folder' && facts.uid === ownUid() && (facts.mode & 0o077) === 0;
  } catch {
    return false;
  }
}

function openFolderTo(folder: string, group: DoorGroup | undefined): void {
  const facts = factsOf(folder);
  if (facts?.kind !== 'folder' || facts.uid !== ownUid())
    throw new UsageError(`cannot use ${folder} for the door: it is no folder of yours`);
  if (group !== undefined) chownSync(folder, ownUid(), group.id);
  chmodSync(folder, group === undefined ? 0o700 : 0o750);
}

function ownUid(): number {
  return process.getuid?.() ?? 0;
}
