import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../src/lib/stores/memory.ts';
import { jobStoreContract } from '../contracts/job-store.ts';
import { smallJob } from '../runner/local-runner.ts';

describe('as a JobStore', () => jobStoreContract((jobs) => new MemoryStore(jobs)));

test('a job that is added is told of and waits behind the others', () => {
  const store = new MemoryStore([smallJob('a', 'true')]);
  let told = 0;
  store.onPending(() => told++);
  store.add(smallJob('b', 'true'));
  expect(told).toBe(1);
  expect([...store.pending()].map(({ name }) => name)).toEqual(['a', 'b']);
});

test('remembers how a job ended', async () => {
  const job = smallJob('a', 'true');
  const store = new MemoryStore([job]);
  expect(store.outcomeOf(job.id)).toBeUndefined();
  const attempt = await store.claim(job.id);
  if (attempt === undefined) throw new Error('not claimed');
  expect(store.outcomeOf(job.id)).toBeUndefined();
  await store.finish(attempt, { type: 'exited', exitCode: 4 });
  expect(store.outcomeOf(job.id)).toEqual({ type: 'exited', exitCode: 4 });
});
