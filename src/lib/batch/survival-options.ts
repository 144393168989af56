/** What a batch does about jobs that take too long, fail or are lost, and about machines that do. */

import type { RetryReason } from '../domain/retry-reason.ts';

/** How long a job may run: a fixed time, or a percentage of the median of the good jobs so far (three at least). */
export type JobTimeout =
  | { readonly type: 'fixed'; readonly ms: number }
  | { readonly type: 'of-median'; readonly percent: number };

/** When a batch gives up: after so many failed jobs, or so many percent of those that have ended (three failed at least). */
export interface HaltRule {
  /** `soon` starts nothing more, `now` also ends what runs. */
  readonly when: 'soon' | 'now';
  readonly failures:
    | { readonly type: 'count'; readonly count: number }
    | { readonly type: 'percent'; readonly percent: number };
}

/** All of these have a default that leaves things as they are. */
export interface SurvivalOptions {
  /** @default no limit */
  readonly timeout?: JobTimeout;
  /** How long an ended job has from TERM to KILL. @default 10000 */
  readonly killAfterMs?: number;
  /** How many further attempts a failed job gets, on another machine where one can hold it. @default 0 */
  readonly retries?: number;
  /** Which failures are worth one. @default all */
  readonly retryOn?: readonly RetryReason[];
  /** An attempt whose memory ran out asks for so many times the memory the next time. @default 1 */
  readonly oomGrow?: number;
  readonly halt?: HaltRule;
  /** Runs lines again whose result is a failure; that is kept as `NAME.attempt-N`. @default false */
  readonly rerunFailed?: boolean;
  /** Gives a machine's jobs to others once it has been away for so long. @default never */
  readonly machineLostAfterMs?: number;
  /** Goes on giving jobs to a machine on which they fail at once for reasons of the machine. @default false */
  readonly keepGoingOnBadMachines?: boolean;
  /** The most that is kept of a job's `.out`, and of its `.err`. @default no limit */
  readonly maxOutputBytes?: number;
}
