/** A queue service with machines that go away, come back, and are lost. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import type { MachineRow, RemoveMachineAnswer } from '../../src/lib/queue/requests.ts';
import type { ServiceOptions } from '../../src/lib/queue/service.ts';
import { canUseNamespaces } from '../rig/namespace-rig.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { RunningService, ServiceFolders } from './running-service.ts';

vi.setConfig({ testTimeout: 90_000 });
// In loopback mode all hosts are one machine, and cannot be cut off for good.
const runs = process.env.TEST_HOSTS !== 'loopback' && (await canUseNamespaces());
if (!runs) console.warn('Test hosts have no namespaces of their own here: lost machines are not tested.');
const hostTest = test.runIf(runs);

let hosts: TestHosts;
let folders: ServiceFolders;
beforeAll(async () => {
  if (runs) hosts = await TestHosts.start([{ name: 'one' }, { name: 'two' }]);
}, 60_000);
afterAll(() => hosts?.close());
beforeEach(() => {
  folders = new ServiceFolders();
});
afterEach(() => folders[Symbol.dispose]());

const open = (more: Partial<ServiceOptions> = {}) =>
  RunningService.open(folders, {
    machines: ['one', 'two'],
    sshConfig: hosts.sshConfigPath,
    ...more,
    tuning: {
      ssh: { keepaliveIntervalMs: 200, keepaliveCountMax: 2, connectTimeoutMs: 2000 },
      backoff: { firstMs: 100, longestMs: 500 },
      lateJoin: { pauses: { firstMs: 200, longestMs: 500 } },
      ...more.tuning,
    },
  });

const rows = async (running: RunningService) => (await running.door.call('machines', {})) as MachineRow[];
const stateOf = async (running: RunningService, name: string) =>
  (await rows(running)).find((row) => row.name === name)?.state;
const ready = (running: RunningService, name: string) =>
  until(async () => (await stateOf(running, name)) === 'ready', {
    deadlineMs: 20_000,
    describe: () => rows(running),
  });

hostTest(
  'a machine that is away keeps its jobs; what ended there meanwhile is brought home when it is back',
  async () => {
    await using running = await open();
    await ready(running, 'one');
    const id = await running.submit('sleep 1; echo done', { machine: 'one' });
    await until(async () => (await running.get(id)).startedAt, { deadlineMs: 10_000 });
    await hosts.get('one').cut();
    try {
      await until(async () => (await stateOf(running, 'one')) === 'away', { deadlineMs: 20_000 });
      expect((await running.get(id)).state).toBe('running');
      const elsewhere = await running.submit('true');
      expect(await running.reaches(elsewhere, 'success')).toMatchObject({ machine: 'two' });
    } finally {
      await hosts.get('one').heal();
    }
    expect((await running.reaches(id, 'success')).attempt).toBe(1);
    expect(running.out(`job_${id}`)).toBe('done\n');
  },
);

hostTest(
  'a service that starts while a machine is away still counts its job as running, and gets it when the machine answers',
  async () => {
    {
      await using running = await open();
      await ready(running, 'one');
      await running.submit('sleep 1; echo kept', { machine: 'one' });
      await until(async () => (await running.get(1)).startedAt, { deadlineMs: 10_000 });
    }
    await hosts.get('one').cut();
    await using again = await open();
    try {
      expect(again.notes.join('\n')).toMatch(/1 job of before/);
      await ready(again, 'two');
      expect(await again.get(1)).toMatchObject({ state: 'running', machine: 'one' });
    } finally {
      await hosts.get('one').heal();
    }
    expect((await again.reaches(1, 'success')).attempt).toBe(1);
    expect(again.out('job_1')).toBe('kept\n');
  },
);

hostTest(
  '--machine-lost-after gives its jobs to others; what still runs there is ended when it is back',
  async () => {
    await using running = await open({ machineLostAfterMs: 500 });
    await ready(running, 'one');
    await ready(running, 'two');
    const id = await running.submit('echo on $MACHINE_NAME; [ "$JOB_ATTEMPT" = 2 ] || exec sleep 987654');
    const first = await until(
      async () => (await running.get(id)).startedAt && (await running.get(id)).machine,
      {
        deadlineMs: 10_000,
      },
    );
    const host = hosts.get(first);
    await host.cut();
    try {
      const job = await running.reaches(id, 'success');
      expect(job).toMatchObject({ attempt: 2, machine: first === 'one' ? 'two' : 'one' });
    } finally {
      await host.heal();
    }
    await until(
      async () => !(await host.processes()).some(({ commandLine }) => commandLine.includes('987654')),
      { deadlineMs: 30_000, describe: 'the lost attempt is ended' },
    );
  },
);

hostTest(
  'remove-machine --kill of a machine that cannot be reached names what may still run there',
  async () => {
    await using running = await open();
    await ready(running, 'one');
    await running.door.call('configure', { machine: 'two', maxJobs: 0 });
    const id = await running.submit('echo on $MACHINE_NAME; [ "$MACHINE_NAME" = two ] || exec sleep 30');
    await until(async () => (await running.get(id)).startedAt, { deadlineMs: 10_000 });
    await running.door.call('configure', { machine: 'two', maxJobs: 9 });
    await hosts.get('one').cut();
    try {
      await until(async () => (await stateOf(running, 'one')) === 'away', { deadlineMs: 20_000 });
      const answer = (await running.door.call('remove-machine', {
        name: 'one',
        how: 'kill',
      })) as RemoveMachineAnswer;
      expect(answer.givenUp).toEqual([id]);
      expect(await running.reaches(id, 'success')).toMatchObject({ attempt: 2, machine: 'two' });
    } finally {
      await hosts.get('one').heal();
    }
  },
);

hostTest(
  'a percentage of the median ends a job that takes too long beside others of its submit',
  async () => {
    await using running = await open({ machines: ['two'] });
    await ready(running, 'two');
    await running.submitAll(['true', 'true', 'true', 'sleep 1000'], { timeoutPercent: 1000 });
    expect((await running.reaches(4, 'fail')).outcome).toMatchObject({ type: 'timed-out' });
  },
);

test('a script that runs here outlives the service, and the next one knows how it ended', async () => {
  const gate = join(folders.root, 'go');
  const text = `#!/bin/sh\necho began $JOB_ID\nuntil [ -e ${gate} ]; do sleep 0.05; done\necho ended\nexit 7\n`;
  const submit = { script: { name: 'w.sh', text, args: [] }, runHere: true, cwd: folders.project };
  const request = { memoryMiB: 1, cpuCores: 0, gpus: 0, gpuMemoryMiB: 0, gpuUtilization: 0 };
  const all = { ...submit, request: { ...request, reserveGpu: false, reserveMachine: false } };
  const log = join(folders.data, 'logs/job_1.txt');
  {
    await using running = await RunningService.open(folders);
    await running.door.call('submit', all);
    await running.door.call('submit', all);
    await until(() => existsSync(log) && readFileSync(log, 'utf8') === 'began 1\n', { deadlineMs: 10_000 });
    expect((await running.get(2)).state).toBe('queued'); // one at a time for each worker
  }
  await using again = await RunningService.open(folders);
  expect(again.notes.join('\n')).toMatch(/adopted here: 1 running/);
  writeFileSync(gate, '');
  expect((await again.reaches(1, 'fail')).outcome).toMatchObject({ exitCode: 7 });
  await again.reaches(2, 'fail');
  expect(readFileSync(log, 'utf8')).toBe('began 1\nended\n');
});

test('an exported state can be edited, and comes back; events go on over a restart', async () => {
  let last = 0;
  {
    await using running = await RunningService.open(folders);
    await running.submit('echo one');
    await running.reaches(1, 'success');
    await running.submit('echo two', { hold: true, priority: 1 });
    for await (const event of running.door.stream('events', { after: 0, follow: false }))
      last = (event as { sequence: number }).sequence;
  }
  await using running = await RunningService.open(folders);
  let text = '';
  for await (const piece of running.door.stream('export', {})) text += (piece as { text: string }).text;
  const state = JSON.parse(text) as { jobs: { spec: { command: string; priority: number } }[] };
  expect(state.jobs).toHaveLength(2);
  const [, second] = state.jobs;
  if (second === undefined) throw new Error('no second job');
  second.spec.command = 'echo edited';
  second.spec.priority = 5;
  const answer = await running.door.call('import', { index: 0, text: JSON.stringify(state), isLast: true });
  expect(answer).toMatchObject({ jobs: 2, machines: 1 });
  await running.door.call('release', { ids: [2] });
  await running.reaches(2, 'success');
  expect(running.out('job_2')).toBe('edited\n');
  await expect(
    running.door.call('import', { index: 0, text: text.replace('"user-hold"', '"maybe"'), isLast: true }),
  ).rejects.toThrow(/jobs\[1\]\.state/);
  const types: string[] = [];
  for await (const event of running.door.stream('events', { after: last, follow: false })) {
    const { sequence, type } = event as { sequence: number; type: string };
    expect(sequence).toBe(last + 1);
    last = sequence;
    types.push(type);
  }
  expect(types).toContain('queue:imported');
});
