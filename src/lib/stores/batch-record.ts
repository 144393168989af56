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
import { makeFolder } from '../util/make-folder.ts';
import { isHolderGone, type LockHolder, readLockHolder, takeProcessLock } from '../util/process-lock.ts';
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

/** In a results folder. */
export const BATCHES_FOLDER = '.batches';

/**
 * Takes a batch. `key` tells the batch files of one results folder apart: letters, digits and `._-%`.
 * @throws UsageError when another controller has it, with its host and process id, and when the folder cannot be used.
 */
export function takeBatch(resultsFolder: string, key: string): BatchRecord {
  const folder = join(resultsFolder, BATCHES_FOLDER);
  try {
    makeFolder(folder);
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
  const folder = join(resultsFolder, BATCHES_FOLDER);
  const id = readId(join(folder, `${key}.id`));
  if (id === undefined) return undefined;
  const holder = readLockHolder(join(folder, `${key}.lock`));
  const journal = readJournal(join(folder, `${key}.journal`));
  if (holder === undefined || isHolderGone(holder)) return { id, journal };
  return { id, journal, controller: { host: holder.host, pid: holder.pid } };
}

/**
 * The ids of all batches that keep their results in this folder, with their keys. Undefined when that cannot be told: the
 * folder may lie on a disk that is not mounted now, or an id cannot be read. A folder that was deleted has none.
 */
export function knownBatches(resultsFolder: string): ReadonlyMap<string, string> | undefined {
  const folder = join(resultsFolder, BATCHES_FOLDER);
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
      readFileSync(join(resultsFolder, BATCHES_FOLDER, `${key}.asked`), 'utf8'),
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

/** Takes the lock. Returns whether it was that of a controller that had died. */
function takeLock(lock: string): boolean {
  try {
    const attempt = takeProcessLock(lock);
    if (!attempt.isTaken) throw heldError(attempt.holder, lock, hostname());
    return attempt.isTakenOver;
  } catch (error) {
    throw asUsageError(error, dirname(dirname(lock)));
  }
}

function heldError({ host, pid }: LockHolder, lock: string, here: string): UsageError {
  const way = host === here ? 'wait for it or end it' : `if it is no more, remove ${lock}`;
  return new UsageError(`this batch is being run by process ${pid} on ${host}: ${way}`);
}
