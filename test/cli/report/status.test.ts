import { expect, test } from 'vitest';
import { printStatus } from '../../../src/cli/report/status.ts';
import type { BatchStatus, JobStatus } from '../../../src/lib/batch/batch-status.ts';
import type { Job } from '../../../src/lib/domain/job.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';
import { ofJob, REQUEST, START } from './sample-events.ts';

const job = (line: number): Job => ({
  id: ofJob(line).job,
  name: `train.sh.${line}`,
  line,
  command: `python train.py ${line}`,
  request: REQUEST,
  copyForwards: [],
  shareForwards: [],
  copyBackwards: 'changed',
});
const gpubox = machineName('gpubox');
const JOBS: readonly JobStatus[] = [
  { job: job(1), state: 'done' },
  { job: job(2), state: 'failed' },
  {
    job: { ...job(3), command: 'echo \x1b[2J' },
    state: 'running',
    machine: gpubox,
    startedAt: START - 65_000,
  },
  { job: job(4), state: 'ended', machine: machineName('off\x07') },
  { job: job(5), state: 'unknown', machine: gpubox },
  { job: job(16), state: 'waiting' },
];

function printed(status: BatchStatus, options: { json?: boolean; verbose?: boolean } = {}) {
  const [out, err]: [string[], string[]] = [[], []];
  const outs = { print: (line: string) => out.push(line), warn: (line: string) => err.push(line) };
  printStatus(status, { json: false, verbose: false, now: START, ...options }, outs);
  return { out, err };
}

test('what is not finished has a line each, what is finished is counted', () => {
  const clock = new Date(START - 65_000).toTimeString().slice(0, 5);
  const { out, err } = printed({
    jobs: JOBS,
    unreachable: [{ machine: gpubox, reason: 'no\nanswer' }],
    controller: { host: 'laptop', pid: 77 },
  });
  expect(out).toEqual([
    `running  train.sh.3   gpubox   since ${clock} (1m05s)  echo \\x1b[2J`,
    'ended    train.sh.4   off\\x07                       python train.py 4',
    'unknown  train.sh.5   gpubox                        python train.py 5',
    'waiting  train.sh.16                                python train.py 16',
    '1 done, 1 failed, 1 running, 1 ended, 1 waiting, 1 unknown',
  ]);
  expect(err).toEqual([
    'gpubox cannot be reached: no\\nanswer',
    'the batch is being run by process 77 on laptop',
  ]);
});

test('finished ones too with --verbose, and no column that would be empty', () => {
  expect(printed({ jobs: JOBS.slice(0, 2), unreachable: [] }, { verbose: true }).out).toEqual([
    'done    train.sh.1  python train.py 1',
    'failed  train.sh.2  python train.py 2',
    '1 done, 1 failed',
  ]);
  expect(printed({ jobs: JOBS.slice(0, 2), unreachable: [] }).out).toEqual(['1 done, 1 failed']);
});

test('--json is one object per job and nothing else on stdout', () => {
  const { out } = printed({ jobs: JOBS, unreachable: [] }, { json: true });
  const records = out.map((line) => JSON.parse(line) as unknown);
  expect(records).toHaveLength(JOBS.length);
  expect(records[0]).toEqual({
    job: 'train.sh.1',
    name: 'train.sh.1',
    line: 1,
    command: 'python train.py 1',
    state: 'done',
  });
  expect(records[2]).toMatchObject({ state: 'running', machine: 'gpubox', startedAt: START - 65_000 });
  expect(out.join('')).not.toContain('\x1b');
});
