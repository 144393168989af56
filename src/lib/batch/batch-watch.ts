/** A batch as somebody who watches it has it: what there is to see, what its jobs print, and how one of them is ended. */
import type { MachinePool } from '../allocator/machine-pool.ts';
import { UsageError } from '../domain/errors.ts';
import { type Job, type JobId, jobId } from '../domain/job.ts';
import type { OutputItem, Overview, OverviewRequest } from '../domain/overview.ts';
import type { Engine } from '../engine/engine.ts';
import { visibleText } from '../util/terminal-text.ts';
import { BatchLookup } from './batch-lookup.ts';
import { batchOutput, type JobStanding } from './batch-output.ts';
import { BatchOverview, type BatchOverviewOptions, printedFiles } from './batch-overview.ts';
import type { BatchProgress } from './batch-progress.ts';

/** What is watched. */
export interface BatchWatchOptions extends Omit<BatchOverviewOptions, 'lookup'> {
  readonly pool: MachinePool;
  readonly engine: Engine;
  readonly progress: BatchProgress;
  readonly jobs: readonly Job[];
}

/** Watches one batch. */
export class BatchWatch {
  readonly #options: BatchWatchOptions;
  readonly #lookup: BatchLookup;
  readonly #overview: BatchOverview;

  constructor(options: BatchWatchOptions) {
    this.#options = options;
    this.#lookup = new BatchLookup(options.jobs, options.skipped);
    this.#overview = new BatchOverview({ ...options, lookup: this.#lookup });
  }

  /** What there is to see. To be asked as often as they look. */
  overview(request: OverviewRequest): Promise<Overview> {
    return this.#overview.tell(request);
  }

  /**
   * What a job of this batch printed and prints, until it has ended or the signal aborts.
   * @throws UsageError when there is no such job, SchedulerError when a file cannot be read
   */
  output(id: string, signal?: AbortSignal): AsyncIterable<OutputItem> {
    const { results } = this.#options;
    const { name } = this.#jobOf(id);
    const earlier = this.#lookup.skipped(jobId(id));
    const isOver: JobStanding | undefined =
      earlier === undefined
        ? undefined
        : { type: 'ended', state: earlier.isGood ? 'success' : 'fail', attempt: 0 };
    return batchOutput({
      paths: printedFiles(results, name),
      standing: () => isOver ?? this.#standing(jobId(id)),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /**
   * Ends a job that runs, with all its processes; what it wrote comes home. Says what comes of it, one line for people.
   * @throws UsageError when there is no such job
   */
  kill(id: string, reason: string): string {
    const { engine, pool, progress } = this.#options;
    const { name } = this.#jobOf(id);
    const running = engine.find(jobId(id));
    if (running === undefined) {
      const isOver = progress.endOf(jobId(id)) !== undefined || this.#lookup.skipped(jobId(id)) !== undefined;
      return isOver ? `${name} has ended already` : `${name} does not run: only what runs can be ended`;
    }
    running.cancel(reason);
    const again = 'its line runs again with the next run of the batch';
    return pool.isUp(running.machine)
      ? `${name} is being ended; ${again}`
      : `${running.machine} cannot be reached: ${name} is ended once it can; ${again}`;
  }

  #standing(id: JobId): JobStanding {
    const { progress } = this.#options;
    const end = progress.endOf(id);
    if (end !== undefined) return { type: 'ended', ...end };
    const begun = progress.begun(id);
    return begun === undefined ? { type: 'waiting' } : { type: 'running', attempt: begun.attempt };
  }

  #jobOf(id: string): Job {
    const job = this.#lookup.byId(id);
    if (job === undefined) throw new UsageError(`there is no job ${visibleText(id)} in this batch`);
    return job;
  }
}
