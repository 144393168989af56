import { describe, expect, test } from 'vitest';
import { type Job, type JobId, type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { JobStore } from '../../src/lib/domain/ports.ts';
import type { QueueJobSpec } from '../../src/lib/domain/queue.ts';
import type { QueueEvent } from '../../src/lib/stores/queue-event.ts';
import { MAX_ID } from '../../src/lib/stores/queue-spec-check.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import type { QueueStoreOptions } from '../../src/lib/stores/queue-store-options.ts';
import { jobStoreContract } from '../contracts/job-store.ts';
import { smallSpec, TestClock, temporaryFolder } from './queue-jobs.ts';

const GOOD: JobOutcome = { type: 'exited', exitCode: 0 };
const BAD: JobOutcome = { type: 'exited', exitCode: 3 };
const LOST: JobOutcome = { type: 'lost', reason: 'the machine booted' };
const CANCELLED: JobOutcome = { type: 'cancelled', reason: 'asked' };
const m1 = machineName('m1');

/** The contract names jobs by their batch's ids: here they get numbers, and are translated. */
async function asContract(jobs: readonly Job[]): Promise<JobStore> {
  const store = await QueueStore.open(temporaryFolder().path);
  const ids = await store.add(jobs.map(({ name, request }) => smallSpec(name, { request })));
  const own = new Map(jobs.map((job, index) => [job.id as string, String(ids[index])]));
  const theirs = new Map([...own].map(([a, b]) => [b, a]));
  const inner = (id: JobId) => jobId(own.get(id) ?? '0');
  return {
    pending: () => store.pending(),
    get waitingKinds() {
      return store.waitingKinds;
    },
    claim: async (id) => {
      const attempt = await store.claim(inner(id));
      return attempt && { ...attempt, job: jobId(theirs.get(attempt.job) ?? '') };
    },
    unclaim: (attempt) => store.unclaim({ ...attempt, job: inner(attempt.job) }),
    finish: (attempt, outcome) => store.finish({ ...attempt, job: inner(attempt.job) }, outcome),
    onPending: (listener) => store.onPending(listener),
  };
}

describe('as a JobStore', () => jobStoreContract(asContract));

/** A store of its own for a test, which can be closed and opened again. */
async function queue(specs: readonly QueueJobSpec[] = [], options: QueueStoreOptions = {}) {
  const folder = temporaryFolder();
  const clock = new TestClock();
  let store = await QueueStore.open(folder.path, { clock, ...options });
  await store.add(specs);
  return {
    clock,
    get store() {
      return store;
    },
    reopen: async () => {
      store.close();
      store = await QueueStore.open(folder.path, { clock, ...options });
    },
    line: () => [...store.pending()].map(({ id }) => Number(id)),
    state: (id: number) => store.get(id)?.state,
    run: async (id: number, outcome: JobOutcome) => {
      const attempt = await store.claim(jobId(String(id)), m1);
      if (attempt === undefined) throw new Error(`job ${id} is not to be had`);
      await store.finish(attempt, outcome, m1);
    },
    [Symbol.dispose]: () => {
      store.close();
      folder[Symbol.dispose]();
    },
  };
}

test('jobs wait by priority, then by id, also from the disk; priorities change', async () => {
  using q = await queue([
    smallSpec('a'),
    smallSpec('b', { priority: 5 }),
    smallSpec('c'),
    smallSpec('d', { priority: -1 }),
  ]);
  expect(q.line()).toEqual([2, 1, 3, 4]);
  await q.store.setPriority([4], 9);
  expect(q.line()).toEqual([4, 2, 1, 3]);
  await q.reopen();
  expect(q.line()).toEqual([4, 2, 1, 3]);
  expect(q.store.get(4)?.spec.priority).toBe(9);
});

test('what is asked for is the engine job: pinned to its machine, of a kind of its own', async () => {
  using q = await queue([smallSpec('a'), smallSpec('b', { machine: m1 })]);
  expect(q.store.waitingKinds).toBe(2);
  expect(q.store.job(jobId('2'))).toMatchObject({ id: '2', name: 'b', only: 'm1', line: 2 });
  expect(q.store.job(jobId('1'))).not.toHaveProperty('only');
});

test('dependencies are on known, earlier jobs; a wrong one refuses all', async () => {
  using q = await queue([smallSpec('a')]);
  const add = (more: Partial<QueueJobSpec>) => q.store.add([smallSpec('good'), smallSpec('x', more)]);
  await expect(add({ dependsOn: [77] })).rejects.toThrow('job 3 (x) cannot depend on job 77');
  await expect(add({ dependsOn: [3] })).rejects.toThrow('a job may depend on earlier ones only');
  await q.store.kill([1], 'unwanted');
  await q.store.clean(0);
  await expect(add({ dependsOn: [1] })).rejects.toThrow('job 3 (x) depends on job 1, which is not known');
  expect(q.store.nextId).toBe(2);
  expect(q.store.list()).toEqual([]);
  expect(await add({ dependsOn: [2] })).toEqual([2, 3]);
  await q.reopen();
  expect([q.state(2), q.state(3), q.store.waitsFor(3)]).toEqual(['queued', 'holding', [2]]);
});

test('a good end lets children run, a bad one aborts them and theirs; with any, each end will do', async () => {
  using q = await queue([
    smallSpec('a'),
    smallSpec('b'),
    smallSpec('both', { dependsOn: [1, 2] }),
    smallSpec('below', { dependsOn: [3] }),
    smallSpec('any', { dependsOn: [3], dependsOnAny: true }),
  ]);
  expect(q.line()).toEqual([1, 2]);
  await q.run(1, GOOD);
  expect(q.line()).toEqual([2]);
  await q.reopen();
  await q.run(2, BAD);
  expect([2, 3, 4, 5].map(q.state)).toEqual(['fail', 'abort', 'abort', 'queued']);
  expect(q.store.get(3)?.reason).toBe('job 2, which it depends on, failed');
  await q.store.add([smallSpec('late', { dependsOn: [2] })]);
  expect(q.state(6)).toBe('abort');
  const answers = await q.store.rerun([4, 3, 2, 5, 99]);
  expect(answers.map(({ id, isDone }) => [id, isDone])).toEqual([
    [2, true],
    [3, true],
    [4, true],
    [5, false],
    [99, false],
  ]);
  expect([2, 3, 4].map(q.state)).toEqual(['queued', 'holding', 'holding']);
  await q.run(2, GOOD);
  await q.run(3, GOOD);
  expect(q.state(4)).toBe('queued');
  expect(q.store.counts()).toMatchObject({ queued: 2, success: 3, abort: 1, holding: 0, fail: 0 });
  await q.reopen();
  expect(q.store.counts()).toMatchObject({ queued: 2, success: 3, abort: 1, holding: 0, fail: 0 });
});

test('a parent that runs again is waited for again by those that still wait for others', async () => {
  using q = await queue([smallSpec('a'), smallSpec('b'), smallSpec('child', { dependsOn: [1, 2] })]);
  await q.run(1, GOOD);
  await q.store.rerun([1]);
  await q.run(2, GOOD);
  expect([q.state(3), q.store.waitsFor(3)]).toEqual(['holding', [1]]);
  await q.run(1, GOOD);
  expect(q.state(3)).toBe('queued');
});

test('chains longer than the stack is deep abort', async () => {
  using q = await queue(
    Array.from({ length: 20_000 }, (_, n) => smallSpec(`j${n}`, { dependsOn: n === 0 ? [] : [n] })),
  );
  await q.store.kill([1], 'no');
  expect(q.store.counts()).toMatchObject({ killed: 1, abort: 19_999, holding: 0 });
});

test('held jobs wait until they are released, also behind others', async () => {
  using q = await queue([smallSpec('a')]);
  await q.store.add([smallSpec('b'), smallSpec('c', { dependsOn: [1] })], { hold: true });
  expect([q.state(2), q.state(3), q.line()]).toEqual(['user-hold', 'holding', [1]]);
  await q.run(1, GOOD);
  expect(q.state(3)).toBe('user-hold');
  await q.reopen();
  await q.store.release([2, 3]);
  expect(q.line()).toEqual([2, 3]);
  expect((await q.store.hold([1, 3]))[0]).toMatchObject({ isDone: false, message: 'it has ended (success)' });
  expect(q.line()).toEqual([2]);
});

test('a begin time is waited for, and told of when it comes', async () => {
  using q = await queue();
  const at = q.clock.now() + 200_000;
  await q.store.add([smallSpec('late', { beginAt: at }), smallSpec('now')]);
  expect([q.line(), q.state(1), q.store.waitingKinds]).toEqual([[2], 'queued', 1]);
  expect(await q.store.claim(jobId('1'))).toBeUndefined();
  await q.reopen();
  let told = 0;
  q.store.onPending(() => told++);
  q.clock.advance(199_999);
  expect([q.line(), told]).toEqual([[2], 0]);
  q.clock.advance(1);
  expect([q.line(), told]).toEqual([[1, 2], 1]);
});

test('no more of an array run than may', async () => {
  using q = await queue();
  const first = q.store.nextId;
  await q.store.add(
    [0, 1, 2, 3, 4].map((index) => smallSpec(`t${index}`, { array: { first, index, atOnce: 2 } })),
  );
  expect(q.line()).toEqual([1, 2]);
  await q.store.setPriority([5], 3);
  expect(q.line()).toEqual([5, 1]);
  const attempt = await q.store.claim(jobId('1'));
  expect(q.line()).toEqual([5]);
  expect(await q.store.claim(jobId('2'))).toBeUndefined();
  await q.reopen();
  expect(q.line()).toEqual([5]);
  let told = 0;
  q.store.onPending(() => told++);
  if (attempt !== undefined) await q.store.finish(attempt, GOOD);
  expect([q.line(), told]).toEqual([[5, 2], 1]);
});

test('losses and retries lead to other attempts, up to a number', async () => {
  using q = await queue([smallSpec('a', { retries: 1 }), smallSpec('b')], {
    policy: { isWorth: () => true, canRunElsewhere: () => true, canRun: () => true },
  });
  await q.run(1, LOST);
  await q.reopen();
  expect(q.store.get(1)).toMatchObject({ state: 'queued', losses: 1, failures: 0, attempt: 1 });
  await q.run(1, BAD);
  await q.reopen();
  expect(q.store.job(jobId('1'))?.avoid).toEqual(['m1']);
  await q.run(1, BAD);
  expect(q.store.get(1)).toMatchObject({ state: 'fail', attempt: 3, outcome: BAD });
  await q.run(2, { type: 'never-fits', reason: 'too large' });
  expect(q.store.get(2)).toMatchObject({ state: 'error', reason: 'too large' });
});

test('what runs is killed, or put back, once its caller has ended it; that is remembered', async () => {
  using q = await queue([smallSpec('a'), smallSpec('b'), smallSpec('c')]);
  for (const id of [1, 2, 3]) await q.store.claim(jobId(String(id)), m1);
  await q.store.kill([1, 3], 'killed by ann');
  await q.store.requeue([2], 'its machine goes');
  await q.reopen();
  const claimed = q.store.claimed();
  expect(claimed.map(({ wanted, machine }) => [wanted, machine])).toEqual([
    ['killed', 'm1'],
    ['queued', 'm1'],
    ['killed', 'm1'],
  ]);
  for (const { attempt } of claimed) await q.store.finish(attempt, attempt.job === '3' ? GOOD : CANCELLED);
  expect([1, 2, 3].map(q.state)).toEqual(['killed', 'queued', 'success']);
  expect(q.store.get(1)?.reason).toBe('killed by ann');
});

test('after a crash the attempts are known with their machine; one that never began goes back', async () => {
  using q = await queue([smallSpec('a'), smallSpec('b')]);
  const attempt = await q.store.claim(jobId('1'));
  if (attempt === undefined) throw new Error('not claimed');
  await q.store.noteStarted(attempt, m1, 'key-1', 123);
  await q.store.claim(jobId('2'));
  await q.reopen();
  const [one, two] = q.store.claimed();
  expect(one).toMatchObject({ attempt, machine: 'm1', machineKey: 'key-1', startedAt: 123 });
  expect(two).not.toHaveProperty('machine');
  if (two !== undefined) await q.store.unclaim(two.attempt);
  expect(q.line()).toEqual([2]);
  expect(await q.store.claim(jobId('2'))).toEqual({ job: '2', number: 2 });
  // An attempt that does not count any more changes nothing.
  await q.store.finish({ job: jobId('2'), number: 1 }, GOOD);
  expect(q.state(2)).toBe('running');
});

test('ids are not used again, nothing that somebody waits for is cleaned away', async () => {
  using q = await queue([
    smallSpec('a'),
    smallSpec('b'),
    smallSpec('c', { dependsOn: [1, 2] }),
    smallSpec('d'),
  ]);
  await q.run(1, GOOD);
  await q.run(4, GOOD);
  q.clock.advance(1000);
  expect(await q.store.clean(1001)).toEqual([]);
  expect(await q.store.clean(1000)).toEqual([4]);
  expect(q.store.get(4)).toBeUndefined();
  await q.reopen();
  expect(await q.store.add([smallSpec('e')])).toEqual([5]);
  expect(q.store.list({ from: 2 }).map(({ id }) => id)).toEqual([2, 3, 5]);
});

test('events are numbered, told after the commit, kept up to a bound', async () => {
  using q = await queue([], { keptEvents: 20 });
  const heard: QueueEvent[] = [];
  q.store.onEvents((events) => {
    // What is told of is on the disk.
    expect(q.store.eventsAfter(events[0]?.sequence ?? 0, 1000).length).toBeGreaterThanOrEqual(
      Math.min(events.length, 20) - 1,
    );
    heard.push(...events);
  });
  for (let n = 0; n < 30; n++) await q.store.add([smallSpec(`j${n}`)]);
  q.store.tell({ type: 'machine:lost' });
  await q.run(1, GOOD);
  expect(heard.map(({ sequence }) => sequence)).toEqual(heard.map((_, index) => index + 1));
  expect(heard.at(-1)).toMatchObject({ type: 'queue:state', job: 1, from: 'running', state: 'success' });
  expect(heard[30]).toMatchObject({ type: 'told', event: { type: 'machine:lost' } });
  await q.reopen();
  const last = heard.at(-1)?.sequence ?? 0;
  expect(q.store.eventsAfter(last - 5)).toEqual(heard.slice(-5));
  expect(q.store.eventsAfter(0).length).toBeLessThanOrEqual(22);
  expect(q.store.oldestEvent).toBeGreaterThanOrEqual(last - 22);
  await q.store.add([smallSpec('more')]);
  expect(q.store.eventsAfter(last)).toMatchObject([{ sequence: last + 1, type: 'queue:added' }]);
});

test('the time at the head of the line adds up', async () => {
  using q = await queue([smallSpec('a')]);
  const from = q.clock.now();
  q.clock.advance(100);
  await q.store.add([smallSpec('urgent', { priority: 1 })]);
  expect(q.store.headSince()).toEqual({ job: 2, since: from + 100 });
  q.clock.advance(1000);
  await q.run(2, GOOD);
  expect(q.store.headSince()).toEqual({ job: 1, since: from + 1000 });
});

test('whether an attempt is the last is told without changing anything, and finish goes by it', async () => {
  let isElsewhere = true;
  using q = await queue([smallSpec('a', { retries: 1 }), smallSpec('b'), smallSpec('c')], {
    policy: { isWorth: () => true, canRunElsewhere: () => isElsewhere, canRun: () => true },
  });
  const first = { job: jobId('1'), number: 1 };
  expect(q.store.isLast(first, BAD, m1)).toBe(true); // it does not run
  await q.store.claim(first.job, m1);
  const before = q.store.exportState();
  expect([q.store.isLast(first, BAD, m1), q.store.isLast(first, GOOD, m1)]).toEqual([false, true]);
  expect(q.store.exportState()).toEqual(before);
  await q.store.finish(first, BAD, m1);
  expect(q.state(1)).toBe('queued');
  await q.store.claim(first.job, m1);
  expect(q.store.isLast({ ...first, number: 2 }, BAD, m1)).toBe(true);
  expect(q.store.isLast(first, LOST, m1)).toBe(true); // it counts no more
  // Whether it goes elsewhere was asked when its result was put beside; the other machine has gone since.
  const fault: JobOutcome = { type: 'exited', exitCode: 1, machineFault: 'no room' };
  await q.store.claim(jobId('2'), m1);
  const second = { job: jobId('2'), number: 1 };
  expect(q.store.isLast(second, fault, m1)).toBe(false);
  isElsewhere = false;
  await q.store.finish(second, fault, m1);
  expect(q.state(2)).toBe('queued');
  // Unless somebody wants it to end.
  await q.store.claim(jobId('3'), m1);
  const third = { job: jobId('3'), number: 1 };
  isElsewhere = true;
  expect(q.store.isLast(third, fault, m1)).toBe(false);
  await q.store.kill([3], 'killed by ann');
  expect(q.store.isLast(third, fault, m1)).toBe(true);
  await q.store.finish(third, fault, m1);
  expect(q.state(3)).toBe('killed');
});

test('what was asked for is known in any state; jobs that run, and how many come first, are looked up', async () => {
  using q = await queue([
    smallSpec('a'),
    smallSpec('b', { priority: 1 }),
    smallSpec('c', { beginAt: 1e15 }),
    smallSpec('d'),
  ]);
  expect([1, 2, 3, 4, 9].map((id) => q.store.aheadInLine(id))).toEqual([1, 0, undefined, 2, undefined]);
  await q.store.claim(jobId('2'), m1);
  expect(q.store.running().map(({ id, machine }) => [id, machine])).toEqual([[2, 'm1']]);
  expect(q.store.aheadInLine(2)).toBeUndefined();
  await q.store.finish({ job: jobId('2'), number: 1 }, GOOD, m1);
  expect([q.store.running(), q.store.spec(jobId('2'))?.name, q.store.spec(9)]).toEqual([[], 'b', undefined]);
});

test('a failed job is kept while one is that needs its good end; both go together', async () => {
  using q = await queue([smallSpec('parent'), smallSpec('child', { dependsOn: [1] })]);
  await q.run(1, BAD);
  expect(q.state(2)).toBe('abort');
  expect(await q.store.clean(0, ['fail'])).toEqual([]);
  await q.reopen();
  expect(await q.store.clean(0, ['fail'])).toEqual([]);
  const [answer] = await q.store.rerun([2]);
  expect(answer).toMatchObject({
    isDone: false,
    message: expect.stringContaining('have that run again first'),
  });
  expect(await q.store.clean(0)).toEqual([1, 2]);
  // One that runs after any end needs nothing of it.
  await q.store.add([smallSpec('a'), smallSpec('b', { dependsOn: [3], dependsOnAny: true })]);
  await q.run(3, BAD);
  await q.run(4, GOOD);
  expect(await q.store.clean(0, ['fail'])).toEqual([3]);
});

test('children that have not begun wait anew for a parent that runs again, a held one stays held', async () => {
  using q = await queue([
    smallSpec('parent'),
    smallSpec('waits', { dependsOn: [1] }),
    smallSpec('held', { dependsOn: [1] }),
    smallSpec('runs', { dependsOn: [1] }),
    smallSpec('any', { dependsOn: [1], dependsOnAny: true }),
  ]);
  await q.store.hold([3]);
  await q.run(1, GOOD);
  await q.store.claim(jobId('4'), m1);
  await q.reopen();
  expect([2, 3, 4, 5].map(q.state)).toEqual(['queued', 'user-hold', 'running', 'queued']);
  await q.store.rerun([1]);
  expect([1, 2, 3, 4, 5].map(q.state)).toEqual(['queued', 'holding', 'holding', 'running', 'holding']);
  expect(q.line()).toEqual([1]);
  await q.reopen();
  expect(q.store.waitsFor(2)).toEqual([1]);
  await q.run(1, BAD);
  expect([2, 3, 5].map(q.state)).toEqual(['abort', 'abort', 'queued']);
  expect(q.store.counts()).toMatchObject({ queued: 1, running: 1, abort: 2, fail: 1, holding: 0 });
});

test('one whose parent was killed is told to name that', async () => {
  using q = await queue([smallSpec('a'), smallSpec('b', { dependsOn: [1] })]);
  await q.store.kill([1], 'x');
  const [answer] = await q.store.rerun([2]);
  expect(answer?.message).toBe('job 1, which it depends on, was killed: name it to have it run again too');
});

test('a verb for many jobs lets others in between, who are heard; each job is done as it is then', async () => {
  using q = await queue(Array.from({ length: 3000 }, (_, n) => smallSpec(`j${n}`)));
  const all = q.store.ids(['queued']);
  const order: string[] = [];
  const killing = q.store.kill(all, 'x').then((answers) => {
    order.push('killed');
    return answers;
  });
  await q.store.add([smallSpec('new')]).then(() => order.push('added'));
  await q.run(3000, GOOD);
  order.push('ran');
  const answers = await killing;
  expect(order).toEqual(['added', 'ran', 'killed']);
  expect(answers).toHaveLength(3000);
  expect(answers.at(-1)).toMatchObject({ isDone: false, state: 'success' });
  expect(q.store.counts()).toMatchObject({ killed: 2999, success: 1, queued: 1 });
  const cleaning = q.store.clean(0);
  await q.store.rerun([5]);
  expect(await cleaning).toHaveLength(2999);
  expect(q.store.list().map(({ id, state }) => [id, state])).toEqual([
    [5, 'queued'],
    [3001, 'queued'],
  ]);
});

test('pages and ids come in order, of jobs that run again too; who waits for a machine is known', async () => {
  using q = await queue(
    Array.from({ length: 2500 }, (_, n) => smallSpec(`j${n}`, n % 2 === 0 ? {} : { machine: m1 })),
  );
  await q.store.kill([1, 2, 700, 2500], 'x');
  await q.store.rerun([2, 700]);
  await q.store.hold([3]);
  const seen: number[] = [];
  for (let from = 1; ; from = (seen.at(-1) ?? 0) + 1) {
    const page = q.store.list({ from, limit: 400 });
    if (page.length === 0) break;
    seen.push(...page.map(({ id }) => id));
  }
  expect(seen).toEqual(Array.from({ length: 2500 }, (_, n) => n + 1));
  expect(q.store.list({ states: ['killed', 'user-hold'], from: 2 }).map(({ id }) => id)).toEqual([3, 2500]);
  expect(q.store.ids(['killed', 'user-hold'])).toEqual([1, 3, 2500]);
  expect(q.store.waitingByMachine().get(m1)?.length).toBe(1249);
  await q.store.claim(jobId('4'), m1);
  expect(q.store.waitingByMachine().get(m1)?.length).toBe(1248);
});

test('there are no ids beyond what numbers can count', async () => {
  using q = await queue();
  await q.store.importState({ ...q.store.exportState(), nextId: MAX_ID });
  await expect(q.store.add([smallSpec('a'), smallSpec('b')])).rejects.toThrow(
    'there are no ids for 2 more jobs',
  );
  expect(await q.store.add([smallSpec('a')])).toEqual([MAX_ID]);
  await expect(q.store.add([smallSpec('b')])).rejects.toThrow('there are no ids for 1 more jobs');
  await q.reopen();
  expect(q.store.list().map(({ id }) => id)).toEqual([MAX_ID]);
});
