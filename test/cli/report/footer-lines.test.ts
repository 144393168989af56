import { describe, expect, test } from 'vitest';
import { footerLines } from '../../../src/cli/report/footer-lines.ts';
import { Progress } from '../../../src/cli/report/progress.ts';
import type { SchedulerEvent } from '../../../src/lib/domain/events.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';
import { textWidth } from '../../../src/lib/util/terminal-text.ts';
import { batchStarted, jobEnded, jobNeverFits, jobStarted, machineQueried, START } from './sample-events.ts';

const WIDE = 200;
const HIGH = 50;

function progressOf(events: readonly SchedulerEvent[]): Progress {
  const progress = new Progress();
  for (const event of events) progress.report(event);
  return progress;
}

function lines(events: readonly SchedulerEvent[], afterMs = 0, columns = WIDE, rows = HIGH): string[] {
  return footerLines(progressOf(events), START + afterMs, columns, rows);
}

const on = (name: string): { machine: ReturnType<typeof machineName> } => ({ machine: machineName(name) });
const failure = { outcome: { type: 'exited', exitCode: 1 } } as const;

describe('the counts', () => {
  test('follow each job to its end', () => {
    const events: SchedulerEvent[] = [batchStarted({ jobs: 8, skipped: 1 })];
    expect(lines(events)).toEqual(['0 done, 0 failed, 0 running, 7 waiting; 0s']);
    events.push(
      jobStarted(1),
      jobStarted(2),
      jobStarted(3),
      jobEnded(1),
      jobEnded(2, failure),
      jobNeverFits(4, ['gpubox']),
    );
    expect(lines(events, 65_000)[0]).toBe('1 done, 1 failed, 1 running, 3 waiting; 1m05s');
  });

  test('take a failed job back when it is tried again', () => {
    const events = [
      batchStarted({ jobs: 2 }),
      jobStarted(1),
      jobEnded(1, failure),
      jobStarted(1, { attempt: 2 }),
    ];
    expect(lines(events)[0]).toBe('0 done, 0 failed, 1 running, 1 waiting; 0s');
    expect(lines([...events, jobEnded(1, { attempt: 2 })])[0]).toBe(
      '1 done, 0 failed, 0 running, 1 waiting; 0s',
    );
  });

  test('have a job that is tried again among those that wait', () => {
    const events = [batchStarted({ jobs: 2 }), jobStarted(1), jobEnded(1, { ...failure, willRetry: true })];
    expect(lines(events)[0]).toBe('0 done, 0 failed, 0 running, 2 waiting; 0s');
  });

  test('count a job once that runs again elsewhere, whatever becomes of its earlier attempt', () => {
    const events: SchedulerEvent[] = [
      batchStarted({ jobs: 2 }),
      jobStarted(1, on('gone')),
      { type: 'machine:away', at: START, ...on('gone'), reason: '' },
      { type: 'machine:given-up', at: START, ...on('gone'), awayMs: 1000, jobs: 1 },
      jobStarted(1, { attempt: 2, ...on('other') }),
    ];
    const running = '0 done, 0 failed, 1 running, 1 waiting; 0s';
    expect(lines(events)).toEqual([running, '  gone (away for 0s)', '  other: train.sh.1']);
    const cancelled = jobEnded(1, { outcome: { type: 'cancelled', reason: '' }, ...on('gone') });
    expect(lines([...events, cancelled])[0]).toBe(running);
    const ended = jobEnded(1, { attempt: 2, ...on('other') });
    expect(lines([...events, ended])[0]).toBe('1 done, 0 failed, 0 running, 1 waiting; 0s');
  });

  test('count a job once that fits nowhere and is also told as ended', () => {
    const ended = jobEnded(1, { outcome: { type: 'never-fits', reason: '' } });
    expect(lines([batchStarted({ jobs: 3 }), jobNeverFits(1, []), ended])[0]).toContain(
      '0 failed, 0 running, 2 waiting',
    );
  });
});

describe('the time left', () => {
  // Two at once, the first has taken 10 s.
  const events = [
    batchStarted({ jobs: 8 }),
    jobStarted(1),
    jobStarted(2),
    jobEnded(1, { at: START + 10_000 }),
    jobStarted(3, { at: START + 10_000 }),
  ];

  test('is unknown before the first job has ended', () => {
    expect(progressOf(events.slice(0, 3)).estimatedLeftMs(START + 5000)).toBeUndefined();
  });

  test('is the work left by the mean time of a job, shared by as many as ran at once', () => {
    // 5 waiting jobs of 10 s, job 3 just started, job 2 over the mean: 60 s for two places.
    expect(progressOf(events).estimatedLeftMs(START + 10_000)).toBe(30_000);
    expect(lines(events, 10_000)[0]).toBe('1 done, 0 failed, 2 running, 5 waiting; 10s, about 30s left');
  });

  test('knows how long a job has run that an earlier controller started', () => {
    const adopted = jobStarted(1, { at: START + 8000, startedAt: START, isAdopted: true });
    const two = [batchStarted({ jobs: 2 }), adopted, jobStarted(2), jobEnded(2, { at: START + 10_000 })];
    expect(progressOf(two).estimatedLeftMs(START + 8000)).toBe(2000);
  });

  test('is not shorter than what the youngest job still needs, and is not told when all are over the mean', () => {
    const last = [batchStarted({ jobs: 3 }), ...events.slice(1)];
    expect(progressOf(last).estimatedLeftMs(START + 12_000)).toBe(8000);
    expect(progressOf(last).estimatedLeftMs(START + 20_000)).toBeUndefined();
  });
});

describe('the machines', () => {
  test('are listed with what runs on them', () => {
    const events = [
      batchStarted({ jobs: 9 }),
      jobStarted(1, on('a')),
      jobStarted(2, on('b')),
      jobStarted(3, on('a')),
      jobStarted(4, on('idle')),
      jobEnded(4, on('idle')),
      { type: 'machine:away', at: START, ...on('b'), reason: '' } as const,
    ];
    expect(lines(events, 130_000).slice(1)).toEqual([
      '  a: train.sh.1, train.sh.3',
      '  b (away for 2m10s): train.sh.2',
    ]);
    expect(lines([...events, jobStarted(5, on('b'))])[2]).toBe('  b: train.sh.2, train.sh.5');
  });

  test('are listed while they are awaited, with how long that has been so', () => {
    const away = { type: 'machine:away', at: START, ...on('a'), reason: '' } as const;
    const events: SchedulerEvent[] = [
      { type: 'machine:unreachable', at: START, ...on('off'), reason: '', isTriedAgain: false },
      { type: 'machine:unreachable', at: START, ...on('late'), reason: '', isTriedAgain: true },
      batchStarted(),
      away,
      { ...away, at: START + 60_000 }, // told again: it has been away all the time
    ];
    expect(lines(events, 90_000).slice(1)).toEqual(['  late (away for 1m30s)', '  a (away for 1m30s)']);
    const clock = new Date(START).toTimeString().slice(0, 5);
    expect(lines(events, 3_600_000).at(-1)).toBe(`  a (away since ${clock})`);
    expect(lines(events, 90_000_000).at(-1)).toMatch(
      new RegExp(`^ {2}a \\(away since 1[45] Nov ${clock}\\)$`),
    );
    const back = [{ type: 'machine:back', at: START, ...on('a') }, { ...machineQueried('late') }] as const;
    expect(lines([...events, ...back])).toHaveLength(1);
  });

  test('are few, the rest counted', () => {
    const many = Array.from({ length: 9 }, (_, index) => jobStarted(index + 1, on(`m${index}`)));
    const all = [batchStarted({ jobs: 20 }), ...many, jobStarted(10, on('m8'))];
    expect(lines(all)).toHaveLength(7);
    expect(lines(all).at(-1)).toBe('  and 4 more machines with 5 jobs');
    expect(lines(all, 0, WIDE, 8)).toEqual([
      '0 done, 0 failed, 10 running, 10 waiting; 0s',
      '  m0: train.sh.1',
      '  m1: train.sh.2',
      '  and 7 more machines with 8 jobs',
    ]);
    expect(lines(all, 0, WIDE, 3)).toHaveLength(2);
  });

  test('stay within the width, wide characters and all', () => {
    const names = ['训练.1', '训练.2', '训练.3', '训练.4'];
    const jobs = names.map((name, index) => jobStarted(index + 1, { name }));
    const events = [batchStarted({ jobs: 4 }), ...jobs];
    expect(lines(events, 0, 60)[1]).toBe('  gpubox: 训练.1, 训练.2, 训练.3, 训练.4');
    expect(lines(events, 0, 38)[1]).toBe('  gpubox: 训练.1, 训练.2 and 2 more');
    expect(lines(events, 0, 18)[1]).toBe('  gpubox: 4 jobs');
    for (let columns = 0; columns < 60; columns++) {
      for (const line of lines(events, 0, columns)) expect(textWidth(line)).toBeLessThanOrEqual(columns);
    }
  });

  test('and jobs cannot move the cursor by their names', () => {
    const event = jobStarted(1, { name: 'a\x1b[2J\n', ...on('m\x07') });
    expect(lines([batchStarted(), event])[1]).toBe('  m\\x07: a\\x1b[2J\\n');
  });
});
