/**
 * What is asked of the service through its door, and what it answers: plain JSON, one pair of types per verb. Paths are the
 * service's own, times epoch milliseconds. What comes in is checked by whoever answers, since any program may ask.
 */
import type { Job, JobOutcome } from '../domain/job.ts';
import type { MachineState } from '../domain/overview.ts';
import type { QueueJob, QueueJobId, QueueJobSpec, QueueState } from '../domain/queue.ts';
import type { AvailableResources, ResourceRequest, Shortfall } from '../domain/resources.ts';
import type { RetryReason } from '../domain/retry-reason.ts';

export type { MachineState, OutputItem, Overview, OverviewRequest } from '../domain/overview.ts';

/** One job of a submit: what it has of its own. */
export interface SubmitJob {
  /** Run under bash as it stands. */
  readonly command: string;
  /** Instead of what all jobs of the submit have. */
  readonly name?: string;
  readonly request?: ResourceRequest;
  readonly copyForwards?: Job['copyForwards'];
  readonly shareForwards?: readonly string[];
  readonly copyBackwards?: Job['copyBackwards'];
}

/** A script whose text travels with the submit. */
export interface SubmitScript {
  /** Its file's name, without folders. */
  readonly name: string;
  readonly text: string;
  readonly args: readonly string[];
}

/** `submit`: jobs, all or none. Exactly one of `jobs` and `script` is there. */
export interface SubmitRequest {
  readonly jobs?: readonly SubmitJob[];
  readonly script?: SubmitScript;
  /** The script runs on the service's machine, for a machine. @default false */
  readonly runHere?: boolean;
  /** `any`, `all` (one job for each machine), or a machine's name. @default 'any' */
  readonly machine?: string;
  /** What the names of jobs and results begin with. @default 'job' */
  readonly name?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Folder that paths are relative to, absolute or beginning with `~/`. @default the home folder, and nothing is sent by default */
  readonly cwd?: string;
  /** Results folder. @default 'job_results' */
  readonly results?: string;
  /** Files for what the jobs print, instead of those in the results folder; `%j` is the job's id, `%a` its array index, `%x` its name. */
  readonly stdout?: string;
  readonly stderr?: string;
  readonly request: ResourceRequest;
  readonly copyForwards?: Job['copyForwards'];
  readonly shareForwards?: readonly string[];
  readonly copyBackwards?: Job['copyBackwards'];
  readonly timeoutMs?: number;
  /** Of the median of the good jobs of this submit so far. Not together with `timeoutMs`. */
  readonly timeoutPercent?: number;
  readonly killAfterMs?: number;
  readonly retries?: number;
  readonly retryOn?: readonly RetryReason[];
  readonly oomGrow?: number;
  readonly maxOutputBytes?: number;
  readonly priority?: number;
  readonly hold?: boolean;
  readonly dependsOn?: readonly QueueJobId[];
  readonly dependsOnAny?: boolean;
  readonly beginAt?: number;
  /** The jobs are made once per index, `first` to `last`. Not together with several jobs. */
  readonly array?: {
    readonly first: number;
    readonly last: number;
    readonly step: number;
    readonly atOnce?: number;
  };
  readonly waitForMachine?: boolean;
}

export interface SubmitAnswer {
  /** The ids follow each other. */
  readonly firstId: QueueJobId;
  readonly count: number;
  /** What a person should know, one line each. */
  readonly warnings: readonly string[];
}

/** `info`: about the service itself. */
export interface InfoAnswer {
  readonly version: string;
  /** Names the service on its machines and in manifests. */
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly startedAt: number;
  readonly dataFolder: string;
  readonly logFolder: string;
  readonly order: QueueOrder;
  readonly counts: Readonly<Record<QueueState, number>>;
}

/** `skip`: a job that does not fit is skipped for the next that does. `strict`: it holds up all behind it. */
export type QueueOrder = 'skip' | 'strict';

/** `machines`: one of them. */
export interface MachineRow {
  readonly name: string;
  readonly state: MachineState;
  /** Why it is in that state, where there is more to say. */
  readonly reason?: string;
  /** Ids of the jobs that run there, or may. */
  readonly running: readonly QueueJobId[];
  /** Ids of the jobs that run on the service's machine for this one. */
  readonly runningHere: readonly QueueJobId[];
  /** Null where there is no limit. */
  readonly maxJobs: number | null;
  /** Ids of jobs that wait for this machine and no other. At most 1000. */
  readonly waiting: readonly QueueJobId[];
  /** Absent before it was reached. */
  readonly capacity?: {
    readonly cpuCores: number;
    readonly memoryMiB: number;
    readonly gpus: readonly { readonly index: number; readonly name: string; readonly memoryMiB: number }[];
  };
  /** What is free for further jobs; `cpuCoresInUse` and `utilizationInUse` count others and our own jobs. */
  readonly free?: AvailableResources;
  readonly measuredAt?: number;
}

/** `add-machine`: names as behind --machines. Streams a line for each. */
export interface AddMachineRequest {
  readonly names: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Does not check that we can log in. @default false */
  readonly skipCheck?: boolean;
  /** Where relative names of files begin. */
  readonly cwd?: string;
}

export interface AddMachineAnswer {
  readonly added: readonly string[];
  /** Those that were there already: their settings are those given now. */
  readonly updated: readonly string[];
  readonly warnings: readonly string[];
}

/** `remove-machine`: settles when it is gone. `wait`: when its jobs have ended. `kill`: they are ended; they wait again unless `drop`. */
export interface RemoveMachineRequest {
  readonly name: string;
  readonly how: 'refuse' | 'wait' | 'kill';
  readonly drop?: boolean;
}

export interface RemoveMachineAnswer {
  /** Jobs that wait for it alone, and go on waiting. */
  readonly waiting: number;
  /** Jobs that may still run there, since it could not be reached; none where absent. */
  readonly givenUp?: readonly QueueJobId[];
}

/** `configure`: of one machine or `all`. */
export interface ConfigureRequest {
  readonly machine: string;
  readonly maxJobs: number;
}

export interface ConfigureAnswer {
  readonly machine: string;
  /** Null where there was no limit. */
  readonly oldMaxJobs: number | null;
  readonly newMaxJobs: number;
}

/** `list`: jobs by id, at most 1000 at a time; ask again from the last id + 1. */
export interface ListRequest {
  readonly states?: readonly QueueState[];
  readonly from?: QueueJobId;
  readonly limit?: number;
}

/** A job without its env, which may hold secrets, and the names of its tree's parts. */
export interface JobRow extends Omit<QueueJob, 'spec'> {
  readonly spec: Omit<QueueJobSpec, 'env' | 'treeParts'>;
  /** Of those that it depends on, which have not ended. */
  readonly waitsFor?: readonly QueueJobId[];
  /** Files with what it printed. */
  readonly outputs: { readonly out: string; readonly err?: string };
}

/** `hold`, `release`, `kill`, `rerun`, `priority`. `all` means every job that can be meant; `failed`: for rerun. */
export interface JobsRequest {
  readonly ids: readonly QueueJobId[] | 'all' | 'failed';
  readonly priority?: number;
}

/** What became of one job. */
export interface JobAnswer {
  readonly id: QueueJobId;
  readonly isDone: boolean;
  /** Absent for a job that is not known. */
  readonly state?: QueueState;
  readonly message: string;
}

/** `remove-job`: waiting jobs with this script (its file's name) and exactly these arguments. */
export interface RemoveJobRequest {
  readonly script: string;
  readonly args: readonly string[];
}

/** `output`: streams what a job printed, and with `follow` what it prints until it has ended. */
export interface OutputRequest {
  readonly id: QueueJobId;
  readonly follow?: boolean;
  /** Leaves out what was printed before the last so many bytes of each stream, up to the end of a line. @default nothing is left out */
  readonly tailBytes?: number;
}

/** `wait`: streams a job when it has ended, until all have; one that is not known is refused at once. */
export interface WaitRequest {
  readonly ids: readonly QueueJobId[];
}

export interface WaitItem {
  readonly id: QueueJobId;
  readonly name: string;
  readonly state: QueueState;
  readonly outcome?: JobOutcome;
  readonly reason?: string;
}

/** `explain`: why a job does not run. */
export interface ExplainAnswer {
  readonly id: QueueJobId;
  readonly name: string;
  readonly state: QueueState;
  /** In whole sentences. */
  readonly reasons: readonly string[];
  /** Per machine, where it waits for one. */
  readonly machines: readonly {
    readonly machine: string;
    /** Whether it could ever hold the job. */
    readonly everFits: boolean;
    /** In whole sentences; empty when it fits there now. */
    readonly reasons: readonly string[];
    readonly shortfalls: readonly Shortfall[];
  }[];
}

/** `clean`: forgets ended jobs. */
export interface CleanRequest {
  readonly olderThanMs: number;
  readonly states?: readonly QueueState[];
}

export interface CleanAnswer {
  readonly ids: readonly QueueJobId[];
  readonly freedBytes: number;
}

/** `events`: streams events after this number, and those to come. Without `after`: only those to come. */
export interface EventsRequest {
  readonly after?: number;
  /** Ends when there are no more. @default true */
  readonly follow?: boolean;
  /** Of what happens within half a second, only the newest so many are told, for people. @default all */
  readonly newest?: number;
}

/** `import`: pieces of the state's text, the last with `isLast`; begins anew with `index` 0. */
export interface ImportRequest {
  readonly index: number;
  readonly text: string;
  readonly isLast: boolean;
}

export interface ImportAnswer {
  /** Absent but for the last piece. */
  readonly jobs?: number;
  readonly machines?: number;
  /** What a person should know, one line each. */
  readonly warnings?: readonly string[];
}

/** `stop`: settles when the service is about to end. */
export interface StopRequest {
  /** `leave`: jobs run on. `when-idle`: refused while jobs run or wait. `kill`: what runs is ended, what waits stays. */
  readonly how: 'leave' | 'when-idle' | 'kill';
}

export interface StopAnswer {
  /** Jobs that run on. */
  readonly running: number;
  readonly waiting: number;
}
