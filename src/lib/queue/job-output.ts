/** What jobs print, read from the files where it is kept, while they grow. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SchedulerError, UsageError } from '../domain/errors.ts';
import { FINAL_STATES, type QueueJob, type QueueJobId, type QueueJobSpec } from '../domain/queue.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { GrowingFiles } from '../util/growing-files.ts';
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
  if (spec.inPlace !== undefined && stdout !== undefined)
    return { out: stdout, ...(stderr === undefined ? {} : { err: stderr }) };
  return { out: stdout ?? join(results, `${name}.out`), err: stderr ?? join(results, `${name}.err`) };
}

/** Which job's output is read, and how. */
export interface StreamOutputOptions {
  readonly store: Pick<QueueStore, 'get'>;
  readonly id: QueueJobId;
  /** Goes on until the job has ended; one that waits is waited for. @default false */
  readonly follow?: boolean;
  /** Leaves out what was printed before the last so many bytes of each stream, up to the end of a line. @default nothing is left out */
  readonly tailBytes?: number;
  readonly outputsOf: (job: QueueJob) => JobOutputs;
  readonly signal?: AbortSignal;
  /** How often the files are looked at while they do not grow. @default 300 */
  readonly pollMs?: number;
}

/**
 * What a job printed, piece by piece; `end` comes after the last byte. A file that is not there, or is no file, is empty.
 * Once the signal aborts, nothing more comes.
 * @throws UsageError when there is no such job, SchedulerError when a file cannot be read
 */
export async function* streamOutput(options: StreamOutputOptions): AsyncGenerator<OutputItem, void, void> {
  const { store, id, follow = false, signal, pollMs = 300 } = options;
  const reader = new AttemptReader(new GrowingFiles(options));
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
  readonly #files: GrowingFiles;

  constructor(files: GrowingFiles) {
    this.#files = files;
  }

  /** Goes on with the attempt that the job is at. Returns its number when another one was read before. */
  turnTo({ spec, state, attempt, startedAt }: QueueJob): number | undefined {
    // Until it has begun, the files may be an earlier attempt's.
    const isThere = startedAt !== undefined || FINAL_STATES.includes(state);
    if (!isThere || attempt === this.#attempt) return undefined;
    const isAnother = this.#attempt > 0;
    this.#attempt = attempt;
    // All attempts of a job that runs here append to one file.
    if (!isAnother || spec.runHere === true) return undefined;
    this.#files.restart();
    return attempt;
  }

  /** What has come until now, piece by piece, both streams in turn. */
  async *read(outputs: JobOutputs): AsyncGenerator<OutputItem, void, void> {
    if (this.#attempt === 0) return;
    try {
      yield* this.#files.read(outputs);
    } catch (error) {
      const why = visibleText((error as Error).message);
      throw new SchedulerError(`cannot read what the job printed: ${why}`, { cause: error });
    }
  }
}
