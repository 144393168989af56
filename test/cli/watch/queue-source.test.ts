/** A queue service as the live view sees it, also when it stops, dies, or another one comes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { DoorWayBack } from '../../../src/cli/watch/door-way-back.ts';
import { QueueSource } from '../../../src/cli/watch/queue-source.ts';
import type { WatchEvent } from '../../../src/cli/watch/source.ts';
import { DoorClient } from '../../../src/lib/queue/door-client.ts';
import { RunningService, ServiceFolders } from '../../queue/running-service.ts';
import { TestHosts } from '../../rig/test-hosts.ts';
import { until } from '../../rig/until.ts';

const LONG = 120_000;
const WITHIN = { deadlineMs: 60_000 };
const SOON = { firstMs: 20, longestMs: 100 };

async function watched({ data }: ServiceFolders, connect = () => DoorClient.connect(data)) {
  const source = await QueueSource.open({ connect, pauses: SOON });
  onTestFinished(() => source[Symbol.asyncDispose]());
  const told: WatchEvent[] = [];
  source.onEvents((events) => void told.push(...events));
  const texts = () => told.map(({ text }) => text);
  return {
    ...{ source, told, texts },
    /** Waits until that was told. */
    tells: (text: string | RegExp) =>
      until(() => texts().find((one) => (typeof text === 'string' ? one === text : text.test(one))), {
        ...WITHIN,
        describe: texts,
      }),
    back: () => until(() => source.away === undefined, { ...WITHIN, describe: () => source.away }),
    gone: () => until(() => source.away, WITHIN),
  };
}

/**
 * Waits until the last of what a service remembers to have happened to jobs was told. What was told is all of that: in its
 * order, each thing once, and without those that others came too soon behind. Returns how many were told.
 */
async function expectStory({ service }: RunningService, texts: () => readonly string[]): Promise<number> {
  const happened = service.store
    .eventsAfter(0, 10_000)
    .flatMap((event) =>
      event.type === 'queue:state' ? [`job ${event.job}: ${event.from} -> ${event.state}`] : [],
    )
    .filter((text) => !/: (\S+) -> \1$/.test(text));
  const told = () => texts().flatMap((text) => /^job \d+: ([a-z-]+) -> (?!\1)[a-z-]+/.exec(text)?.[0] ?? []);
  await until(() => told().at(-1) === happened.at(-1), { ...WITHIN, describe: told });
  let at = 0;
  for (const text of told()) {
    at = happened.indexOf(text, at) + 1;
    expect(at, `${text}, in ${told().join('; ')}; of ${happened.join('; ')}`).toBeGreaterThan(0);
  }
  return told().length;
}

test(
  'tells what is there and what happens, streams output, and does what is asked',
  async () => {
    using folders = new ServiceFolders();
    await using service = await RunningService.open(folders);
    await service.submit('true', { name: 'before' });
    await service.reaches(1, 'success');
    const { source, told, texts, tells } = await watched(folders);
    expect(source.title).toBe(`queue on ${service.service.info().host} (${folders.data})`);
    expect([source.away, source.actions]).toEqual([undefined, ['hold', 'release', 'kill']]);

    const id = await service.submit('echo out; echo err >&2; while :; do sleep 0.1; done');
    await tells(`job ${id}: queued -> running on local`);
    expect(texts().some((text) => text.includes('job 1'))).toBe(false);
    expect(told.every(({ at }) => Math.abs(at - Date.now()) < LONG)).toBe(true);
    const overview = await until(async () => {
      const one = await source.overview({ limit: 10 });
      return one.running.jobs[0]?.lastLine !== undefined && one;
    }, WITHIN);
    expect(overview.running.jobs).toMatchObject([
      { id: '2', lastLine: expect.stringMatching(/^(out|err)$/) },
    ]);
    expect((await source.overview({ limit: 10, filter: 'before' })).running.count).toBe(0);

    const held = await service.submit('true', { hold: true });
    const act = async (...[action, job]: Parameters<QueueSource['act']>) => await source.act(action, job);
    expect(await act('hold', String(held))).toBe('job 3: it is held already');
    expect(await act('release', String(held))).toBe('job 3: released');
    await service.reaches(held, 'success');
    expect(await act('kill', '77')).toMatch(/^job 77: .*not known|^job 77: there is no/);

    const stop = new AbortController();
    const pieces = { out: '', err: '' };
    for await (const item of source.output(String(id), stop.signal)) {
      if (item.type === 'chunk') pieces[item.stream] += Buffer.from(item.base64, 'base64').toString();
      if (pieces.out !== '' && pieces.err !== '') stop.abort();
    }
    expect(pieces).toEqual({ out: 'out\n', err: 'err\n' });
    const whole = (async () => {
      const items = [];
      for await (const item of source.output(String(id), new AbortController().signal)) items.push(item);
      return items;
    })();
    expect(await act('kill', String(id))).toBe(`job ${id}: is being ended`);
    expect((await whole).at(-1)).toMatchObject({ type: 'end', state: 'killed' });
    await tells(/^job 2: running -> killed on local: /);
  },
  LONG,
);

test(
  'of much that happens at once, and of much output, the end is told',
  async () => {
    using folders = new ServiceFolders();
    await using service = await RunningService.open(folders);
    const { source, texts, tells } = await watched(folders);
    await service.submitAll(Array<string>(2000).fill('true'), { hold: true });
    await tells(/^job 2000 /);
    expect(texts().length).toBeLessThan(100);
    expect(service.service.store.lastEvent).toBeGreaterThanOrEqual(2000);

    const id = await service.submit('seq 1000000');
    await service.reaches(id, 'success');
    let text = '';
    for await (const item of source.output(String(id), new AbortController().signal))
      if (item.type === 'chunk') text += Buffer.from(item.base64, 'base64').toString();
    expect(text.length).toBeLessThanOrEqual(1024 * 1024);
    expect(text.length).toBeGreaterThan(1024 * 1024 - 10);
    expect(text).toMatch(/^\d{6}\n/);
    expect(text.endsWith('\n1000000\n')).toBe(true);
  },
  LONG,
);

test(
  'whoever leaves while the way to the service hangs does not wait for it; what comes later is closed',
  async () => {
    using folders = new ServiceFolders();
    await using service = await RunningService.open(folders);
    const firstDoor = await DoorClient.connect(folders.data);
    const late = await DoorClient.connect(folders.data);
    const doors = [firstDoor];
    let isAsked = false;
    let arrive = (_: DoorClient) => {};
    const { source, gone } = await watched(folders, () => {
      const door = doors.shift();
      if (door !== undefined) return Promise.resolve(door);
      isAsked = true;
      return new Promise((resolve) => (arrive = resolve));
    });
    firstDoor.close();
    await gone();
    await until(() => isAsked, WITHIN);
    await source[Symbol.asyncDispose]();
    arrive(late);
    await late.closed;
    await expect(service.door.call('info')).resolves.toBeDefined();
  },
  LONG,
);

test(
  'over a restart nothing is told twice, and what was the last to happen is told',
  async () => {
    using folders = new ServiceFolders();
    let service = await RunningService.open(folders);
    let isReachable = true;
    const { source, texts, gone, back, tells } = await watched(folders, async () => {
      if (!isReachable) throw new Error('not to be reached');
      return await DoorClient.connect(folders.data);
    });
    // Nothing has happened when it goes: what happens before the source is back is told all the same.
    for (let round = 1; round <= 3; round++) {
      if (round > 1) await service.submit('true');
      isReachable = false;
      await service.leave();
      expect((await gone()).reason).not.toBe('');
      await expect(source.overview({ limit: 1 })).rejects.toThrow('the service does not answer');
      await expect(source.act('kill', '1')).rejects.toThrow('the service does not answer');
      service = await RunningService.open(folders);
      await service.reaches(await service.submit('true'), 'success');
      isReachable = true;
      await back();
      await tells('the service is back');
      expect((await source.overview({ limit: 1 })).counts).toBeDefined();
    }
    for (let id = 1; id <= 5; id++) await service.reaches(id, 'success');
    expect(await expectStory(service, texts)).toBeGreaterThan(5);
    expect(texts().filter((text) => text === 'the service is back')).toHaveLength(3);
    expect(texts().filter((text) => text.startsWith('the service is away: '))).toHaveLength(3);
    await service.leave();
  },
  LONG,
);

const SERVICE = new URL('../../../src/lib/queue/service.ts', import.meta.url).href;

/** A service in a process of its own. */
async function serve({ data }: ServiceFolders): Promise<ChildProcess> {
  const program = `const { QueueService } = await import(${JSON.stringify(SERVICE)});
await QueueService.open({ dataFolder: ${JSON.stringify(data)} });
console.log('ready');`;
  const args = ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', program];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

test(
  'a service that is killed is away until the next one is there, with all that happened',
  async () => {
    using folders = new ServiceFolders();
    const first = await serve(folders);
    const { texts, tells, gone, back } = await watched(folders);
    const door = await DoorClient.connect(folders.data);
    const jobs = [{ command: 'sleep 1; echo done' }];
    const request = { memoryMiB: 10, cpuCores: 0.01, gpus: 0, gpuMemoryMiB: 0, gpuUtilization: 0 };
    await door.call('submit', {
      ...{ jobs, cwd: folders.project, copyForwards: [], copyBackwards: [] },
      request: { ...request, reserveGpu: false, reserveMachine: false },
    });
    await tells('job 1: queued -> running on local');
    first.kill('SIGKILL');
    await gone();
    await using next = await RunningService.open(folders);
    await next.reaches(1, 'success');
    await back();
    expect(await expectStory(next, texts)).toBeGreaterThan(1);
    door.close();
  },
  LONG,
);

test(
  'another service at the same place is told of, and watched from its beginning; without one there is nothing to open',
  async () => {
    using folders = new ServiceFolders();
    await expect(watched(folders)).rejects.toMatchObject({ code: 'no-service' });
    const service = await RunningService.open(folders);
    const { source, texts, tells, gone, back } = await watched(folders);
    for (let id = 1; id <= 3; id++) {
      await service.reaches(await service.submit('true'), 'success');
      await tells(new RegExp(`^job ${id}: running -> success`));
    }
    await service.leave();
    await gone();
    renameSync(folders.data, join(folders.root, 'earlier'));
    await using other = await RunningService.open(folders);
    await back();
    expect(texts().at(-1)).not.toBe('the service is back');
    await tells('another service is here now, with jobs of its own');
    const before = texts().length;
    await other.submit('true');
    await tells(/^job 1 \(job_1\): queued/);
    await until(
      () =>
        texts()
          .slice(before)
          .some((text) => /^job 1: running -> success/.test(text)),
      WITHIN,
    );
    expect((await source.overview({ limit: 9 })).ended.jobs).toMatchObject([{ id: '1' }]);
    rmSync(join(folders.root, 'earlier'), { recursive: true });
  },
  LONG,
);

test(
  'over ssh it comes back as well: over the same connection when the service went, over another when that went, too',
  async () => {
    // In loopback mode sshd runs as this account, so what is reached is the service of this test.
    await using hosts = await TestHosts.start([{ name: 'server' }], { mode: 'loopback' });
    using folders = new ServiceFolders();
    const server = hosts.get('server');
    let service = await RunningService.open(folders);
    const warnings: string[] = [];
    const way = { host: 'server', dataFolder: folders.data, sshConfig: hosts.sshConfigPath };
    await using door = new DoorWayBack(way, (line) => warnings.push(line));
    const { source, tells, gone, back } = await watched(folders, () => door.connect());
    const logins = async () =>
      (await readFile(server.sshdLogPath, 'utf8')).split('Accepted publickey').length - 1;
    const before = await logins();
    await service.leave();
    await gone();
    service = await RunningService.open(folders);
    await service.submit('true');
    await back();
    await tells(/^job 1: running -> success/);
    expect([warnings, await logins()]).toEqual([[], before]);

    await server.cut();
    await gone();
    await server.heal();
    await tells(/^the service is away: /);
    await until(async () => (await logins()) > before, WITHIN);
    await back();
    await service.submit('true');
    await tells(/^job 2: running -> success/);
    expect((await source.overview({ limit: 5 })).ended.count).toBe(2);
    await service.leave();
  },
  LONG,
);
