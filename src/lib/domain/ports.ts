/**
 * The two questions that the engine asks, and nothing else does it know:
 * where jobs are remembered (`JobStore`), and who places and runs them (`ExecutionBackend`).
 */
import type { Attempt, Job, JobId, JobOutcome } from './job.ts';
import type { MachineName } from './machine.ts';
import type { Shortfall } from './resources.ts';

/** Where jobs are remembered: a batch's result folder, memory, later a database. */
export interface JobStore {
  /**
   * Jobs that wait for a machine, in the order in which they are looked at. Those whose `placementKey` is in `refused`, which
   * grows meanwhile, may be left out.
   */
  pending(refused?: ReadonlySet<string>): Iterable<Job>;
  /** How many different `placementKey`s the waiting jobs have: once each was refused, looking further is in vain. */
  readonly waitingKinds: number;
  /**
   * Takes a waiting job for this engine, atomically, to go to that machine. Undefined when it does not wait any more. Once
   * called, `pending` does not tell the job again.
   */
  claim(job: JobId, machine?: MachineName): Promise<Attempt | undefined>;
  /** Puts a claimed job back, unstarted. */
  unclaim(attempt: Attempt): Promise<void>;
  /** An attempt on that machine is over. The store decides whether the job waits again. */
  finish(attempt: Attempt, outcome: JobOutcome, machine?: MachineName): Promise<void>;
  /** Tells when `pending()` may have grown. Returns the way to stop hearing. */
  onPending(listener: () => void): () => void;
}

/** Capacity taken for one job on one machine. A ticket: given to `start` or to `release`, once. */
export interface Reservation {
  readonly type: 'reserved';
  readonly machine: MachineName;
  /** Indexes of the GPUs held. */
  readonly gpus: readonly number[];
}

/** Why a job cannot be placed. */
export interface Refusal {
  readonly type: 'refused';
  /** False when no machine could take it even with nothing of ours running. */
  readonly everFits: boolean;
  /** For a reason of this very job: others that ask for the same may fit. @default false */
  readonly isOwn?: boolean;
  /** What is short on each machine. Empty while the job only has to wait, since nobody asks then. */
  readonly shortfalls: readonly {
    readonly machine: MachineName;
    readonly shortfalls: readonly Shortfall[];
  }[];
}

/** An attempt that was handed to a backend. */
export interface RunningAttempt {
  readonly attempt: Attempt;
  readonly machine: MachineName;
  /** Settles when its results are home, or will not come. Never rejects. */
  readonly ended: Promise<JobOutcome>;
  /** Ends its processes; `ended` then settles as `cancelled`. */
  cancel(reason: string): void;
  /** Ends its processes, since it ran for longer than it may; `ended` then settles as `timed-out`. */
  expire(timeoutMs: number): void;
  /** Ends its processes and publishes nothing: another attempt of the job counts. `ended` settles as `cancelled`. */
  abandon(reason: string): void;
}

/** An attempt that a backend found on its machines, left there by an earlier controller. */
export interface FoundAttempt {
  readonly attempt: Attempt;
  readonly machine: MachineName;
  /** The command that it ran, and the name of the source tree that it ran in; empty when its own record does not tell. */
  readonly command: string;
  readonly tree: string;
  /** Indexes of the GPUs that it holds, as its own record has them; they may not exist any more. */
  readonly gpus: readonly number[];
  /** What it was to bring home when it was started: only that was prepared for. Absent when that is not known. */
  readonly copyBackwards?: Job['copyBackwards'];
  /**
   * `unstarted`: its folder stands, its command was never begun, and now never will be. `running`: it may also be gone
   * without a trace, which `adopt` finds out. `ending`: somebody asked for its end, and it has not been seen yet.
   * `cancelled`: it ended after that.
   */
  readonly state: 'unstarted' | 'running' | 'ending' | 'ended' | 'cancelled';
}

/** Who places and runs jobs: the machines reached by ssh, later a cluster's own scheduler. */
export interface ExecutionBackend {
  /** Takes capacity for a job where it fits best, at once, or says that it has to wait or never fits. */
  reserve(job: Job): Reservation | Refusal;
  /** Gives unused capacity back. */
  release(reservation: Reservation): void;
  /** Runs the attempt on what was reserved; the capacity is given back when its processes are gone. */
  start(job: Job, attempt: Attempt, reservation: Reservation): RunningAttempt;
  /**
   * Finds what an earlier controller of the same batch left on the machines that can be reached. Attempts that have not
   * been begun are kept from ever being.
   */
  discover(): Promise<readonly FoundAttempt[]>;
  /** Takes a found attempt over: it is watched, and its results are brought home as if it had been started here. */
  adopt(job: Job, found: FoundAttempt): RunningAttempt;
  /** Throws away what a found attempt left: nobody wants it, or its result is known. */
  discard(found: FoundAttempt): void;
  /** Tells when a refused job may fit now. Returns the way to stop hearing. */
  onCapacity(listener: () => void): () => void;
  /** Lets go of the machines. Jobs that run there run on. */
  close(): Promise<unknown>;
}
