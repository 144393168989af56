import type { MachineName } from './machine.ts';
import { type ResourceRequest, requestKey } from './resources.ts';

/** Names a job within its batch; for a batch it is the job's name. */
export type JobId = string & { readonly __brand: 'JobId' };

export function jobId(text: string): JobId {
  return text as JobId; // the one place that makes one
}

/** One command to run once. */
export interface Job {
  readonly id: JobId;
  /** Names its results: `job_results/<name>/`, `.out`, `.err`, `.json`. */
  readonly name: string;
  /** Line in the batch file, from 1; 1 for a single command. */
  readonly line: number;
  /** Run under bash exactly as it stands. */
  readonly command: string;
  readonly request: ResourceRequest;
  /** Paths that go to the machine, as the user wrote them, or all of the working directory; empty for none. */
  readonly copyForwards: readonly string[] | 'working-directory';
  /** Paths that are sent once per machine and linked into the job's folder instead of copied; empty for none. */
  readonly shareForwards: readonly string[];
  /** Paths brought home, or `changed`: every file that the job created or changed; empty for none. */
  readonly copyBackwards: readonly string[] | 'changed';
  /** Machines where it failed before: it goes there only when no other can ever hold it. */
  readonly avoid?: readonly MachineName[];
  /** The one machine that it may run on; absent for any. */
  readonly only?: MachineName;
  /** Runs on this computer, for a machine. @default false */
  readonly runHere?: boolean;
  /** Runs where it is on this computer, as ourselves or as another user, which may not be allowed. @default it does not */
  readonly inPlace?: 'as ourselves' | 'as another';
}

/** One try at a job. Numbers grow from 1; only the current attempt's results count. */
export interface Attempt {
  readonly job: JobId;
  readonly number: number;
}

/** How an attempt ended. A job that fails is data, not an exception. */
export type JobOutcome =
  /**
   * The command ran to its end; 0 is success. `machineFault`: what its machine seems to lack (room, a working driver),
   * when it failed at once.
   */
  | { readonly type: 'exited'; readonly exitCode: number; readonly machineFault?: string }
  /** It ran longer than it may. */
  | { readonly type: 'timed-out'; readonly timeoutMs: number }
  /** Main or GPU memory ran out, on evidence. */
  | {
      readonly type: 'out-of-memory';
      readonly reason: string;
      readonly memory: 'main' | 'gpu';
      readonly exitCode: number;
    }
  /** Proof that it ended without telling how, e.g. the machine booted since; or it was never begun, and never will be. */
  | { readonly type: 'lost'; readonly reason: string; readonly neverStarted?: true }
  /** Files could not be sent or brought home. `exitCode` when the command itself had ended. */
  | {
      readonly type: 'transfer-failed';
      readonly reason: string;
      /** Its command could not be started, and nothing was to be transferred. */
      readonly stage?: 'start';
      readonly exitCode?: number;
      readonly machineFault?: string;
    }
  /** Somebody ended it. */
  | { readonly type: 'cancelled'; readonly reason: string }
  /** No machine can ever satisfy its request. */
  | { readonly type: 'never-fits'; readonly reason: string };

/** A line counts as done when its result is an exit 0. */
export function isSuccess(outcome: JobOutcome): boolean {
  return outcome.type === 'exited' && outcome.exitCode === 0;
}

/** Jobs with the same key can be placed alike: once one was refused, so are the others. */
export function placementKey(job: Job): string {
  const key = requestKey(job.request);
  const { avoid = [], only, runHere = false, inPlace } = job;
  if (avoid.length === 0 && only === undefined && !runHere) return key;
  return `${key} ${JSON.stringify([avoid, only ?? null, runHere, inPlace])}`;
}
