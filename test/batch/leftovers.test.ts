/** A cancellation that a machine cannot hear is noted and carried out at the next contact. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BatchRun } from '../../src/lib/batch/batch-run.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { findMachines } from '../../src/lib/machine/find-machines.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import {
  endLeftovers,
  type Leftover,
  noteLeftovers,
  readLeftovers,
} from '../../src/lib/runner/end-leftovers.ts';
import { MachineSession } from '../../src/lib/runner/machine-session.ts';
import { entry } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

let hosts: TestHosts;
let folder: string;

beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'away' }]);
  folder = await mkdtemp(join(tmpdir(), 'leftovers-'));
  await writeFile(join(folder, 'away.yaml'), hosts.get('away').machineFile('host_key_checking: no'));
});

afterAll(async () => {
  await hosts.close();
  await rm(folder, { recursive: true, force: true });
});

async function openBatch(file: string, warnings: string[] = []): Promise<BatchRun> {
  const batch = await BatchRun.open({
    file: join(folder, file),
    machines: await findMachines(['./away.yaml'], { cwd: folder }),
    defaults: {
      request: { ...DEFAULT_REQUEST, gpus: 0, memoryMiB: 1, cpuCores: 0.1 },
      copyForwards: [],
      shareForwards: [],
      copyBackwards: [],
    },
    cwd: folder,
    tuning: { ssh: { configFile: '/dev/null', keepaliveIntervalMs: 200 } },
  });
  batch.events.on('machine:warned', ({ message }) => warnings.push(message));
  await batch.connect();
  return batch;
}

test('what runs on a machine that is away is named, noted, and ended when the machine is reached again', async () => {
  const host = hosts.get('away');
  await writeFile(join(folder, 'long.sh'), 'sleep 4321 & sleep 4322\n');
  const sleepers = async () =>
    (await host.processes()).filter(({ commandLine }) => /sleep 432[12]/.test(commandLine));
  const batch = await openBatch('long.sh');
  const running = batch.run();
  await until(async () => (await sleepers()).length === 2, { describe: 'both processes run' });

  await host.cut();
  const stranded = await batch.cancelAll('ended by the test');
  expect(stranded.map(({ machine }) => machine)).toEqual(['away.yaml']);
  expect(stranded[0]?.job).toMatch(/long\.sh\.1$/);
  await running;
  await batch.close();
  // Else the kernel may deliver after the cut what the connection had still to say, the cancellation with it
  // (a relay, in loopback mode, forgets it).
  const servers = (await host.processes()).filter(({ commandLine }) =>
    /^sshd(-session)?: .*@/.test(commandLine),
  );
  if (servers.length > 0)
    await host.exec(`kill -KILL ${servers.map(({ pid }) => pid).join(' ')}`, { asRoot: true });
  await host.heal();
  expect((await sleepers()).length).toBe(2); // nobody could tell the machine

  await writeFile(join(folder, 'next.sh'), 'true\n');
  const warnings: string[] = [];
  const next = await openBatch('next.sh', warnings);
  expect(await sleepers()).toEqual([]);
  expect(warnings.join()).toContain('long.sh.1');
  await next.run();
  await next.close();

  const again: string[] = [];
  await (await openBatch('next.sh', again)).close();
  expect(again).toEqual([]); // carried out once
});

const BATCH = 'aaaaaaaaaaaa';

const connect = () =>
  connectSsh(entry('away'), { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } });

/** Starts jobs of one batch, waits until each is as wanted, and leaves. Resolves to the batch's folder there. */
async function startAndLeave(
  host: RemoteHost,
  jobs: Readonly<Record<string, readonly [script: string, wanted: 'started' | 'ended']>>,
): Promise<string> {
  const heard = new Set<string>();
  const session = await MachineSession.open(host, {
    machineKey: 'key',
    batch: BATCH,
    loginEnvironment: false,
    onReport: ({ folder: job }, { type }) => heard.add(`${job} ${type}`),
    onWarning: () => {},
  });
  for (const [job, [script]] of Object.entries(jobs)) {
    session.supervisor.start(
      { folder: job, number: 1 },
      {
        parts: [],
        isSmallTree: false,
        links: [],
        env: {},
        request: { job, command: script },
        script,
        back: 'none',
        killGraceMs: 500,
      },
    );
  }
  const isReady = () => Object.entries(jobs).every(([job, [, wanted]]) => heard.has(`${job} ${wanted}`));
  await until(isReady, { deadlineMs: 15_000, describe: () => [...heard] });
  await session.close();
  return session.folders.runs;
}

const note = (job: string, more: Partial<Leftover> = {}): Leftover => ({
  machine: machineName('away'),
  job,
  batch: BATCH,
  place: { folder: job, number: 1 },
  ...more,
});

/** A results folder with these notes. */
async function resultsWith(name: string, notes: readonly Leftover[]): Promise<string> {
  const results = join(folder, name);
  await mkdir(results);
  noteLeftovers(results, notes);
  return results;
}

test('a job that had ended by itself stays for its batch to collect, what was ended is removed', async () => {
  await using host = await connect();
  const runs = await startAndLeave(host, {
    good: ['echo result', 'ended'],
    bad: ['exit 3', 'ended'],
    runs: ['exec sleep 4323', 'started'],
  });
  const jobs = ['good', 'bad', 'runs', 'never'];
  const results = await resultsWith(
    'by-itself',
    jobs.map((job) => note(job)),
  );
  expect((await endLeftovers(host, results, { machineKey: 'key' })).map(({ job }) => job)).toEqual([
    'runs',
    'never',
  ]);
  expect(readLeftovers(results)).toEqual([]);
  const left = await hosts.get('away').exec(`cd ${runs} && ls -d */*/ && cat good/1/out && rm -r bad good`);
  expect(left.stdout).toBe('bad/1/\ngood/1/\nresult\n');
});

test('a note goes by who the machine is, and by its name only where that is not noted', async () => {
  await using host = await connect();
  const runs = await startAndLeave(host, {
    renamed: ['exec sleep 4324', 'started'],
    other: ['exec sleep 4325', 'started'],
    old: ['exec sleep 4326', 'started'],
  });
  const elsewhere = machineName('elsewhere');
  const stays = [
    note('other', { machineKey: 'another' }),
    note('old', { machine: elsewhere }),
    // This machine by another name, where the attempt may be another account's.
    note('unseen', { machine: elsewhere, machineKey: 'key' }),
  ];
  const results = await resultsWith('by-key', [
    ...stays,
    note('renamed', { machine: elsewhere, machineKey: 'key' }),
  ]);
  const sleepers = async () =>
    (await hosts.get('away').processes()).flatMap(
      ({ commandLine }) => /^sleep (432[456])/.exec(commandLine)?.[1] ?? [],
    );
  expect((await endLeftovers(host, results, { machineKey: 'key' })).map(({ job }) => job)).toEqual([
    'renamed',
  ]);
  expect((await sleepers()).sort()).toEqual(['4325', '4326']);
  expect(readLeftovers(results)).toEqual(stays);

  const rest = await resultsWith('by-name', [note('other', { machineKey: 'key' }), note('old')]);
  expect((await endLeftovers(host, rest, { machineKey: 'key' })).map(({ job }) => job)).toEqual([
    'other',
    'old',
  ]);
  expect(await sleepers()).toEqual([]);
  expect(readLeftovers(rest)).toEqual([]);
  // The batch's own folder stays, since its next run may be at work in it.
  expect(await hosts.get('away').exec(`ls ${runs}`)).toMatchObject({ exitCode: 0, stdout: '' });
});
