/** What somebody who watches sees of a batch on real machines: as it waits, runs, is killed, tries again and ends. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdtemp, open as openFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { jobNameStem } from '../../src/lib/batch/batch-file.ts';
import { batchOutput } from '../../src/lib/batch/batch-output.ts';
import { type BatchOptions, BatchRun } from '../../src/lib/batch/batch-run.ts';
import type { OutputItem, Overview } from '../../src/lib/domain/overview.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { findMachines } from '../../src/lib/machine/find-machines.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

let hosts: TestHosts;
let folder: string;
const opened: BatchRun[] = [];

beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'seen', gpus: [{ memoryTotalMiB: 8000, usedMiB: 500 }, { memoryTotalMiB: 8000 }] },
  ]);
});
afterAll(() => hosts.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'overview-'));
  await writeFile(join(folder, 'seen.yaml'), hosts.get('seen').machineFile('host_key_checking: no'));
});
afterEach(async () => {
  for (const batch of opened.splice(0)) {
    const ending = batch.cancelAll('the test is over');
    await Promise.race([ending, new Promise((resolve) => setTimeout(resolve, 100))]);
    await batch.close();
  }
  await hosts.get('seen').heal();
  await rm(folder, { recursive: true, force: true });
});

/** The id of the job of a line. */
const job = (line: number) => `${jobNameStem(join(folder, 'b.sh'))}.${line}`;

const SMALL = { ...DEFAULT_REQUEST, gpus: 0, memoryMiB: 1, cpuCores: 0.01 };

async function open(lines: readonly string[], more: Partial<BatchOptions> = {}): Promise<BatchRun> {
  const file = join(folder, 'b.sh');
  await writeFile(file, lines.map((line) => `${line}\n`).join(''));
  const batch = await BatchRun.open({
    file,
    machines: await findMachines(['./seen.yaml'], { cwd: folder }),
    defaults: { request: SMALL, copyForwards: [], shareForwards: [], copyBackwards: [] },
    cwd: folder,
    ...more,
    tuning: {
      ssh: { configFile: '/dev/null', keepaliveIntervalMs: 200 },
      outputPollMs: 50,
      ...more.tuning,
    },
  });
  opened.push(batch);
  await batch.connect();
  return batch;
}

const all = (batch: BatchRun) => batch.watch.overview({ limit: 200 });

/** Asks until what is told is as wanted, and returns it. */
async function sees(batch: BatchRun, isWanted: (seen: Overview) => boolean): Promise<Overview> {
  let seen = await all(batch);
  await until(
    async () => {
      seen = await all(batch);
      return isWanted(seen);
    },
    { deadlineMs: 30_000, describe: () => JSON.stringify(seen, null, 1) },
  );
  return seen;
}

const HELD = 'until [ -e ~/GO ]; do sleep 0.05; done';
const held = (name: string) => HELD.replace('GO', name);
const touch = (name: string) => hosts.get('seen').exec(`touch ~/${name}`);

test('jobs by state, with machine, start, last line and reasons; kill ends one of them', async () => {
  const request = { ...SMALL, gpus: 1, gpuMemoryMiB: 1000, gpuUtilization: 0.5, reserveGpu: true };
  const batch = await open(
    [
      'exit 3',
      'echo first; printf "10%%\\r20%%"; sleep 6011',
      'echo two >&2; sleep 6012',
      'echo never 1',
      'echo never 2',
    ],
    { defaults: { request, copyForwards: [], shareForwards: [], copyBackwards: [] } },
  );
  const before = await all(batch);
  expect(before.counts).toMatchObject({ queued: 5, running: 0 });
  expect(before.waiting.jobs[0]).toMatchObject({ reason: 'starts next, on seen.yaml' });

  const done = batch.run();
  const seen = await sees(batch, ({ running }) => running.jobs.filter((one) => one.lastLine).length === 2);
  expect(seen.counts).toEqual({
    ...{ queued: 2, holding: 0, 'user-hold': 0, running: 2 },
    ...{ success: 0, fail: 1, killed: 0, abort: 0, error: 0 },
  });
  expect(seen.running.jobs.map(({ lastLine }) => lastLine).sort()).toEqual(['20%', 'two']);
  expect(seen.running.jobs.flatMap(({ gpus = [] }) => gpus).sort()).toEqual([0, 1]);
  for (const one of seen.running.jobs) {
    expect(one).toMatchObject({ machine: 'seen.yaml', state: 'running' });
    expect(one.startedAt).toBeGreaterThan(seen.at - 60_000);
  }
  expect(seen.waiting.jobs.map(({ id }) => id)).toEqual([job(4), job(5)]);
  expect(seen.waiting.jobs[0]?.reason).toMatch(/^seen\.yaml: GPU 0 is reserved by another job/);
  expect(seen.ended.jobs).toMatchObject([
    { id: job(1), state: 'fail', reason: 'exit code 3', machine: 'seen.yaml' },
  ]);
  const [machine] = seen.machines;
  expect(machine).toMatchObject({ name: 'seen.yaml', state: 'ready', jobs: 2 });
  const taken = (overview: Overview) => {
    const { memoryMiB, cpuCores } = overview.machines[0] ?? {};
    return [memoryMiB?.taken ?? 0, cpuCores?.taken ?? 0] as const;
  };
  const [others, now] = [taken(before), taken(seen)];
  expect(others[0]).toBeGreaterThan(0); // some memory is always in use
  expect(now[0]).toBe(others[0] + 2);
  expect(now[1]).toBeCloseTo(others[1] + 0.02);
  expect(machine?.gpus).toMatchObject([
    {
      index: 0,
      memoryMiB: { total: 8000, used: 500, taken: 1500 },
      utilization: { total: 1, taken: 0.5 },
    },
    { index: 1, memoryMiB: { total: 8000, taken: 1000 } },
  ]);

  const filtered = await batch.watch.overview({ limit: 1, filter: 'NEVER' });
  expect(filtered.waiting).toMatchObject({ count: 2, isCut: false, jobs: [{ id: job(4) }] });
  expect(filtered.running).toEqual({ jobs: [], count: 0 });
  expect(filtered.counts).toEqual(seen.counts);

  // By state, as people call it: in the midst of such a word it does not count.
  const found = async (filter: string) => {
    const { running, waiting, ended } = await batch.watch.overview({ limit: 9, filter });
    return [running.count, waiting.count, ended.count];
  };
  for (const word of ['fail', 'Failed']) expect(await found(word)).toEqual([0, 0, 1]);
  expect(await found('RUNNING')).toEqual([2, 0, 0]);
  for (const word of ['queued', 'waiting']) expect(await found(word)).toEqual([0, 2, 0]);
  expect(await found('nning')).toEqual([0, 0, 0]);

  batch.stop();
  expect((await all(batch)).waiting.jobs[0]?.reason).toBe('nothing more is started');
  expect(batch.watch.kill(job(1), 'by the test')).toBe(`${job(1)} has ended already`);
  expect(batch.watch.kill(job(4), 'by the test')).toContain(`${job(4)} does not run`);
  expect(() => batch.watch.kill('other', 'by the test')).toThrow('there is no job other in this batch');
  expect(batch.watch.kill(job(2), 'by the test')).toContain('its line runs again with the next run');
  const killed = await sees(batch, ({ counts }) => counts.killed === 1);
  expect(killed.ended.jobs[0]).toMatchObject({ id: job(2), state: 'killed', reason: 'by the test' });
  expect(killed.running.jobs.map(({ id }) => id)).toEqual([job(3)]);
  batch.watch.kill(job(3), 'by the test');
  await done;
  expect((await all(batch)).counts).toMatchObject({ queued: 2, running: 0, killed: 2, fail: 1 });
  await batch.close();

  // The failure stands, what was killed waits again.
  const next = await open(['exit 3']);
  const later = await all(next);
  expect(later.counts).toMatchObject({ queued: 0, fail: 1, killed: 0 });
  const earlier = { id: job(1), name: job(1), command: 'exit 3', state: 'fail', reason: 'in an earlier run' };
  expect(later.ended).toEqual({ jobs: [earlier], count: 1 });
  for (const filter of ['fail', job(1)])
    expect((await next.watch.overview({ limit: 1, filter })).ended).toEqual({
      ...{ jobs: [earlier], count: 1, isCut: false },
    });
});

test('a job that is tried again says why it waits, and its output begins anew', async () => {
  const batch = await open([`echo try; ${held('once')}; [ -e ~/again ]`], { retries: 1 });
  const done = batch.run();
  const items: OutputItem[] = [];
  const reading = (async () => {
    for await (const item of batch.watch.output(job(1), new AbortController().signal)) items.push(item);
  })();
  await until(() => items.length > 0, { deadlineMs: 30_000, describe: 'its first words' });
  await touch('once');
  await done;
  await reading;
  const text = items.map((item) => (item.type === 'chunk' ? atob(item.base64) : item.type));
  expect(text).toEqual(['try\n', 'restarted', 'try\n', 'end']);
  expect(items.at(-1)).toEqual({ type: 'end', state: 'fail', outcome: { type: 'exited', exitCode: 1 } });
});

test('output of a job of an earlier run ends at once, that of one that waits comes when it runs', async () => {
  const lines = ['echo early; exit 1', `${held('late')}; echo late`];
  const first = await open(lines.slice(0, 1));
  await first.run();
  await first.close();
  const batch = await open(lines);
  const read = async (id: string) => {
    const items: OutputItem[] = [];
    for await (const item of batch.watch.output(id, new AbortController().signal)) items.push(item);
    return items;
  };
  expect(await read(job(1))).toEqual([
    { type: 'chunk', stream: 'out', base64: btoa('early\n') },
    { type: 'end', state: 'fail' },
  ]);
  const late = read(job(2));
  const done = batch.run();
  await touch('late');
  await done;
  expect((await late).map(({ type }) => type)).toEqual(['chunk', 'end']);
});

test('of much that was printed before, only the end is told, in whole lines', async () => {
  const out = join(folder, 'much.out');
  const lines = Array.from({ length: 200_000 }, (_, i) => `line ${i}\n`).join('');
  await writeFile(out, lines);
  const standing = () => ({ type: 'ended', state: 'success', attempt: 1 }) as const;
  let text = '';
  for await (const item of batchOutput({ paths: { out }, standing }))
    if (item.type === 'chunk') text += atob(item.base64);
  expect(text.length).toBeGreaterThan(1_000_000);
  expect(text.length).toBeLessThanOrEqual(1024 * 1024);
  expect(lines.endsWith(`\n${text}`)).toBe(true);
});

test('a machine that is away is told as such, with its reason, and what runs there is still running', async () => {
  const host = hosts.get('seen');
  const batch = await open([held('back')]);
  const done = batch.run();
  await sees(batch, ({ running }) => running.jobs[0]?.startedAt !== undefined);
  await host.cut();
  const away = await sees(batch, ({ machines }) => machines[0]?.state === 'away');
  expect(away.machines[0]?.reason).toBeTruthy();
  expect(away.machines[0]?.jobs).toBe(1);
  expect(away.counts.running).toBe(1);
  expect(batch.watch.kill(job(1), 'by the test')).toMatch(
    /^seen\.yaml cannot be reached: .*\.1 is ended once it can/,
  );
  await host.heal();
  await done;
  expect((await all(batch)).counts).toMatchObject({ running: 0, killed: 1 });
});

test('a machine is measured again for whoever watches, and what is placed by stays as it was', async () => {
  const host = hosts.get('seen');
  const batch = await open([held('measured')], { tuning: { watchFreshForMs: 300 } });
  const done = batch.run();
  const first = await sees(batch, ({ running }) => running.jobs[0]?.startedAt !== undefined);
  const gpu = (seen: Overview) => seen.machines[0]?.gpus?.[1]?.memoryMiB;
  expect(gpu(first)).toEqual({ total: 8000, used: 0, taken: 0 });
  await host.setGpus([
    { memoryTotalMiB: 8000, usedMiB: 500 },
    { memoryTotalMiB: 8000, usedMiB: 3000 },
  ]);
  const later = await sees(batch, (seen) => gpu(seen)?.used === 3000);
  expect(later.machines[0]?.measuredAt).toBeGreaterThan(first.machines[0]?.measuredAt ?? 0);
  expect(gpu(later)).toEqual({ total: 8000, used: 3000, taken: 0 });
  await touch('measured');
  await done;
});

test('a results disk that hangs keeps last lines, and nothing else', async () => {
  const batch = await open([`echo here; ${held('hung')}`]);
  const done = batch.run();
  await sees(batch, ({ running }) => running.jobs[0]?.lastLine === 'here');
  // To open a pipe that nobody writes to hangs, as all does then that reads files behind it.
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  const hung = Array.from({ length: threads }, () => openFile(pipe, 'r'));
  try {
    const seen = await all(batch);
    expect(seen.running.jobs).toMatchObject([{ id: job(1) }]);
    expect(seen.running.jobs[0]).not.toHaveProperty('lastLine');
  } finally {
    const writer = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    for (const file of await Promise.all(hung)) await file.close();
    closeSync(writer);
  }
  await sees(batch, ({ running }) => running.jobs[0]?.lastLine === 'here');
  await touch('hung');
  await done;
});

test('what it costs does not grow with the batch', async () => {
  const batch = await open(Array.from({ length: 100_000 }, (_, i) => `echo ${i}`));
  const asked = performance.now();
  for (let i = 0; i < 100; i++) await batch.watch.overview({ limit: 50 });
  console.info(`an overview of 100,000 waiting jobs: ${((performance.now() - asked) / 100).toFixed(2)} ms`);
  const filtered = await batch.watch.overview({ limit: 50, filter: 'b.sh.99' });
  expect(filtered.waiting).toMatchObject({ isCut: true });
  expect(filtered.waiting.count).toBe(11); // 99, and 990 to 999: those from 9,900 on were not looked at
  const named = await batch.watch.overview({ limit: 1, filter: job(99_999) });
  expect(named.waiting).toMatchObject({ count: 1, isCut: true, jobs: [{ id: job(99_999) }] });
}, 60_000);
