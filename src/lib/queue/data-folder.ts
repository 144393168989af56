/** The folder that a queue service keeps all its state in, and that one service at a time has. */
import { chmodSync, lstatSync, realpathSync, rmSync, statSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { makeFolder } from '../util/make-folder.ts';
import { isHolderGone, type LockHolder, readLockHolder, takeProcessLock } from '../util/process-lock.ts';

const LOCK = 'lock';

/** `~/.local/share/ssh-scheduler/queue`, or below XDG_DATA_HOME where that is an absolute path. */
export function defaultDataFolder(env: NodeJS.ProcessEnv = process.env): string {
  const { XDG_DATA_HOME: named = '', HOME: home } = env;
  // The specification has relative paths ignored.
  const base = isAbsolute(named) ? named : join(home || homedir(), '.local', 'share');
  return join(base, 'ssh-scheduler', 'queue');
}

/** A data folder that this process has for itself until `release`. */
export class DataFolder {
  /** Absolute and without links, so that all processes name it alike. */
  readonly path: string;
  /** The service that had it before died. */
  readonly isTakenOver: boolean;
  readonly #lock: string;

  private constructor(path: string, isTakenOver: boolean) {
    this.path = path;
    this.isTakenOver = isTakenOver;
    this.#lock = join(path, LOCK);
  }

  /**
   * Makes the folder where it is missing, closed to all others, and takes it.
   * @throws UsageError when another service has it, with its host and process id, and when it cannot be used
   */
  static take(folder: string): DataFolder {
    const path = makePrivate(resolve(folder));
    const lock = join(path, LOCK);
    let attempt: ReturnType<typeof takeProcessLock>;
    try {
      attempt = takeProcessLock(lock);
    } catch (error) {
      throw unusable(path, (error as Error).message);
    }
    if (!attempt.isTaken) throw heldError(path, attempt.holder, lock);
    return new DataFolder(path, attempt.isTakenOver);
  }

  /** Lets another service have the folder. Calling it again does nothing. */
  release(): void {
    const holder = readLockHolder(this.#lock);
    // Somebody may have removed our lock by hand, and started another service.
    if (holder?.pid === process.pid && holder.host === hostname()) rmSync(this.#lock, { force: true });
  }
}

/** Which service has the folder: one that runs here, or one on another host, of which nobody can tell here. */
export function serviceOf(folder: string): { readonly host: string; readonly pid: number } | undefined {
  const holder = readLockHolder(join(folder, LOCK));
  if (holder === undefined || isHolderGone(holder)) return undefined;
  return { host: holder.host, pid: holder.pid };
}

function makePrivate(folder: string): string {
  try {
    makeFolder(folder, 0o700);
    const path = realpathSync(folder);
    const { uid, mode } = statSync(path);
    if (process.getuid !== undefined && uid !== process.getuid())
      throw unusable(path, `it belongs to the user with the id ${uid}`);
    // What lies in it says what others may run as its owner. Group members may have been let through to the door.
    if ((mode & 0o067) !== 0) chmodSync(path, 0o700);
    return path;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw unusable(folder, kindOf(folder) ?? (error as Error).message);
  }
}

function kindOf(path: string): string | undefined {
  try {
    return lstatSync(path).isDirectory() ? undefined : 'it is no folder';
  } catch {
    return undefined;
  }
}

function unusable(path: string, reason: string): UsageError {
  return new UsageError(`cannot use ${path} as the data folder: ${reason}`);
}

function heldError(path: string, { host, pid }: LockHolder, lock: string): UsageError {
  const way =
    host === hostname()
      ? 'job_queue stop ends it'
      : `job_queue --host ${host} reaches it; if it is no more, remove ${lock}`;
  return new UsageError(`a service already runs on ${path}: process ${pid} on ${host} (${way})`);
}
