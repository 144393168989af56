/** A batch as the live view sees it: in the process that runs it, and through its door. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { BatchDoor } from '../../../src/cli/watch/batch-door.ts';
import { BatchDoorSource } from '../../../src/cli/watch/batch-door-source.ts';
import { BatchEvents } from '../../../src/cli/watch/batch-events.ts';
import { BatchSource, batchTitle } from '../../../src/cli/watch/batch-source.ts';
import type { WatchSource } from '../../../src/cli/watch/source.ts';
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
  let end: (said: string) => void = () => {};
  const over = new Promise<string>((resolve) => {
    end = resolve;
  });
  const options = { title: batchTitle(file, results), events, over };
  const place = batchPlace(file, results, folder);
  const door = await BatchDoor.open(batch, place, options);
  await batch.connect();
  return {
    ...{ batch, door, place, end, events, file },
    here: new BatchSource(batch, options),
    there: () => BatchDoorSource.open({ place, file, firstWaitMs: 0, pauseMs: 50 }),
    name: (line: number) => `${jobNameStem(file)}.${line}`,
    close: async () => {
      end('closed');
      await door.close();
      await batch.close();
    },
  };
}

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

  run.end('that was it');
  expect(await there.over).toBe('that was it');
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
  const again = await BatchDoor.open(run.batch, run.place, { ...run.here, events: run.events });
  await until(() => there.away === undefined, { deadlineMs: 10_000 });
  expect((await there.overview({ limit: 1 })).counts.queued).toBe(1);
  expect(heard.at(-1)).toBe('the batch answers again');
  await there[Symbol.asyncDispose]();
  await again.close();

  await mkdir(run.place.door);
  await writeFile(join(run.place.door, 'door'), 'no folder');
  await expect(BatchDoor.open(run.batch, run.place, { ...run.here, events: run.events })).rejects.toThrow();
  await expect(run.there()).rejects.toThrow(/is held by process \d+, which cannot be watched/);
  await run.batch.close();
});
