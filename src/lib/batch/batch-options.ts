/** What a batch is asked for, and what it answers. */
import type { LateJoinOptions, OpenPoolOptions } from '../allocator/open-pool.ts';
import type { Placement } from '../allocator/virtual-resources.ts';
import type { Job } from '../domain/job.ts';
import type { FoundMachines } from '../machine/find-machines.ts';
import type { RunnerOptions } from '../runner/machine-runner.ts';
import type { RememberedRequest } from '../stores/batch-record.ts';
import type { JobDefaults } from './batch-file.ts';
import type { SurvivalOptions } from './survival-options.ts';

/** What a batch is and where it runs. */
export interface BatchOptions extends SurvivalOptions {
  /** The batch file as the user named it. */
  readonly file: string;
  readonly machines: FoundMachines;
  /** How the machines were named: a later question about the batch need not name them again. */
  readonly asked?: Pick<RememberedRequest, 'machines' | 'sshConfig'>;
  /** What a line gets that does not say otherwise. */
  readonly defaults: JobDefaults;
  /** Results folder. @default 'job_results' */
  readonly results?: string;
  /** Folder that relative paths start from. @default the working directory */
  readonly cwd?: string;
  readonly placement?: Placement;
  /** Only follow or end what earlier runs started: neither files nor requests matter then. @default false */
  readonly startsNothing?: boolean;
  /** Only plan: query the machines and start nothing. @default false */
  readonly dryRun?: boolean;
  /** Hears of things a person should know before anything starts. One line each. */
  readonly onWarning?: (message: string) => void;
  readonly onOutput?: RunnerOptions['onOutput'];
  /** Time limits and the like, for tests and unusual networks. */
  readonly tuning?: Pick<OpenPoolOptions, 'ssh' | 'query'> &
    Partial<Pick<RunnerOptions, 'outputPollMs' | 'gpuWaitMs'>> & {
      readonly lateJoin?: LateJoinOptions;
      readonly backoff?: OpenPoolOptions['backoff'];
      /** While somebody watches, figures of machines that are older are measured again, to be seen. @default 10000 */
      readonly watchFreshForMs?: number;
    };
}

/** How a batch came out. */
export interface BatchSummary {
  /** Lines that are jobs. */
  readonly jobs: number;
  /** Lines with a good result now, from this run or an earlier one. */
  readonly good: number;
}

/** Where a line would start if the batch were run now. */
export type PlannedStart =
  | { readonly type: 'starts'; readonly job: Job; readonly machine: string; readonly gpus: readonly number[] }
  | { readonly type: 'waits'; readonly job: Job }
  | { readonly type: 'never-fits'; readonly job: Job; readonly reasons: readonly string[] };

/** A job whose machine could not hear that it is to end: that is noted, and done at the next contact. */
export interface StrandedJob {
  readonly machine: string;
  readonly job: string;
}
