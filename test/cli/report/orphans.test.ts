import { expect, test } from 'vitest';
import { printEnded, printOrphans } from '../../../src/cli/report/orphans.ts';
import type { Orphan } from '../../../src/lib/batch/orphans.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';

const orphan = (job: string, change: Partial<Orphan> = {}): Orphan => ({
  machine: machineName('gpubox'),
  machineKey: '0123456789abcdef',
  batch: '4f0c2a9b1d22',
  place: { folder: job, number: 1 },
  job,
  command: 'python train.py',
  state: 'running',
  startedAgoMs: 7_380_000,
  origin: { host: 'laptop', folder: '/home/ben/exp', file: 'train.sh' },
  isControlled: false,
  because: 'its line is gone',
  isCertain: true,
  ...change,
});

function outs() {
  const [out, err]: [string[], string[]] = [[], []];
  return { out, err, print: (line: string) => out.push(line), warn: (line: string) => err.push(line) };
}

test('they are listed by batch, harmlessly', () => {
  const to = outs();
  printOrphans(
    [
      orphan('a.1'),
      orphan('b.1', { batch: '999999999999', origin: undefined, because: 'nobody\nknows', isCertain: false }),
      orphan('a.2', {
        place: { folder: 'a.2', number: 3 },
        state: 'gone',
        startedAgoMs: undefined,
        command: 'x\x1b[2J',
      }),
    ],
    { json: false },
    to,
  );
  expect(to.out).toEqual([
    'batch 4f0c2a9b1d22 of laptop:/home/ben/exp, train.sh: its line is gone',
    '  gpubox: a.1, running, started 2h03m ago: python train.py',
    '  gpubox: a.2, attempt 3, gone: x\\x1b[2J',
    'batch 999999999999: nobody\\nknows',
    '  gpubox: b.1, running, started 2h03m ago: python train.py',
  ]);
  expect(to.err).toEqual([
    '3 orphans; --kill-orphans in place of --orphans ends them, --kill-orphans BATCH those of one batch',
  ]);
});

test('the exit code tells whether all have ended that were to', () => {
  const chosen = [orphan('a.1'), orphan('a.2', { machine: machineName('off') })];
  const failed = [{ machine: 'off', reason: 'no answer' }];
  const to = outs();
  expect(printEnded({ chosen, failed: [], spared: [] }, { json: false }, outs())).toBe(0);
  expect(
    printEnded({ chosen, failed, spared: [orphan('b', { batch: '999999999999' })] }, { json: false }, to),
  ).toBe(1);
  expect(to.out).toEqual([
    'ended: gpubox: a.1, running, started 2h03m ago: python train.py (batch 4f0c2a9b1d22)',
    'still there: off: a.2, running, started 2h03m ago: python train.py (batch 4f0c2a9b1d22)',
  ]);
  expect(to.err).toEqual([
    'off: not all could be ended: no answer',
    '1 orphan ended, 1 not',
    '1 left alone, since somebody may still go on with it: --kill-orphans 999999999999 ends it',
  ]);
});

test('--json is one object each', () => {
  const to = outs();
  printOrphans([orphan('a.1')], { json: true }, to);
  printEnded({ chosen: [orphan('a.1')], failed: [], spared: [] }, { json: true }, to);
  expect(to.out.map((line) => JSON.parse(line) as unknown)).toEqual([
    expect.objectContaining({
      machine: 'gpubox',
      batch: '4f0c2a9b1d22',
      job: 'a.1',
      attempt: 1,
      state: 'running',
    }),
    expect.objectContaining({ job: 'a.1', hasEnded: true }),
  ]);
});
