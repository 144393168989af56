/** What becomes of a job of the queue after an attempt. */
import { isSuccess, type JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { QueueState } from '../domain/queue.ts';
import { isWorthRetry } from '../domain/retry-reason.ts';
import { engineJobOf, type KeptJob } from './queue-kept.ts';
import { decide, type RetryPolicy } from './retry-policy.ts';

/** What is the same for all jobs of a queue; retries and growing are each job's own. */
export type QueueRetryPolicy = Omit<RetryPolicy, 'retries' | 'oomGrow'>;

/** Where a job goes after an attempt: `queued` for another one, or its last state. */
export interface AttemptEnd {
  readonly state: QueueState;
  readonly reason?: string;
  /** What is to be noted in the job: how the attempt ended, and what it used up. */
  readonly changes: Partial<Pick<KeptJob, 'outcome' | 'losses' | 'failures' | 'avoid' | 'grown'>>;
}

/** What becomes of a job after an attempt that ended so. Changes nothing. */
export function endOfAttempt(
  kept: KeptJob,
  outcome: JobOutcome,
  machine: MachineName | undefined,
  policy: QueueRetryPolicy,
): AttemptEnd {
  const { wanted } = kept;
  const given = kept.reason === undefined ? {} : { reason: kept.reason };
  // What was ended on purpose is not tried again for how it ended; what was done by then counts.
  const isEnded = outcome.type === 'cancelled' || outcome.type === 'lost';
  if (wanted === 'killed' && !isSuccess(outcome)) return { state: 'killed', ...given, changes: { outcome } };
  if (wanted === 'queued' && isEnded) return { state: 'queued', ...given, changes: {} };
  const { retries, oomGrow, retryOn } = kept.spec;
  const isWorth = (end: JobOutcome) => policy.isWorth(end) && isWorthRetry(end, retryOn);
  const decision = decide(engineJobOf(kept), outcome, machine, kept, {
    ...policy,
    isWorth,
    retries,
    oomGrow,
  });
  if (decision.type === 'over')
    return { state: endState(outcome), ...reasonOf(outcome), changes: { outcome } };
  const { reason, next, grown } = decision;
  return {
    state: 'queued',
    ...reasonOf(outcome),
    changes: {
      outcome,
      ...(reason === 'lost' ? { losses: kept.losses + 1 } : {}),
      ...(reason === 'failed' ? { failures: kept.failures + 1 } : {}),
      avoid: next.avoid ?? [],
      grown: { ...kept.grown, ...grown },
    },
  };
}

/** Says the same about an attempt each time it is asked, though machines may come and go in between. */
export class AttemptEnds {
  readonly #policy: QueueRetryPolicy;
  readonly #said = new WeakMap<KeptJob, { readonly key: string; readonly end: AttemptEnd }>();

  constructor(policy: QueueRetryPolicy) {
    this.#policy = policy;
  }

  /** What becomes of the job's current attempt when it ended so. */
  of(kept: KeptJob, outcome: JobOutcome, machine: MachineName | undefined): AttemptEnd {
    // Another end may follow upon the first, when its files cannot be brought home; and somebody may kill it.
    const key = JSON.stringify([kept.attempt, kept.wanted, outcome]);
    const said = this.#said.get(kept);
    if (said?.key === key) return said.end;
    const end = endOfAttempt(kept, outcome, machine ?? kept.machine, this.#policy);
    this.#said.set(kept, { key, end });
    return end;
  }
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
