/** What jobs print is read from real files, while they grow, from the start of an attempt to the last byte. */
import { spawnSync } from 'node:child_process';
import { appendFile, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { QueueJob } from '../../src/lib/domain/queue.ts';
import { outputsOf, streamOutput } from '../../src/lib/queue/job-output.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { scratch } from '../remote/run-over.ts';
import { until } from '../rig/until.ts';
import { smallSpec } from '../stores/queue-jobs.ts';

const GOOD: JobOutcome = { type: 'exited', exitCode: 0 };
const m1 = machineName('m1');
const policy = { isWorth: () => true, canRunElsewhere: () => true, canRun: () => true };

let folder: Awaited<ReturnType<typeof scratch>>;
let store: QueueStore;
let results: string;

beforeEach(async () => {
  folder = await scratch();
  store = await QueueStore.open(folder.path, { policy });
  results = join(folder.path, 'job_results');
  await mkdir(results);
});

afterEach(async () => {
  store.close();
  await folder[Symbol.asyncDispose]();
});

const filesOf = (job: QueueJob) => outputsOf(job.spec, job.id, join(folder.path, 'logs'));

/** A new job, and how to begin and end its attempts. */
async function job(more: Parameters<typeof smallSpec>[1] = {}) {
  const name = `job_${store.nextId}`;
  const [id = 0] = await store.add([smallSpec(name, { results, retries: 1, ...more })]);
  const out = join(results, `${name}.out`);
  let number = 0;
  return {
    ...{ id, out, err: join(results, `${name}.err`) },
    begin: async (text = '') => {
      await store.claim(jobId(String(id)), m1);
      number += 1;
      await writeFile(out, text);
      await store.noteStarted({ job: jobId(String(id)), number }, m1, 'key', Date.now());
    },
    end: (outcome: JobOutcome) => store.finish({ job: jobId(String(id)), number }, outcome, m1),
  };
}

/** Reads in the background: what has come, as text, and the rest of it. */
function read(
  id: number,
  { signal, ...how }: { follow?: boolean; signal?: AbortSignal; tailBytes?: number } = {},
) {
  const items: string[] = [];
  const sizes: number[] = [];
  const stream = streamOutput({
    store,
    id,
    ...how,
    outputsOf: filesOf,
    pollMs: 5,
    ...(signal ? { signal } : {}),
  });
  const done = (async () => {
    for await (const item of stream) {
      if (item.type === 'chunk') {
        const bytes = Buffer.from(item.base64, 'base64');
        sizes.push(bytes.length);
        items.push(`${item.stream} ${bytes.toString()}`);
      } else if (item.type === 'left-out') items.push(`left out of ${item.stream}`);
      else
        items.push(
          item.type === 'end'
            ? `end ${item.state} ${JSON.stringify(item.outcome)}`
            : `restarted ${item.attempt}`,
        );
    }
  })();
  return { items, sizes, done };
}

test('a job is followed from before its start to its last byte', async () => {
  const one = await job();
  const { items, done } = read(one.id, { follow: true });
  await one.begin('a');
  await until(() => items.length === 1);
  await appendFile(one.out, 'b');
  await until(() => items.length === 2);
  await writeFile(one.err, 'wrong');
  await until(() => items.length === 3);
  await appendFile(one.out, 'last');
  await one.end(GOOD);
  await done;
  expect(items).toEqual(['out a', 'out b', 'err wrong', 'out last', `end success ${JSON.stringify(GOOD)}`]);
});

test('another attempt is told, and read from its beginning, not what the earlier one left', async () => {
  const one = await job();
  await one.begin('first attempt');
  const { items, done } = read(one.id, { follow: true });
  await until(() => items.length === 1);
  await rename(one.out, join(results, 'job_1.attempt-1.out'));
  await one.end({ type: 'exited', exitCode: 3 });
  await store.claim(jobId('1'), m1);
  await writeFile(one.out, 'left'); // by whoever; the second attempt has not begun
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(items).toEqual(['out first attempt']);
  await writeFile(one.out, 'second');
  await store.noteStarted({ job: jobId('1'), number: 2 }, m1, 'key', Date.now());
  await until(() => items.length === 3);
  await appendFile(one.out, ' end');
  await store.finish({ job: jobId('1'), number: 2 }, GOOD, m1);
  await done;
  expect(items.slice(1)).toEqual([
    'restarted 2',
    'out second',
    'out  end',
    `end success ${JSON.stringify(GOOD)}`,
  ]);
});

test('without follow what is there is told; large output in pieces, both streams in turn', async () => {
  const one = await job();
  await one.begin('x'.repeat(600_000));
  await writeFile(one.err, 'y'.repeat(300_000));
  const { items, sizes, done } = read(one.id);
  await done;
  expect(items.map((item) => item.slice(0, 3))).toEqual(['out', 'err', 'out', 'err', 'out', 'end']);
  expect(sizes).toEqual([262_144, 262_144, 262_144, 37_856, 75_712]);
});

test('what never was, or is no file, is empty; a job that never began shows nothing of an older file', async () => {
  const fifo = join(folder.path, 'fifo');
  expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
  const one = await job({ stdout: fifo, stderr: results });
  await writeFile(one.out, 'of another queue');
  const waiting = read(one.id);
  await waiting.done;
  expect(waiting.items).toEqual(['end queued undefined']);
  await one.begin();
  const { items, done } = read(one.id);
  await done;
  expect(items).toEqual(['end running undefined']);
  expect(await read(99).done.catch((error: Error) => error.message)).toBe('there is no job 99');
});

test('of a job that runs here the log is read, to which all its attempts append', async () => {
  const one = await job({ runHere: true, script: { name: 'a', id: 'b', args: [] } });
  const log = join(folder.path, 'logs', 'job_1.txt');
  await mkdir(join(folder.path, 'logs'));
  await one.begin();
  await writeFile(log, 'one ');
  const { items, done } = read(one.id, { follow: true });
  await until(() => items.length === 1);
  await one.end({ type: 'exited', exitCode: 3 });
  await one.begin();
  await appendFile(log, 'two');
  await one.end(GOOD);
  await done;
  expect(items).toEqual(['out one ', 'out two', `end success ${JSON.stringify(GOOD)}`]);
});

test('nobody who left is waited for', async () => {
  const one = await job();
  const abort = new AbortController();
  const { items, done } = read(one.id, { follow: true, signal: abort.signal });
  abort.abort();
  await done;
  expect(items).toEqual([]);
});

test('of what is there already only the end is read, from a whole line on; what comes is read whole', async () => {
  const one = await job();
  const lines = Array.from({ length: 300_000 }, (_, n) => `line ${n}\n`);
  await one.begin(lines.join(''));
  await writeFile(one.err, 'short\n');
  const { items, sizes, done } = read(one.id, { follow: true, tailBytes: 1000 });
  await until(() => items.length === 3);
  expect(sizes[0]).toBeGreaterThan(900);
  expect(sizes[0]).toBeLessThanOrEqual(1000);
  expect(items[0]).toBe('left out of out');
  expect(items[1]).toMatch(/^out line \d+\n/);
  expect(items[1]).toMatch(/\nline 299999\n$/);
  expect(items[2]).toBe('err short\n');
  const more = lines.slice(0, 1000).join('');
  await appendFile(one.out, more);
  const since = () => items.slice(3).join('').replaceAll('out ', '');
  await until(() => since().length >= more.length);
  expect(since()).toBe(more);
  const before = items.length;
  // Another attempt is told whole.
  await rename(one.out, join(results, 'job_1.attempt-1.out'));
  await one.end({ type: 'exited', exitCode: 3 });
  await store.claim(jobId('1'), m1);
  await writeFile(one.out, more);
  await writeFile(one.err, '');
  await store.noteStarted({ job: jobId('1'), number: 2 }, m1, 'key', Date.now());
  await until(() => items.length === before + 2);
  expect(items.slice(before)).toEqual(['restarted 2', `out ${more}`]);
  await store.finish({ job: jobId('1'), number: 2 }, GOOD, m1);
  await done;
});

test('the end of an output begins where a line does, or where a character does', async () => {
  const end = async (text: string, tailBytes: number) => {
    const one = await job();
    await one.begin(text);
    const { items, done } = read(one.id, { tailBytes });
    await done;
    const [first = ''] = items;
    const isCut = first === 'left out of out';
    const told = items.slice(isCut ? 1 : 0, -1).join('');
    expect(isCut).toBe(Buffer.byteLength(text) > tailBytes);
    return told.replace(/^out /, '');
  };
  expect(await end('abc\ndef\nghi\n', 8)).toBe('def\nghi\n'); // just where one begins
  expect(await end('abc\ndef\nghi\n', 7)).toBe('ghi\n');
  expect(await end('abc\ndef\nghi\n', 12)).toBe('abc\ndef\nghi\n');
  expect(await end('abc\ndef\nghi\n', 0)).toBe('');
  expect(await end('a bar without an end', 6)).toBe('an end');
  expect(await end('größe', 4)).toBe('ße'); // the first byte of four is the second one of ö
  // From each byte of a character of four bytes on.
  const faces = '\u{1f600}'.repeat(5);
  for (const bytes of [5, 6, 7, 8]) expect(await end(faces, bytes)).toBe('\u{1f600}'.repeat(bytes >> 2));
  // What has no end of a line for long is shown as it is.
  const bar = '#'.repeat(200_000);
  expect(await end(`${bar}\nlast\n`, 100_000)).toBe(`${'#'.repeat(99_994)}\nlast\n`);
});
