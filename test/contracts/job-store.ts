/** What every JobStore keeps to. Each implementation's own test runs it. */
import { expect, test } from 'vitest';
import type { Job } from '../../src/lib/domain/job.ts';
import type { JobStore } from '../../src/lib/domain/ports.ts';
import { smallJob } from '../runner/local-runner.ts';

const EXITED_1 = { type: 'exited', exitCode: 1 } as const;
const LOST = { type: 'lost', reason: 'the machine booted' } as const;

const [a, b, c] = ['a', 'b', 'c'].map((name) => smallJob(name, 'true')) as [Job, Job, Job]; // three names
const large: Job = { ...c, request: { ...c.request, memoryMiB: 500 } };
const waiting = (store: JobStore) => [...store.pending()].map(({ name }) => name);

/** Declares the tests. `open` makes a store in which these jobs wait. */
export function jobStoreContract(open: (jobs: readonly Job[]) => JobStore | Promise<JobStore>): void {
  test('jobs wait in the order in which they came', async () => {
    const store = await open([b, c, a]);
    expect(waiting(store)).toEqual(['b', 'c', 'a']);
    expect(waiting(await open([]))).toEqual([]);
  });

  test('counts the different requests of those that wait', async () => {
    const store = await open([a, b, large]);
    expect(store.waitingKinds).toBe(2);
    await store.claim(large.id);
    expect(store.waitingKinds).toBe(1);
    await store.claim(a.id);
    expect(store.waitingKinds).toBe(1);
    await store.claim(b.id);
    expect(store.waitingKinds).toBe(0);
  });

  test('a job is claimed by one engine alone', async () => {
    const store = await open([a, b]);
    const claims = await Promise.all([1, 2, 3, 4].map(() => store.claim(a.id)));
    expect(claims.filter((one) => one !== undefined)).toEqual([{ job: a.id, number: 1 }]);
    expect(waiting(store)).toEqual(['b']);
    expect(await store.claim(smallJob('unknown', 'true').id)).toBeUndefined();
  });

  test('a job that is put back waits again, and its next attempt has a higher number', async () => {
    const store = await open([a]);
    const first = await store.claim(a.id);
    if (first === undefined) throw new Error('not claimed');
    let told = 0;
    const stop = store.onPending(() => told++);
    await store.unclaim(first);
    expect(told).toBe(1);
    expect(waiting(store)).toEqual(['a']);
    const second = await store.claim(a.id);
    expect(second?.number).toBeGreaterThan(first.number);
    stop();
    if (second !== undefined) await store.unclaim(second);
    expect(told).toBe(1);
  });

  test('a job that failed by itself does not wait again', async () => {
    const store = await open([a]);
    const attempt = await store.claim(a.id);
    if (attempt === undefined) throw new Error('not claimed');
    await store.finish(attempt, EXITED_1);
    expect(waiting(store)).toEqual([]);
    expect(store.waitingKinds).toBe(0);
    expect(await store.claim(a.id)).toBeUndefined();
  });

  test('a lost job waits again, with three attempts at most', async () => {
    const store = await open([a, b]);
    for (let number = 1; number <= 3; number++) {
      const attempt = await store.claim(a.id);
      expect(attempt).toEqual({ job: a.id, number });
      if (attempt !== undefined) await store.finish(attempt, LOST);
    }
    expect(waiting(store)).toEqual(['b']);
  });

  test('only the current attempt counts', async () => {
    const store = await open([a]);
    const first = await store.claim(a.id);
    if (first === undefined) throw new Error('not claimed');
    await store.finish(first, LOST);
    await store.claim(a.id);
    await store.finish(first, LOST);
    expect(waiting(store)).toEqual([]);
  });

  test('claiming while looking through those that wait skips none', async () => {
    const jobs = Array.from({ length: 50 }, (_, i) => smallJob(`j${i}`, 'true'));
    const store = await open(jobs);
    const seen: string[] = [];
    for (const job of store.pending()) {
      seen.push(job.name);
      await store.claim(job.id);
    }
    expect(seen).toEqual(jobs.map(({ name }) => name));
  });
}
