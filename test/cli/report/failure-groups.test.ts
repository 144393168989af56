import { describe, expect, test } from 'vitest';
import { alikeText, failureLines } from '../../../src/cli/report/failure-groups.ts';
import type { JobOutcome } from '../../../src/lib/domain/job.ts';
import { jobEnded } from './sample-events.ts';

const exited = (exitCode: number): JobOutcome => ({ type: 'exited', exitCode });
const failure = (line: number, lastErrorLine?: string, outcome: JobOutcome = exited(1)) =>
  jobEnded(line, { outcome, ...(lastErrorLine === undefined ? {} : { lastErrorLine }) });

describe('a thousand failures', () => {
  test('are a few lines, the largest group first', () => {
    const failures = Array.from({ length: 1000 }, (_, i) =>
      i % 10 === 3
        ? failure(i + 1, `CUDA error at 0x7f${i}: device-side assert`)
        : failure(i + 1, `RuntimeError: loss is nan at step ${i * 17} after ${i}.25 s`),
    );
    expect(failureLines(failures.reverse(), 'out')).toEqual([
      '900 jobs: exited 1: RuntimeError: loss is nan at step 0 after 0.25 s',
      '  train.sh.1, .2, .3, .5, .6 and 895 more: see out/train.sh.1.err',
      '100 jobs: exited 1: CUDA error at 0x7f3: device-side assert',
      '  train.sh.4, .14, .24, .34, .44 and 95 more: see out/train.sh.4.err',
    ]);
  });

  test('that are all different are cut after ten ways', () => {
    const words = 'a b c d e f g h i j k l m n o p q r s t u v w x y z'.split(' ');
    const failures = Array.from({ length: 676 }, (_, i) =>
      failure(i + 1, `missing ${words[Math.floor(i / 26)]}${words[i % 26]}`),
    );
    const lines = failureLines([...failures, failure(677, 'missing aa')], 'job_results');
    expect(lines).toHaveLength(21);
    expect(lines.slice(0, 4)).toEqual([
      '2 jobs: exited 1: missing aa',
      '  train.sh.1, .677: see job_results/train.sh.1.err',
      '1 job: exited 1: missing ab',
      '  train.sh.2: see job_results/train.sh.2.err',
    ]);
    expect(lines.at(-1)).toBe('and 666 jobs that failed in 666 other ways');
  });
});

test('the outcome tells groups apart, and so does the last line', () => {
  const same = 'Killed';
  const lines = failureLines(
    [
      failure(1, same),
      failure(2, same, exited(137)),
      failure(3, same, { type: 'out-of-memory', reason: 'oom_kill rose', memory: 'main', exitCode: 137 }),
      failure(4, 'other'),
      failure(5),
      failure(6, same, { type: 'timed-out', timeoutMs: 60_000 }),
      failure(7, same, { type: 'timed-out', timeoutMs: 61_000 }), // a percentage of the median
    ],
    'job_results',
  );
  expect(lines.filter((line) => !line.startsWith(' '))).toEqual([
    '2 jobs: timed out after 1m00s: Killed',
    '1 job: exited 1: Killed',
    '1 job: exited 137 (SIGKILL): Killed',
    '1 job: out of main memory: oom_kill rose: Killed',
    '1 job: exited 1: other',
    '1 job: exited 1',
  ]);
});

test.each([
  ['[2026-11-21 07:48:20,123] ERROR x', '[2027-01-02 23:59:01,9] ERROR x'],
  ['Sat Nov 21 07:48:20 UTC 2026: no', 'Sun Dec  6 17:08:00 UTC 2026: no'],
  ['2026-11-21T07:48:20.5Z no', '2026-11-22T08:00:01.25Z no'],
  ['segfault at 0x7ffdeadbeef0 ip 00007f3c', 'segfault at 0x55a0 ip 00007fffabc1'],
  ['cannot open /data/run_17/fold3.csv', 'cannot open /data/run_8/fold12.csv'],
  ['cannot open /tmp/tmpab_x9z/in', 'cannot open /tmp/tmpq0ooop/in'],
  [
    'no object 3f786850e387550fdab836ed7e6dc881de23001b',
    'no object 89e6c98d92887913cadf06b2adb97f26cde4849b',
  ],
  ['id 7c9e6679-7425-40de-944b-e07fc1f90ae7 gone', 'id 16fd2706-8baf-433b-82eb-8c7fada847da gone'],
  ['tried to allocate 20.00 MiB', 'tried to allocate 1,024 MiB'],
])('%j is like %j', (one, other) => {
  expect(alikeText(one)).toBe(alikeText(other));
});

test.each([
  ["No module named 'numpy'", "No module named 'torch'"],
  ['cannot open /data/a.csv', 'cannot open /data/b.csv'],
  ['decade of facade', 'faced a decade'],
])('%j is not like %j', (one, other) => {
  expect(alikeText(one)).not.toBe(alikeText(other));
});

test('what a job printed and what it is called cannot move the cursor, and stay short', () => {
  const lines = failureLines(
    [
      { ...failure(1, `a\x1b[2J${'x'.repeat(300)}`), name: 'odd\n.1' },
      { ...failure(2), name: 'plain' },
    ],
    'job_results',
  );
  expect(lines[0]).toMatch(/^1 job: exited 1: a\\x1b\[2Jx+\.\.\.$/);
  expect(lines[0]?.length).toBeLessThan(190);
  expect(lines[1]).toBe('  odd\\n.1: see job_results/odd\\n.1.err');
});
