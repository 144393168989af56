/**
 * What a results folder keeps of a batch besides its results, in `.batches/`: the batch's id, under which the machines
 * keep its jobs, its journal, the machines of its last run, and a lock, since two controllers of one batch would take each
 * other's jobs for their own.
 */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { JobId } from '../domain/job.ts';
import { type JobHistory, Journal, readJournal } from './journal.ts';

/** A batch that this process has for itself. */
export interface BatchRecord {
  /** 12 hex digits, the same for every run of this batch file with these results. */
  readonly id: string;
  /** No earlier run was recorded, so no machine has anything of it. */
  readonly isNew: boolean;
  /** The last run could not clear up on all machines: it died, or one was away. */
  readonly isUnclean: boolean;
  readonly journal: Journal;
  /** Remembers how this run was asked for, for questions about the batch. */
  remember(request: RememberedRequest): void;
  /** Lets others have the batch. `isClean`: nothing of ours is left on any machine. */
  release(end?: { readonly isClean: boolean }): void;
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
  const isTakenOver = takeLock(lock);
  try {
    const path = join(folder, `${key}.id`);
    const known = readId(path);
    const journalPath = join(folder, `${key}.journal`);
    // A new id would have everything run again beside what runs under the old one.
    if (known === undefined && (existsSync(path) || existsSync(journalPath)))
      throw new UsageError(
        `${path} does not hold the id of this batch, which its machines keep its jobs under: restore it, or remove ${folder}/${key}.* to begin anew (execute_batch --orphans finds what runs)`,
      );
    const id = known ?? randomBytes(6).toString('hex');
    if (known === undefined) writeForGood(path, `${id}\n`);
    const journal = new Journal(journalPath);
    const unclean = join(folder, `${key}.unclean`);
    return {
      id,
      isNew: known === undefined,
      isUnclean: known !== undefined && (isTakenOver || existsSync(unclean)),
      journal,
      remember: (request) => writeFileSync(join(folder, `${key}.asked`), `${JSON.stringify(request)}\n`),
      release: ({ isClean } = { isClean: false }) => {
        journal.close();
        try {
          if (isClean) rmSync(unclean, { force: true });
          else if (!existsSync(unclean)) writeFileSync(unclean, '');
        } finally {
          rmSync(lock, { force: true });
        }
      },
    };
  } catch (error) {
    rmSync(lock, { force: true });
    throw asUsageError(error, resultsFolder);
  }
}

/** Writes a file that is there whole or not at all, also after a power cut. */
function writeForGood(path: string, text: string): void {
  const fd = openSync(`${path}.new`, 'w');
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
}

function asUsageError(error: unknown, folder: string): unknown {
  if (error instanceof UsageError) return error;
  return new UsageError(`cannot use the results folder ${folder}: ${(error as Error).message}`);
}

/** How a run was asked for. */
export interface RememberedRequest {
  /** What was named as `--machines`. */
  readonly machines: readonly string[];
  /** The batch file as it was named, from the folder `cwd`. */
  readonly file: string;
  readonly cwd: string;
  /** The ssh configuration that was named, absolute. */
  readonly sshConfig?: string;
}

/** What is known of a batch without taking it. */
export interface KnownBatch {
  readonly id: string;
  readonly journal: ReadonlyMap<JobId, JobHistory>;
  /** Who runs it now, as far as can be told from here. */
  readonly controller?: { readonly host: string; readonly pid: number };
}

/** Looks a batch up and changes nothing; undefined when it was never run with these results. */
export function lookUpBatch(resultsFolder: string, key: string): KnownBatch | undefined {
  const folder = join(resultsFolder, FOLDER);
  const id = readId(join(folder, `${key}.id`));
  if (id === undefined) return undefined;
  const holder = readHolder(join(folder, `${key}.lock`));
  const journal = readJournal(join(folder, `${key}.journal`));
  if (holder === undefined || isGone(holder, hostname())) return { id, journal };
  return { id, journal, controller: { host: holder.host, pid: holder.pid } };
}

/**
 * The ids of all batches that keep their results in this folder, with their keys. Undefined when that cannot be told: the
 * folder may lie on a disk that is not mounted now, or an id cannot be read. A folder that was deleted has none.
 */
export function knownBatches(resultsFolder: string): ReadonlyMap<string, string> | undefined {
  const folder = join(resultsFolder, FOLDER);
  try {
    const known = new Map<string, string>();
    for (const entry of readdirSync(folder).filter((name) => name.endsWith('.id'))) {
      const id = readId(join(folder, entry));
      if (id === undefined) return undefined;
      known.set(id, entry.slice(0, -'.id'.length));
    }
    return known;
  } catch {
    return isDeleted(resultsFolder) ? new Map() : undefined;
  }
}

/** An empty folder around it proves nothing: that is what a disk leaves that is not mounted. */
function isDeleted(path: string): boolean {
  try {
    const around = readdirSync(dirname(path));
    return around.length > 0 && !around.includes(basename(path));
  } catch {
    return false;
  }
}

/** How the last run of a batch was asked for; undefined when that is not known. */
export function rememberedRequest(resultsFolder: string, key: string): RememberedRequest | undefined {
  try {
    const { machines, file, cwd, sshConfig } = JSON.parse(
      readFileSync(join(resultsFolder, FOLDER, `${key}.asked`), 'utf8'),
    ) as { readonly [name: string]: unknown };
    if (!Array.isArray(machines) || !machines.every((name) => typeof name === 'string')) return undefined;
    if (typeof file !== 'string' || typeof cwd !== 'string') return undefined;
    return { machines, file, cwd, ...(typeof sshConfig === 'string' ? { sshConfig } : {}) };
  } catch {
    return undefined;
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

/** Takes the lock. Returns whether it was that of a controller that had died. */
function takeLock(lock: string): boolean {
  const me: Holder = { host: hostname(), pid: process.pid, processStart: startOf(process.pid) ?? '' };
  // Written first and then linked into place, so that nobody ever reads half a lock.
  const mine = `${lock}.${process.pid}-${randomBytes(4).toString('hex')}`;
  try {
    writeFileSync(mine, `${JSON.stringify(me)}\n`);
    for (let tries = 0; tries < TRIES; tries++) {
      try {
        linkSync(mine, lock);
        return tries > 0;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const holder = readHolder(lock);
      if (holder !== undefined && !isGone(holder, me.host)) throw heldError(holder, lock, me.host);
      setAside(lock, `${mine}.old`, me.host);
    }
    throw new UsageError(`another controller takes ${lock} again and again: try later`);
  } catch (error) {
    throw asUsageError(error, dirname(dirname(lock)));
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
  const way = host === here ? 'wait for it or end it' : `if it is no more, remove ${lock}`;
  return new UsageError(`this batch is being run by process ${pid} on ${host}: ${way}`);
}
