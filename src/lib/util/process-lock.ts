/** A lock file that names the process which has it, so that one whose owner died can be taken over. */
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** The process that has a lock. */
export interface LockHolder {
  readonly host: string;
  readonly pid: number;
  /** When the process started, as its system counts; tells a recycled process id apart. */
  readonly processStart: string;
}

/** What came of trying to take a lock. `isTakenOver`: it was that of a process that had died. */
export type LockAttempt =
  | { readonly isTaken: true; readonly isTakenOver: boolean }
  | { readonly isTaken: false; readonly holder: LockHolder };

const TRIES = 50;
const PAUSE_MS = 10;
/** A lock to remove a lock to remove a lock: no further. Each level needs another process killed in the act. */
const DEEPEST = 4;

/**
 * Takes the lock `path` for this process. Whoever has it gives it back by removing the file.
 * @throws Error when the file cannot be written, or others take it again and again
 */
export function takeProcessLock(path: string): LockAttempt {
  return take(path, 0);
}

function take(path: string, depth: number): LockAttempt {
  const me: LockHolder = { host: hostname(), pid: process.pid, processStart: startOf(process.pid) ?? '' };
  // Written first and then linked into place, so that nobody ever reads half a lock.
  const mine = `${path}.${process.pid}-${randomBytes(4).toString('hex')}`;
  try {
    writeFileSync(mine, `${JSON.stringify(me)}\n`, { mode: 0o600 });
    let isTakenOver = false;
    for (let tries = 0; tries < TRIES; tries++) {
      try {
        linkSync(mine, path);
        return { isTaken: true, isTakenOver };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const holder = readLockHolder(path);
      if (holder !== undefined && !isHolderGone(holder)) return { isTaken: false, holder };
      if (removeDead(path, depth)) isTakenOver = true;
      else pause();
    }
    throw new Error(`others take ${path} again and again: try later`);
  } finally {
    rmSync(mine, { force: true });
  }
}

/**
 * Removes a dead lock. Only who has a second lock may, and looks again first: between a look and a removal another could
 * have taken the place of the dead one, and lose its lock without knowing.
 */
function removeDead(path: string, depth: number): boolean {
  if (depth === DEEPEST) throw new Error(`${path} was left behind: remove it`);
  const right = `${path}.old`;
  if (!take(right, depth + 1).isTaken) return false;
  try {
    const holder = readLockHolder(path);
    if (holder !== undefined && !isHolderGone(holder)) return false;
    rmSync(path, { force: true });
    return true;
  } finally {
    rmSync(right, { force: true });
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
}

/** Who has the lock, alive or not; undefined when nobody has, or the file is no lock. */
export function readLockHolder(path: string): LockHolder | undefined {
  try {
    const { host, pid, processStart } = JSON.parse(readFileSync(path, 'utf8')) as Partial<
      Record<keyof LockHolder, unknown>
    >;
    if (typeof host !== 'string' || typeof processStart !== 'string') return undefined;
    return Number.isSafeInteger(pid) ? { host, pid: Number(pid), processStart } : undefined;
  } catch {
    return undefined; // given back meanwhile, or nothing of ours
  }
}

/** Whether the holder is surely no more: only for this host can that be said. */
export function isHolderGone({ host, pid, processStart }: LockHolder): boolean {
  if (host !== hostname()) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true;
  }
  const start = startOf(pid);
  if (start === 'ended') return true;
  return start !== undefined && processStart !== '' && start !== processStart;
}

/**
 * When a process started, in the kernel's ticks since its boot; undefined where there is no /proc. One that has ended, and that
 * its parent has not asked about (in containers often never), still has its id.
 */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return /^[ZX]/.test(fields[0] ?? '') ? 'ended' : fields[19];
  } catch {
    return undefined;
  }
}
