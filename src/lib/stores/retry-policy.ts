/** When a job waits again after an attempt, and how. */
import { isSuccess, type Job, type JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { AgainReason, GrownMemory } from './journal.ts';

/** How often a job may be lost to its machines before it is given up. */
const LOSSES_ALLOWED = 3;

/** What is tried again. */
export interface RetryPolicy {
  /** How many further attempts a failed job gets. */
  readonly retries: number;
  /** Whether such an end is worth another attempt. */
  readonly isWorth: (outcome: JobOutcome) => boolean;
  /** An attempt whose memory ran out asks for so many times the memory the next time. */
  readonly oomGrow: number;
  /** Whether a machine that is left can ever hold the job, those that it avoids not counted. */
  readonly canRunElsewhere: (job: Job) => boolean;
  /** Whether any machine that is left can ever hold the job. */
  readonly canRun: (job: Job) => boolean;
}

/** Only losses are made good. */
export const LOSSES_ONLY: RetryPolicy = {
  retries: 0,
  isWorth: () => false,
  oomGrow: 1,
  canRunElsewhere: () => false,
  canRun: () => true,
};

/** What a job has used up. */
export interface UsedUp {
  readonly losses: number;
  readonly failures: number;
}

/** What becomes of a job after an attempt. */
export type Decision =
  | { readonly type: 'over' }
  | {
      readonly type: 'again';
      readonly reason: AgainReason;
      readonly next: Job;
      readonly grown?: GrownMemory;
    };

const OVER: Decision = { type: 'over' };

/** Decides. `machine`: where the attempt was. */
export function decide(
  job: Job,
  outcome: JobOutcome,
  machine: MachineName | undefined,
  used: UsedUp,
  policy: RetryPolicy,
): Decision {
  if (outcome.type === 'lost') {
    if (outcome.neverStarted === true) return { type: 'again', reason: 'unstarted', next: job };
    return used.losses + 1 < LOSSES_ALLOWED ? { type: 'again', reason: 'lost', next: job } : OVER;
  }
  if (isSuccess(outcome) || outcome.type === 'cancelled' || outcome.type === 'never-fits') return OVER;
  // It has run, and its result waits on its machine to be brought home.
  if (outcome.type === 'transfer-failed' && outcome.exitCode !== undefined) return OVER;
  const elsewhere = machine === undefined ? job : avoiding(job, machine);
  // The machine's fault does not count against the job, as long as there is another machine.
  if ('machineFault' in outcome && outcome.machineFault !== undefined && policy.canRunElsewhere(elsewhere)) {
    return { type: 'again', reason: 'fault', next: elsewhere };
  }
  if (used.failures >= policy.retries || !policy.isWorth(outcome)) return OVER;
  if (outcome.type !== 'out-of-memory' || policy.oomGrow === 1) {
    return { type: 'again', reason: 'failed', next: elsewhere };
  }
  const { memoryMiB, gpuMemoryMiB } = job.request;
  const grown: GrownMemory =
    outcome.memory === 'gpu'
      ? { gpuMemoryMiB: Math.ceil(gpuMemoryMiB * policy.oomGrow) }
      : { memoryMiB: Math.ceil(memoryMiB * policy.oomGrow) };
  const next = { ...elsewhere, request: { ...job.request, ...grown } };
  return policy.canRun(next) ? { type: 'again', reason: 'failed', next, grown } : OVER;
}

function avoiding(job: Job, machine: MachineName): Job {
  const avoid = job.avoid ?? [];
  return avoid.includes(machine) ? job : { ...job, avoid: [...avoid, machine].sort() };
}
