/** What a batch does when jobs fail: told of every event, it asks for what is to be done. */
import type { SchedulerEvent } from '../domain/events.ts';
import { isSuccess } from '../domain/job.ts';
import type { HaltRule } from './survival-options.ts';

const FEWEST_FAILURES_FOR_PERCENT = 3;

/** Calls `onHalt` once, when a rule's failures have come together. Attempts that are tried again are no failures. */
export function watchHalt(
  rule: HaltRule,
  onHalt: (rule: HaltRule, failed: number) => void,
): (event: SchedulerEvent) => void {
  let failed = 0;
  let ended = 0;
  let isHalted = false;
  return (event) => {
    if (event.type !== 'job:ended' || event.willRetry || event.outcome.type === 'cancelled') return;
    ended += 1;
    if (isSuccess(event.outcome)) return;
    failed += 1;
    const { failures } = rule;
    const isDue =
      failures.type === 'count'
        ? failed >= failures.count
        : failed >= FEWEST_FAILURES_FOR_PERCENT && (failed / ended) * 100 >= failures.percent;
    if (!isDue || isHalted) return;
    isHalted = true;
    onHalt(rule, failed);
  };
}
