import { expect, test } from 'vitest';
import type { JobStarted } from '../../src/lib/domain/events.ts';
import { type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import type { RunningAttempt } from '../../src/lib/domain/ports.ts';
import { MedianTimeout } from '../../src/lib/engine/median-timeout.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';
import { about, ended, GOOD } from './job-events.ts';

const started = (name: string, startedAt: number): JobStarted => ({
  ...about(name),
  type: 'job:started',
  startedAt,
  gpus: [],
  request: smallJob(name, '').request,
});

const BAD: JobOutcome = { type: 'exited', exitCode: 1 };

test('a percentage of the median run time of three good jobs at least', () => {
  const median = new MedianTimeout(300);
  for (const durationMs of [1000, 9000]) median.hear(ended(GOOD, { durationMs }));
  median.hear(ended(BAD, { durationMs: 1 }));
  expect(median.limitMs).toBeUndefined();
  median.hear(ended(GOOD, { durationMs: 2000 }));
  expect(median.limitMs).toBe(6000);
  median.hear(ended(GOOD, { durationMs: 4000 }));
  expect(median.limitMs).toBe(9000);
});

test('expires once what has run for longer than that, since it started and not since we look', async () => {
  let now = 100_000;
  const median = new MedianTimeout(200, { lookMs: 5, now: () => now });
  for (let i = 0; i < 3; i++) median.hear(ended(GOOD));
  median.hear(started('long', 97_500));
  median.hear(started('short', 99_000));
  const expired: string[] = [];
  const running = ['long', 'short'].map(
    (name) =>
      ({
        attempt: { job: jobId(name), number: 1 },
        expire: (timeoutMs: number) => expired.push(`${name} ${timeoutMs}`),
      }) as unknown as RunningAttempt,
  );
  median.watch(() => running);
  await until(() => expired.length > 0);
  expect(expired).toEqual(['long 2000']);
  now = 101_500;
  await until(() => expired.includes('short 2000'));
  // Both have run too long at this look, and one of them had been told.
  expect(expired).toEqual(['long 2000', 'short 2000']);
  // Its next attempt is another matter.
  median.hear(ended({ type: 'timed-out', timeoutMs: 2000 }, { ...about('long'), willRetry: true }));
  median.hear(started('long', 99_000));
  running[0] = { ...running[0], attempt: { job: jobId('long'), number: 2 } } as RunningAttempt;
  await until(() => expired.length > 2);
  median.stop();
  expect(expired).toEqual(['long 2000', 'short 2000', 'long 2000']);
});
