import { describe, expect, test } from 'vitest';
import { textReport } from '../../../src/cli/report/text.ts';
import type { SchedulerEvent, TreeSent } from '../../../src/lib/domain/events.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';
import {
  batchEnded,
  batchStarted,
  jobEnded,
  jobNeverFits,
  jobSkipped,
  jobStarted,
  jobWarned,
  machineQueried,
  START,
  Written,
} from './sample-events.ts';

function told(events: readonly SchedulerEvent[], verbose = false): { stdout: string; stderr: string } {
  const stdout = new Written();
  const stderr = new Written();
  const report = textReport({ stdout, stderr, verbose });
  for (const event of events) report(event);
  return { stdout: stdout.text, stderr: stderr.text };
}

const box = { at: START, machine: machineName('gpubox') };
const treeSent = (facts: Omit<TreeSent, 'type' | 'at' | 'machine' | 'tree'>): TreeSent => ({
  type: 'tree:sent',
  ...box,
  tree: 't',
  ...facts,
});

describe('the lines that users know', () => {
  test('are those of the documented example', () => {
    const one = { name: 'example_batch_script.sh.1', command: 'echo "one job"' };
    const two = { name: 'example_batch_script.sh.2', command: 'echo "jobs will tell you" && exit 1' };
    const { stdout, stderr } = told([
      machineQueried('my_machine.yaml'),
      batchStarted(),
      jobSkipped(3, 'finished-result'),
      jobStarted(1, { ...one, cudaVisibleDevices: '0', gpus: [0] }),
      jobStarted(2, { ...two, cudaVisibleDevices: '1', gpus: [1] }),
      jobEnded(1, one),
      jobEnded(2, { ...two, outcome: { type: 'exited', exitCode: 1 }, durationMs: 65_000 }),
      batchEnded({ done: 1, failed: 1, skipped: 1 }),
    ]);
    expect(stdout).toBe(
      [
        "machine limits:  {'my_machine.yaml': 2}",
        'machine gpu choices: [[0, 1]]',
        'WARNING: job results already exists for line 3, skipping evaluation: delete if you wish to rerun',
        'started: example_batch_script.sh.1;  export CUDA_VISIBLE_DEVICES=0 && echo "one job"',
        'started: example_batch_script.sh.2;  export CUDA_VISIBLE_DEVICES=1 && echo "jobs will tell you" && exit 1',
        'finished: example_batch_script.sh.1; echo "one job" (exited 0, gpubox, 1.2s)',
        'failed: example_batch_script.sh.2; echo "jobs will tell you" && exit 1 (exited 1, gpubox, 1m05s)',
        '',
      ].join('\n'),
    );
    expect(stderr).toBe(
      [
        'execute_batch: 1 job: exited 1',
        'execute_batch:   example_batch_script.sh.2: see job_results/example_batch_script.sh.2.err',
        'execute_batch: 1 done, 1 failed, 1 skipped, 0 not run in 12.3s',
        '',
      ].join('\n'),
    );
  });

  test('name every machine once all have answered', () => {
    const { stdout } = told([
      machineQueried('a'),
      machineQueried("o'brien", { jobsAtOnce: 1, gpuChoices: [] }),
      machineQueried(`"'\\`, { jobsAtOnce: 0, gpuChoices: [3] }),
      batchStarted(),
    ]);
    expect(stdout).toBe(
      `machine limits:  {'a': 2, "o'brien": 1, '"\\'\\\\': 0}\nmachine gpu choices: [[0, 1], [], [3]]\n`,
    );
    expect(told([batchStarted()]).stdout).toBe(''); // all lines have their results: no machine was asked
  });

  test('leave the export out where no GPU is chosen', () => {
    expect(told([jobStarted(1)]).stdout).toBe('started: train.sh.1;  python train.py 1\n');
  });

  test('tell how a job ended', () => {
    const { stdout } = told([
      jobEnded(1, { outcome: { type: 'exited', exitCode: 137 }, durationMs: 65_000 }),
      jobEnded(2, { leftBehind: 2 }),
      jobEnded(3, { outcome: { type: 'transfer-failed', reason: 'disk full', exitCode: 0 } }),
    ]);
    expect(stdout).toBe(
      'failed: train.sh.1; python train.py 1 (exited 137 (SIGKILL), gpubox, 1m05s)\n' +
        'finished: train.sh.2; python train.py 2 (exited 0, gpubox, 1.2s, 2 left-behind processes ended)\n' +
        'failed: train.sh.3; python train.py 3 (exited 0, but files not transferred: disk full, gpubox, 1.2s)\n',
    );
  });

  test('tell of a job that an earlier run started, and of one that is tried again', () => {
    const clock = new Date(START).toTimeString().slice(0, 5);
    const { stdout } = told([
      jobStarted(1, { isAdopted: true, at: START + 60_000 }),
      jobStarted(2, { isAdopted: true, at: START + 90_000_000, cudaVisibleDevices: '0' }),
      jobEnded(3, { outcome: { type: 'exited', exitCode: 1 }, willRetry: true }),
    ]);
    const [one, two, three] = stdout.split('\n');
    expect(one).toBe(`still running: train.sh.1; python train.py 1 (gpubox, since ${clock})`);
    expect(two).toMatch(
      new RegExp(`^still running: train.sh.2; python train.py 2 \\(gpubox, since 1[45] Nov ${clock}\\)$`),
    );
    expect(three).toBe('failed: train.sh.3; python train.py 3 (exited 1, gpubox, 1.2s, is tried again)');
  });

  test('warn of a result folder without a manifest', () => {
    expect(told([jobSkipped(3, 'result-without-manifest')]).stdout).toBe(
      'WARNING: job results already exists for line 3, skipping evaluation: delete if you wish to rerun ' +
        '(train.sh.3 has no manifest: it may not be whole)\n',
    );
  });

  test('stay one harmless line each, whatever a command or a machine says', () => {
    const command = 'echo "naïve 数据"\necho \x1b[2J\x07 \u202e|\tcat';
    const machine = machineName('evil\x1b]0;title\x07');
    const { stdout, stderr } = told([
      jobStarted(1, { command }),
      jobEnded(1, { command, machine, outcome: { type: 'lost', reason: 'a\r\nb\x9b1m' } }),
      { type: 'machine:unreachable', at: START, machine, reason: 'a\nfinished: x', isTriedAgain: false },
    ]);
    const shown = 'echo "naïve 数据"\\necho \\x1b[2J\\x07 \\u202e|\\tcat';
    expect(stdout).toBe(
      `started: train.sh.1;  ${shown}\n` +
        `failed: train.sh.1; ${shown} (lost: a\\r\\nb\\x9b1m, evil\\x1b]0;title\\x07, 1.2s)\n`,
    );
    expect(stderr).toBe('execute_batch: evil\\x1b]0;title\\x07 is left out: a\\nfinished: x\n');
  });
});

describe('the notes on stderr', () => {
  test('tell of machines, GPUs, trees and warnings', () => {
    const queried = machineQueried('gpubox');
    const warnings = ['nvidia-smi failed (exit 9)'];
    const { stdout, stderr } = told([
      { ...queried, snapshot: { ...queried.snapshot, warnings } },
      { type: 'machine:warned', ...box, message: 'nvidia-smi failed (exit 9)' },
      { type: 'machine:warned', ...box, message: 'KillUserProcesses is on' },
      { type: 'machine:unreachable', ...box, reason: 'no answer within 10 s', isTriedAgain: false },
      { type: 'machine:unreachable', ...box, reason: 'no answer', isTriedAgain: true },
      { type: 'machine:away', ...box, reason: 'keepalive time-out' },
      { type: 'gpu:still-held', ...box, gpu: 1, heldMiB: 3000.4, waitedMs: 10_000 },
      treeSent({ files: 12, bytes: 3_500_000, sentBytes: 1_300_000, newFiles: 1, newBytes: 1_200_000 }),
      treeSent({ files: 13, bytes: 3_500_900, sentBytes: 2000, newFiles: 1, newBytes: 900 }),
      treeSent({ files: 13, bytes: 3_500_900, sentBytes: 0, newFiles: 0, newBytes: 0 }),
      treeSent({ files: 2, bytes: 2_000_900, sentBytes: 2_100_000, newFiles: 2, newBytes: 2_000_900 }),
      {
        type: 'tree:sending',
        ...box,
        tree: 't',
        newFiles: 3000,
        newBytes: 1.2e9,
        largest: [
          { path: 'data', bytes: 1.1e9 },
          { path: 'odd\nname', bytes: 1e8 },
        ],
      },
      jobWarned(4, 'sets a variable that later lines do not see'),
    ]);
    expect(stdout).toBe('');
    expect(stderr).toBe(
      [
        'warning: gpubox: nvidia-smi failed (exit 9)',
        'warning: gpubox: KillUserProcesses is on',
        'gpubox is left out: no answer within 10 s',
        'gpubox is left out: no answer (tried again until the batch ends)',
        'gpubox: connection lost, its jobs may run on: keepalive time-out',
        'gpubox: GPU 1 still holds 3000 MiB 10.0s after its job ended',
        'gpubox: source tree of 12 files (3.3 MiB) is there: 1 file (1.1 MiB) sent, 2.2 MiB were there',
        'gpubox: source tree of 2 files (1.9 MiB) is there: 2 files (1.9 MiB) sent',
        'gpubox: sending 3000 files (1.1 GiB), most of it in data (1.0 GiB), odd\\nname (95.4 MiB)',
        'warning: line 4 (train.sh.4): sets a variable that later lines do not see',
      ]
        .map((line) => `execute_batch: ${line}\n`)
        .join(''),
    );
  });

  test('tell of machines that are no good', () => {
    const { stdout, stderr } = told([
      { type: 'machine:quarantined', ...box, reason: 'no space left\non device' },
      { type: 'machine:given-up', ...box, awayMs: 600_000, jobs: 4 },
      { type: 'machine:given-up', ...box, awayMs: 600_000, jobs: 1 },
    ]);
    expect(stdout).toBe('');
    expect(stderr.split('\n').slice(0, -1)).toEqual([
      'execute_batch: gpubox gets no more jobs, since they fail there at once: no space left\\non device (--keep-going-on-bad-machines turns this off)',
      'execute_batch: gpubox has been away for 10m00s: its 4 jobs run again elsewhere',
      'execute_batch: gpubox has been away for 10m00s: its 1 job runs again elsewhere',
    ]);
  });

  test('tell in one line what an earlier run left', () => {
    const resumed = {
      type: 'batch:resumed',
      at: START,
      batch: 'b',
      running: 0,
      ended: 0,
      awaited: 0,
      fresh: 0,
      orphaned: 0,
    } as const;
    const lost = (name: string) =>
      ({
        type: 'machine:unreachable',
        at: START,
        machine: machineName(name),
        reason: '',
        isTriedAgain: true,
      }) as const;
    const said = (events: readonly SchedulerEvent[]) => told(events).stderr.split('\n').at(-2);
    expect(
      said([lost('lab3'), { ...resumed, running: 3, ended: 5, awaited: 2, fresh: 90, orphaned: 1 }]),
    ).toBe(
      'execute_batch: 3 jobs still run, 5 have ended meanwhile, 2 wait for lab3 which cannot be reached, 90 are left to start, 1 orphaned (see --orphans)',
    );
    expect(said([{ ...resumed, ended: 1, awaited: 1, fresh: 1 }])).toBe(
      'execute_batch: 1 job has ended meanwhile, 1 waits for machines that cannot be reached, 1 is left to start',
    );
    expect(said([{ ...resumed, fresh: 7 }])).toBeUndefined();
  });

  test('leave a request that fits nowhere to the error that refuses the batch', () => {
    expect(told([jobNeverFits(3, ['m'])]).stderr).toBe('');
  });

  test('say more with --verbose', () => {
    const queried = machineQueried('gpubox');
    const gpu = {
      uuid: 'u',
      name: 'A',
      memoryTotalMiB: 6144,
      memoryFreeMiB: 5933,
      utilization: 0.07,
      mig: false,
    };
    const gpus = [
      { ...gpu, index: 0 },
      { ...gpu, index: 1, unplaceable: 'memory not reported' },
    ];
    const { stderr } = told(
      [
        { ...queried, snapshot: { ...queried.snapshot, gpus } },
        treeSent({ files: 12, bytes: 3_500_000, sentBytes: 0, newFiles: 0, newBytes: 0 }),
        jobStarted(1, { gpus: [0], attempt: 2 }),
      ],
      true,
    );
    expect(stderr).toBe(
      'execute_batch: gpubox: 3.0 of 24 cores busy; 30607 of 64000 MiB free; GPU 0 5933 of 6144 MiB free, 7 % busy; ' +
        'GPU 1 cannot be used: memory not reported; 2 jobs at once\n' +
        'execute_batch: gpubox: source tree of 12 files (3.3 MiB) was there already\n' +
        'execute_batch: train.sh.1 runs on gpubox (GPU 0, 1 core, 2000 MiB, attempt 2)\n',
    );
  });
});
