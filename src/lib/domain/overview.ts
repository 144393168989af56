/**
 * What somebody who watches sees of a queue or a batch: its machines, what runs, what waits and why. Plain JSON, and no more
 * of it than fits a screen.
 */
import type { JobOutcome } from './job.ts';
import type { QueueState } from './queue.ts';

/** How much is to be told. */
export interface OverviewRequest {
  /**
   * Only jobs that have this text, in any case of letters, in their id, name, command, machine, or state as people call it
   * (`fail`, `held`). Counts and machines are told of all. A job that is named by its id is found wherever it is.
   */
  readonly filter?: string;
  /** The most jobs of each list, 0 to 200. */
  readonly limit: number;
}

/** Everything at one moment. */
export interface Overview {
  /** Epoch milliseconds. */
  readonly at: number;
  /** Of all jobs. */
  readonly counts: Readonly<Record<QueueState, number>>;
  readonly machines: readonly OverviewMachine[];
  /** The one that runs for longest first. */
  readonly running: OverviewJobs;
  /** In the order in which they are looked at; those that are held last. */
  readonly waiting: OverviewJobs;
  /** The last to end first. */
  readonly ended: OverviewJobs;
}

/** The first of some jobs. */
export interface OverviewJobs {
  readonly jobs: readonly OverviewJob[];
  /** How many there are. */
  readonly count: number;
  /** There may be more: not all were looked at. @default false */
  readonly isCut?: boolean;
}

/** One job. */
export interface OverviewJob {
  readonly id: string;
  readonly name: string;
  readonly command: string;
  readonly state: QueueState;
  /** Where it runs, or ran last. */
  readonly machine?: string;
  /** Indexes of its GPUs, while it runs. */
  readonly gpus?: readonly number[];
  /** Epoch milliseconds. */
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** Of one that waits: what for. Of one that has ended: why so. One line. */
  readonly reason?: string;
  /** Of one that runs: the last line that it has printed, at most 500 characters, as it came from the job. */
  readonly lastLine?: string;
  readonly outcome?: JobOutcome;
}

/**
 * `connecting`: it was not reached yet, and is tried. `unusable`: it is not tried any more (its key is refused). `away`: the
 * connection is gone, its jobs run on. `quarantined`: jobs failed there at once, one after the other. `draining`: it gets no new jobs.
 * `leaving`: the same, and it goes when its last job has ended.
 */
export type MachineState =
  | 'connecting'
  | 'ready'
  | 'away'
  | 'unusable'
  | 'quarantined'
  | 'draining'
  | 'leaving';

/** One machine. */
export interface OverviewMachine {
  readonly name: string;
  readonly state: MachineState;
  /** Why it is in that state, where there is more to say. */
  readonly reason?: string;
  /** How many jobs of ours run there. */
  readonly jobs: number;
  /** When it was measured last; absent, with the rest, before that. Epoch milliseconds. */
  readonly measuredAt?: number;
  readonly cpuCores?: OverviewAmount;
  readonly memoryMiB?: OverviewAmount;
  readonly gpus?: readonly {
    readonly index: number;
    readonly name: string;
    readonly memoryMiB: OverviewAmount;
    /** Shares of the GPU: the total is 1. */
    readonly utilization: OverviewAmount;
  }[];
}

/** How much there is of something, and where it goes. */
export interface OverviewAmount {
  readonly total: number;
  /** As measured, whoever uses it. Of what is managed: what our jobs that run there have asked for. */
  readonly used: number;
  /** What further jobs cannot have: what others use, and what our jobs that run there have asked for. */
  readonly taken: number;
}

/** A piece of what a job prints. */
export type OutputItem =
  | { readonly type: 'chunk'; readonly stream: 'out' | 'err'; readonly base64: string }
  /** What the stream had before its next piece is not told. */
  | { readonly type: 'left-out'; readonly stream: 'out' | 'err' }
  /** Another attempt began: what was streamed until now is of an earlier one. */
  | { readonly type: 'restarted'; readonly attempt: number }
  /** The last item. */
  | { readonly type: 'end'; readonly state: QueueState; readonly outcome?: JobOutcome };
