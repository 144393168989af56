/** What a queue's store takes and gives, beside its jobs. */
import type { Attempt, Job } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import { FINAL_STATES, type QueueJobId, type QueueState } from '../domain/queue.ts';
import type { QueueClock } from './queue-base.ts';
import type { QueueRetryPolicy } from './queue-end.ts';

/** What a queue goes by. */
export interface QueueStoreOptions {
  /** Which ends are worth another attempt. @default losses alone are made good */
  readonly policy?: QueueRetryPolicy;
  /** Who a machine is, whatever it is called; noted with a claim that names its machine. */
  readonly machineKeyOf?: (machine: MachineName) => string | undefined;
  /** @default the computer's */
  readonly clock?: QueueClock;
  /** How many events are kept for readers who come back. @default 100,000 */
  readonly keptEvents?: number;
  /** The disk takes no writes. They are tried again every second, and nobody hears of success before. */
  readonly onProblem?: (error: Error) => void;
}

/** An attempt that a machine may have. */
export interface ClaimedAttempt {
  readonly attempt: Attempt;
  readonly job: Job;
  /** Absent when it was not noted where it goes: then no machine has heard of it. */
  readonly machine?: MachineName;
  readonly machineKey?: string;
  /** Epoch milliseconds, when it is known to have begun. */
  readonly startedAt?: number;
  /** Somebody wants it to end. */
  readonly wanted?: 'killed' | 'queued';
  /** Why, where somebody said. */
  readonly reason?: string;
}

/** Which jobs are listed. */
export interface QueueFilter {
  /** @default all */
  readonly states?: readonly QueueState[];
  /** The lowest id. @default 1 */
  readonly from?: QueueJobId;
  /** How many at most. @default all */
  readonly limit?: number;
}

export const ALL_STATES: readonly QueueState[] = [
  'queued',
  'holding',
  'user-hold',
  'running',
  ...FINAL_STATES,
];
