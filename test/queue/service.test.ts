import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { JobAnswer, WaitItem } from '../../src/lib/queue/requests.ts';
import { QueueService } from '../../src/lib/queue/service.ts';
import { smallDisk } from '../files/small-disk.ts';
import { runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';
import { RunningService, ServiceFolders, TINY_REQUEST } from './running-service.ts';

vi.setConfig({ testTimeout: 60_000 });

let folders: ServiceFolders;
beforeEach(() => {
  folders = new ServiceFolders();
});
afterEach(() => folders[Symbol.dispose]());

const gate = (name: string) => join(folders.root, name);
const waitFor = (name: string) => `until [ -e ${gate(name)} ]; do sleep 0.02; done`;
const open = (name: string) => writeFileSync(gate(name), '');

test('a job that is submitted runs, and its result is where its folder is', async () => {
  await using running = await RunningService.open(folders);
  const id = await running.submit('echo "$JOB_ID $JOB_NAME $WHO" && echo problem >&2 && pwd', {
    name: 'hello',
    env: { WHO: 'me' },
  });
  expect(id).toBe(1);
  const job = await running.reaches(id, 'success');
  expect(running.out('hello_1')).toMatch(/^1 hello_1 me\n.*\/work\n$/);
  expect(readFileSync(join(folders.results, 'hello_1.err'), 'utf8')).toBe('problem\n');
  expect(JSON.parse(readFileSync(join(folders.results, 'hello_1.json'), 'utf8'))).toMatchObject({
    name: 'hello_1',
    batch: running.service.id,
    attempt: 1,
    exit_code: 0,
  });
  expect(job).toMatchObject({ machine: 'local', attempt: 1, outcome: { type: 'exited', exitCode: 0 } });
  expect(JSON.stringify(job)).not.toContain('"env"');
});

test('files go there as they are now and come back; later edits do not reach a waiting job', async () => {
  await using running = await RunningService.open(folders);
  writeFileSync(join(folders.project, 'input.txt'), 'then');
  const first = await running.submit(waitFor('go'));
  const id = await running.submit('cat input.txt; echo made >made.txt', {
    copyForwards: ['input.txt'],
    copyBackwards: 'changed',
    dependsOn: [first],
  });
  writeFileSync(join(folders.project, 'input.txt'), 'later');
  open('go');
  await running.reaches(id, 'success');
  expect(running.out(`job_${id}`)).toBe('then');
  expect(readFileSync(join(folders.results, `job_${id}`, 'made.txt'), 'utf8')).toBe('made\n');
});

test('a parent that fails, is killed or aborted aborts its children; --depends-on-any runs after any end', async () => {
  await using running = await RunningService.open(folders);
  const bad = await running.submit(`${waitFor('go')}; exit 3`);
  const child = await running.submit('true', { dependsOn: [bad] });
  const grandchild = await running.submit('true', { dependsOn: [child] });
  const after = await running.submit('true', { dependsOn: [bad, grandchild], dependsOnAny: true });
  expect((await running.get(grandchild)).state).toBe('holding');
  open('go');
  await running.reaches(after, 'success');
  expect((await running.get(bad)).state).toBe('fail');
  expect(await running.get(child)).toMatchObject({
    state: 'abort',
    reason: expect.stringContaining('failed'),
  });
  expect((await running.get(grandchild)).state).toBe('abort');
  await expect(running.submit('true', { dependsOn: [99] })).rejects.toThrow('99');
});

test('stop leaves jobs running; the next service adopts them, says so, and has their results', async () => {
  const command = `echo before; ${waitFor('go')}; echo after; exit 4`;
  let id = 0;
  {
    await using running = await RunningService.open(folders);
    id = await running.submit(command);
    await running.reaches(id, 'running');
    await until(() => existsSync(join(folders.results, 'job_1.out')) && running.out('job_1') === 'before\n');
    expect(await running.service.stop({ how: 'leave' })).toEqual({ running: 1, waiting: 0 });
  }
  await using again = await RunningService.open(folders);
  expect((await again.get(id)).state).toBe('running');
  await until(() => again.notes.some((line) => /adopted on local: 1 running/.test(line)), {
    deadlineMs: 10_000,
    describe: () => again.notes,
  });
  open('go');
  const job = await again.reaches(id, 'fail');
  expect(job).toMatchObject({ attempt: 1, outcome: { type: 'exited', exitCode: 4 } });
  expect(again.out('job_1')).toBe('before\nafter\n');
});

test('what ended while there was no service is brought home by the next', async () => {
  {
    await using running = await RunningService.open(folders);
    await running.submit(`${waitFor('go')}; echo done; touch ${gate('ended')}`);
    await running.reaches(1, 'running');
    await until(async () => (await running.get(1)).startedAt);
  }
  open('go');
  await until(() => existsSync(gate('ended')));
  await using again = await RunningService.open(folders);
  await again.reaches(1, 'success');
  expect(again.out('job_1')).toBe('done\n');
});

test('kill ends what runs and what waits, says of each id what became of it, and counts through a restart', async () => {
  {
    await using running = await RunningService.open(folders);
    await running.submit(`trap '' TERM; touch ${gate('began')}; while :; do sleep 0.1; done`, {
      killAfterMs: 500,
    });
    await running.submit('true', { hold: true });
    await running.submit('true');
    await running.reaches(3, 'success');
    await until(() => existsSync(gate('began')));
    const answers = (await running.door.call('kill', { ids: [1, 2, 3, 77] })) as JobAnswer[];
    expect(answers.map(({ id, isDone }) => [id, isDone])).toEqual([
      [1, true],
      [2, true],
      [3, false],
      [77, false],
    ]);
    expect((await running.get(2)).state).toBe('killed');
  }
  // The service was let go of while the job had its grace: the next one goes on to end it.
  await using again = await RunningService.open(folders);
  expect(await again.reaches(1, 'killed')).toMatchObject({ reason: 'killed by hand' });
});

test('stop --when-idle is refused with how many run and wait; stop --kill ends what runs, and what waits stays', async () => {
  {
    await using running = await RunningService.open(folders);
    await running.submit(`touch ${gate('began')}; sleep 1000`);
    await running.submit('true', { hold: true });
    await until(() => existsSync(gate('began')));
    await expect(running.door.call('stop', { how: 'when-idle' })).rejects.toThrow(/1 job runs and 1 wait/);
    expect(await running.door.call('stop', { how: 'kill' })).toEqual({ running: 0, waiting: 1 });
    await running.service.stopped;
  }
  await using again = await RunningService.open(folders);
  expect((await again.get(1)).state).toBe('killed');
  expect((await again.get(2)).state).toBe('user-hold');
  expect(again.notes).toEqual([]);
});

test('a second service on the same folder is refused, and its files are private', async () => {
  await using running = await RunningService.open(folders);
  await running.submit('true');
  await expect(QueueService.open({ dataFolder: folders.data })).rejects.toThrow(/already runs/);
  await running.reaches(1, 'success');
  for (const file of ['queue.sqlite', 'machines.json', 'service-id'])
    expect(statSync(join(folders.data, file)).mode & 0o077).toBe(0);
});

test('rerun keeps the earlier result beside', async () => {
  await using running = await RunningService.open(folders);
  await running.submit(`[ -e ${gate('go')} ] && echo good`);
  await running.reaches(1, 'fail');
  open('go');
  await running.door.call('rerun', { ids: 'failed' });
  await running.reaches(1, 'success');
  expect(running.out('job_1')).toBe('good\n');
  expect(JSON.parse(readFileSync(join(folders.results, 'job_1.attempt-1.json'), 'utf8')).exit_code).toBe(1);
});

test('retries, time limits and output files are each job’s own', async () => {
  await using running = await RunningService.open(folders);
  const [flaky, slow, elsewhere] = [
    await running.submit(`echo try $JOB_ATTEMPT; [ "$JOB_ATTEMPT" = 3 ]`, { retries: 2 }),
    await running.submit('sleep 1000', { timeoutMs: 300 }),
    await running.submit('echo elsewhere; echo wrong >&2', {
      stdout: 'out-%j.txt',
      stderr: 'sub/err-%j.txt',
    }),
  ].slice(0, 2);
  mkdirSync(join(folders.project, 'sub'), { recursive: true });
  expect((await running.reaches(flaky as number, 'success')).attempt).toBe(3);
  expect(running.out('job_1')).toBe('try 3\n');
  expect((await running.reaches(slow as number, 'fail')).outcome).toMatchObject({ type: 'timed-out' });
  void elsewhere;
  await running.reaches(3, 'success');
  expect(readFileSync(join(folders.project, 'out-3.txt'), 'utf8')).toBe('elsewhere\n');
  expect(readFileSync(join(folders.project, 'sub/err-3.txt'), 'utf8')).toBe('wrong\n');
});

test('order: by priority, then first come first served; a job that does not fit is skipped, unless the order is strict', async () => {
  const alone = { ...TINY_REQUEST, reserveMachine: true };
  for (const order of ['skip', 'strict'] as const) {
    using own = new ServiceFolders();
    await using running = await RunningService.open(own, { order });
    const log = join(own.root, 'log');
    const say = `echo $JOB_ID >>${log}`;
    await running.submit(`${waitFor(`go-${order}`)}; ${say}`);
    await running.reaches(1, 'running');
    await running.submit(say, { request: alone });
    await running.submit(say, { request: alone, priority: 5 });
    const small = await running.submit(say);
    if (order === 'skip') await running.reaches(small, 'success');
    else {
      await new Promise((resolve) => setTimeout(resolve, 500)); // time enough to start, wrongly
      expect((await running.get(small)).state).toBe('queued');
    }
    open(`go-${order}`);
    for (const id of [2, 3, 4]) await running.reaches(id, 'success');
    const ran = readFileSync(log, 'utf8').trim().split('\n').join(' ');
    expect(ran).toBe(order === 'skip' ? '4 1 3 2' : '1 3 2 4');
  }
});

test('a job that is passed over at the head gets a machine kept free, also behind jobs that no free machine helps', async () => {
  await using running = await RunningService.open(folders, { starvationLimitMs: 300 });
  const small = { commands: ['sleep 0.2'] };
  await running.submit('true', {
    request: { ...TINY_REQUEST, memoryMiB: 10_000_000 },
    waitForMachine: true,
    priority: 9,
  });
  await running.submit('sleep 0.5');
  const large = await running.submit('echo at last', { request: { ...TINY_REQUEST, reserveMachine: true } });
  let isOver = false;
  const stream = (async () => {
    while (!isOver) {
      await running.submitAll(small.commands, {});
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  try {
    await running.reaches(large, 'success');
  } finally {
    isOver = true;
    await stream;
  }
  const all = (await running.door.call('list', {})) as { id: number; state: string }[];
  for (const { id } of all) if (id !== 1) await running.reaches(id, 'success');
  expect((await running.get(1)).state).toBe('queued');
});

test('wait tells jobs as they end; events come with numbers from which a reader goes on', async () => {
  await using running = await RunningService.open(folders);
  await running.submitAll(['true', 'exit 2', waitFor('go')]);
  const ended: WaitItem[] = [];
  const waiting = (async () => {
    for await (const item of running.door.stream('wait', { ids: [1, 2, 3] })) ended.push(item as WaitItem);
  })();
  await until(() => ended.length === 2, { deadlineMs: 10_000 });
  expect(ended.map(({ id, state }) => `${id} ${state}`).toSorted()).toEqual(['1 success', '2 fail']);
  open('go');
  await waiting;
  expect(ended).toHaveLength(3);
  await expect(running.door.stream('wait', { ids: [1, 9] }).next()).rejects.toThrow('9');

  type Event = { sequence: number; type: string; job?: unknown };
  const read = async (after: number) => {
    const events: Event[] = [];
    for await (const event of running.door.stream('events', { after, follow: false }))
      events.push(event as Event);
    return events;
  };
  const all = await read(0);
  expect(all.map(({ sequence }) => sequence)).toEqual(all.map((_, index) => (all[0]?.sequence ?? 0) + index));
  const types = new Set(all.map(({ type }) => type));
  for (const type of ['queue:added', 'queue:state', 'job:started', 'job:ended', 'machine:queried'])
    expect(types).toContain(type);
  const middle = all[3]?.sequence ?? 0;
  expect(await read(middle)).toEqual(all.slice(4));
});

test('a disk that is full for a while loses nothing: nothing is started meanwhile, and what ended is fetched later', async () => {
  await using disk = await smallDisk(4);
  if (disk === undefined) return;
  await using running = await RunningService.open(folders, { tuning: { troublePauseMs: 300 } });
  const results = join(disk.path, 'job_results');
  await running.submit(`${waitFor('go')}; head -c 3000000 /dev/zero | tr '\\0' x`, { results });
  await until(() => existsSync(join(results, 'job_1.out')), { deadlineMs: 10_000 });
  const filler = join(disk.path, 'filler');
  writeFileSync(filler, Buffer.alloc(3_500_000));
  open('go');
  await until(() => running.notes.some((line) => /cannot be kept in/.test(line)), { deadlineMs: 15_000 });
  await running.submit('echo second', { results });
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect((await running.get(1)).state).toBe('running');
  writeFileSync(filler, '');
  await running.reaches(1, 'success');
  await running.reaches(2, 'success');
  expect(statSync(join(results, 'job_1.out')).size).toBe(3_000_000);
});

test('a results folder that cannot be is refused at once; output that cannot be kept is that job’s own error', async () => {
  await using running = await RunningService.open(folders);
  if (process.platform === 'linux')
    await expect(running.submit('true', { results: '/proc/nope' })).rejects.toThrow(/--results: cannot use/);
  writeFileSync(join(folders.project, 'file'), '');
  await expect(running.submit('true', { results: 'file' })).rejects.toThrow(/--results: cannot use/);
  await runOrThrow('mkfifo', [join(folders.project, 'fifo')]);
  const bad = await running.submit('true', { stdout: 'fifo' });
  const good = await running.submit('echo fine', { stdout: 'made/for/it.txt' });
  await running.reaches(good, 'success');
  expect(readFileSync(join(folders.project, 'made/for/it.txt'), 'utf8')).toBe('fine\n');
  expect(await running.reaches(bad, 'error')).toMatchObject({
    reason: expect.stringContaining('no plain file'),
  });
});

test('trouble with one results folder holds up no job with another; what waits for room can be killed, and stop --kill ends', async () => {
  await using disk = await smallDisk(2);
  if (disk === undefined) return;
  const results = join(disk.path, 'job_results');
  {
    await using running = await RunningService.open(folders);
    const stuck = await running.submit(`${waitFor('go')}; head -c 1000000 /dev/zero | tr '\\0' x`, {
      results,
    });
    await until(() => existsSync(join(results, 'job_1.out')), { deadlineMs: 10_000 });
    writeFileSync(join(disk.path, 'filler'), Buffer.alloc(1_900_000));
    open('go');
    await until(() => running.notes.some((line) => /cannot be kept/.test(line)), { deadlineMs: 15_000 });
    const waits = await running.submit('true', { results });
    const other = await running.submit('echo other');
    await running.reaches(other, 'success');
    const { reasons } = (await running.door.call('explain', { id: waits })) as { reasons: string[] };
    expect(reasons.join(' ')).toMatch(/Results cannot be kept in .*no space/i);
    await running.door.call('kill', { ids: [stuck] });
    await running.reaches(stuck, 'killed');
    const second = await running.submit('sleep 1000');
    await running.reaches(second, 'running');
    expect(await running.door.call('stop', { how: 'kill' })).toEqual({ running: 0, waiting: 1 });
    await running.service.stopped;
  }
  await using again = await RunningService.open(folders);
  expect(again.notes.filter((line) => !/not been ended/.test(line))).toEqual([]);
});

test('a stop --kill that takes long can be cut short, and takes no more jobs meanwhile', async () => {
  await using running = await RunningService.open(folders);
  await running.submit(`trap '' TERM; touch ${gate('began')}; while :; do sleep 0.05; done`, {
    killAfterMs: 60_000,
  });
  await until(() => existsSync(gate('began')));
  const killing = running.door.call('stop', { how: 'kill' });
  await until(() => running.service.isEnding);
  await expect(running.submit('true')).rejects.toThrow(/about to end/);
  expect(await running.service.stop({ how: 'leave' })).toEqual({ running: 1, waiting: 0 });
  expect(await killing).toEqual({ running: 1, waiting: 0 });
  await running.service.stopped;
  await using again = await RunningService.open(folders);
  await again.door.call('stop', { how: 'leave' });
  await again.service.stopped;
});

test('a start finds what the last one had: its log folder, its ssh configuration; `local` stands in for machines that nobody names', async () => {
  const config = join(folders.root, 'ssh_config');
  writeFileSync(config, 'Host worker1\n  HostName 10.9.9.9\n  Port 2222\n  User bob\n');
  const script = { name: 'job.sh', text: 'echo "$MACHINE_USER@$SLAVE_IP:$MACHINE_PORT"', args: [] };
  {
    await using running = await RunningService.open(folders);
    expect(await running.door.call('machines', {})).toMatchObject([{ name: 'local' }]);
  }
  {
    await using running = await RunningService.open(folders, {
      logFolder: join(folders.root, 'other-logs'),
      sshConfig: config,
      machines: ['worker1'],
      tuning: { ssh: { connectTimeoutMs: 200 } },
    });
    expect(await running.door.call('machines', {})).toMatchObject([{ name: 'worker1' }]);
    const { firstId } = (await running.door.call('submit', {
      ...{ script, runHere: true, request: TINY_REQUEST, cwd: folders.project },
    })) as { firstId: number };
    await running.reaches(firstId, 'success');
    expect(readFileSync(join(folders.root, `other-logs/job_${firstId}.txt`), 'utf8')).toBe(
      'bob@10.9.9.9:2222\n',
    );
  }
  await using running = await RunningService.open(folders, { tuning: { ssh: { connectTimeoutMs: 200 } } });
  expect(running.notes.join('\n')).toMatch(/--ssh-config .*as at the last start/);
  expect(running.service.logFolder).toBe(join(folders.root, 'other-logs'));
  expect((await running.get(1)).outputs.out).toBe(join(folders.root, 'other-logs/job_1.txt'));
});

test('a service that cannot begin lets go of all that it had begun: the next one has the folder', async () => {
  await expect(QueueService.open({ dataFolder: folders.data, group: 'no-such-group' })).rejects.toThrow(
    /no-such-group/,
  );
  await using running = await RunningService.open(folders);
  await running.reaches(await running.submit('true'), 'success');
});

test('a service whose disk is full when it is stopped ends all the same, and the next one knows what became of its jobs', async () => {
  await using disk = await smallDisk(8);
  if (disk === undefined) return;
  const filler = join(disk.path, 'filler');
  const data = join(disk.path, 'data');
  {
    await using running = await RunningService.open(folders, { dataFolder: data });
    await running.submit(`${waitFor('go')}; echo done`);
    await until(async () => (await running.get(1)).startedAt, { deadlineMs: 10_000 });
    for (let size = 8 * 1024 * 1024; size > 256; size /= 2)
      try {
        appendFileSync(filler, Buffer.alloc(size));
      } catch {} // as much as fits
    open('go');
    // Whether a few words still go to the disk is a matter of what SQLite has reserved there.
    const isTold = () => running.notes.some((line) => /cannot be written/.test(line));
    await until(async () => isTold() || (await running.get(1)).state === 'success', { deadlineMs: 15_000 });
    await running.service.stop({ how: 'leave' });
    await running.service.stopped;
  }
  rmSync(filler);
  await using again = await RunningService.open(folders, { dataFolder: data });
  expect((await again.reaches(1, 'success')).attempt).toBe(1);
  expect(again.out('job_1')).toBe('done\n');
});
