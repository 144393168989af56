/**
 * What a results folder keeps of a batch besides its results, in `.batches/`: the batch's id, under which the machines
 * keep its jobs, and a lock, since two controllers of one batch would take each other's jobs for their own.
 */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  constants,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';

/** A batch that this process has for itself. */
export interface BatchRecord {
  /** 12 hex digits, the same for every run of this batch file with these results. */
  readonly id: string;
  /** No earlier run was recorded, so no machine has anything of it. */
  readonly isNew: boolean;
  /** Lets others have the batch. */
  release(): void;
}

const FOLDER = '.batches';

/**
 * Takes a batch. `key` tells the batch files of one results folder apart: letters, digits and `._-%`.
 * @throws UsageError when another controller has it, with its host and process id, and when the folder cannot be used.
 */
export function takeBatch(resultsFolder: string, key: string): BatchRecord {
  const folder = join(resultsFolder, FOLDER);
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(resultsFolder, constants.W_OK);
  } catch (error) {
    throw new UsageError(`cannot use the results folder ${resultsFolder}: ${(error as Error).message}`);
  }
  const lock = join(folder, `${key}.lock`);
  takeLock(lock);
  const release = () => rmSync(lock, { force: true });
  try {
    const path = join(folder, `${key}.id`);
    const known = readId(path);
    if (known !== undefined) return { id: known, isNew: false, release };
    const id = randomBytes(6).toString('hex');
    writeFileSync(path, `${id}\n`);
    return { id, isNew: true, release };
  } catch (error) {
    release();
    throw error;
  }
}

function readId(path: string): string | undefined {
  try {
    return /^([0-9a-f]{12})\n$/.exec(readFileSync(path, 'latin1'))?.[1];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

interface Holder {
  readonly host: string;
  readonly pid: number;
  /** When the process started, as its system counts; tells a recycled process id apart. */
  readonly processStart: string;
}

const TRIES = 5;

function takeLock(lock: string): void {
  const me: Holder = { host: hostname(), pid: process.pid, processStart: startOf(process.pid) ?? '' };
  // Written first and then linked into place, so that nobody ever reads half a lock.
  const mine = `${lock}.${process.pid}-${randomBytes(4).toString('hex')}`;
  writeFileSync(mine, `${JSON.stringify(me)}\n`);
  try {
    for (let tries = 0; tries < TRIES; tries++) {
      try {
        linkSync(mine, lock);
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const holder = readHolder(lock);
      if (holder !== undefined && !isGone(holder, me.host)) throw heldError(holder, lock, me.host);
      setAside(lock, `${mine}.old`, me.host);
    }
    throw new UsageError(`another controller takes ${lock} again and again: try later`);
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Takes a dead lock away. Should another have taken the place between our look and this, it gets it back. */
function setAside(lock: string, aside: string, here: string): void {
  try {
    renameSync(lock, aside);
    const holder = readHolder(aside);
    if (holder !== undefined && !isGone(holder, here)) linkSync(aside, lock);
  } catch {
    // gone already, or taken by a third: the next try finds out
  } finally {
    rmSync(aside, { force: true });
  }
}

function readHolder(lock: string): Holder | undefined {
  try {
    const { host, pid, processStart } = JSON.parse(readFileSync(lock, 'utf8')) as Partial<
      Record<keyof Holder, unknown>
    >;
    if (typeof host !== 'string' || typeof processStart !== 'string') return undefined;
    return Number.isSafeInteger(pid) ? { host, pid: Number(pid), processStart } : undefined;
  } catch {
    return undefined; // given back meanwhile, or nothing of ours
  }
}

/** Whether the holder is surely no more: only for this host can that be said. */
function isGone({ host, pid, processStart }: Holder, here: string): boolean {
  if (host !== here) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true;
  }
  const start = startOf(pid);
  return start !== undefined && processStart !== '' && start !== processStart;
}

/** When a process started, in the kernel's ticks since its boot; undefined where there is no /proc. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function heldError({ host, pid }: Holder, lock: string, here: string): UsageError {
  const where = host === here ? '' : ` on ${host}`;
  const way = host === here ? 'wait for it or end it' : `if it is no more, remove ${lock}`;
  return new UsageError(`this batch is being run by process ${pid}${where}: ${way}`);
}
