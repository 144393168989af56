/** What has become of a batch's jobs so far, asked from outside: nothing is started or changed. */
import { resolve } from 'node:path';
import type { Job, JobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { ListedAttempt } from '../runner/all-attempts.ts';
import { jobFolder } from '../runner/job-folder.ts';
import { lookUpBatch } from '../stores/batch-record.ts';
import { readResultFolder } from '../stores/result-folder.ts';
import { type JobDefaults, jobNameStem, readBatchFile } from './batch-file.ts';
import { type LookOptions, lookAtMachines } from './machine-look.ts';

/** Which batch, and where to look. */
export interface BatchStatusOptions extends LookOptions {
  readonly file: string;
  readonly defaults: JobDefaults;
  /** @default 'job_results' */
  readonly results?: string;
  /** @default the working directory */
  readonly cwd?: string;
}

/**
 * `ended`: its result is not home yet, the next run brings it. `unknown`: it was given to a machine that cannot be
 * reached. `waiting`: the next run starts it.
 */
export type JobState = 'done' | 'failed' | 'running' | 'ended' | 'waiting' | 'unknown';

/** One job. */
export interface JobStatus {
  readonly job: Job;
  readonly state: JobState;
  readonly machine?: MachineName;
  /** Epoch milliseconds. */
  readonly startedAt?: number;
}

/** All jobs of a batch, in the order of its lines. */
export interface BatchStatus {
  readonly jobs: readonly JobStatus[];
  readonly unreachable: readonly { readonly machine: MachineName; readonly reason: string }[];
  /** Who runs the batch now; absent when nobody does, as far as this computer can tell. */
  readonly controller?: { readonly host: string; readonly pid: number };
}

/** Asks. @throws UsageError when the batch file or a result cannot be read */
export async function batchStatus(options: BatchStatusOptions): Promise<BatchStatus> {
  const { file, defaults, results = 'job_results', cwd = process.cwd() } = options;
  const { lines } = await readBatchFile({ path: file, defaults });
  const jobs = lines.map(({ job }) => job);
  const folder = resolve(cwd, results);
  const { skipped } = await readResultFolder(folder, jobs);
  const known = lookUpBatch(folder, jobFolder(jobNameStem(file)));
  const finished = new Map(skipped.map(({ job, isGood }) => [job.id, isGood]));
  const isOver = jobs.every(({ id }) => finished.has(id));
  const { seen, unreachable } =
    known === undefined || isOver ? { seen: [], unreachable: [] } : await lookAtMachines(options);
  const now = Date.now();
  const there = new Map<string, { readonly machine: MachineName; readonly attempt: ListedAttempt }>();
  for (const { machine, attempts } of seen)
    for (const attempt of attempts)
      if (attempt.batch === known?.id && isBetter(attempt, there.get(attempt.job)?.attempt))
        there.set(attempt.job, { machine, attempt });
  const keys = new Set(seen.map(({ machineKey }) => machineKey));
  const statusOf = (job: Job): JobStatus => {
    const isGood = finished.get(job.id);
    if (isGood !== undefined) return { job, state: isGood ? 'done' : 'failed' };
    const { machine, attempt } = there.get(job.name) ?? {};
    if (machine !== undefined && attempt !== undefined && attempt.command === job.command) {
      const { startedAgoMs } = attempt;
      const startedAt = startedAgoMs === undefined ? {} : { startedAt: now - startedAgoMs };
      const state = STATES[attempt.state];
      return state === 'waiting' ? { job, state } : { job, state, machine, ...startedAt };
    }
    const open = openAttempt(known?.journal, job.id);
    return open !== undefined && !keys.has(open.machineKey)
      ? { job, state: 'unknown', machine: open.machine }
      : { job, state: 'waiting' };
  };
  return {
    jobs: jobs.map(statusOf),
    unreachable,
    ...(known?.controller === undefined ? {} : { controller: known.controller }),
  };
}

const STATES: Readonly<Record<ListedAttempt['state'], JobState>> = {
  running: 'running',
  ending: 'running',
  ended: 'ended',
  unstarted: 'waiting',
  cancelled: 'waiting',
  gone: 'waiting',
};

/** The one with a result, or else the one that runs, tells more than others. */
function isBetter(one: ListedAttempt, other: ListedAttempt | undefined): boolean {
  if (other === undefined) return true;
  const rank = { ended: 2, running: 1, ending: 1, waiting: 0 } as const;
  const rankOf = ({ state }: ListedAttempt) => rank[STATES[state] as keyof typeof rank];
  return rankOf(one) !== rankOf(other) ? rankOf(one) > rankOf(other) : one.place.number > other.place.number;
}

function openAttempt(
  journal:
    | ReadonlyMap<JobId, { readonly open?: { readonly machine: MachineName; readonly machineKey: string } }>
    | undefined,
  job: JobId,
) {
  return journal?.get(job)?.open;
}
