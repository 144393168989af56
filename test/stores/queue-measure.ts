/** Measures the queue's store: `node --import tsx test/stores/queue-measure.ts [JOBS]`. Not a test: machines differ. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { jobId } from '../../src/lib/domain/job.ts';
import { QUEUE_FILE } from '../../src/lib/stores/queue-database.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec, temporaryFolder } from './queue-jobs.ts';

const jobs = Number(process.argv[2] ?? 100_000);
const spec = (n: number) =>
  smallSpec(`job-${n}`, {
    command: `python train.py --seed ${n} --out results/${n}`,
    env: { SEED: String(n) },
  });

async function timed(what: string, times: number, work: () => Promise<unknown> | unknown): Promise<number> {
  const from = performance.now();
  await work();
  const ms = performance.now() - from;
  console.log(
    `${what}: ${ms.toFixed(1)} ms${times === 1 ? '' : `, ${((ms * 1000) / times).toFixed(1)} µs each`}`,
  );
  return ms / times;
}

/** Median of single adds, milliseconds, to each of the stores in turn: what else the disk does then hits all alike. */
async function addOneByOne(stores: readonly QueueStore[]): Promise<number[]> {
  const took = stores.map((): number[] => []);
  for (let n = 0; n < 400; n++) {
    for (const [index, store] of stores.entries()) {
      const from = performance.now();
      const ids = await store.add([spec(n)]);
      took[index]?.push(performance.now() - from);
      await store.kill(ids, 'measured');
    }
  }
  return took.map((times) => times.sort((a, b) => a - b)[times.length >> 1] ?? 0);
}

using folder = temporaryFolder();
let store = await QueueStore.open(folder.path);
console.log(`journal: ${store.journal}`);
using smallFolder = temporaryFolder();
const small = await QueueStore.open(smallFolder.path);
await small.add(Array.from({ length: 100 }, (_, n) => spec(n)));
await timed(`add ${jobs}`, jobs, () => store.add(Array.from({ length: jobs }, (_, n) => spec(n))));
const [few = 0, many = 0] = await addOneByOne([small, store]);
small.close();
console.log(
  `one add, median of 400: ${few.toFixed(3)} ms at 100 waiting, ${many.toFixed(3)} ms at ${jobs}; ratio ${(many / few).toFixed(2)}`,
);
store.close();
await timed('start', 1, async () => {
  store = await QueueStore.open(folder.path);
});
await timed('counts and first 100', 1, () => [
  store.counts(),
  store.list({ states: ['queued'], limit: 100 }),
]);
await timed('through all that wait', 1, () => [...store.pending()].length);
await timed('claim, start, end 2000', 2000, async () => {
  let n = 0;
  for (const { id } of store.pending()) {
    const attempt = await store.claim(jobId(id));
    if (attempt === undefined) throw new Error('not claimed');
    await store.finish(attempt, { type: 'exited', exitCode: 0 });
    if (++n === 2000) break;
  }
});
/** What a verb takes, and how long others have to wait meanwhile. */
async function timedBeside(what: string, work: () => Promise<unknown>): Promise<void> {
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  await timed(what, jobs, work);
  longest = Math.max(longest, performance.now() - last);
  clearInterval(timer);
  const megabytes = ['', '-wal'].map((end) => {
    const file = join(folder.path, `${QUEUE_FILE}${end}`);
    return existsSync(file) ? (statSync(file).size / 1e6).toFixed(1) : 'none';
  });
  console.log(`  longest turn ${longest.toFixed(1)} ms; file and journal ${megabytes.join(' and ')} MB`);
}

async function listAll(): Promise<void> {
  for (let from = 1; ; ) {
    const page = store.list({ from, limit: 1000 });
    const last = page.at(-1);
    if (last === undefined) return;
    from = last.id + 1;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

await timed('counts, ids by machine, claimed', 1, () => [
  store.counts(),
  store.waitingByMachine(),
  store.claimed(),
]);
await timedBeside('list all in pages', listAll);
await timedBeside('hold all', () => store.hold(store.ids(['queued'])));
await timedBeside('release all', () => store.release(store.ids(['user-hold'])));
await timedBeside('kill all', () => store.kill(store.ids(['queued']), 'measured'));
await timedBeside('list all in pages, ended', listAll);
await timedBeside('rerun all', () => store.rerun(store.ids(['killed'])));
await timed('export', 1, () => JSON.stringify(store.exportState()).length);
await timedBeside('kill all', () => store.kill(store.ids(['queued']), 'measured'));
await timedBeside('clean', () => store.clean(0));
store.close();
