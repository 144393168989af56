import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Attempt, Job } from '../../src/lib/domain/job.ts';
import type { JobStore } from '../../src/lib/domain/ports.ts';
import { Engine } from '../../src/lib/engine/engine.ts';
import { MemoryStore } from '../../src/lib/stores/memory.ts';
import { openLocalPool } from '../contracts/local-pool.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';

const alone = (job: Job): Job => ({ ...job, request: { ...job.request, reserveMachine: true } });
const withMemory = (job: Job, memoryMiB: number): Job => ({ ...job, request: { ...job.request, memoryMiB } });

test('runs all jobs, in order where one runs at a time, and remembers how they ended', async () => {
  await using local = await openLocalPool();
  const jobs = [0, 1, 2, 3, 4].map((code) => alone(smallJob(`j${code}`, `exit ${code}`)));
  const store = new MemoryStore(jobs);
  const ended: string[] = [];
  await new Engine(store, local.pool, { onEnded: (job) => ended.push(job.name) }).run();
  expect(ended).toEqual(['j0', 'j1', 'j2', 'j3', 'j4']);
  expect(jobs.map(({ id }) => store.outcomeOf(id))).toEqual(
    [0, 1, 2, 3, 4].map((exitCode) => ({ type: 'exited', exitCode })),
  );
});

test('uses all machines, each for what fits', async () => {
  await using local = await openLocalPool([{ name: 'one' }, { name: 'two' }]);
  const jobs = Array.from({ length: 6 }, (_, i) => alone(smallJob(`j${i}`, 'sleep 0.1; echo $MACHINE_NAME')));
  await new Engine(new MemoryStore(jobs), local.pool).run();
  const counts = local.runners.map(({ events }) => events.filter(({ type }) => type === 'job:ended').length);
  expect(counts.every((count) => count >= 2)).toBe(true);
  expect(counts.reduce((sum, count) => sum + count)).toBe(6);
});

test('a job that has to wait holds up none behind it', async () => {
  await using local = await openLocalPool();
  const gate = join(local.runners[0]?.folder ?? '', 'gate');
  const first = withMemory(smallJob('first', `until [ -e ${gate} ]; do sleep 0.02; done`), 600);
  const large = withMemory(smallJob('large', 'true'), 600);
  const small = smallJob('small', `touch ${gate}`);
  const ended: string[] = [];
  const store = new MemoryStore([first, large, small]);
  await new Engine(store, local.pool, { onEnded: (job) => ended.push(job.name) }).run();
  expect(ended.at(-1)).toBe('large');
  expect(ended.toSorted()).toEqual(['first', 'large', 'small']);
});

test('a job that can never fit ends at once with what is short, and the others run', async () => {
  await using local = await openLocalPool();
  const huge = withMemory(smallJob('huge', 'true'), 5000);
  const store = new MemoryStore([huge, smallJob('fine', 'true')]);
  const told: unknown[] = [];
  await new Engine(store, local.pool, {
    onNeverFits: (job, refusal) => told.push([job.name, refusal.shortfalls]),
  }).run();
  expect(told).toMatchObject([
    [
      'huge',
      [{ machine: 'here', shortfalls: [{ resource: 'memoryMiB', requested: 5000, available: 1000 }] }],
    ],
  ]);
  expect(store.outcomeOf(huge.id)?.type).toBe('never-fits');
  expect(store.outcomeOf(smallJob('fine', '').id)).toEqual({ type: 'exited', exitCode: 0 });
});

test('once stopped it starts nothing more and lets running jobs end', async () => {
  await using local = await openLocalPool();
  const [runner] = local.runners;
  const gate = join(runner?.folder ?? '', 'gate');
  const jobs = ['running', 'waiting'].map((name) =>
    alone(smallJob(name, `until [ -e ${gate} ]; do sleep 0.02; done; exit 5`)),
  );
  const store = new MemoryStore(jobs);
  const engine = new Engine(store, local.pool);
  const over = engine.run();
  await runner?.event('job:started');
  engine.stop();
  expect(engine.runningCount).toBe(1);
  await writeFile(gate, '');
  await over;
  expect(jobs.map(({ id }) => store.outcomeOf(id))).toEqual([{ type: 'exited', exitCode: 5 }, undefined]);
  expect(runner?.events.filter(({ type }) => type === 'job:started').length).toBe(1);
});

test('cancelling all ends what runs and starts nothing more', async () => {
  await using local = await openLocalPool();
  const jobs = Array.from({ length: 12 }, (_, i) => withMemory(smallJob(`j${i}`, 'sleep 1000'), 200));
  const store = new MemoryStore(jobs);
  const engine = new Engine(store, local.pool);
  const over = engine.run();
  await until(() => engine.runningCount === 5);
  engine.cancelAll('enough');
  await over;
  const outcomes = jobs.map(({ id }) => store.outcomeOf(id));
  expect(outcomes.slice(0, 5)).toEqual(Array(5).fill({ type: 'cancelled', reason: 'enough' }));
  expect(outcomes.slice(5)).toEqual(Array(7).fill(undefined));
});

test('an engine that is stopped before it runs ends at once, as does one without jobs', async () => {
  await using local = await openLocalPool();
  await new Engine(new MemoryStore(), local.pool).run();
  const engine = new Engine(new MemoryStore([smallJob('never', 'true')]), local.pool);
  engine.stop();
  await engine.run();
  expect(local.runners[0]?.events).toEqual([]);
});

test('lost attempts are made again, three times in all', async () => {
  await using local = await openLocalPool();
  const [here] = local.runners;
  const runs = join(here?.folder ?? '', 'home/.cache/ssh-scheduler/runs/key/batch');
  // Attempts whose folders belong to somebody else are lost to us.
  for (const place of ['twice/1', 'twice/2', 'always/1', 'always/2', 'always/3', 'always/4'])
    await mkdir(join(runs, place, 'started'), { recursive: true });
  const jobs = ['twice', 'always'].map((name) => smallJob(name, 'echo $JOB_ATTEMPT'));
  const store = new MemoryStore(jobs);
  await new Engine(store, local.pool).run();
  expect(jobs.map(({ id }) => store.outcomeOf(id))).toMatchObject([
    { type: 'exited', exitCode: 0 },
    { type: 'lost' },
  ]);
  expect(await here?.read('twice.out')).toBe('3\n');
  expect((await readdir(join(runs, 'always'))).sort()).toEqual(['1', '2', '3', '4']);
  await expect(stat(join(runs, 'always/4/pid'))).rejects.toThrow('ENOENT');
});

test('jobs that come while it runs are run too', async () => {
  await using local = await openLocalPool();
  const store = new MemoryStore([smallJob('first', 'true')]);
  let added = false;
  const engine = new Engine(store, local.pool, {
    onEnded: () => {
      if (!added) store.add(smallJob('second', 'exit 2'));
      added = true;
    },
  });
  await engine.run();
  expect(store.outcomeOf(smallJob('second', '').id)).toEqual({ type: 'exited', exitCode: 2 });
});

test('an endless engine waits for jobs to come, until it is stopped', async () => {
  await using local = await openLocalPool();
  const store = new MemoryStore();
  const engine = new Engine(store, local.pool, { isEndless: true });
  let isOver = false;
  const over = engine.run().then(() => {
    isOver = true;
  });
  const jobs = ['first', 'second'].map((name) => smallJob(name, 'true'));
  for (const job of jobs) {
    store.add(job);
    await until(() => store.outcomeOf(job.id));
    await until(() => engine.runningCount === 0);
    expect(isOver).toBe(false);
  }
  engine.stop();
  await over;
});

test('in strict order a job that has to wait holds up all behind it', async () => {
  await using local = await openLocalPool();
  const gate = join(local.runners[0]?.folder ?? '', 'gate');
  const first = withMemory(smallJob('first', `until [ -e ${gate} ]; do sleep 0.02; done`), 600);
  const large = withMemory(smallJob('large', 'true'), 600);
  const small = smallJob('small', 'true');
  const started: string[] = [];
  const engine = new Engine(new MemoryStore([first, large, small]), local.pool, { isStrict: true });
  const over = engine.run();
  await local.runners[0]?.event('job:started');
  await new Promise((resolve) => setTimeout(resolve, 200)); // time enough for the small one to start, wrongly
  expect(engine.find(small.id)).toBeUndefined();
  expect(engine.find(first.id)?.machine).toBe('here');
  await writeFile(gate, '');
  await over;
  for (const event of local.runners[0]?.events ?? [])
    if (event.type === 'job:started') started.push(event.name);
  expect(started).toEqual(['first', 'large', 'small']);
});

test('the claims of a round are made together, each for its machine; one whose engine was stopped meanwhile is put back', async () => {
  await using local = await openLocalPool();
  class SlowStore extends MemoryStore {
    claims: string[] = [];
    unclaimed: string[] = [];
    wake: () => void = () => {};
    readonly #slow = new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    override async claim(...[id, machine]: Parameters<JobStore['claim']>) {
      this.claims.push(`${id} for ${machine}`);
      const attempt = await super.claim(id);
      await this.#slow;
      return attempt;
    }
    override async unclaim(attempt: Attempt) {
      this.unclaimed.push(attempt.job);
      await super.unclaim(attempt);
    }
  }
  const jobs = ['a', 'b', 'c'].map((name) => smallJob(name, 'true'));
  const store = new SlowStore(jobs);
  const engine = new Engine(store, local.pool);
  const over = engine.run();
  await until(() => store.claims.length === 3);
  expect(store.claims).toEqual(['a for here', 'b for here', 'c for here']);
  engine.stop();
  store.wake();
  await over;
  expect(store.unclaimed).toEqual(['a', 'b', 'c']);
  expect(local.runners[0]?.events).toEqual([]);
  const [machine] = local.pool.machines;
  expect(machine?.resources.jobs).toBe(0);
});
