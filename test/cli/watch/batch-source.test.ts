/** A batch as the live view sees it: in the process that runs it, and through its door. */
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { BatchDoor } from '../../../src/cli/watch/batch-door.ts';
import { BatchDoorSource } from '../../../src/cli/watch/batch-door-source.ts';
import { BatchEvents } from '../../../src/cli/watch/batch-events.ts';
import { type BatchEnd, BatchSource, batchTitle } from '../../../src/cli/watch/batch-source.ts';
import type { WatchEvent, WatchSource } from '../../../src/cli/watch/source.ts';
import { jobNameStem } from '../../../src/lib/batch/batch-file.ts';
import { batchPlace } from '../../../src/lib/batch/batch-place.ts';
import { BatchRun } from '../../../src/lib/batch/batch-run.ts';
import type { OutputItem } from '../../../src/lib/domain/overview.ts';
import { DEFAULT_REQUEST } from '../../../src/lib/domain/request-defaults.ts';
import { findMachines } from '../../../src/lib/machine/find-machines.ts';
import { DoorClient } from '../../../src/lib/queue/door-client.ts';
import { TestHosts } from '../../rig/test-hosts.ts';
import { until } from '../../rig/until.ts';

let hosts: TestHosts;
let folder: string;

beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'seen' }]);
});
afterAll(() => hosts.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'batch-source-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** A batch with its door, as execute_batch has it. */
async function start(lines: readonly string[], results = 'job_results') {
  const file = join(folder, 'b.sh');
  await writeFile(file, lines.map((line) => `${line}\n`).join(''));
  await writeFile(join(folder, 'seen.yaml'), hosts.get('seen').machineFile('host_key_checking: no'));
  const events = new BatchEvents(results);
  const batch = await BatchRun.open({
    file,
    results,
    cwd: folder,
    machines: await findMachines(['./seen.yaml'], { cwd: folder }),
    defaults: {
      request: { ...DEFAULT_REQUEST, gpus: 0, memoryMiB: 1, cpuCores: 0.01 },
      copyForwards: [],
      shareForwards: [],
      copyBackwards: [],
    },
    tuning: { ssh: { configFile: '/dev/null' }, outputPollMs: 50 },
  });
  batch.events.subscribe((event) => events.report(event));
  let end: (how: BatchEnd) => void = () => {};
  const over = new Promise<BatchEnd>((resolve) => {
    end = resolve;
  });
  const options = { title: batchTitle(file, results), events, over };
  const place = batchPlace(file, results, folder);
  const door = await BatchDoor.open(batch, place, options);
  await batch.connect();
  return {
    ...{ batch, door, place, end, events, file, options },
    here: new BatchSource(batch, options),
    there: () => BatchDoorSource.open({ place, file, firstWaitMs: 0, pauseMs: 50 }),
    name: (line: number) => `${jobNameStem(file)}.${line}`,
    close: async () => {
      end({ text: 'closed' });
      await door.close();
      await batch.close();
    },
  };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heardBy(source: WatchSource): string[] {
  const heard: string[] = [];
  source.onEvents((events) => heard.push(...events.map(({ text }) => text)));
  return heard;
}

const HELD = 'echo began; until [ -e ~/GO ]; do sleep 0.05; done; echo ended';
const held = (name: string) => HELD.replace('GO', name);
const touch = (name: string) => hosts.get('seen').exec(`touch ~/${name}`);

test('through its door a batch looks as it does in its own process: overview, events, output, kill, end', async () => {
  const run = await start([held('first'), 'sleep 6021']);
  await using there = await run.there();
  const heard = { here: heardBy(run.here), there: heardBy(there) };
  expect(there.title).toBe(run.here.title);
  expect(there.title).toBe(`batch ${run.file}, results in job_results`);
  const done = run.batch.run();
  const seen = () => there.overview({ limit: 10 });
  await until(async () => (await seen()).running.jobs.filter(({ lastLine }) => lastLine).length === 1, {
    deadlineMs: 20_000,
  });
  const [one, other] = await Promise.all([seen(), run.here.overview({ limit: 10 })]);
  expect({ ...one, at: 0 }).toEqual({ ...other, at: 0 });
  expect((await there.overview({ limit: 10, filter: '6021' })).running.count).toBe(1);

  const items: OutputItem[] = [];
  const reading = (async () => {
    const signal = new AbortController().signal;
    for await (const item of there.output(run.name(1), signal)) items.push(item);
  })();
  expect(await there.act('kill', run.name(2))).toContain('is being ended');
  run.events.note('a word from the command');
  await touch('first');
  await done;
  await reading;
  expect(items.at(-1)).toMatchObject({ type: 'end', state: 'success' });
  const text = items.map((item) => (item.type === 'chunk' ? atob(item.base64) : '')).join('');
  expect(text).toBe('began\nended\n');
  await until(() => heard.there.some((line) => /^2 |^1 done, 1 failed/.test(line)), { deadlineMs: 10_000 });
  expect(heard.there).toEqual(heard.here);
  expect(heard.here).toContain('a word from the command');
  expect(heard.here.join('\n')).toMatch(/failed: .*\.2; sleep 6021 \(cancelled: ended by hand in --watch/);

  run.end({ text: 'that was it', badLines: 1 });
  expect([await there.over, there.badLines]).toEqual(['that was it', 1]);
  await run.close();
  expect(existsSync(run.place.door)).toBe(false);
});

test('a door of another kind of question, or of jobs that are not there, says so and stays open', async () => {
  const run = await start(['true']);
  const client = await DoorClient.connect(run.place.door);
  for (const args of [
    undefined,
    {},
    { limit: -1 },
    { limit: 'x' },
    { limit: 1, filter: 3 },
    { limit: 1, more: 1 },
  ])
    await expect(client.call('overview', args)).rejects.toThrow(/limit|filter|more|object/);
  await expect(client.call('kill', { id: 'no\x1b[2J' })).rejects.toThrow(
    'there is no job no\\x1b[2J in this batch',
  );
  await expect(client.call('kill', { id: 7 })).rejects.toThrow('id: expected text');
  await expect(client.call('submit', {})).rejects.toThrow("knows no 'submit'");
  expect(await client.call('info')).toMatchObject({ pid: process.pid });
  client.close();
  await run.close();
  await expect(run.there()).rejects.toThrow('b.sh is not run any more');
});

test('a results folder whose path is too long for a socket is watched all the same', async () => {
  const results = join(folder, 'x'.repeat(120), 'results');
  const run = await start(['true'], results);
  const there = await run.there();
  expect((await there.overview({ limit: 1 })).counts.queued).toBe(1);
  await there[Symbol.asyncDispose]();
  await run.close();
  expect(existsSync(run.place.door)).toBe(false);
});

test('one that cannot have a door says why, and a door that closes without a word of the end is away', async () => {
  const run = await start(['true']);
  const there = await run.there();
  const heard = heardBy(there);
  await run.door.close(); // its process holds the batch on
  await until(() => there.away !== undefined, { deadlineMs: 10_000 });
  await expect(there.overview({ limit: 1 })).rejects.toThrow('the batch does not answer');
  const again = await BatchDoor.open(run.batch, run.place, run.options);
  await until(() => there.away === undefined, { deadlineMs: 10_000 });
  expect((await there.overview({ limit: 1 })).counts.queued).toBe(1);
  expect(heard.at(-1)).toBe('the batch answers again');
  await there[Symbol.asyncDispose]();
  await again.close();

  await mkdir(run.place.door);
  await writeFile(join(run.place.door, 'door'), 'no folder');
  await expect(BatchDoor.open(run.batch, run.place, run.options)).rejects.toThrow();
  await expect(run.there()).rejects.toThrow(/is held by process \d+, which cannot be watched/);
  await run.batch.close();
});

test('no door is opened, nor looked for, in a folder that somebody else may have put there', async () => {
  const run = await start(['true']);
  await run.door.close();
  const { door } = run.place;
  const victim = join(folder, 'victim');
  await mkdir(victim);
  await chmod(victim, 0o755);
  await symlink(victim, door);
  await expect(BatchDoor.open(run.batch, run.place, run.options)).rejects.toThrow('it is no folder');
  await expect(run.there()).rejects.toThrow('it is no folder');
  expect((await stat(victim)).mode & 0o777).toBe(0o755);
  expect(await readdir(victim)).toEqual([]);
  await rm(door);

  await mkdir(door);
  await chmod(door, 0o777);
  await expect(BatchDoor.open(run.batch, run.place, run.options)).rejects.toThrow('others than its owner');
  await rm(door, { recursive: true });

  await using _again = await BatchDoor.open(run.batch, run.place, run.options);
  if (process.getuid?.() === 0) {
    await chown(door, 12345, 12345);
    await expect(run.there()).rejects.toThrow('it belongs to the user with the id 12345');
    await chown(door, 0, 0);
  }
  await run.close();
});

test('whatever happens, those who watch hear the newest of it together, and it leaves nothing behind', async () => {
  const run = await start(['true']);
  const client = await DoorClient.connect(run.place.door);
  const events = client.stream('events');
  await events.next();
  run.events.note('first of all');
  expect((await events.next()).value).toMatchObject([{ text: 'first of all' }]);
  run.events.note('to be seen', true);
  for (let i = 0; i < 20_000; i++) run.events.note(`line ${i}`);
  const { value } = await events.next();
  const newest = Array.from({ length: 9 }, (_, i) => `line ${i + 19_991}`);
  expect((value as WatchEvent[]).map(({ text }) => text)).toEqual(['to be seen', ...newest]);

  const wakeUp = async (times: number) => {
    for (let i = 0; i < times; i++) {
      run.events.note('again');
      run.events.flush();
      await events.next();
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = await wakeUp(1000);
  const grown = (await wakeUp(10_000)) - before;
  expect(grown).toBeLessThan(1_500_000); // 150 bytes for each
  client.close();
  await run.close();
}, 60_000);
