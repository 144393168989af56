/** What somebody who watches sees of a batch. What it costs does not grow with the batch. */
import { join } from 'node:path';
import type { MachinePool } from '../allocator/machine-pool.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { Job } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { Overview, OverviewJob, OverviewJobs, OverviewRequest } from '../domain/overview.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import type { Engine } from '../engine/engine.ts';
import type { MemoryStore } from '../stores/memory.ts';
import type { EventStream } from '../util/event-stream.ts';
import type { GrowingPaths } from '../util/growing-files.ts';
import { lastLine } from '../util/last-line.ts';
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

/** How far those that wait are looked through for a filter. */
const MOST_LOOKED_AT = 5000;

/** The files with what a job of a batch prints. */
export function printedFiles(results: string, name: string): GrowingPaths & { readonly err: string } {
  return { out: join(results, `${name}.out`), err: join(results, `${name}.err`) };
}

/** Tells what there is to see of one batch. */
export class BatchOverview {
  readonly #options: BatchOverviewOptions;
  readonly #machines: BatchMachines;

  constructor(options: BatchOverviewOptions) {
    this.#options = options;
    this.#machines = new BatchMachines(options);
  }

  /** Everything now. Machines are measured again where their figures are old; the next answer has the new ones. */
  async tell({ filter, limit }: OverviewRequest): Promise<Overview> {
    const { engine, progress, results, toRunCount } = this.#options;
    this.#machines.refresh();
    const fits = matcher(filter);
    const attempts = [...engine.running()].filter(({ attempt }) => progress.endOf(attempt.job) === undefined);
    const jobsOn = new Map<MachineName, number>();
    for (const { machine } of attempts) jobsOn.set(machine, (jobsOn.get(machine) ?? 0) + 1);
    const queued = Math.max(0, toRunCount - progress.endedCount - attempts.length);
    const running = attempts
      .map((attempt) => this.#runningJob(attempt))
      .filter(fits)
      .sort((one, other) => (one.startedAt ?? Infinity) - (other.startedAt ?? Infinity) || 0);
    const ended = progress.endedLately().filter(fits);
    const endedCount = Object.values(progress.counts).reduce((sum, count) => sum + count, 0);
    const told: Omit<Overview, 'running'> = {
      at: Date.now(),
      counts: {
        ...{ queued, holding: 0, 'user-hold': 0, running: attempts.length, abort: 0 },
        ...progress.counts,
      },
      machines: this.#machines.rows(jobsOn),
      waiting: this.#waiting(fits, { limit, queued, hasFilter: filter !== undefined && filter !== '' }),
      ended: {
        jobs: ended.slice(0, limit),
        ...(filter ? { count: ended.length, isCut: endedCount > ended.length } : { count: endedCount }),
      },
    };
    const jobs = await Promise.all(
      running.slice(0, limit).map(async (job): Promise<OverviewJob> => {
        // Until its command has begun, the files may be an earlier attempt's.
        if (job.startedAt === undefined) return job;
        const { out, err } = printedFiles(results, job.name);
        const line = await lastLine([out, err]);
        return line === undefined ? job : { ...job, lastLine: line };
      }),
    );
    return { ...told, running: { jobs, count: running.length } };
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

  #waiting(
    fits: (job: OverviewJob) => boolean,
    { limit, queued, hasFilter }: { limit: number; queued: number; hasFilter: boolean },
  ): OverviewJobs {
    const { store, pool, names, isStopped } = this.#options;
    const reasons = new WaitingReasons({ pool, names, isStopped: isStopped() });
    const most = hasFilter ? MOST_LOOKED_AT : limit;
    const found: Job[] = [];
    let lookedAt = 0;
    for (const job of store.pending()) {
      if (lookedAt === most) break;
      lookedAt += 1;
      if (fits(waitingJob(job))) found.push(job);
    }
    const jobs = found
      .slice(0, limit)
      .map((job) => ({ ...waitingJob(job), reason: this.#why(job, reasons) }));
    if (!hasFilter) return { jobs, count: queued };
    return { jobs, count: found.length, isCut: lookedAt < store.waitingCount };
  }

  #why(job: Job, reasons: WaitingReasons): string {
    const again = this.#options.progress.againReason(job.id);
    return again === undefined ? reasons.of(job) : `${reasons.of(job)}; ${again}`;
  }
}

function waitingJob({ id, name, command }: Job): OverviewJob {
  return { id, name, command, state: 'queued' };
}

/** Whether a job has the text, in any case of letters. */
function matcher(filter = ''): (job: OverviewJob) => boolean {
  const wanted = filter.toLowerCase();
  if (wanted === '') return () => true;
  return ({ id, name, command, machine = '' }) =>
    [id, name, command, machine].some((text) => text.toLowerCase().includes(wanted));
}
