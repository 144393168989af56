/** The socket file of the sjq door. It stands where everybody may look, so nobody may connect before it is closed to others. */
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  renameSync,
  rmdirSync,
  rmSync,
  type Stats,
} from 'node:fs';
import type { Server } from 'node:net';
import { dirname, join } from 'node:path';
import { UsageError } from '../../domain/errors.ts';
import { isSocketLive } from '../../util/live-socket.ts';
import type { DoorGroup } from '../door-group.ts';
import { MAX_SOCKET_PATH_BYTES } from '../door-place.ts';

const BACKLOG = 511;
/** What the folder where the socket is made adds to the path. */
const FOLDER_BYTES = '/.XXXXXX/s'.length;

/** A socket file, as its own server knows it again. */
export interface SjqSocketFile {
  readonly path: string;
  readonly device: number;
  readonly inode: number;
}

/**
 * Lets the server listen at an absolute path, for its owner alone, or for a group as well. The socket of a server that died is
 * taken over.
 * @throws UsageError when another server answers there, something else is there, or no socket can be made
 */
export async function listenAt(server: Server, path: string, group?: DoorGroup): Promise<SjqSocketFile> {
  checkLength(path);
  await removeDead(path);
  let folder: string | undefined;
  try {
    // Between `bind` and `chmod` a socket may be open to everybody: nobody else gets into this folder.
    folder = mkdtempSync(`${dirname(path)}/.`); // `join` would take the dot away
    const fresh = join(folder, 's');
    server.listen({ path: fresh, backlog: BACKLOG });
    await once(server, 'listening');
    if (group !== undefined) chownSync(fresh, process.getuid?.() ?? 0, group.id);
    chmodSync(fresh, group === undefined ? 0o600 : 0o660);
    const { dev, ino } = lstatSync(fresh);
    moveTo(fresh, path);
    return { path, device: dev, inode: ino };
  } catch (error) {
    server.close();
    throw error instanceof UsageError ? error : new UsageError(trouble(path, (error as Error).message));
  } finally {
    if (folder !== undefined) removeFolder(folder);
  }
}

/** Removes the file, unless somebody else has put another there. */
export function removeSocket({ path, device, inode }: SjqSocketFile): void {
  try {
    const facts = factsOf(path);
    if (facts?.dev === device && facts.ino === inode) rmSync(path, { force: true });
  } catch {
    // nobody answers there, so the next server takes it over
  }
}

function checkLength(path: string): void {
  const most = MAX_SOCKET_PATH_BYTES;
  const [pathBytes, folderBytes] = [Buffer.byteLength(path), Buffer.byteLength(dirname(path))];
  if (pathBytes <= most && folderBytes + FOLDER_BYTES <= most) return;
  throw new UsageError(
    trouble(
      path,
      `the path has ${pathBytes} bytes, its folder ${folderBytes}; expected at most ${most}, and ${most - FOLDER_BYTES} for the folder`,
    ),
  );
}

/** Unlike `rename` this replaces nothing, whoever else comes at the same time. */
function moveTo(fresh: string, path: string): void {
  try {
    linkSync(fresh, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new UsageError(answersAlready(path));
    // Some file systems have no second names for a file.
    renameSync(fresh, path);
  }
}

function removeFolder(folder: string): void {
  rmSync(join(folder, 's'), { force: true });
  try {
    rmdirSync(folder);
  } catch {
    // somebody removed it, or put something there: nothing of ours
  }
}

/** Removes a socket that nobody listens at. @throws UsageError when somebody does, or it is something else */
async function removeDead(path: string): Promise<void> {
  const facts = factsOf(path);
  if (facts === undefined) return;
  if (!facts.isSocket())
    throw new UsageError(trouble(path, 'what is there is no socket; remove it, or name another path'));
  if (facts.uid !== process.getuid?.())
    throw new UsageError(trouble(path, `the socket there belongs to the user with the id ${facts.uid}`));
  if (await isSocketLive(path)) throw new UsageError(answersAlready(path));
  // Another server may have taken it over in the meantime.
  removeSocket({ path, device: facts.dev, inode: facts.ino });
}

/** @throws UsageError when it may not be known */
function factsOf(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new UsageError(trouble(path, message));
  }
}

function answersAlready(path: string): string {
  return `another server answers at ${path} (sjq.socket)`;
}

function trouble(path: string, reason: string): string {
  return `sjq.socket: cannot open a socket at ${path}: ${reason}`;
}
