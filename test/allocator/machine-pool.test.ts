import { expect, test } from 'vitest';
import type { MachinePool } from '../../src/lib/allocator/machine-pool.ts';
import { type Attempt, type Job, type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { Reservation, RunningAttempt } from '../../src/lib/domain/ports.ts';
import { openLocalPool } from '../contracts/local-pool.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';

const one = machineName('one');
const two = machineName('two');
const three = machineName('three');
const names = (...list: string[]) => list.map((name) => ({ name }));
const alone = (job: Job): Job => ({ ...job, request: { ...job.request, reserveMachine: true } });
const attempt = (job: Job, number = 1): Attempt => ({ job: job.id, number });

function start(pool: MachinePool, job: Job): RunningAttempt {
  const placed = pool.reserve(job);
  if (placed.type === 'refused') throw new Error(`refused ${job.name}`);
  return pool.start(job, attempt(job), placed);
}

test('a job goes to another machine than those it avoids, even if it has to wait, unless no other can hold it', async () => {
  await using local = await openLocalPool(names('one', 'two'));
  const { pool } = local;
  const job = alone({ ...smallJob('picky', 'true'), avoid: [one] });
  const first = pool.reserve(job);
  expect(first).toMatchObject({ type: 'reserved', machine: 'two' });
  expect(pool.reserve(job)).toEqual({ type: 'refused', everFits: true, shortfalls: [] });
  expect(pool.reserve({ ...job, avoid: [one, two] })).toMatchObject({ type: 'reserved', machine: 'one' });
  expect(pool.canRunElsewhere(job)).toBe(true);
  expect(pool.canRunElsewhere({ ...job, avoid: [one, two] })).toBe(false);
  const huge = { ...job, request: { ...job.request, memoryMiB: 5000 } };
  expect(pool.canRunElsewhere(huge)).toBe(false);
});

const FULL = 'echo "mktemp: No space left on device" >&2; exit 1';

/** Runs a command on the emptiest machine that the job may have. */
const outcomeOf = (pool: MachinePool, name: string, command: string, avoid: readonly string[] = []) =>
  start(pool, { ...smallJob(name, command), avoid: avoid.map(machineName) }).ended;

test('three jobs in a row that fail at once for a reason of the machine: it gets no more', async () => {
  const told: string[] = [];
  await using local = await openLocalPool(names('one', 'two'), undefined, {
    onQuarantined: (machine, reason) => told.push(`${machine}: ${reason}`),
  });
  const { pool } = local;
  for (const name of ['a', 'b']) await outcomeOf(pool, name, FULL, ['two']);
  // One that goes well, or fails for a reason of its own, shows that the machine is fine.
  await outcomeOf(pool, 'good', 'true', ['two']);
  for (const name of ['c', 'd']) await outcomeOf(pool, name, FULL, ['two']);
  await outcomeOf(pool, 'own', 'exit 7', ['two']);
  for (const name of ['e', 'f']) await outcomeOf(pool, name, FULL, ['two']);
  expect(told).toEqual([]);
  expect(await outcomeOf(pool, 'g', FULL, ['two'])).toMatchObject({
    type: 'exited',
    exitCode: 1,
    machineFault: expect.stringMatching(/no space/i),
  });
  await until(() => told.length > 0);
  expect(told).toEqual([expect.stringMatching(/^one: .*no space/i)]);
  for (const name of ['x', 'y'])
    expect(pool.reserve(alone(smallJob(name, 'true')))).toMatchObject(
      name === 'x' ? { machine: 'two' } : { type: 'refused' },
    );
});

test('the last machine is never given up, and a slow failure is the job’s own', async () => {
  const told: string[] = [];
  await using local = await openLocalPool(names('one'), undefined, {
    onQuarantined: (machine) => told.push(machine),
  });
  for (const name of ['a', 'b', 'c', 'd']) await outcomeOf(local.pool, name, FULL);
  expect(told).toEqual([]);
  expect(local.pool.reserve(smallJob('more', 'true')).type).toBe('reserved');
});

test('what runs on a machine that is given up is lost, and is told of when the machine is back', async () => {
  const returned: string[] = [];
  await using local = await openLocalPool(names('one', 'two'), undefined, {
    onReturned: (job, { number }, machine) => returned.push(`${job.name}/${number} ${machine}`),
  });
  const { pool } = local;
  const [runner] = local.runners;
  const running = start(pool, { ...alone(smallJob('long', 'sleep 1000')), avoid: [two] });
  expect(running.machine).toBe('one');
  await runner?.event('job:started');
  pool.setAway(one, true);
  expect(pool.stranded().map(({ job }) => job.name)).toEqual(['long']);
  expect(pool.giveUp(one, 'away for 5 s')).toBe(1);
  expect(await running.ended).toEqual({ type: 'lost', reason: 'away for 5 s' });
  expect(pool.stranded()).toEqual([]);
  expect(returned).toEqual([]);
  pool.setAway(one, false);
  expect(returned).toEqual(['long/1 one']);
  const [found] = await pool.discover();
  expect(found).toMatchObject({ attempt: { job: 'long', number: 1 }, machine: 'one', state: 'running' });
  if (found === undefined) return;
  const again = pool.adopt(smallJob('long', 'sleep 1000'), found);
  again.abandon('another attempt counts');
  expect(await again.ended).toMatchObject({ type: 'cancelled' });
});

test('an attempt on a machine that has not joined settles when that joins, or is given up', async () => {
  await using local = await openLocalPool(names('one', 'two'));
  const { pool } = local;
  const [runner] = local.runners;
  const first = start(pool, { ...smallJob('first', 'echo out; exit 3'), avoid: [two] });
  await first.ended;
  pool.expect(three);
  expect(
    pool.reserve({ ...smallJob('huge', ''), request: { ...smallJob('', '').request, memoryMiB: 9e9 } }),
  ).toEqual({
    type: 'refused',
    everFits: true,
    shortfalls: [],
  });
  const awaited = pool.awaitMachine(smallJob('b', 'true'), { job: jobId('b'), number: 4 }, three);
  expect(pool.stranded()).toEqual([awaited]);
  pool.giveUp(three, 'never came');
  expect(await awaited.ended).toEqual({ type: 'lost', reason: 'never came' });
  // On a machine that has joined, one without a trace never began, and never will.
  const traceless = pool.awaitMachine(smallJob('c', 'true'), { job: jobId('c'), number: 2 }, one);
  expect(pool.stranded()).toEqual([traceless]); // its machine is up, and yet nobody can end it
  pool.followAwaited(traceless, {
    attempt: traceless.attempt,
    machine: one,
    command: 'true',
    tree: '',
    gpus: [],
    state: 'running',
  });
  const outcome: JobOutcome = await traceless.ended;
  expect(outcome).toMatchObject({ type: 'lost', neverStarted: true });
  expect(runner?.runner.isUp).toBe(true);
});

test('a machine is drained, measured again, and leaves when nothing of ours is there', async () => {
  await using local = await openLocalPool(names('one', 'two'));
  const { pool } = local;
  let told = 0;
  pool.onCapacity(() => {
    told += 1;
  });
  const first = pool.reserve({ ...smallJob('first', 'true'), avoid: [two] });
  if (first.type === 'refused') throw new Error('refused');
  expect(first.machine).toBe('one');

  pool.setMaxJobs(one, 0);
  expect(pool.reserve(alone(smallJob('a', 'true')))).toMatchObject({ machine: 'two' });
  expect(pool.reserve({ ...smallJob('b', 'true'), avoid: [two] })).toEqual({
    type: 'refused',
    everFits: true,
    shortfalls: [],
  });
  expect(() => pool.remove(one)).toThrow('has jobs');
  expect(pool.attemptsOn(one)).toEqual([]);
  pool.setMaxJobs(one, 5);
  expect(pool.reserve({ ...smallJob('b', 'true'), avoid: [two] })).toMatchObject({ machine: 'one' });
  expect(told).toBeGreaterThan(0);

  // Others take all but a little: what fitted before has to wait, or can never run any more.
  const big = { ...smallJob('big', 'true'), request: { ...smallJob('big', 'true').request, memoryMiB: 900 } };
  const roomy = pool.machines[0]?.resources.available;
  if (roomy === undefined) throw new Error('no machine');
  expect(pool.canEverFit(big.request)).toBe(true);
  for (const name of [one, two]) pool.measure(name, { ...roomy, memoryFreeMiB: 100 });
  expect(pool.canEverFit(big.request)).toBe(false);
  expect(pool.reserve(big)).toMatchObject({ type: 'refused', everFits: false });
  pool.measure(one, roomy);
  expect(pool.canEverFit(big.request)).toBe(true);

  await using other = await openLocalPool(names('lone', 'rest'));
  const running = start(other.pool, { ...smallJob('runs', 'sleep 0.3'), avoid: [machineName('rest')] });
  expect(other.pool.attemptsOn(machineName('lone'))).toEqual([running]);
  await running.ended;
  await until(() => other.pool.machines.every(({ resources }) => resources.jobs === 0));
  const left = other.pool.remove(machineName('lone'));
  expect(left?.name).toBe('lone');
  expect(other.pool.machines.map(({ name }) => name)).toEqual(['rest']);
  expect(other.pool.reserve(smallJob('next', 'true'))).toMatchObject({ machine: 'rest' });
  await left?.runner?.close();
});

test('a job for one machine waits for that one, whatever others have', async () => {
  await using local = await openLocalPool(names('one', 'two'));
  const { pool } = local;
  const pinned = { ...alone(smallJob('pinned', 'true')), only: one };
  const first = pool.reserve(pinned);
  expect(first).toMatchObject({ machine: 'one' });
  expect(pool.reserve(pinned)).toEqual({ type: 'refused', everFits: true, shortfalls: [] });
  expect(pool.canRunElsewhere(pinned)).toBe(false);
  if (first.type === 'reserved') pool.release(first);
  pool.setAway(one, true);
  expect(pool.reserve(pinned)).toMatchObject({ type: 'refused', everFits: true });
  pool.setAway(one, false);
  const huge = { ...pinned, request: { ...pinned.request, memoryMiB: 5000 } };
  const refused = pool.reserve(huge);
  expect(refused).toMatchObject({ everFits: false, shortfalls: [{ machine: 'one' }] });
  expect(pool.reserve({ ...pinned, only: three })).toEqual({
    type: 'refused',
    everFits: false,
    shortfalls: [],
  });
  pool.expect(three);
  expect(pool.reserve({ ...pinned, only: three })).toMatchObject({ everFits: true });
});

const small = (name: string): Job => smallJob(name, 'true');
const large = (name: string): Job => ({
  ...small(name),
  request: { ...small(name).request, memoryMiB: 900 },
});

/** Reserves for jobs of 300 MiB until none fits; three fit on a machine. */
function fill(pool: MachinePool): Reservation[] {
  const placed: Reservation[] = [];
  for (;;) {
    const job = small(`small_${placed.length}`);
    const one = pool.reserve({ ...job, request: { ...job.request, memoryMiB: 300 } });
    if (one.type === 'refused') return placed;
    placed.push(one);
  }
}

const namesOf = (placed: readonly Reservation[]) => placed.map(({ machine }) => machine).sort();

test('a machine kept free gets no small jobs any more, then the large one, then small ones again', async () => {
  await using local = await openLocalPool(names('one', 'two', 'three'));
  const { pool } = local;
  const waiting = large('large');
  const full = fill(pool);
  expect(namesOf(full)).toEqual([
    ...Array(3).fill('one'),
    ...Array(3).fill('three'),
    ...Array(3).fill('two'),
  ]);
  expect(pool.reserve(waiting).type).toBe('refused');
  // The one with the fewest jobs is chosen, and stays chosen.
  const [first] = full.splice(
    full.findIndex(({ machine }) => machine === two),
    1,
  );
  if (first !== undefined) pool.release(first);
  expect(pool.keepFreeFor(waiting)).toBe('two');
  for (let ended = 0; ended < 2; ended++) {
    const [of] = full.splice(
      full.findIndex(({ machine }) => machine === one),
      1,
    );
    if (of !== undefined) pool.release(of);
  }
  expect(pool.keepFreeFor(waiting)).toBe('two');
  full.push(...fill(pool));

  // A stream of small jobs: whenever one ends another comes, and the kept machine runs empty.
  let told = 0;
  pool.onCapacity(() => {
    told += 1;
  });
  for (let round = 0; round < 12 && pool.reserve(waiting).type === 'refused'; round++) {
    const ended = full.shift();
    if (ended === undefined) break;
    pool.release(ended);
    const next = fill(pool);
    expect(namesOf(next)).not.toContain('two');
    full.push(...next);
    if (round === 11) throw new Error('the large job never fitted');
  }
  expect(namesOf(full)).toEqual([...Array(3).fill('one'), ...Array(3).fill('three')]);
  expect(told).toBeGreaterThan(0);
  // It was reserved, so the rest of the machine is for all again.
  const rest = { ...small('rest'), request: { ...small('rest').request, memoryMiB: 100 } };
  expect([pool.reserve(rest), pool.reserve(rest), pool.reserve(rest), pool.reserve(rest)]).toContainEqual(
    expect.objectContaining({ machine: 'two' }),
  );
});

test('a kept machine is for its job’s kind, is let go of, and another is chosen when it cannot hold the job', async () => {
  await using local = await openLocalPool(names('one', 'two'));
  const { pool } = local;
  const waiting = large('large');
  const only = (machine: typeof one) => ({ ...small('only'), only: machine });
  expect(pool.keepFreeFor(waiting)).toBe('one');
  expect(pool.reserve(only(one))).toEqual({ type: 'refused', everFits: true, shortfalls: [] });
  expect(pool.reserve({ ...small('avoids'), avoid: [two] }).type).toBe('refused');
  // One like it may come before it in the order: it would be refused for all of its kind.
  const alike = pool.reserve(large('alike'));
  expect(alike.type).toBe('reserved');
  if (alike.type === 'reserved') pool.release(alike);
  expect(pool.reserve(only(one)).type).toBe('refused');
  pool.setAway(one, true);
  expect(pool.keepFreeFor(waiting)).toBe('two');
  pool.setAway(one, false);
  expect(pool.reserve(only(one)).type).toBe('reserved');
  expect(pool.keepFreeFor(waiting)).toBe('two');
  pool.setMaxJobs(two, 0);
  expect(pool.keepFreeFor({ ...waiting, only: two })).toBeUndefined();
  pool.setMaxJobs(two, 9);
  expect(pool.keepFreeFor({ ...waiting, only: two })).toBe('two');
  expect(pool.reserve(only(two)).type).toBe('refused');
  expect(pool.keepFreeFor(undefined)).toBeUndefined();
  expect(pool.reserve(only(two)).type).toBe('reserved');
  // What no machine can ever hold has none kept free.
  const huge = { ...waiting, request: { ...waiting.request, memoryMiB: 2000 } };
  expect(pool.keepFreeFor(huge)).toBeUndefined();
  // One that leaves is kept for nobody.
  await using other = await openLocalPool(names('lone', 'rest'));
  expect(other.pool.keepFreeFor(waiting)).toBe('lone');
  const left = other.pool.remove(machineName('lone'));
  expect(other.pool.reserve(small('next'))).toMatchObject({ machine: 'rest' });
  await left?.runner?.close();
});

test('a machine gets no jobs while it is measured, and again after a quarantine was lifted', async () => {
  await using local = await openLocalPool(names('one', 'two'));
  const { pool } = local;
  for (const name of [one, two]) pool.setMeasuring(name, true);
  expect(pool.reserve(small('a'))).toEqual({ type: 'refused', everFits: true, shortfalls: [] });
  let told = 0;
  const stop = pool.onCapacity(() => {
    told += 1;
  });
  pool.setMeasuring(two, false);
  expect(told).toBe(1);
  stop();
  expect(pool.reserve(alone(small('a')))).toMatchObject({ machine: 'two' });
  pool.setMeasuring(one, false);
  for (const name of ['b', 'c', 'd']) await outcomeOf(pool, name, FULL, ['two']);
  await until(() => pool.quarantineOf(one));
  expect(pool.quarantineOf(one)).toMatch(/no space/i);
  expect(pool.reserve({ ...small('e'), only: one }).type).toBe('refused');
  pool.liftQuarantine(one);
  expect(pool.quarantineOf(one)).toBeUndefined();
  // It begins anew: it takes three in a row again.
  for (const name of ['f', 'g']) await outcomeOf(pool, name, FULL, ['two']);
  expect(pool.quarantineOf(one)).toBeUndefined();
  expect(pool.reserve({ ...small('e'), only: one }).type).toBe('reserved');
});
