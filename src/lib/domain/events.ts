/**
 * Everything that happens, as JSON-safe records: what a backend publishes, a store appends and a reporter prints.
 * Raise EVENT_SCHEMA_VERSION when a field changes its meaning or goes away.
 */
import type { JobId, JobOutcome } from './job.ts';
import type { MachineName, MachineSnapshot } from './machine.ts';
import type { ResourceRequest, Shortfall } from './resources.ts';

export const EVENT_SCHEMA_VERSION = 1;

interface AtTime {
  /** Epoch milliseconds. */
  readonly at: number;
}

interface OfJob extends AtTime {
  readonly job: JobId;
  readonly name: string;
  readonly line: number;
}

/** The machines answered and the batch is about to run. */
export interface BatchStarted extends AtTime {
  readonly type: 'batch:started';
  readonly batch: string;
  readonly file: string;
  /** Lines that are jobs, skipped ones included. */
  readonly jobs: number;
  readonly skipped: number;
}
/** Every line has ended, was skipped, or will not run any more. */
export interface BatchEnded extends AtTime {
  readonly type: 'batch:ended';
  readonly batch: string;
  readonly done: number;
  readonly failed: number;
  readonly skipped: number;
  readonly notRun: number;
  readonly durationMs: number;
}
/** A machine answered the probe. `jobsAtOnce`: how many of the batch's default jobs fit; `gpuChoices`: the GPUs we may use. */
export interface MachineQueried extends AtTime {
  readonly type: 'machine:queried';
  readonly machine: MachineName;
  readonly snapshot: MachineSnapshot;
  readonly jobsAtOnce: number;
  readonly gpuChoices: readonly number[];
}
/** A machine cannot be used now. `isTriedAgain`: it joins the batch when it can be reached later. */
export interface MachineUnreachable extends AtTime {
  readonly type: 'machine:unreachable';
  readonly machine: MachineName;
  readonly reason: string;
  readonly isTriedAgain: boolean;
}
/** A machine gets no more jobs: those that it had failed at once, one after the other, for a reason of its own. */
export interface MachineQuarantined extends AtTime {
  readonly type: 'machine:quarantined';
  readonly machine: MachineName;
  readonly reason: string;
}
/** A machine has been away for longer than `--machine-lost-after`: what ran there runs again elsewhere. */
export interface MachineGivenUp extends AtTime {
  readonly type: 'machine:given-up';
  readonly machine: MachineName;
  readonly awayMs: number;
  /** How many jobs run again. */
  readonly jobs: number;
}
/** The connection to a machine in use is gone; its jobs run on. */
export interface MachineAway extends AtTime {
  readonly type: 'machine:away';
  readonly machine: MachineName;
  readonly reason: string;
}
/** The machine is reached again; what ran there meanwhile was followed up. */
export interface MachineBack extends AtTime {
  readonly type: 'machine:back';
  readonly machine: MachineName;
}
/** Something about a machine that a person should know. */
export interface MachineWarned extends AtTime {
  readonly type: 'machine:warned';
  readonly machine: MachineName;
  readonly message: string;
}
/** A GPU's memory was not freed in time after the job that had reserved it. */
export interface GpuStillHeld extends AtTime {
  readonly type: 'gpu:still-held';
  readonly machine: MachineName;
  readonly gpu: number;
  readonly heldMiB: number;
  readonly waitedMs: number;
}
/** More than 200 MB of a source tree are about to be sent to a machine. */
export interface TreeSending extends AtTime {
  readonly type: 'tree:sending';
  readonly machine: MachineName;
  readonly tree: string;
  /** What the machine does not have. */
  readonly newFiles: number;
  readonly newBytes: number;
  /** The folders that most of it lies in, none inside another. */
  readonly largest: readonly { readonly path: string; readonly bytes: number }[];
}
/** A source tree is on a machine: its files and their bytes, and how much of them was new there. */
export interface TreeSent extends AtTime {
  readonly type: 'tree:sent';
  readonly machine: MachineName;
  readonly tree: string;
  readonly files: number;
  readonly bytes: number;
  /** What crossed the network, listings and archive headers too; 0 when all was there. */
  readonly sentBytes: number;
  readonly newFiles: number;
  readonly newBytes: number;
}
/** What earlier runs of this batch left, told once the machines were looked at. */
export interface BatchResumed extends AtTime {
  readonly type: 'batch:resumed';
  readonly batch: string;
  /** Jobs that may still run: they are followed. */
  readonly running: number;
  /** Jobs that have ended: their results are brought home. */
  readonly ended: number;
  /** Jobs that were handed to a machine that cannot be reached: only there can be told what became of them. */
  readonly awaited: number;
  /** Jobs that are started anew. */
  readonly fresh: number;
  /** Attempts that belong to no line as it is now; they stay where they are. */
  readonly orphaned: number;
}
/** A line is not run: a finished result exists, or a result folder without a manifest is in its place. */
export interface JobSkipped extends OfJob {
  readonly type: 'job:skipped';
  readonly reason: 'finished-result' | 'result-without-manifest';
  /** Whether the result that stands is a good one. */
  readonly isGood: boolean;
}
/** Something about a job that a person should know. */
export interface JobWarned extends OfJob {
  readonly type: 'job:warned';
  readonly message: string;
}
/** The job's command has started on its machine. */
export interface JobStarted extends OfJob {
  readonly type: 'job:started';
  readonly command: string;
  readonly machine: MachineName;
  readonly attempt: number;
  /** An earlier controller had started it; `startedAt` tells when. @default false */
  readonly isAdopted?: boolean;
  /** It has ended meanwhile, and is told only so that its end has a start. @default false */
  readonly hasEnded?: boolean;
  /** Epoch milliseconds of the command's start. */
  readonly startedAt: number;
  /** What the job sees as CUDA_VISIBLE_DEVICES; absent when it is not set. */
  readonly cudaVisibleDevices?: string;
  readonly gpus: readonly number[];
  readonly request: ResourceRequest;
}
/** An attempt is over, its output and files are home (or will not come). */
export interface JobEnded extends OfJob {
  readonly type: 'job:ended';
  readonly command: string;
  readonly machine: MachineName;
  readonly attempt: number;
  readonly outcome: JobOutcome;
  /** Epoch milliseconds of the command's start; absent when it never started. */
  readonly startedAt?: number;
  /** How long the command ran, measured on the machine. */
  readonly durationMs: number;
  readonly sentBytes: number;
  readonly returnedBytes: number;
  /** Processes that the command left behind and that were ended. */
  readonly leftBehind: number;
  /** The last line on its standard error, at most 300 characters; absent when there is none. */
  readonly lastErrorLine?: string;
  /** The job is tried again: its result stands beside, as `NAME.attempt-N`. */
  readonly willRetry: boolean;
}
/** A job cannot be placed on any machine, ever. */
export interface JobNeverFits extends OfJob {
  readonly type: 'job:never-fits';
  readonly command: string;
  readonly request: ResourceRequest;
  readonly shortfalls: readonly {
    readonly machine: MachineName;
    readonly shortfalls: readonly Shortfall[];
  }[];
}

export type SchedulerEvent =
  | BatchStarted
  | BatchResumed
  | BatchEnded
  | MachineQueried
  | MachineUnreachable
  | MachineQuarantined
  | MachineGivenUp
  | MachineAway
  | MachineBack
  | MachineWarned
  | GpuStillHeld
  | TreeSending
  | TreeSent
  | JobSkipped
  | JobWarned
  | JobStarted
  | JobEnded
  | JobNeverFits;
