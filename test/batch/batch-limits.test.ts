import { expect, test } from 'vitest';
import { watchHalt } from '../../src/lib/batch/batch-limits.ts';
import type { HaltRule } from '../../src/lib/batch/survival-options.ts';
import type { JobEnded } from '../../src/lib/domain/events.ts';
import type { JobOutcome } from '../../src/lib/domain/job.ts';
import { isWorthRetry } from '../../src/lib/domain/retry-reason.ts';
import { ended, GOOD } from '../engine/job-events.ts';

const BAD: JobOutcome = { type: 'exited', exitCode: 1 };

function haltsAfter(rule: HaltRule, outcomes: readonly JobEnded[]): number {
  let told = 0;
  const hear = watchHalt(rule, () => told++);
  for (const [at, event] of outcomes.entries()) {
    hear(event);
    if (told > 0) return at + 1;
  }
  return 0;
}

test('halts once so many have failed; cancelled ones and those tried again are no failures', () => {
  const rule: HaltRule = { when: 'soon', failures: { type: 'count', count: 2 } };
  const events = [
    ended(BAD, { willRetry: true }),
    ended({ type: 'cancelled', reason: 'x' }),
    ended(GOOD),
    ended(BAD),
    ended(BAD),
  ];
  expect(haltsAfter(rule, events)).toBe(5);
  expect(haltsAfter(rule, events.slice(0, 4))).toBe(0);
});

test('halts at a percentage of those that have ended, three failures at least', () => {
  const rule: HaltRule = { when: 'now', failures: { type: 'percent', percent: 50 } };
  expect(haltsAfter(rule, [ended(BAD), ended(BAD), ended(BAD)])).toBe(3);
  const mixed = [GOOD, GOOD, GOOD, GOOD, BAD, BAD, BAD].map((outcome) => ended(outcome));
  expect(haltsAfter(rule, mixed)).toBe(0);
  expect(haltsAfter(rule, [...mixed, ended(BAD)])).toBe(8);
});

test('only the outcomes that were named are worth another attempt', () => {
  const reasons = [{ type: 'oom' }, { type: 'exit', exitCode: 75 }] as const;
  expect(isWorthRetry(BAD, undefined)).toBe(true);
  expect(isWorthRetry(BAD, reasons)).toBe(false);
  expect(isWorthRetry({ type: 'exited', exitCode: 75 }, reasons)).toBe(true);
  expect(isWorthRetry({ type: 'timed-out', timeoutMs: 1 }, reasons)).toBe(false);
  expect(isWorthRetry({ type: 'timed-out', timeoutMs: 1 }, [{ type: 'timeout' }])).toBe(true);
  expect(isWorthRetry({ type: 'transfer-failed', reason: '' }, [{ type: 'transfer' }])).toBe(true);
  const oom = { type: 'out-of-memory', reason: '', memory: 'main', exitCode: 137 } as const;
  expect(isWorthRetry(oom, reasons)).toBe(true);
});
