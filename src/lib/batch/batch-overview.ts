/** What somebody who watches sees of a batch. What it costs does not grow with the batch. */
import { join } from 'node:path';
import type { MachinePool } from '../allocator/machine-pool.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { Job, JobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { Overview, OverviewJob, OverviewJobs, OverviewRequest } from '../domain/overview.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import type { Engine } from '../engine/engine.ts';
import type { MemoryStore } from '../stores/memory.ts';
import type { SkippedJob } from '../stores/result-folder.ts';
import type { EventStream } from '../util/event-stream.ts';
import type { GrowingPaths } from '../util/growing-files.ts';
import { LastLines } from '../util/last-line.ts';
import { type BatchLookup, matcher } from './batch-lookup.ts';
import { BatchMachines } from './batch-machines.ts';
import type { BatchProgress } from './batch-progress.ts';
import { WaitingReasons } from './batch-waiting.ts';

/** What an overview is made from. */
export interface BatchOverviewOptions {
  readonly pool: MachinePool;
  readonly store: MemoryStore;
  readonly engine: Engine;
  readonly events: EventStream<SchedulerEvent>;
  readonly progress: BatchProgress;
  readonly lookup: BatchLookup;
  /** Those with a result of an earlier run. */
  readonly skipped: readonly SkippedJob[];
  /** How many lines this run has to run. */
  readonly toRunCount: number;
  /** All machines that were named. */
  readonly names: readonly MachineName[];
  /** Absolute results folder. */
  readonly results: string;
  readonly isStopped: () => boolean;
  /** Figures of machines that are older are measured again. @default 10000 */
  readonly freshForMs?: number | undefined;
}

/** How far jobs that wait, or that ended in an earlier run, are looked through for a filter. */
const MOST_LOOKED_AT = 5000;
/** A disk that hangs may keep its last lines. */

/** The files with what a job of a batch prints. */
export function printedFiles(results: string, name: string): GrowingPaths & { readonly err: string } {
  return { out: join(results, `${name}.out`), err: join(results, `${name}.err`) };
}

interface Wanted {
  readonly limit: number;
  readonly hasFilter: boolean;
  readonly fits: (job: OverviewJob) => boolean;
  /** The job whose id or name the filter is. */
  readonly named: Job | undefined;
}

/** Tells what there is to see of one batch. */
export class BatchOverview {
  readonly #options: BatchOverviewOptions;
  readonly #machines: BatchMachines;
  readonly #lastLines = new LastLines();

  constructor(options: BatchOverviewOptions) {
    this.#options = options;
    this.#machines = new BatchMachines(options);
  }

  /** Everything now. Machines are measured again where their figures are old; the next answer has the new ones. */
  async tell({ filter = '', limit }: OverviewRequest): Promise<Overview> {
    const { engine, lookup, progress, toRunCount } = this.#options;
    this.#machines.refresh();
    const hasFilter = filter !== '';
    const fits = matcher(filter);
    const wanted = { limit, hasFilter, fits, named: hasFilter ? lookup.named(filter) : undefined };
    const attempts = [...engine.running()].filter(({ attempt }) => progress.endOf(attempt.job) === undefined);
    const jobsOn = new Map<MachineName, number>();
    for (const { machine } of attempts) jobsOn.set(machine, (jobsOn.get(machine) ?? 0) + 1);
    const queued = Math.max(0, toRunCount - progress.endedCount - attempts.length);
    const running = attempts
      .map((attempt) => this.#runningJob(attempt))
      .filter(fits)
      .sort((one, other) => (one.startedAt ?? Infinity) - (other.startedAt ?? Infinity) || 0);
    const told: Omit<Overview, 'running'> = {
      at: Date.now(),
      counts: {
        ...{ queued, holding: 0, 'user-hold': 0, running: attempts.length, abort: 0 },
        ...progress.counts,
      },
      machines: this.#machines.rows(jobsOn),
      waiting: this.#waiting(wanted, queued),
      ended: this.#ended(wanted),
    };
    const jobs = await Promise.all(running.slice(0, limit).map((job) => this.#withLastLine(job)));
    return { ...told, running: { jobs, count: running.length } };
  }

  async #withLastLine(job: OverviewJob): Promise<OverviewJob> {
    // Until its command has begun, the files may be an earlier attempt's.
    if (job.startedAt === undefined) return job;
    const { out, err } = printedFiles(this.#options.results, job.name);
    const line = await this.#lastLines.of([out, err]);
    return line === undefined ? job : { ...job, lastLine: line };
  }

  #runningJob({ attempt: { job: id }, machine }: RunningAttempt): OverviewJob {
    const { store, progress } = this.#options;
    const { name = id, command = '' } = store.job(id) ?? {};
    const begun = progress.begun(id);
    const about = { id, name, command, state: 'running', machine } as const;
    if (begun === undefined) return about;
    const { startedAt, gpus } = begun;
    return { ...about, startedAt, ...(gpus.length === 0 ? {} : { gpus }) };
  }

  #waiting({ limit, hasFilter, fits, named }: Wanted, queued: number): OverviewJobs {
    const { store, pool, names, isStopped } = this.#options;
    const reasons = new WaitingReasons({ pool, names, isStopped: isStopped() });
    const most = hasFilter ? MOST_LOOKED_AT : limit;
    const found: Job[] = named !== undefined && this.#isWaiting(named.id) ? [named] : [];
    let lookedAt = 0;
    for (const job of store.pending()) {
      if (lookedAt === most) break;
      lookedAt += 1;
      if (job.id !== found[0]?.id && fits(waitingJob(job))) found.push(job);
    }
    const jobs = found.slice(0, limit).map((job) => {
      const asked = store.job(job.id) ?? job; // what it asks for may have grown
      return { ...waitingJob(job), reason: this.#why(asked, reasons) };
    });
    if (!hasFilter) return { jobs, count: queued };
    return { jobs, count: found.length, isCut: lookedAt < store.waitingCount };
  }

  #isWaiting(id: JobId): boolean {
    const { engine, lookup, progress } = this.#options;
    return (
      engine.find(id) === undefined && progress.endOf(id) === undefined && lookup.skipped(id) === undefined
    );
  }

  /** Those of this run, and behind them those of earlier ones, of which nobody knows here when they ended. */
  #ended({ limit, hasFilter, fits, named }: Wanted): OverviewJobs {
    const { lookup, progress, skipped } = this.#options;
    const lately = progress.endedLately();
    if (!hasFilter) {
      const earlier = limit > lately.length ? skipped.slice(-(limit - lately.length)).reverse() : [];
      const jobs = [...lately, ...earlier.map(earlierJob)].slice(0, limit);
      return { jobs, count: progress.endedCount + skipped.length };
    }
    const earlier = named && lookup.skipped(named.id);
    const exact = named && (earlier === undefined ? progress.ended(named) : earlierJob(earlier));
    const others = [...lately, ...skipped.slice(-MOST_LOOKED_AT).reverse().map(earlierJob)]
      .filter(fits)
      .filter(({ id }) => id !== exact?.id);
    const found = exact === undefined ? others : [exact, ...others];
    const isCut = progress.endedCount > lately.length || skipped.length > MOST_LOOKED_AT;
    return { jobs: found.slice(0, limit), count: found.length, isCut };
  }

  #why(job: Job, reasons: WaitingReasons): string {
    const again = this.#options.progress.againReason(job.id);
    return again === undefined ? reasons.of(job) : `${reasons.of(job)}; ${again}`;
  }
}

function waitingJob({ id, name, command }: Job): OverviewJob {
  return { id, name, command, state: 'queued' };
}

function earlierJob({ job: { id, name, command }, isGood }: SkippedJob): OverviewJob {
  return { id, name, command, state: isGood ? 'success' : 'fail', reason: 'in an earlier run' };
}
