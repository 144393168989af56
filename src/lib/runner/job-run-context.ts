/** What one run of an attempt needs, and what it tells its manifest. */
import type { JobEnded, SchedulerEvent } from '../domain/events.ts';
import type { Attempt, JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { EventStream } from '../util/event-stream.ts';
import type { MachineLink } from './machine-link.ts';
import type { OutputReader } from './output-reader.ts';
import type { TreeThere } from './parts-there.ts';
import type { AttemptManifest, ResultFiles } from './result-files.ts';
import type { AttemptPlace, StartCall } from './supervisor.ts';

/** What a run needs besides its job. */
export interface JobRunContext {
  readonly link: MachineLink;
  readonly reader: OutputReader;
  readonly events: EventStream<SchedulerEvent>;
  readonly place: AttemptPlace;
  /** All but the links, which are known when the tree is there. */
  readonly call: Omit<StartCall, 'links' | 'request'> & { readonly request: object };
  /** Name of the job's source tree; empty when it starts with nothing. */
  readonly tree: string;
  /** Makes sure that the job's source tree is on the machine. */
  readonly bringTree: () => Promise<TreeThere>;
  /** A part of the tree was found missing: the next `bringTree` sends it again. */
  readonly forgetPart: (part: string) => void;
  /** Where the result goes; undefined when nothing is kept. */
  readonly results: ResultFiles | undefined;
  /** Hears the output as it comes, besides the result files. */
  readonly onOutput: ((stream: 'out' | 'err', chunk: Buffer) => void) | undefined;
  /** What the manifest says besides what the run itself knows. */
  readonly manifestOf: (ended: JobEnded, details: RunDetails) => AttemptManifest;
  readonly cudaVisibleDevices: string | undefined;
  readonly gpus: readonly number[];
  readonly killGraceMs: number;
  /** Hears of the attempt just before its machine does: from then on it may run there. */
  readonly beforeStart?: (() => void | Promise<void>) | undefined;
  /** Whether this is the attempt that counts for its job: no other may publish, or write `.out` and `.err`. @default always */
  readonly isCurrent?: ((attempt: Attempt) => boolean) | undefined;
  /** Ends by its mark what runs of the attempt although its folder is gone. */
  readonly endVanished: (place: AttemptPlace) => Promise<void>;
  /** What comes on standard error with exit code 126 says why the command could not be started. @default false */
  readonly tellsFailedStart?: boolean;
  /** The most that is kept of `.out`, and of `.err`. @default no limit */
  readonly maxOutputBytes: number | undefined;
  /**
   * Asked once, when the attempt has ended: whether it is the job's last. If not, its result is kept beside, as
   * `NAME.attempt-N`, since another attempt follows.
   */
  readonly isFinal: (attempt: Attempt, outcome: JobOutcome, machine: MachineName) => boolean;
  /** Results cannot be kept on this computer (disk full): what is not home stays on its machine. */
  readonly onLocalProblem: (error: Error) => void;
  /** Removes attempt folders whose results are home. */
  readonly removeFolder: (place: AttemptPlace) => void;
  readonly now: () => number;
}

/** What only the manifest tells. */
export interface RunDetails {
  /** What it printed, on its machine. */
  readonly outBytes: number;
  readonly errBytes: number;
  /** Less of it is here, since there is a limit. */
  readonly isOutCut: boolean;
  readonly isErrCut: boolean;
  readonly files: number;
  readonly tree: string;
  /** What went forward and was gone when the command had ended. */
  readonly deleted: readonly string[];
  readonly warnings: readonly string[];
}

/** How a run begins. */
export interface JobRunOptions {
  /** An earlier controller has heard that the command began. @default false */
  readonly hasBegun?: boolean;
  /** An earlier controller started the attempt. */
  readonly adopt: boolean;
  /** `.out` and `.err` here are this attempt's: what comes is appended to them. @default false: they start anew */
  readonly resumeOutput?: boolean;
}
