import { expect, test } from 'vitest';
import {
  eventLine,
  eventRecord,
  type StreamedEvent,
  serviceText,
} from '../../../src/cli/queue/event-text.ts';
import {
  badEndText,
  countsText,
  endedText,
  explainLines,
  jobAnswerText,
  jobDetails,
  jobLines,
} from '../../../src/cli/queue/job-text.ts';
import {
  configureRecord,
  givenUpText,
  machineLines,
  statusLines,
  statusRecord,
} from '../../../src/cli/queue/machine-text.ts';
import { submittedText } from '../../../src/cli/queue/submit.ts';
import { jobId } from '../../../src/lib/domain/job.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';
import { DEFAULT_REQUEST } from '../../../src/lib/domain/request-defaults.ts';
import type { JobRow, MachineRow } from '../../../src/lib/queue/requests.ts';

const NOW = new Date(2026, 9, 3, 14, 5).getTime();
const gpubox = machineName('gpubox');

const JOB: JobRow = {
  id: 17,
  state: 'queued',
  isHeld: false,
  submittedAt: NOW - 120_000,
  attempt: 0,
  losses: 0,
  failures: 0,
  outputs: { out: '/w/job_results/train_17.out', err: '/w/job_results/train_17.err' },
  spec: {
    name: 'train_17',
    command: 'python train.py',
    request: DEFAULT_REQUEST,
    cwd: '/w',
    results: '/w/job_results',
    copyForwards: 'working-directory',
    shareForwards: [],
    copyBackwards: 'changed',
    retries: 0,
    oomGrow: 1,
    priority: 0,
    dependsOn: [],
    dependsOnAny: false,
    waitForMachine: false,
  },
};

const SCRIPT = { name: 'a.sh', id: 'f'.repeat(64), args: ['x y', '1'] };

test('a line per job: what runs since when, what ended how, what waits for what', () => {
  const jobs: JobRow[] = [
    { ...JOB, state: 'running', machine: gpubox, startedAt: NOW - 65_000, attempt: 1 },
    { ...JOB, id: 18, state: 'holding', waitsFor: [1, 2, 3, 4, 5, 6], isHeld: true },
    {
      ...JOB,
      id: 19,
      spec: { ...JOB.spec, command: 'a.sh', script: SCRIPT, beginAt: NOW + 60_000, priority: 3 },
    },
    {
      ...JOB,
      id: 20,
      state: 'fail',
      machine: machineName('off\x1b[2J'),
      endedAt: NOW,
      outcome: { type: 'exited', exitCode: 3 },
    },
    { ...JOB, id: 21, state: 'abort', endedAt: NOW, reason: 'job 20\nfailed' },
  ];
  expect(jobLines(jobs, NOW)).toEqual([
    '17  running  train_17  gpubox      since 14:03 (1m05s)                   python train.py',
    '18  holding  train_17              waits for 1 2 3 4 5 and 1 more, held  python train.py',
    "19  queued   train_17              not before 14:06, priority 3          a.sh 'x y' 1",
    '20  fail     train_17  off\\x1b[2J  exited 3, 14:05                       python train.py',
    '21  abort    train_17              job 20\\nfailed, 14:05                 python train.py',
  ]);
});

test('all about one job, without what it does not have', () => {
  const spec = {
    ...JOB.spec,
    retries: 2,
    timeoutMs: 90_000,
    array: { first: 17, index: 4 },
    dependsOn: [3],
    dependsOnAny: true,
  };
  expect(jobDetails({ ...JOB, spec }, NOW)).toEqual([
    'job:         17 (train_17)',
    'state:       queued',
    'command:     python train.py',
    'machine:     any',
    'asks for:    1 core, 6.8 GiB, 1 GPU with 1000 MiB, for itself',
    'retries:     2',
    'time limit:  1m30s',
    'priority:    0',
    'depends on:  3 (any end)',
    'array:       index 4, of 17',
    'submitted:   14:03',
    'folder:      /w',
    'results:     /w/job_results',
    'output:      /w/job_results/train_17.out',
    'errors:      /w/job_results/train_17.err',
  ]);
  const here = jobDetails(
    { ...JOB, outputs: { out: '/l/job_17.txt' }, spec: { ...JOB.spec, runHere: true, script: SCRIPT } },
    NOW,
  );
  expect(here).toContain("runs on:    the service's machine, for that machine");
  expect(here.join('\n')).not.toMatch(/asks for|errors/);
});

test('counts, answers and ends in one line each', () => {
  expect(countsText({ queued: 100_000, running: 3, success: 0 })).toBe('3 running, 100000 queued');
  expect(countsText({})).toBe('no jobs');
  expect(jobAnswerText({ id: 9, isDone: false, message: 'it is not\x07 known' })).toBe(
    'job 9: it is not\\x07 known',
  );
  expect(
    endedText({ id: 9, name: 'job_9', state: 'success', outcome: { type: 'exited', exitCode: 0 } }),
  ).toBe('success  9  job_9  exited 0');
  expect(endedText({ id: 9, name: 'job_9', state: 'abort', reason: 'job 8 failed' })).toBe(
    'abort  9  job_9  job 8 failed',
  );
});

test('a bad end is told with what is known of it, once', () => {
  expect(badEndText({ id: 9, state: 'abort', reason: 'job 8\nfailed' })).toBe('job 9: abort, job 8\\nfailed');
  expect(badEndText({ id: 9, state: 'fail', outcome: { type: 'exited', exitCode: 137 } })).toBe(
    'job 9: fail, exited 137 (SIGKILL)',
  );
  const outcome = { type: 'cancelled', reason: 'killed by hand' } as const;
  expect(badEndText({ id: 9, state: 'killed', outcome, reason: 'killed by hand' })).toBe(
    'job 9: killed, cancelled: killed by hand',
  );
  expect(badEndText({ id: 9, state: 'error' })).toBe('job 9: error');
});

test('jobs that could not be told of an end are named', () => {
  expect(givenUpText([4])).toBe('1 job may still run there, since it could not be reached: 4');
  expect(givenUpText([4, 7])).toBe('2 jobs may still run there, since it could not be reached: 4 7');
});

test('an explanation is sentences, and a line per machine', () => {
  const shortfalls = [] as const;
  expect(
    explainLines({
      id: 17,
      name: 'train_17',
      state: 'queued',
      reasons: ['It waits for a machine.'],
      machines: [
        {
          machine: 'gpubox',
          everFits: true,
          reasons: ['300 MiB are missing', 'GPU 0 is reserved'],
          shortfalls,
        },
        { machine: 'old', everFits: false, reasons: ['it has no GPU'], shortfalls },
        { machine: 'new', everFits: true, reasons: [], shortfalls },
      ],
    }),
  ).toEqual([
    'job 17 (train_17): queued',
    'It waits for a machine.',
    'gpubox: 300 MiB are missing; GPU 0 is reserved',
    'old (can never hold it): it has no GPU',
    'new: it fits there now',
  ]);
});

const MACHINES: readonly MachineRow[] = [
  {
    name: 'gpubox',
    state: 'ready',
    running: [18, 17],
    runningHere: [4],
    maxJobs: null,
    waiting: [],
    capacity: { cpuCores: 16, memoryMiB: 65_536, gpus: [] },
    free: {
      cpuCores: 16,
      cpuCoresInUse: 3.25,
      memoryFreeMiB: 30_720,
      gpus: [
        { index: 0, memoryFreeMiB: 8192, utilizationInUse: 0.75 },
        { index: 1, memoryFreeMiB: 24_576, utilizationInUse: 0 },
      ],
    },
  },
  {
    name: 'o\x1bff',
    state: 'away',
    reason: 'no\nanswer',
    running: [],
    runningHere: [],
    maxJobs: 2,
    waiting: [5, 6],
  },
];

test('machines with what is free, and with what runs', () => {
  expect(machineLines(MACHINES)).toEqual([
    'MACHINE  STATE  CORES FREE  MEMORY FREE       GPU MEMORY FREE                 RUNNING      AT MOST  WHY',
    'gpubox   ready  12.8 of 16  30 GiB of 64 GiB  0: 8 GiB, 25 % idle; 1: 24 GiB  3 (4 17 18)',
    'o\\x1bff  away                                                                 0            2        no\\nanswer',
  ]);
});

test.each(['connecting', 'unusable', 'away'] as const)('why a machine is %s', (state) => {
  const machine: MachineRow = {
    ...{ name: 'far', state, reason: 'no route to host', maxJobs: null },
    ...{ running: [], runningHere: [], waiting: [] },
  };
  expect(machineLines([machine])[1]).toMatch(new RegExp(`^far +${state} .* no route to host$`));
});

test('--json has the fields of simple-job-submit, in its order', () => {
  expect(MACHINES.map(statusRecord)).toEqual([
    '{"status":"OK","jobs_running":3,"max_jobs_running":null,"code":0,"jobs_queued":"[]"}',
    '{"status":"OK","jobs_running":0,"max_jobs_running":2,"code":0,"jobs_queued":"[5,6]"}',
  ]);
  expect(configureRecord({ machine: 'gpubox', oldMaxJobs: 2, newMaxJobs: 0 })).toBe(
    '{"status":"OK","old_max_jobs_running":2,"code":0,"new_max_jobs_running":0,"message":"configuration successful"}',
  );
});

test('status leaves out columns that nobody needs', () => {
  expect(statusLines(MACHINES.slice(0, 1))).toEqual([
    'MACHINE  STATE  RUNNING',
    'gpubox   ready  3 (4 17 18)',
  ]);
  // How many wait, as the header says: not which.
  const waiting = [17, 18, 19];
  expect(statusLines(MACHINES.slice(0, 1).map((machine) => ({ ...machine, waiting })))).toEqual([
    'MACHINE  STATE  RUNNING      WAITING FOR IT',
    'gpubox   ready  3 (4 17 18)  3',
  ]);
  const many = Array.from({ length: 1000 }, (_, n) => n + 1);
  expect(statusLines(MACHINES.slice(0, 1).map((machine) => ({ ...machine, waiting: many })))[1]).toMatch(
    / 1000 or more$/,
  );
});

test('a submit has a line of JSON for each job, or its id, some thousand to a piece', () => {
  const answer = { firstId: 7, count: 12_000, warnings: [] };
  const pieces = [...submittedText(answer, false)];
  expect(pieces).toHaveLength(3);
  const lines = pieces.join('').split('\n');
  expect(lines).toHaveLength(12_001);
  expect(lines[0]).toBe('{"status":"OK","message":"job submitted successfully","code":0,"job_id":7}');
  expect(JSON.parse(lines[11_999] ?? '')).toMatchObject({ job_id: 12_006 });
  expect([...submittedText({ ...answer, count: 2 }, true)]).toEqual(['7\n8\n']);
  expect([...submittedText({ ...answer, count: 0 }, false)]).toEqual([]);
});

test('events carry their number, and read as lines', () => {
  const events: StreamedEvent[] = [
    { sequence: 1, at: NOW, type: 'queue:added', job: 17, name: 'train_17', state: 'queued' },
    {
      sequence: 2,
      at: NOW,
      type: 'queue:state',
      job: 17,
      from: 'queued',
      state: 'running',
      attempt: 2,
      machine: gpubox,
    },
    {
      sequence: 3,
      at: NOW,
      type: 'queue:state',
      job: 17,
      from: 'running',
      state: 'fail',
      attempt: 1,
      outcome: { type: 'exited', exitCode: 3 },
    },
    { sequence: 4, at: NOW, type: 'machine:away', machine: gpubox, reason: 'x\ny' },
    { sequence: 5, at: NOW, type: 'queue:events-forgotten', after: 1, oldest: 6 },
    { sequence: 6, at: NOW, type: 'queue:held', job: 17, isHeld: false },
  ];
  expect(events.map((event) => eventLine(event, NOW))).toEqual([
    '14:05 job 17 (train_17): queued',
    '14:05 job 17: queued -> running on gpubox, attempt 2',
    '14:05 job 17: running -> fail: exited 3',
    '14:05 gpubox: connection lost, its jobs may run on: x\\ny',
    '14:05 what happened before event 6 is not kept any more',
    '14:05 job 17: released',
  ]);
  expect(JSON.stringify(eventRecord({ sequence: 4, at: 5, type: 'machine:back', machine: gpubox }))).toBe(
    '{"schema":1,"sequence":4,"type":"machine:back","at":5,"machine":"gpubox"}',
  );
});

test('a service tells of machines, not of what the states of jobs tell', () => {
  const unreachable = { type: 'machine:unreachable', at: NOW, machine: gpubox, reason: 'no key' } as const;
  expect(serviceText({ ...unreachable, isTriedAgain: true })).toBe(
    'gpubox cannot be reached: no key (tried again)',
  );
  expect(serviceText({ ...unreachable, isTriedAgain: false })).toBe('gpubox cannot be reached: no key');
  expect(serviceText({ type: 'machine:given-up', at: NOW, machine: gpubox, awayMs: 90_000, jobs: 1 })).toBe(
    'gpubox has been away for 1m30s: its 1 job runs again elsewhere',
  );
  const warned = {
    type: 'job:warned',
    at: NOW,
    job: jobId('17'),
    name: 'train_17',
    line: 1,
    message: 'm',
  } as const;
  expect(serviceText(warned)).toBe('warning: train_17: m');
  expect(
    serviceText({
      type: 'job:skipped',
      at: NOW,
      job: jobId('17'),
      name: 'x',
      line: 1,
      reason: 'finished-result',
      isGood: true,
    }),
  ).toBeUndefined();
});
