/** Which ends of an attempt are worth another one. */
import { assertNever } from './errors.ts';
import type { JobOutcome } from './job.ts';

/** Why an attempt is worth another one. */
export type RetryReason =
  /** Main or GPU memory ran out. */
  | { readonly type: 'oom' }
  | { readonly type: 'timeout' }
  /** Files could not be sent or brought home. */
  | { readonly type: 'transfer' }
  /** It exited with that code. */
  | { readonly type: 'exit'; readonly exitCode: number };

/** Whether an outcome is among the reasons for another attempt; without any, all are. */
export function isWorthRetry(outcome: JobOutcome, reasons: readonly RetryReason[] | undefined): boolean {
  if (reasons === undefined) return true;
  return reasons.some((reason) => {
    switch (reason.type) {
      case 'oom':
        return outcome.type === 'out-of-memory';
      case 'timeout':
        return outcome.type === 'timed-out';
      case 'transfer':
        return outcome.type === 'transfer-failed';
      case 'exit':
        return outcome.type === 'exited' && outcome.exitCode === reason.exitCode;
      default:
        return assertNever(reason);
    }
  });
}
