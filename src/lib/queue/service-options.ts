/** What a queue service is started with. */
import type { LateJoinOptions, OpenPoolOptions } from '../allocator/open-pool.ts';
import type { Placement } from '../allocator/virtual-resources.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { RunnerOptions } from '../runner/machine-runner.ts';
import type { QueueClock } from '../stores/queue-base.ts';
import type { QueueOrder } from './requests.ts';
import type { SjqOptions } from './sjq/sjq-options.ts';

/** All but the folder has a default. */
export interface ServiceOptions {
  readonly dataFolder: string;
  /** Where the output of scripts that run here goes. @default that of the last start, else `logs` in the data folder */
  readonly logFolder?: string;
  /** Machines to have besides those that it has; `local` where there are none. @default none */
  readonly machines?: readonly string[];
  /** A group whose members may use the service, and so run anything as its owner. */
  readonly group?: string;
  /** Also speaks the sjq protocol at another socket; it then has the machine `local`, and gives out just so much of it. @default it does not */
  readonly sjq?: SjqOptions;
  /** @default 'skip' */
  readonly order?: QueueOrder;
  /** For how long a job may be passed over by others at the head of the line. @default 600000 */
  readonly starvationLimitMs?: number;
  /** Runs the jobs of a machine elsewhere once it has been away for so long. @default never */
  readonly machineLostAfterMs?: number;
  readonly placement?: Placement;
  /** Another ssh configuration file, as `ssh -F`. @default that of the last start, else the user's */
  readonly sshConfig?: string;
  /** Hears all that happens on its machines, from the very first. */
  readonly onEvent?: (event: SchedulerEvent) => void;
  /** Hears of what a person should know, one line each. */
  readonly onNote?: (line: string) => void;
  /** Time limits and the like, for tests and unusual networks. */
  readonly tuning?: Pick<OpenPoolOptions, 'ssh' | 'query' | 'backoff'> &
    Partial<Pick<RunnerOptions, 'outputPollMs' | 'gpuWaitMs'>> & {
      readonly lateJoin?: LateJoinOptions;
      readonly clock?: QueueClock;
      /** How often machines are measured again while jobs wait. @default 25000 */
      readonly measureEveryMs?: number;
      /** How long nothing is started when results cannot be kept here. @default 30000 */
      readonly troublePauseMs?: number;
      /** Pauses before what an ended job left is fetched once more. @default 10 s, 1 min, 5 min */
      readonly refetchPausesMs?: readonly number[];
    };
}
