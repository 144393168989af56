import { expect, test } from 'vitest';
import type { JobOutcome } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { decide, LOSSES_ONLY, type RetryPolicy } from '../../src/lib/stores/retry-policy.ts';
import { smallJob } from '../runner/local-runner.ts';

const job = smallJob('a', 'true');
const one = machineName('one');
const two = machineName('two');
const fresh = { losses: 0, failures: 0 };
const failed: JobOutcome = { type: 'exited', exitCode: 3 };
const policy = (more: Partial<RetryPolicy>): RetryPolicy => ({
  ...LOSSES_ONLY,
  isWorth: () => true,
  canRunElsewhere: () => true,
  ...more,
});

test('a loss is made good twice and costs no retry', () => {
  const lost: JobOutcome = { type: 'lost', reason: 'gone' };
  for (const losses of [0, 1])
    expect(decide(job, lost, one, { losses, failures: 9 }, policy({}))).toEqual({
      type: 'again',
      reason: 'lost',
      next: job,
    });
  expect(decide(job, lost, one, { losses: 2, failures: 0 }, policy({}))).toEqual({ type: 'over' });
});

test('what was never begun is no loss', () => {
  const unstarted: JobOutcome = { type: 'lost', reason: 'cut', neverStarted: true };
  expect(decide(job, unstarted, one, { losses: 9, failures: 9 }, policy({}))).toMatchObject({
    type: 'again',
    reason: 'unstarted',
  });
});

test('a failure is tried again as often as asked, on another machine first', () => {
  const first = decide(job, failed, one, fresh, policy({ retries: 2 }));
  expect(first).toMatchObject({ type: 'again', reason: 'failed', next: { avoid: ['one'] } });
  if (first.type !== 'again') return;
  const second = decide(first.next, failed, two, { losses: 0, failures: 1 }, policy({ retries: 2 }));
  expect(second).toMatchObject({ type: 'again', next: { avoid: ['one', 'two'] } });
  expect(decide(job, failed, one, { losses: 0, failures: 2 }, policy({ retries: 2 }))).toEqual({
    type: 'over',
  });
});

test('only what is worth it, and never success, a cancelled job or one that never fits', () => {
  const retries = 5;
  expect(decide(job, failed, one, fresh, policy({ retries, isWorth: () => false })).type).toBe('over');
  const never: JobOutcome[] = [
    { type: 'exited', exitCode: 0 },
    { type: 'cancelled', reason: 'no' },
    { type: 'never-fits', reason: 'no' },
  ];
  for (const outcome of never)
    expect(decide(job, outcome, one, fresh, policy({ retries })).type).toBe('over');
});

test('memory that ran out grows, main or GPU, unless no machine could hold it', () => {
  const oom = (memory: 'main' | 'gpu'): JobOutcome => ({
    type: 'out-of-memory',
    reason: 'x',
    memory,
    exitCode: 137,
  });
  const big = { ...job, request: { ...job.request, memoryMiB: 100, gpus: 1, gpuMemoryMiB: 333 } };
  const grow = policy({ retries: 1, oomGrow: 1.5 });
  expect(decide(big, oom('main'), one, fresh, grow)).toMatchObject({
    next: { request: { memoryMiB: 150, gpuMemoryMiB: 333 } },
    grown: { memoryMiB: 150 },
  });
  expect(decide(big, oom('gpu'), one, fresh, grow)).toMatchObject({
    next: { request: { memoryMiB: 100, gpuMemoryMiB: 500 } },
    grown: { gpuMemoryMiB: 500 },
  });
  const full = policy({ retries: 1, oomGrow: 2, canRun: ({ request }) => request.memoryMiB < 200 });
  expect(decide(big, oom('main'), one, fresh, full)).toEqual({ type: 'over' });
});

test('a fault of the machine costs nothing as long as there is another', () => {
  const fault: JobOutcome = { type: 'exited', exitCode: 1, machineFault: 'no space left' };
  expect(decide(job, fault, one, fresh, policy({}))).toMatchObject({
    type: 'again',
    reason: 'fault',
    next: { avoid: ['one'] },
  });
  expect(decide(job, fault, one, fresh, policy({ canRunElsewhere: () => false })).type).toBe('over');
});
