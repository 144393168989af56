/** What becomes of a job of the queue after an attempt. */
import { isSuccess, type JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { QueueState } from '../domain/queue.ts';
import { isWorthRetry } from '../domain/retry-reason.ts';
import { engineJobOf, type KeptJob } from './queue-kept.ts';
import { decide, type RetryPolicy } from './retry-policy.ts';

/** What is the same for all jobs of a queue; retries and growing are each job's own. */
export type QueueRetryPolicy = Omit<RetryPolicy, 'retries' | 'oomGrow'>;

/**
 * Takes note in the job of what an attempt used up, and says where the job goes: `queued` for another attempt, or its
 * last state.
 */
export function settleAttempt(
  kept: KeptJob,
  outcome: JobOutcome,
  machine: MachineName | undefined,
  policy: QueueRetryPolicy,
): { readonly state: QueueState; readonly reason?: string } {
  const { wanted, reason } = kept;
  // What was ended on purpose is not tried again for how it ended; what was done by then counts.
  const isEnded = outcome.type === 'cancelled' || outcome.type === 'lost';
  if (wanted === 'killed' && !isSuccess(outcome)) {
    kept.outcome = outcome;
    return { state: 'killed', ...(reason === undefined ? {} : { reason }) };
  }
  if (wanted === 'queued' && isEnded) return { state: 'queued', ...(reason === undefined ? {} : { reason }) };
  const { retries, oomGrow, retryOn } = kept.spec;
  const isWorth = (end: JobOutcome) => policy.isWorth(end) && isWorthRetry(end, retryOn);
  const decision = decide(engineJobOf(kept), outcome, machine, kept, { ...policy, isWorth, retries, oomGrow });
  kept.outcome = outcome;
  if (decision.type === 'over') return { state: endState(outcome), ...reasonOf(outcome) };
  if (decision.reason === 'lost') kept.losses += 1;
  if (decision.reason === 'failed') kept.failures += 1;
  kept.avoid = decision.next.avoid ?? [];
  kept.grown = { ...kept.grown, ...decision.grown };
  return { state: 'queued', ...reasonOf(outcome) };
}

function endState(outcome: JobOutcome): QueueState {
  switch (outcome.type) {
    case 'exited':
      return outcome.exitCode === 0 ? 'success' : 'fail';
    case 'timed-out':
    case 'out-of-memory':
    case 'lost':
      return 'fail';
    case 'transfer-failed':
      // Without an exit code the command never ran.
      return outcome.exitCode === undefined ? 'error' : 'fail';
    case 'cancelled':
      return 'killed';
    case 'never-fits':
      return 'error';
  }
}

function reasonOf(outcome: JobOutcome): { readonly reason?: string } {
  return 'reason' in outcome ? { reason: outcome.reason } : {};
}
