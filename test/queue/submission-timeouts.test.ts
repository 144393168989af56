import { expect, test } from 'vitest';
import type { SchedulerEvent } from '../../src/lib/domain/events.ts';
import { type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { RunningAttempt } from '../../src/lib/domain/ports.ts';
import { SubmissionTimeouts } from '../../src/lib/queue/submission-timeouts.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec, TestClock, temporaryFolder } from '../stores/queue-jobs.ts';

const m1 = machineName('m1');
const GOOD: JobOutcome = { type: 'exited', exitCode: 0 };

/** Jobs 1 to 5 of one submit with a limit, 6 to 8 of one with another, 9 without. */
async function setUp() {
  const folder = temporaryFolder();
  const clock = new TestClock();
  const store = await QueueStore.open(folder.path, { clock });
  const of = (submitted: number, timeoutPercent: number) => smallSpec('j', { submitted, timeoutPercent });
  await store.add([
    ...Array.from({ length: 5 }, () => of(1, 200)),
    ...Array.from({ length: 3 }, () => of(6, 1000)),
  ]);
  await store.add([smallSpec('free', { submitted: 9 })]);
  const about = (id: number) => ({
    ...{
      job: jobId(String(id)),
      name: 'j',
      line: id,
      at: clock.now(),
      command: 'x',
      machine: m1,
      attempt: 1,
    },
  });
  const expired: string[] = [];
  return {
    ...{ store, clock, expired },
    timeouts: () => new SubmissionTimeouts({ store, now: () => clock.now(), most: 2 }),
    begin: async (id: number): Promise<SchedulerEvent> => {
      const attempt = await store.claim(jobId(String(id)), m1);
      if (attempt !== undefined) await store.noteStarted(attempt, m1, 'k', clock.now());
      return {
        ...about(id),
        type: 'job:started',
        startedAt: clock.now(),
        gpus: [],
        request: smallSpec('x').request,
      };
    },
    end: async (id: number, durationMs: number, outcome: JobOutcome = GOOD): Promise<SchedulerEvent> => {
      await store.finish({ job: jobId(String(id)), number: 1 }, outcome, m1);
      const sizes = { sentBytes: 0, returnedBytes: 0, leftBehind: 0, willRetry: false };
      return { ...about(id), type: 'job:ended', outcome, durationMs, ...sizes };
    },
    running: (): RunningAttempt[] =>
      store.running().map(({ id, attempt: number }) => ({
        ...{
          attempt: { job: jobId(String(id)), number },
          machine: m1,
          ended: new Promise<JobOutcome>(() => {}),
        },
        ...{ cancel: () => {}, abandon: () => {} },
        expire: (timeoutMs: number) => expired.push(`${id} ${timeoutMs}`),
      })),
    [Symbol.dispose]: () => {
      store.close();
      folder[Symbol.dispose]();
    },
  };
}

test('each submit has its own limit, from its own good jobs, and a job without one runs on', async () => {
  using q = await setUp();
  const timeouts = q.timeouts();
  for (const id of [1, 2, 3, 4, 5, 6, 7, 8, 9]) timeouts.hear(await q.begin(id));
  q.clock.advance(1000);
  for (const id of [1, 2, 3, 6, 7]) timeouts.hear(await q.end(id, 1000));
  q.clock.advance(999);
  timeouts.look(q.running());
  expect(q.expired).toEqual([]);
  q.clock.advance(2);
  timeouts.hear(await q.end(4, 2001, { type: 'exited', exitCode: 1 }));
  timeouts.look(q.running());
  timeouts.look(q.running());
  expect(q.expired).toEqual(['5 2000']);
  q.clock.advance(1_000_000);
  timeouts.look(q.running());
  expect(q.expired).toEqual(['5 2000']); // only two of the other submit ended well
});

test('another service goes on from what the store knows', async () => {
  using q = await setUp();
  for (const id of [1, 2, 3, 5, 6, 7, 8]) await q.begin(id);
  q.clock.advance(500);
  for (const id of [1, 2, 3]) await q.end(id, 500);
  q.clock.advance(501);
  for (const id of [6, 7, 8]) await q.end(id, 1001);
  q.timeouts().look(q.running());
  expect(q.expired).toEqual(['5 1000']);
});
