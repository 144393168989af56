/** What the sjq door is opened with: what `~/.sjqrc` says of it, and what is allowed. */
export interface SjqOptions {
  /** Absolute path of the socket. */
  readonly socketPath: string;
  /** CPUs that are given to jobs, whatever else the machine does. */
  readonly maxProcs: number;
  /** Memory that is given to jobs; absent where jobs are not placed by their memory. */
  readonly maxMemMiB?: number;
  /** For jobs that do not say. */
  readonly defaultProcs: number;
  readonly defaultMemMiB: number;
  /** Whether the service ends after `waitTimeMs` without jobs, where it has no other machines. */
  readonly autoshutdown: boolean;
  readonly waitTimeMs: number;
  /** Whether jobs may run as other users; only root can do that. @default false */
  readonly allowsUid?: boolean;
}
