/** What jobs print, read from the files where it is kept, while they grow. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SchedulerError, UsageError } from '../domain/errors.ts';
import { FINAL_STATES, type QueueJob, type QueueJobId, type QueueJobSpec } from '../domain/queue.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { visibleText } from '../util/terminal-text.ts';
import { hereLog } from './here-command.ts';
import type { OutputItem } from './requests.ts';

/** Files with what a job printed; one file where both streams go to it. */
export interface JobOutputs {
  readonly out: string;
  readonly err?: string;
}

/** The files of a job. A job that runs here for a machine has one file, in the log folder. */
export function outputsOf(spec: QueueJobSpec, id: QueueJobId, logFolder: string): JobOutputs {
  if (spec.runHere === true) return { out: hereLog(logFolder, id) };
  const { results, name, stdout, stderr } = spec;
  return { out: stdout ?? join(results, `${name}.out`), err: stderr ?? join(results, `${name}.err`) };
}

/** Which job's output is read, and how. */
export interface StreamOutputOptions {
  readonly store: Pick<QueueStore, 'get'>;
  readonly id: QueueJobId;
  /** Goes on until the job has ended; one that waits is waited for. @default false */
  readonly follow?: boolean;
  readonly outputsOf: (job: QueueJob) => JobOutputs;
  readonly signal?: AbortSignal;
  /** How often the files are looked at while they do not grow. @default 300 */
  readonly pollMs?: number;
}

const PIECE_BYTES = 256 * 1024;
const STREAMS = ['out', 'err'] as const;

/**
 * What a job printed, piece by piece; `end` comes after the last byte. A file that is not there, or is no file, is empty.
 * Once the signal aborts, nothing more comes.
 * @throws UsageError when there is no such job, SchedulerError when a file cannot be read
 */
export async function* streamOutput(options: StreamOutputOptions): AsyncGenerator<OutputItem, void, void> {
  const { store, id, follow = false, signal, pollMs = 300 } = options;
  const reader = new AttemptReader();
  while (signal?.aborted !== true) {
    // Looked at before the files: whatever the job printed until it ended is in them then.
    const job = store.get(id);
    if (job === undefined) throw new UsageError(`there is no job ${id}`);
    const restarted = reader.turnTo(job);
    if (restarted !== undefined) yield { type: 'restarted', attempt: restarted };
    let hasRead = false;
    for await (const item of reader.read(options.outputsOf(job))) {
      hasRead = true;
      yield item;
    }
    if (!follow || FINAL_STATES.includes(job.state)) {
      const { state, outcome } = job;
      yield { type: 'end', state, ...(outcome === undefined ? {} : { outcome }) };
      return;
    }
    if (!hasRead) await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
  }
}

/** Where reading of a job's files stands. */
class AttemptReader {
  /** The attempt whose output is read; 0 as long as there is none. */
  #attempt = 0;
  #offsets = { out: 0, err: 0 };

  /** Goes on with the attempt that the job is at. Returns its number when another one was read before. */
  turnTo({ spec, state, attempt, startedAt }: QueueJob): number | undefined {
    // Until it has begun, the files may be an earlier attempt's.
    const isThere = startedAt !== undefined || FINAL_STATES.includes(state);
    if (!isThere || attempt === this.#attempt) return undefined;
    const isAnother = this.#attempt > 0;
    this.#attempt = attempt;
    // All attempts of a job that runs here append to one file.
    if (!isAnother || spec.runHere === true) return undefined;
    this.#offsets = { out: 0, err: 0 };
    return attempt;
  }

  /** What has come until now, piece by piece, both streams in turn. */
  async *read(outputs: JobOutputs): AsyncGenerator<OutputItem, void, void> {
    if (this.#attempt === 0) return;
    // What comes while this is read waits for the next time: one that prints without end must not hold us here.
    const ends = { out: await sizeOf(outputs.out), err: await sizeOf(outputs.err) };
    for (let isAny = true; isAny; ) {
      isAny = false;
      for (const stream of STREAMS) {
        const path = outputs[stream];
        const left = ends[stream] - this.#offsets[stream];
        if (path === undefined || left <= 0) continue;
        const piece = await readPiece(path, this.#offsets[stream], Math.min(left, PIECE_BYTES));
        if (piece.length === 0) continue;
        isAny = true;
        this.#offsets[stream] += piece.length;
        yield { type: 'chunk', stream, base64: piece.toString('base64') };
      }
    }
  }
}

async function sizeOf(path: string | undefined): Promise<number> {
  if (path === undefined) return 0;
  return (await withFile(path, async (file) => (await file.stat()).size)) ?? 0;
}

async function readPiece(path: string, from: number, bytes: number): Promise<Buffer> {
  const piece = await withFile(path, async (file) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, from);
    return buffer.subarray(0, bytesRead);
  });
  return piece ?? Buffer.alloc(0);
}

/** Undefined for what is not there, and for pipes and devices, which would never end or never open. */
async function withFile<T>(path: string, work: (file: FileHandle) => Promise<T>): Promise<T | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENXIO') return undefined;
    throw new SchedulerError(`cannot read what the job printed: ${visibleText(message)}`, { cause: error });
  }
  try {
    return (await file.stat()).isFile() ? await work(file) : undefined;
  } finally {
    await file.close();
  }
}
