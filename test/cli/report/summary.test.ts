import { expect, test } from 'vitest';
import { summaryReport } from '../../../src/cli/report/summary.ts';
import type { SchedulerEvent } from '../../../src/lib/domain/events.ts';
import type { JobOutcome } from '../../../src/lib/domain/job.ts';
import { batchEnded, jobEnded, jobStarted, Written } from './sample-events.ts';

function summary(events: readonly SchedulerEvent[], results?: string): string[] {
  const stderr = new Written();
  const report = summaryReport(results === undefined ? { stderr } : { stderr, results });
  for (const event of events) report(event);
  return stderr.text.split('\n').slice(0, -1);
}

const exited = (exitCode: number): JobOutcome => ({ type: 'exited', exitCode });

test('a good batch ends with one line', () => {
  expect(summary([jobEnded(1), batchEnded({ done: 8, failed: 0, skipped: 1, notRun: 2 })])).toEqual([
    'execute_batch: 8 done, 0 failed, 1 skipped, 2 not run in 12.3s',
  ]);
});

test('failed jobs stand with those that ended alike, named in the order of their lines', () => {
  const events = [
    jobEnded(9, { outcome: exited(1) }),
    jobEnded(2, { outcome: exited(137) }),
    jobEnded(4, { outcome: exited(1) }),
    batchEnded({ done: 5, failed: 3 }),
  ];
  expect(summary(events, 'out/here')).toEqual([
    'execute_batch: 2 jobs: exited 1',
    'execute_batch:   train.sh.4, .9: see out/here/train.sh.4.err',
    'execute_batch: 1 job: exited 137 (SIGKILL)',
    'execute_batch:   train.sh.2: see out/here/train.sh.2.err',
    'execute_batch: 5 done, 3 failed, 0 skipped, 0 not run in 12.3s',
  ]);
});

test('only the last attempt counts, and a job that never started has no output to see', () => {
  const { startedAt: _, ...unstarted } = jobEnded(2, {
    outcome: { type: 'transfer-failed', reason: 'disk full' },
  });
  const events = [
    jobEnded(1, { outcome: exited(1) }),
    jobStarted(1, { attempt: 2 }),
    jobEnded(1),
    jobEnded(3, { outcome: exited(1), willRetry: true }),
    unstarted,
    batchEnded(),
  ];
  expect(summary(events).slice(0, -1)).toEqual([
    'execute_batch: 1 job: files not transferred: disk full',
    'execute_batch:   train.sh.2',
  ]);
});
