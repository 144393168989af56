/** What one who watches a service sees, and what that costs. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { Overview, OverviewRequest } from '../../src/lib/domain/overview.ts';
import { outputsOf } from '../../src/lib/queue/job-output.ts';
import { type OverviewOptions, Overviews } from '../../src/lib/queue/overview.ts';
import { overviewMachine } from '../../src/lib/queue/overview-machines.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { until } from '../rig/until.ts';
import { smallSpec, temporaryFolder } from '../stores/queue-jobs.ts';
import { MachinesRig } from './machines-rig.ts';
import { RunningService, ServiceFolders, TINY_REQUEST } from './running-service.ts';
import { SjqClient } from './sjq-client.ts';

const LONG = 120_000;
const WITHIN = { deadlineMs: 30_000 };
const namesOf = ({ jobs }: Overview['running']) => jobs.map(({ name }) => name);
const reasonsOf = ({ jobs }: Overview['running']) => jobs.map(({ name, reason }) => `${name}: ${reason}`);

/** Asks a running service until what it tells is as wanted. */
async function seen(
  { door }: RunningService,
  isIt: (overview: Overview) => boolean,
  request: OverviewRequest = { limit: 20 },
): Promise<Overview> {
  let last: Overview | undefined;
  return await until(
    async () => {
      last = (await door.call('overview', request)) as Overview;
      return isIt(last) && last;
    },
    { ...WITHIN, describe: () => last },
  );
}

test(
  'what runs, with its last line; what waits, in its order and why; what has ended, the last first; after a restart as well',
  async () => {
    using folders = new ServiceFolders();
    await using before = await RunningService.open(folders);
    const named = (name: string) => ({ name });
    const good = await before.submit('true', named('good'));
    await before.reaches(good, 'success');
    const bad = await before.submit('exit 3', named('bad'));
    await before.reaches(bad, 'fail');
    const endless = 'while :; do sleep 0.1; done';
    const first = await before.submit(`printf 'one\\n 10%%\\r 20%%'; ${endless}`, named('first'));
    await before.reaches(first, 'running');
    const second = await before.submit(`echo to err >&2; ${endless}`, named('second'));
    await before.reaches(second, 'running');

    const huge = { ...TINY_REQUEST, memoryMiB: 1e9 };
    await before.submit('true', { ...named('held'), hold: true });
    await before.submit('true', { ...named('child'), dependsOn: [first] });
    await before.submit('true', { ...named('later'), beginAt: Date.now() + 3_600_000 });
    await before.submit('true', { ...named('huge'), request: huge, waitForMachine: true });
    const urgent = { request: huge, waitForMachine: true, priority: 5 };
    await before.submit('true', { ...named('urgent'), ...urgent });
    const child = `job_${first}`;
    expect(child).toBe('job_3');

    const isAll = ({ running }: Overview) =>
      running.jobs[0]?.lastLine === ' 20%' && running.jobs[1]?.lastLine === 'to err';
    const overview = await seen(before, isAll);
    expect(namesOf(overview.running)).toEqual(['first_3', 'second_4']);
    expect(overview.running.jobs[0]).toMatchObject({ id: '3', state: 'running', machine: 'local' });
    expect(overview.running.count).toBe(2);
    expect(reasonsOf(overview.waiting)).toEqual([
      expect.stringMatching(
        /^urgent_9: no machine can ever hold it: local: it has \d+ MiB of memory, 1000000000 MiB requested$/,
      ),
      expect.stringMatching(/^huge_8: no machine can ever hold it/),
      expect.stringMatching(/^later_7: begins in (1h00m|59m\d\ds|60m00s)$/),
      'child_6: waits for job 3',
      'held_5: held',
    ]);
    expect(overview.ended.jobs).toMatchObject([
      { id: String(bad), state: 'fail', outcome: { type: 'exited', exitCode: 3 } },
      { id: String(good), state: 'success' },
    ]);
    expect(overview.counts).toMatchObject({ running: 2, queued: 3, holding: 1, 'user-hold': 1, fail: 1 });
    expect([overview.waiting.count, overview.ended.count]).toEqual([5, 2]);

    const [local] = overview.machines;
    expect(local).toMatchObject({ name: 'local', state: 'ready', jobs: 2 });
    const row = before.service.machines.rows()[0];
    const { memoryMiB, cpuCores } = local ?? {};
    expect(memoryMiB?.taken).toBe((memoryMiB?.total ?? 0) - (row?.free?.memoryFreeMiB ?? 0));
    expect(cpuCores?.taken).toBeCloseTo(row?.free?.cpuCoresInUse ?? 0, 2);
    expect(cpuCores?.taken).toBeGreaterThanOrEqual(2 * TINY_REQUEST.cpuCores);
    expect(memoryMiB?.used).toBeGreaterThan(0);

    const few = await seen(before, () => true, { limit: 1 });
    expect(namesOf(few.running)).toEqual(['first_3']);
    expect(namesOf(few.waiting)).toEqual(['urgent_9']);
    expect(namesOf(few.ended)).toEqual(['bad_2']);
    expect([few.running.count, few.waiting.count, few.ended.count]).toEqual([2, 5, 2]);
    const none = await seen(before, () => true, { limit: 0 });
    expect([none.running.jobs, none.waiting.jobs, none.ended.jobs]).toEqual([[], [], []]);
    await before.leave();

    await using after = await RunningService.open(folders);
    const again = await seen(after, isAll);
    expect(namesOf(again.ended)).toEqual(['bad_2', 'good_1']);
    expect(namesOf(again.waiting)).toEqual(namesOf(overview.waiting));
    await after.door.call('kill', { ids: 'all' });
    await after.reaches(first, 'killed');
    const end = await seen(after, ({ counts }) => counts.killed === 7);
    expect(end.ended.jobs.at(-1)).toMatchObject({ name: 'good_1' });
    expect(end.ended.jobs.find(({ id }) => id === String(first))?.reason).toBe('killed by hand');
  },
  LONG,
);

test(
  'a filter goes by id, name, command, machine and state, in any case of letters; wrong requests are refused',
  async () => {
    using folders = new ServiceFolders();
    await using service = await RunningService.open(folders);
    const held = { hold: true };
    await service.submit('echo Alpha', { name: 'one', ...held });
    await service.submit('echo beta', { name: 'ALPHABET', ...held });
    await service.submit('echo gamma', { name: 'three', machine: 'local', ...held });
    const done = await service.submit('true alpha', { name: 'four' });
    await service.reaches(done, 'success');
    const found = async (filter: string) => await seen(service, () => true, { filter, limit: 10 });
    const alpha = await found('aLPHa');
    expect(namesOf(alpha.waiting)).toEqual(['one_1', 'ALPHABET_2']);
    expect(namesOf(alpha.ended)).toEqual(['four_4']);
    expect(alpha.counts).toMatchObject({ 'user-hold': 3, success: 1 });
    expect([alpha.waiting.count, alpha.ended.count, alpha.waiting.isCut]).toEqual([2, 1, undefined]);
    expect(namesOf((await found('LOCAL')).waiting)).toEqual(['three_3']);
    expect(namesOf((await found('3')).waiting)).toEqual(['three_3']);
    expect((await found('nowhere')).waiting).toEqual({ jobs: [], count: 0 });
    expect((await found('Held')).waiting.count).toBe(3);
    expect(namesOf((await found('done')).ended)).toEqual(['four_4']);
    // In the midst of a word for a state it is about something else.
    expect(namesOf((await found('one')).ended)).toEqual([]);
    const bad = await service.submit('false', { name: 'five' });
    await service.reaches(bad, 'fail');
    for (const word of ['fail', 'FAILED', 'five_5'])
      expect(namesOf((await found(word)).ended)).toEqual(['five_5']);
    const cut = await seen(service, () => true, { filter: 'alpha', limit: 1 });
    expect([namesOf(cut.waiting), cut.waiting.count]).toEqual([['one_1'], 2]);

    const refused = async (args: unknown, message: RegExp) =>
      await expect(service.door.call('overview', args)).rejects.toThrow(message);
    await refused({}, /limit/);
    await refused({ limit: 201 }, /limit: .*a whole number from 0 to 200/);
    await refused({ limit: 1.5 }, /limit: .*a whole number from 0 to 200/);
    await refused({ limit: 1, filter: 7 }, /filter: .*text/);
    await refused({ limit: 1, all: true }, /all/);
  },
  LONG,
);

/** Overviews over a store and machines without a service; `looked` is raised by each waiting job that is looked at. */
async function overviewsOf(store: QueueStore, rig: MachinesRig, options: OverviewOptions = {}) {
  const counts = { looked: 0, made: 0 };
  const watched: QueueStore = Object.create(store, {
    waiting: {
      value: function* () {
        for (const one of store.waiting()) {
          counts.looked++;
          yield one;
        }
      },
    },
    counts: {
      value: () => {
        counts.made++;
        return store.counts();
      },
    },
    ...Object.fromEntries(
      ['get', 'running', 'lastEnded', 'waitsFor', 'headSince', 'job', 'onEvents'].map((name) => [
        name,
        { value: (store as unknown as Record<string, () => void>)[name]?.bind(store) },
      ]),
    ),
    lastEvent: { get: () => store.lastEvent },
    // What goes through all jobs is not to be asked.
    ...Object.fromEntries(['list', 'ids', 'aheadInLine', 'waitingByMachine'].map((name) => [name, {}])),
  });
  const overviews = new Overviews(
    {
      ...{ store: watched, machines: rig.machines, pool: rig.pool, order: 'skip', keptFree: undefined },
      barOf: () => undefined,
      troubleIn: () => undefined,
      outputsOf: (spec, id) => outputsOf(spec, id, '/nowhere'),
    },
    options,
  );
  return { overviews, counts };
}

test(
  'with 6,000 jobs that wait, no more are looked at than are told, and a filter looks at 5,000',
  async () => {
    using folder = temporaryFolder();
    await using rig = await MachinesRig.open();
    await rig.machines.start([]);
    await rig.state('local', 'ready');
    const store = await QueueStore.open(folder.path);
    const request = { ...smallSpec('x').request, memoryMiB: 1e9 };
    const add = async (count: number, more = {}) => {
      const names = Array.from({ length: count }, (_, n) => `job_${store.nextId + n}`);
      return await store.add(names.map((name) => smallSpec(name, { request, ...more })));
    };
    const ask = async (request: OverviewRequest) => {
      const { overviews, counts } = await overviewsOf(store, rig);
      const before = performance.now();
      const overview = await overviews.of(request);
      return { overview, looked: counts.looked, ms: performance.now() - before };
    };
    await add(100);
    await ask({ limit: 50 });
    const few = await ask({ limit: 50 });
    await add(5_800);
    const [held = 0] = await add(100);
    await store.hold(Array.from({ length: 100 }, (_, n) => held + n));
    const many = await ask({ limit: 50 });
    expect([few.looked, many.looked]).toEqual([50, 50]);
    expect(many.overview.waiting).toMatchObject({ count: 6_000 });
    expect(many.overview.waiting.jobs).toEqual(few.overview.waiting.jobs);

    const found = await ask({ limit: 50, filter: 'JOB_1' });
    expect(found.looked).toBeLessThanOrEqual(5001);
    expect(found.overview.waiting.isCut).toBe(true);
    expect(found.overview.waiting.jobs).toHaveLength(50);
    // One that is named by its id is found far beyond that, and stands before those that have it in their names.
    const named = async (filter: string, limit = 3) => {
      const { overview, looked } = await ask({ limit, filter });
      expect(looked).toBeLessThanOrEqual(5001);
      expect(overview.waiting.isCut).toBe(true);
      return overview.waiting;
    };
    const never = expect.stringMatching(/^no machine can ever hold it/);
    expect(await named('5899')).toMatchObject({ count: 1, jobs: [{ id: '5899', reason: never }] });
    expect(await named('job_5798')).toMatchObject({ count: 1, jobs: [{ id: '5798' }] });
    expect(await named('other_5798')).toMatchObject({ count: 0, jobs: [] });
    expect(await named(String(held + 7))).toMatchObject({
      jobs: [{ name: `job_${held + 7}`, reason: 'held' }],
    });
    const tens = await named('300', 1);
    expect(tens.jobs).toMatchObject([{ id: '300' }]);
    expect(tens.count).toBeGreaterThan(1);
    expect((await ask({ limit: 1, filter: '44' })).overview.waiting.jobs).toMatchObject([{ id: '44' }]);
    // Held ones are found without a look at all that stand before them.
    await store.hold([1]);
    await store.kill(store.ids(['queued']), 'x');
    const after = await ask({ limit: 3 });
    expect(after.overview.waiting.jobs.map(({ id }) => Number(id))).toEqual([1, held, held + 1]);
    expect(after.overview.ended.count).toBe(5_899);
    const killed = await ask({ limit: 2, filter: '77' });
    expect(killed.overview.ended).toMatchObject({ isCut: true, jobs: [{ id: '77' }, {}] });
    const beyond = await ask({ limit: 2, filter: 'job_77' });
    expect(beyond.overview.ended.jobs.map(({ id }) => id)).toContain('77');
    const one = (ms: number) => ms.toFixed(1);
    process.stdout.write(
      `overview of 50: ${one(few.ms)} ms with 100 jobs, ${one(many.ms)} ms with 6,000; ` +
        `filtered ${one(found.ms)} ms; with 5,899 ended ${one(after.ms)} ms\n`,
    );
    store.close();
  },
  LONG,
);

test('who asks the same at the same time gets the same; a filter lets others in between', async () => {
  using folder = temporaryFolder();
  await using rig = await MachinesRig.open();
  const store = await QueueStore.open(folder.path);
  await store.add(Array.from({ length: 3000 }, (_, n) => smallSpec(`job_${n}`)));
  let now = 0;
  const { overviews, counts } = await overviewsOf(store, rig, { now: () => now });
  const several = await Promise.all([1, 2, 3].map(async () => await overviews.of({ limit: 5 })));
  expect([new Set(several).size, counts.made]).toEqual([1, 1]);
  now = 249;
  expect(await overviews.of({ limit: 5 })).toBe(several[0]);
  expect(await overviews.of({ limit: 6 })).not.toBe(several[0]);
  now = 250;
  expect(await overviews.of({ limit: 5 })).not.toBe(several[0]);
  expect(counts.made).toBe(3);

  let turns = 0;
  let isDone = false;
  const found = overviews.of({ limit: 5, filter: 'job_29' }).finally(() => {
    isDone = true;
  });
  while (!isDone) {
    turns++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(turns).toBeGreaterThan(3);
  expect((await found).waiting).toMatchObject({ count: 111 });
  store.close();
});

test('an array, the jobs of others before it, and machines that are short', async () => {
  using folder = temporaryFolder();
  using _home = new ServiceFolders(); // jobs of the same number run elsewhere on this computer
  await using rig = await MachinesRig.open();
  const store = await QueueStore.open(folder.path);
  const { overviews } = await overviewsOf(store, rig, { sharedForMs: 0 });
  const reasons = async () => reasonsOf((await overviews.of({ limit: 20 })).waiting);
  await store.add([smallSpec('a')]);
  expect(await reasons()).toEqual(['a: there are no machines']);
  await rig.machines.start([]);
  await rig.state('local', 'ready');
  const array = { first: 3, index: 0, atOnce: 1 };
  const elsewhere = { machine: machineName('elsewhere') };
  await store.add([
    smallSpec('b', elsewhere),
    ...['c', 'd'].map((name) => smallSpec(name, { array })),
    smallSpec('e', { dependsOn: [1, 2, 3, 4] }),
  ]);
  expect(await reasons()).toEqual([
    'a: starts next',
    'b: elsewhere is not here',
    'c: 2 jobs before it',
    'd: at most 1 of its array run at once',
    'e: waits for jobs 1, 2, 3 and 1 more',
  ]);
  rig.machines.configure({ machine: 'local', maxJobs: 1 });
  const busy = rig.start(99, 'sleep 1000');
  expect((await reasons())[0]).toBe('a: local: the limit of 1 job at once is reached');
  rig.machines.configure({ machine: 'local', maxJobs: 0 });
  expect((await reasons())[0]).toMatch(/^a: local: gets no new jobs/);
  busy?.cancel('over');
  await busy?.ended;
  // One that runs again is among those that wait, and not among those that ended.
  await store.kill([1], 'x');
  expect(namesOf((await overviews.of({ limit: 9 })).ended)).toEqual(['e', 'a']);
  const again = store.rerun([1]);
  expect(store.lastEnded(9).map(({ id }) => id)).toEqual([5]); // before it is on the disk
  await again;
  expect(namesOf((await overviews.of({ limit: 9 })).ended)).toEqual(['e']);
  expect(await reasons()).toHaveLength(4);
  // One that was told of as running, with its last line once it has begun.
  rig.machines.configure({ machine: 'local', maxJobs: 5 });
  const results = folder.path;
  const [id = 0] = await store.add([smallSpec('told', { results, priority: 9 })]);
  writeFileSync(join(results, 'told.out'), 'of an earlier attempt\n');
  await store.claim(jobId(String(id)), machineName('local'));
  const told = async () => (await overviews.of({ limit: 9 })).running.jobs[0];
  expect(await told()).not.toHaveProperty('lastLine');
  store.tell({ type: 'job:started', job: String(id), gpus: [0, 2] });
  await store.noteStarted({ job: jobId(String(id)), number: 1 }, machineName('local'), 'key', 5);
  expect(await told()).toMatchObject({ startedAt: 5, lastLine: 'of an earlier attempt', gpus: [0, 2] });
  store.close();
});

test(
  'machines are measured while somebody watches, and only then; what our own jobs use is shown',
  async () => {
    using _home = new ServiceFolders();
    let now = 0;
    const often = { measureEveryMs: 20, watchEveryMs: 20, watchedForMs: 1000 };
    await using rig = await MachinesRig.open({ ...often, now: () => now });
    await rig.machines.start([]);
    await rig.state('local', 'ready');
    const look = () => rig.machines.looks()[0]?.facts;
    const takenAt = () => look()?.whole?.takenAt ?? 0;
    const isMeasured = async (what: () => unknown = () => true) => {
      const before = takenAt();
      rig.machines.noteWatched();
      await until(
        () => {
          now += 5;
          rig.machines.noteWatched();
          return takenAt() > before && what();
        },
        { ...WITHIN, describe: () => look()?.whole },
      );
    };
    // Nobody watches: whatever time has passed, nothing is asked.
    now += 3_600_000;
    const first = takenAt();
    await sleep(200);
    expect(takenAt()).toBe(first);
    await isMeasured();
    // No time passes: it is not asked again, however often somebody looks.
    await until(() => rig.pool.isReady(machineName('local')));
    await sleep(100);
    const second = takenAt();
    for (let n = 0; n < 20; n++) rig.machines.noteWatched();
    await sleep(200);
    expect(takenAt()).toBe(second);

    const busy = rig.start(1, 'while :; do :; done');
    await rig.event('job:started');
    await isMeasured(() => (look()?.whole?.ownUse?.cpuCores ?? 0) > 0.2);
    const [one] = rig.machines.looks();
    const told = one && overviewMachine(one, 1);
    expect(told?.cpuCores?.used).toBeCloseTo(look()?.whole?.cpuCoresInUse ?? -1, 3);
    expect(told?.cpuCores?.used).toBeGreaterThan(look()?.snapshot?.cpuCoresInUse ?? Infinity);
    const free = one?.facts.machine?.resources.available.memoryFreeMiB ?? 0;
    const total = look()?.whole?.memoryTotalMiB ?? 0;
    expect(told).toMatchObject({ jobs: 1, memoryMiB: { total, taken: total - free } });
    busy?.cancel('over');
    await busy?.ended;

    // Whoever watched has gone.
    now += 1001;
    await sleep(100); // one that was under way
    const last = takenAt();
    now += 3_600_000;
    await sleep(200);
    expect(takenAt()).toBe(last);
  },
  LONG,
);

test(
  'of a managed machine there is what is managed, and in use is what its jobs have asked for',
  async () => {
    using folders = new ServiceFolders();
    const socketPath = join(folders.root, 'sjq.sock');
    const given = { maxProcs: 4, maxMemMiB: 4096, defaultProcs: 1, defaultMemMiB: 2048 };
    const sjq = { socketPath, ...given, autoshutdown: false, waitTimeMs: 60_000 };
    await using service = await RunningService.open(folders, { sjq });
    using client = await SjqClient.connect(socketPath);
    const script = '#!/bin/sh\nwhile :; do sleep 0.1; done';
    const id = await client.job(script, [`CWD ${folders.project}`, 'NAME align reads', 'PROCS 3', 'MEM 1G']);
    await client.reaches(id, 'R');
    const amounts = {
      cpuCores: { total: 4, used: 3, taken: 3 },
      memoryMiB: { total: 4096, used: 1024, taken: 1024 },
    };
    expect((await seen(service, () => true)).machines).toMatchObject([
      { name: 'local', jobs: 1, ...amounts },
    ]);
    expect(await service.door.call('machines')).toMatchObject([
      { capacity: { cpuCores: 4, memoryMiB: 4096 }, free: { cpuCoresInUse: 3, memoryFreeMiB: 3072 } },
    ]);
    const large = (more: object) => ({ request: { ...TINY_REQUEST, ...more }, waitForMachine: true });
    await service.submit('true', { name: 'wide', ...large({ cpuCores: 5 }) });
    await service.submit('true', { name: 'later', ...large({ cpuCores: 2 }) });
    const both = await seen(service, ({ waiting }) => waiting.count === 2);
    expect(reasonsOf(both.waiting)).toEqual([
      'wide_2: no machine can ever hold it: local: it has 4 cores, 5 requested',
      'later_3: local: 3 of 4 cores in use, 2 more requested',
    ]);
    const titled = await seen(service, () => true, { limit: 9, filter: 'Align R' });
    expect(namesOf(titled.running)).toEqual(['align reads']);
    await service.door.call('kill', { ids: [id] });
    await service.reaches(id, 'killed');
  },
  LONG,
);
