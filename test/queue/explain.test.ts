/** Why a job does not run: each thing that it may wait for is named, with how much is missing. */
import { expect, test } from 'vitest';
import { VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import { type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { QueueJobSpec } from '../../src/lib/domain/queue.ts';
import { type ExplainedMachine, type ExplainOptions, explainJob } from '../../src/lib/queue/explain.ts';
import type { MachineState } from '../../src/lib/queue/requests.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec, TestClock, temporaryFolder } from '../stores/queue-jobs.ts';

const GOOD: JobOutcome = { type: 'exited', exitCode: 0 };
const small = smallSpec('x').request;

/** A machine with 4 cores and 8000 MiB. */
function machine(
  name: string,
  { state = 'ready' as MachineState, reason = '', jobs = 0 } = {},
): ExplainedMachine {
  const resources = new VirtualResources({ cpuCores: 4, cpuCoresInUse: 0, memoryFreeMiB: 8000, gpus: [] });
  for (let n = 0; n < jobs; n++) resources.allocate({ ...small, memoryMiB: 3000 });
  return {
    name: machineName(name),
    state,
    ...(reason === '' ? {} : { reason }),
    explain: (request) => resources.explain(request),
    explainEver: (request) => resources.explainEver(request),
  };
}

async function queue(...specs: Partial<QueueJobSpec>[]) {
  const folder = temporaryFolder();
  const clock = new TestClock();
  const policy = { isWorth: () => true, canRunElsewhere: () => true, canRun: () => true };
  const store = await QueueStore.open(folder.path, { clock, policy });
  await store.add(specs.map((more, index) => smallSpec(`job_${index + 1}`, more)));
  return {
    ...{ store, clock },
    explain: (id: number, more: Partial<ExplainOptions> = {}) =>
      explainJob(id, { store, machines: [machine('m1')], order: 'skip', now: clock.now(), ...more }),
    start: async (id: number) => {
      const attempt = await store.claim(jobId(String(id)), machineName('m1'));
      if (attempt !== undefined) await store.noteStarted(attempt, machineName('m1'), 'k', clock.now());
    },
    end: (id: number, outcome: JobOutcome, number = 1) =>
      store.finish({ job: jobId(String(id)), number }, outcome, machineName('m1')),
    [Symbol.dispose]: () => {
      store.close();
      folder[Symbol.dispose]();
    },
  };
}

test('a job that fits waits for its turn; an unknown one is refused', async () => {
  using q = await queue({}, {});
  expect(q.explain(2)).toEqual({
    ...{ id: 2, name: 'job_2', state: 'queued' },
    reasons: ['1 job comes before it.', 'It fits on m1 now, and starts when it is its turn.'],
    machines: [{ machine: 'm1', everFits: true, reasons: [], shortfalls: [] }],
  });
  expect(() => q.explain(7)).toThrow('there is no job 7');
});

test('other jobs, a hold, a begin time, and the limit of an array', async () => {
  using q = await queue(
    {},
    { dependsOn: [1] },
    { beginAt: 1_000_000 + 90_000 },
    { array: { first: 4, index: 0, atOnce: 1 } },
    { array: { first: 4, index: 1, atOnce: 1 } },
    { dependsOn: [1], dependsOnAny: true },
  );
  await q.start(1);
  await q.start(4);
  await q.store.hold([2, 3]);
  expect(q.explain(2).reasons).toEqual([
    'It waits for job 1 (running) to end well.',
    'It is held: job_queue release 2 lets it go on.',
  ]);
  expect(q.explain(3)).toMatchObject({
    state: 'user-hold',
    reasons: ['It is held: job_queue release 3 lets it go on.'],
  });
  expect(q.explain(6).reasons).toEqual(['It waits for job 1 (running) to end.']);
  await q.store.release([3]);
  expect(q.explain(3).reasons).toEqual(['It begins at 1970-01-01T00:18:10Z at the earliest, in 1m30s.']);
  expect(q.explain(5).reasons).toEqual([
    'No more than 1 jobs of its array run at once, and 1 do, or come before it.',
  ]);
});

test('per machine: what is short now, what is short for ever, and what state it is in', async () => {
  using q = await queue({ request: { ...small, memoryMiB: 6000, gpus: 0 } });
  const answer = q.explain(1, {
    machines: [
      machine('busy', { jobs: 1 }),
      machine('off', { state: 'away', reason: 'no answer for 30 s' }),
      machine('full', { state: 'draining' }),
      machine('bad', { state: 'quarantined', reason: 'no room' }),
      { name: machineName('new'), state: 'connecting' },
    ],
  });
  expect(answer.reasons).toEqual([]);
  expect(answer.machines.map(({ machine: name, reasons }) => [name, ...reasons])).toEqual([
    ['busy', 'Now: 5000 MiB of memory is free, 6000 MiB was requested.'],
    ['off', 'It cannot be reached now: no answer for 30 s.'],
    ['full', 'It gets no new jobs: its --max-jobs-running is 0.'],
    ['bad', 'It gets no jobs, since those that it had failed at once: no room.'],
    ['new', 'It was not reached yet, and is tried again.'],
  ]);
  expect(answer.machines[0]?.shortfalls).toMatchObject([
    { resource: 'memoryMiB', requested: 6000, available: 5000 },
  ]);
});

test('no machine can ever hold it, or the one that it has to run on is not here', async () => {
  using q = await queue({ request: { ...small, memoryMiB: 9000 } }, { machine: machineName('m2') });
  expect(q.explain(1)).toMatchObject({
    reasons: ['No machine that is here can ever hold it: it waits for one that can.'],
    machines: [{ everFits: false, reasons: ['Ever: 8000 MiB of memory is free, 9000 MiB was requested.'] }],
  });
  expect(q.explain(2)).toMatchObject({
    reasons: [
      'It has to run on m2, which is not here: job_queue add-machine adds it.',
      '1 job comes before it.',
    ],
    machines: [],
  });
  expect(q.explain(1, { machines: [] }).reasons).toEqual([
    'There are no machines: job_queue add-machine adds one.',
  ]);
});

test('the order: strict waits for the first, and a machine may be kept free for one that has waited for long', async () => {
  using q = await queue({ request: { ...small, memoryMiB: 6000 } }, {});
  q.clock.advance(60_000);
  const machines = [machine('m1', { jobs: 1 }), machine('m2', { jobs: 1 })];
  expect(q.explain(2, { machines, order: 'strict' }).reasons).toEqual([
    'The order is strict, and job 1 comes first, for 1m00s now.',
    '1 job comes before it.',
  ]);
  const keptFree = { machine: machineName('m1'), job: 1 };
  const second = q.explain(2, { machines, keptFree });
  expect(second.reasons).toEqual([
    'm1 is kept free for job 1, which has waited for long.',
    '1 job comes before it.',
    'It fits on m2 now, and starts when it is its turn.',
  ]);
  expect(second.machines[0]?.reasons).toEqual(['It is kept free for job 1.']);
  const first = q.explain(1, { machines, keptFree });
  expect(first.reasons).toEqual(['m1 is kept free for it until it fits there.']);
  expect(first.machines[0]?.reasons).toEqual(['Now: 5000 MiB of memory is free, 6000 MiB was requested.']);
});

test('one that runs, one that ended, one that is tried again, one that runs here', async () => {
  using q = await queue(
    {},
    { dependsOn: [1] },
    { retries: 1 },
    { script: { name: 's', id: 'x', args: [] }, runHere: true },
  );
  await q.start(1);
  q.clock.advance(5000);
  expect(q.explain(1).reasons).toEqual(['It runs on m1 since 1970-01-01T00:16:40Z, for 5.0s.']);
  await q.store.kill([1], 'killed by ann');
  expect(q.explain(1).reasons[0]).toContain('; it is being ended: killed by ann.');
  await q.end(1, { type: 'cancelled', reason: 'asked' });
  expect(q.explain(1).reasons).toEqual([
    'It was killed on m1 at 1970-01-01T00:16:45Z after 5.0s.',
    'The reason: killed by ann.',
  ]);
  expect(q.explain(2)).toMatchObject({
    state: 'abort',
    reasons: [
      'It was given up without a start at 1970-01-01T00:16:45Z.',
      'The reason: job 1, which it depends on, was killed.',
    ],
  });
  await q.start(3);
  await q.end(3, { type: 'exited', exitCode: 3 });
  const again = q.explain(3);
  expect(again.reasons[0]).toBe('Attempt 1 on m1 was in vain: exit code 3. It is tried again.');
  expect(again.machines[0]?.reasons[0]).toContain('failed there before');
  await q.start(3);
  await q.end(3, GOOD, 2);
  expect(q.explain(3).reasons).toEqual([
    'It ended well on m1 at 1970-01-01T00:16:45Z after 0.0s, in attempt 2.',
  ]);
  const busy = { ...machine('m1', { state: 'away' }), runsHere: 9 };
  expect(q.explain(4, { machines: [busy] }).machines).toMatchObject([
    { everFits: true, reasons: ['Job 9 runs here for it already, and one at a time may.'] },
  ]);
});
