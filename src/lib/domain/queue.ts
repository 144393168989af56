/** Jobs of the queue service: what a submit says, and what has become of it. Plain data, kept as JSON. */
import type { JobOutcome } from './job.ts';
import type { MachineName } from './machine.ts';
import type { ResourceRequest } from './resources.ts';
import type { RetryReason } from './retry-reason.ts';

/** Numbers grow from 1 over the life of a queue's data folder. */
export type QueueJobId = number;

/**
 * `holding`: waits for other jobs. `user-hold`: somebody wants it to wait. `queued`: waits for its begin time, its turn or
 * a machine. `abort`: never run, since a job that it depends on failed, was killed or aborted. `error`: could not be started.
 */
export type QueueState =
  | 'queued'
  | 'holding'
  | 'user-hold'
  | 'running'
  | 'success'
  | 'fail'
  | 'killed'
  | 'abort'
  | 'error';

/** The states that a job stays in, unless somebody has it run again. */
export const FINAL_STATES: readonly QueueState[] = ['success', 'fail', 'killed', 'abort', 'error'];

/** What somebody asked for. */
export interface QueueJobSpec {
  /** Names its results. */
  readonly name: string;
  /** Run under bash as it stands. With `script`: its words, for people. */
  readonly command: string;
  /** What runs instead of the command: `name` without folders, `id` the SHA-256 of its text, which the service keeps. */
  readonly script?: { readonly name: string; readonly id: string; readonly args: readonly string[] };
  /** The script runs on the service's own machine, for a machine. @default false */
  readonly runHere?: boolean;
  /**
   * The script runs on the service's own machine (`machine` names it), in `cwd` itself, and prints straight to `stdout` and
   * `stderr` (both to the first where there is no second): nothing is sent, brought home or kept as a result.
   */
  readonly inPlace?: {
    /** What people call the job. */
    readonly title: string;
    /** The program behind the script's `#!`. */
    readonly interpreter: string;
    /** Whose it is, where not the service's own user's. */
    readonly uid?: number;
    readonly gid?: number;
  };
  /** The machine that it has to run on; absent for any. */
  readonly machine?: MachineName;
  readonly request: ResourceRequest;
  readonly env: Readonly<Record<string, string>>;
  /** Absolute folder that paths are relative to. */
  readonly cwd: string;
  /** Absolute results folder. */
  readonly results: string;
  /** Absolute files for its output, beside its results. */
  readonly stdout?: string;
  readonly stderr?: string;
  readonly copyForwards: readonly string[] | 'working-directory';
  readonly shareForwards: readonly string[];
  readonly copyBackwards: readonly string[] | 'changed';
  /** Its source tree, as `KeptParts.keep` names it; empty for none. */
  readonly treeParts: readonly string[];
  readonly timeoutMs?: number;
  /** The same, as a percentage of the median of the good jobs of its submit so far (three at least). */
  readonly timeoutPercent?: number;
  /** The first job of its submit. */
  readonly submitted?: QueueJobId;
  readonly killAfterMs?: number;
  readonly retries: number;
  /** Which failures are worth another attempt. @default all */
  readonly retryOn?: readonly RetryReason[];
  /** Attempts whose memory ran out ask for so many times the memory the next time. */
  readonly oomGrow: number;
  readonly maxOutputBytes?: number;
  /** Higher ones first. */
  readonly priority: number;
  /** Not before this, epoch milliseconds. */
  readonly beginAt?: number;
  readonly dependsOn: readonly QueueJobId[];
  /** Runs after any end of those, not only after a good one. */
  readonly dependsOnAny: boolean;
  /** It is one of an array: the array's first job, its own index, and how many of them may run at once. */
  readonly array?: { readonly first: QueueJobId; readonly index: number; readonly atOnce?: number };
  /** Waits for a machine that can hold it, where none can now. */
  readonly waitForMachine: boolean;
}

/** A job as the queue remembers it. */
export interface QueueJob {
  readonly id: QueueJobId;
  readonly spec: QueueJobSpec;
  readonly state: QueueState;
  /** Somebody asked it to wait; also while it is `holding`. */
  readonly isHeld: boolean;
  /** Epoch milliseconds. */
  readonly submittedAt: number;
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** Of the attempt that runs, or ran last. */
  readonly machine?: MachineName;
  /** The number of that attempt; 0 before the first. */
  readonly attempt: number;
  readonly losses: number;
  readonly failures: number;
  /** How its last attempt ended. */
  readonly outcome?: JobOutcome;
  /** Why it is in its state, for people: who killed it, which parent failed. */
  readonly reason?: string;
}
