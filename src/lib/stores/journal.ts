/**
 * The journal of a batch, beside its results: which attempt was given to which machine, told before the machine hears of
 * it. So a later controller knows where each job may be, also while a machine cannot be asked, and what each job has used
 * up of its retries and losses. One JSON object a line; a line that was cut off by a crash is no line.
 *
 * That an attempt is given is written before its machine hears of it. The rest can be told by the machines and the results
 * as well, and is written with the next such line, soon at the latest. All is put on the disk within a second: what a power
 * cut takes of that is found again on the machines that can be reached.
 */

import { createHash } from 'node:crypto';
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { type Attempt, type Job, type JobId, jobId } from '../domain/job.ts';
import { type MachineName, machineName } from '../domain/machine.ts';

/** Where an attempt was given to. */
export interface JournalPlace {
  readonly machine: MachineName;
  /** Who that machine is, whatever it is called: see `machineKey`. */
  readonly machineKey: string;
  /** The batch's folder there: in another one (another account, home or `remote_dir`) nothing can be told of it. */
  readonly runs: string;
}

/** Why a job waits again after an attempt. `fault`: its machine lacked something. */
export type AgainReason = 'lost' | 'unstarted' | 'failed' | 'fault';

/** What earlier attempts of a job, since it was last finished, tell of the next one. */
export interface JobHistory {
  /** The highest number that any attempt had. */
  readonly highest: number;
  /** Hash of the command that was tried last: a line that was changed since begins anew. Undefined before the first try. */
  readonly commandHash: string | undefined;
  /** The attempt that nobody has seen the end of. */
  readonly open?: { readonly number: number; readonly hasBegun: boolean } & JournalPlace;
  /** Attempts up to this number belong to a time when the job was over. */
  readonly overUpTo: number;
  /** Attempts that have failed and were not the last. */
  readonly failed: readonly number[];
  readonly losses: number;
  readonly failures: number;
  /** Where it failed. */
  readonly avoid: readonly MachineName[];
  /** What it asks for since its memory ran out. */
  readonly grown: GrownMemory;
}

/** Memory that a job asks for instead of what its line says. */
export interface GrownMemory {
  readonly memoryMiB?: number;
  readonly gpuMemoryMiB?: number;
}

type Entry =
  | {
      readonly type: 'given';
      readonly job: string;
      readonly number: number;
      readonly machine: string;
      readonly key: string;
      readonly runs: string;
      readonly command: string;
    }
  | { readonly type: 'begun'; readonly job: string; readonly number: number }
  | {
      readonly type: 'again';
      readonly job: string;
      readonly number: number;
      readonly reason: AgainReason;
      readonly machine?: string;
      readonly grown?: GrownMemory;
    }
  | { readonly type: 'over'; readonly job: string; readonly number: number }
  | { readonly type: 'torn'; readonly job: string; readonly number: number };

const WRITE_AFTER_MS = 200;
const SYNC_AFTER_MS = 1000;

/** A batch's journal, open for writing. */
export class Journal {
  readonly #histories: Map<JobId, JobHistory>;
  readonly #fd: number;
  /** Bytes in the file, which is ours alone. */
  #size: number;
  /** Lines that are not written yet. */
  #waiting = '';
  #writing: NodeJS.Timeout | undefined;
  #syncing: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Opens (and makes) a journal. */
  constructor(path: string) {
    this.#histories = readJournal(path);
    this.#fd = openSync(path, 'a', 0o600);
    if (isCutOff(path)) writeSync(this.#fd, '\n');
    this.#size = fstatSync(this.#fd).size;
  }

  /** What it tells of each job. */
  get histories(): ReadonlyMap<JobId, JobHistory> {
    return this.#histories;
  }

  /** This attempt is about to be given to a machine: from now on it may run there. */
  given(job: Pick<Job, 'id' | 'command'>, number: number, { machine, machineKey, runs }: JournalPlace): void {
    const command = commandHash(job.command);
    this.#write({ type: 'given', job: job.id, number, machine, key: machineKey, runs, command });
    this.flush();
  }

  /** Its command was heard to begin. */
  begun({ job, number }: Attempt): void {
    this.#write({ type: 'begun', job, number });
  }

  /** This attempt is over, and its job waits again. */
  again({ job, number }: Attempt, reason: AgainReason, machine?: MachineName, grown?: GrownMemory): void {
    this.#write({
      type: 'again',
      job,
      number,
      reason,
      ...(machine === undefined ? {} : { machine }),
      ...(grown === undefined ? {} : { grown }),
    });
  }

  /** This attempt was the job's last. */
  over({ job, number }: Attempt): void {
    this.#write({ type: 'over', job, number });
  }

  /** The job's result was destroyed here (by a power cut): what its machine still has of it counts again. */
  torn(job: JobId): void {
    this.#write({ type: 'torn', job, number: 0 });
  }

  /** Writes what waits. @throws when there is no room */
  flush(): void {
    clearTimeout(this.#writing);
    this.#writing = undefined;
    if (this.#isClosed || this.#waiting === '') return;
    const lines = this.#waiting;
    this.#waiting = '';
    this.#writeWhole(Buffer.from(lines));
    this.#syncing ??= setTimeout(() => {
      this.#syncing = undefined;
      if (!this.#isClosed) fdatasync(this.#fd, () => {}); // a file system that cannot has nothing better to offer
    }, SYNC_AFTER_MS).unref();
  }

  close(): void {
    if (this.#isClosed) return;
    try {
      this.flush();
    } catch {
      // No room: what these lines tell is told by the machines and the results, too.
    }
    this.#isClosed = true;
    clearTimeout(this.#syncing);
    closeSync(this.#fd);
  }

  /** Writes all of some lines, or nothing of them: on a full disk a part would spoil the next one. */
  #writeWhole(lines: Buffer): void {
    try {
      for (let at = 0; at < lines.length; ) at += writeSync(this.#fd, lines, at);
    } catch (error) {
      ftruncateSync(this.#fd, this.#size);
      throw error;
    }
    this.#size += lines.length;
  }

  #write(entry: Entry): void {
    if (this.#isClosed) return; // the batch was left: its machines tell the rest
    this.#waiting += `${JSON.stringify(entry)}\n`;
    this.#writing ??= setTimeout(() => {
      try {
        this.flush();
      } catch {
        // No room: the next attempt that is given finds out.
      }
    }, WRITE_AFTER_MS).unref();
    const job = jobId(entry.job);
    this.#histories.set(job, after(this.#histories.get(job) ?? NOTHING, entry));
  }
}

function isCutOff(path: string): boolean {
  const text = readFileSync(path, 'latin1');
  return text !== '' && !text.endsWith('\n');
}

/** Reads a journal and changes nothing. Without one there is nothing to tell. */
export function readJournal(path: string): Map<JobId, JobHistory> {
  const histories = new Map<JobId, JobHistory>();
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return histories;
    throw error;
  }
  for (const line of text.split('\n')) {
    const entry = parseEntry(line);
    if (entry === undefined) continue;
    const job = jobId(entry.job);
    histories.set(job, after(histories.get(job) ?? NOTHING, entry));
  }
  return histories;
}

const NOTHING: JobHistory = {
  highest: 0,
  commandHash: undefined,
  overUpTo: 0,
  failed: [],
  losses: 0,
  failures: 0,
  avoid: [],
  grown: {},
};

/** Whether it is known what became of an attempt, so that what is left of it on its machine is of no use. */
export function isClosed({ overUpTo, failed }: JobHistory, number: number): boolean {
  return number <= overUpTo || failed.includes(number);
}

/** A job's history, as far as it is about the command that the job has now. */
export function historyOf(
  histories: ReadonlyMap<JobId, JobHistory>,
  { id, command }: Pick<Job, 'id' | 'command'>,
): JobHistory | undefined {
  const history = histories.get(id);
  if (history?.commandHash === undefined || history.commandHash === commandHash(command)) return history;
  return { ...NOTHING, highest: history.highest };
}

function commandHash(command: string): string {
  return createHash('sha256').update(command).digest('hex').slice(0, 16);
}

function after(before: JobHistory, entry: Entry): JobHistory {
  const isOther =
    entry.type === 'given' && before.commandHash !== undefined && before.commandHash !== entry.command;
  const history = isOther ? { ...NOTHING, highest: before.highest } : before;
  const { open, ...rest } = history;
  const highest = Math.max(history.highest, entry.number);
  switch (entry.type) {
    case 'given':
      return {
        ...rest,
        highest,
        commandHash: entry.command,
        open: {
          number: entry.number,
          machine: machineName(entry.machine),
          machineKey: entry.key,
          runs: entry.runs,
          hasBegun: false,
        },
      };
    case 'over':
      return {
        ...NOTHING,
        commandHash: history.commandHash,
        highest,
        overUpTo: Math.max(history.overUpTo, entry.number),
      };
    case 'begun':
      return { ...history, ...(open?.number === entry.number ? { open: { ...open, hasBegun: true } } : {}) };
    case 'torn':
      return { ...history, overUpTo: 0 };
    case 'again': {
      // An attempt that was given up may end after its replacement was given to another machine.
      const still = open !== undefined && open.number > entry.number ? { open } : {};
      const isFailure = entry.reason === 'failed' || entry.reason === 'fault';
      return {
        ...rest,
        ...still,
        highest,
        // A lost one may turn up again, if its machine had only been given up.
        failed: entry.reason === 'lost' ? history.failed : [...history.failed, entry.number],
        losses: history.losses + (entry.reason === 'lost' ? 1 : 0),
        failures: history.failures + (entry.reason === 'failed' ? 1 : 0),
        avoid:
          isFailure && entry.machine !== undefined
            ? [...new Set([...history.avoid, machineName(entry.machine)])]
            : history.avoid,
        grown: { ...history.grown, ...entry.grown },
      };
    }
  }
}

/** One line, or undefined when it is none: cut off, or of a later version. */
function parseEntry(line: string): Entry | undefined {
  try {
    const entry = JSON.parse(line) as Partial<Record<string, unknown>> | null;
    if (typeof entry?.job !== 'string' || !Number.isSafeInteger(entry.number)) return undefined;
    if (entry.type === 'given')
      return [entry.machine, entry.key, entry.runs, entry.command].every((field) => typeof field === 'string')
        ? (entry as Entry)
        : undefined;
    return ['again', 'begun', 'over', 'torn'].includes(String(entry.type)) ? (entry as Entry) : undefined;
  } catch {
    return undefined;
  }
}
