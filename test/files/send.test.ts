import { randomBytes } from 'node:crypto';
import { appendFile, chmod, lstat, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { type PartStore, type PartThere, pruneStores, sendParts } from '../../src/lib/files/send.ts';
import type { SourcePart } from '../../src/lib/files/source-part.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';
import { contents, editOddProject, makeOddProject } from './odd-project.ts';
import { smallDisk } from './small-disk.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
let host: RemoteHost;
let shell: RequestShell;
beforeEach(async () => {
  folder = await scratch();
  await mkdir(project(), { recursive: true });
  await makeStores(at('base'));
  host = new LocalHost(machineName('here'), { home: folder.path });
  shell = await RequestShell.open(host);
});
afterEach(async () => {
  shell.close();
  await host.close();
  await runOrThrow('chmod', ['-R', 'u+w', folder.path]); // read-only folders, for whoever runs the tests
  await folder[Symbol.asyncDispose]();
});

// With a dot, as the folder on a machine has it.
const at = (...path: string[]) => join(folder.path, '.cache', ...path);
const project = (...path: string[]) => at('project', ...path);

async function makeStores(base: string): Promise<void> {
  for (const name of ['trees', 'shares', 'leases']) await mkdir(join(base, name), { recursive: true });
}

function store(
  kind: PartStore['kind'] = 'trees',
  base = at('base'),
  leaseSuffix = 'batch.machine',
): PartStore {
  return { kind, folder: join(base, kind), leases: join(base, 'leases'), leaseSuffix };
}

/** The part that the project, or one path of it, is now. */
async function part(path?: string): Promise<SourcePart> {
  const trees = new SourceTrees({ cwd: project(), home: '/nowhere', cacheFolder: at('hashes') });
  const tree = await trees.of({
    copyForwards: path === undefined ? 'working-directory' : [path],
    shareForwards: [],
  });
  const [only] = tree.parts;
  if (only === undefined) throw new Error('nothing to send');
  return only;
}

/** Sends one part. */
async function send(one: SourcePart, to = store(), over = shell): Promise<PartThere> {
  const there = (await sendParts(host, over, to, [one])).get(one.id);
  if (there === undefined) throw new Error('not told of');
  return there;
}

test('a part arrives as it is, and so does what it becomes, of which only the changes are sent', async () => {
  await makeOddProject(project());
  const first = await part();
  expect(await send(first)).toMatchObject({ newFiles: first.files, newBytes: first.bytes });
  expect(await contents(at('base/trees', first.id))).toEqual(await contents(project()));
  const before = await contents(at('base/trees', first.id));

  await editOddProject(project());
  const second = await part();
  const sent = await send(second);
  // The moved file is large enough to be looked for by its content.
  expect(sent).toMatchObject({ name: second.id, newFiles: 4 });
  expect(sent.newBytes).toBeLessThan(1000);
  expect(sent.sentBytes).toBeLessThan(20_000);
  expect(await contents(at('base/trees', second.id))).toEqual(await contents(project()));
  expect(await contents(at('base/trees', first.id))).toEqual(before);
  expect((await readdir(at('base/trees'))).filter((name) => name.includes('partial'))).toEqual([]);
});

test('a part that is there is not sent again, nor harmed when two send it at once', async () => {
  await writeFile(project('file'), 'x'.repeat(100_000));
  const one = await part();
  const other = await RequestShell.open(host);
  const both = await Promise.all([shell, other].map((over) => send(one, store(), over)));
  expect(both.every(({ sentBytes }) => sentBytes > 100_000)).toBe(true);
  expect(await send(one)).toEqual({ name: one.id, sentBytes: 0, newFiles: 0, newBytes: 0 });
  expect((await readdir(at('base/trees'))).sort()).toEqual([one.id, `${one.id}.list`]);
  expect(await readdir(at('base/trees', one.id))).toEqual(['file']);
  other.close();
});

test('small parts travel in a request, several together with one look', async () => {
  const names = ['a', 'b', 'c'];
  for (const name of names) await writeFile(project(name), `${name}\n`);
  const parts = await Promise.all(names.map((name) => part(name)));
  const there = await sendParts(host, shell, store(), parts);
  expect([...there.values()].map(({ newFiles }) => newFiles)).toEqual([1, 1, 1]);
  for (const [i, one] of parts.entries())
    expect(await contents(at('base/trees', one.id))).toEqual([`${names[i]} 100644 ${names[i]}\n`]);
  expect((await readdir(at('base/trees'))).length).toBe(3); // no listings: they would hide those of large parts
});

test('of thousands of files only the one that changed is sent', async () => {
  await mkdir(project('d'));
  for (let i = 0; i < 3000; i++) await writeFile(project('d', `file ${i}`), `content ${i}`);
  await send(await part());
  await writeFile(project('d/file 77'), 'changed');
  const second = await part();
  const sent = await send(second);
  expect(sent).toMatchObject({ newFiles: 1, newBytes: 'changed'.length });
  expect(sent.sentBytes).toBeLessThan(3000 * 100 + 2048); // its listing and one file
  expect(await contents(at('base/trees', second.id))).toEqual(await contents(project()));
});

test('what somebody has done to the store is not taken over', async () => {
  for (let i = 0; i < 100; i++) await writeFile(project(`file${i}`), randomBytes(1000));
  const first = await part();
  await send(first);
  await rm(at('base/trees', first.id, 'file50'));
  await writeFile(project('file1'), 'changed');
  const second = await part();
  await send(second);
  expect(await contents(at('base/trees', second.id))).toEqual(await contents(project()));
});

test.each([
  ['vanished', async () => await rm(project('goes')), 'goes has vanished'],
  ['changed', async () => await writeFile(project('goes'), 'Goes'), 'goes was changed'],
])('a file that %s before it is sent is named, and nothing half is left', async (_what, change, message) => {
  await writeFile(project('goes'), 'goes');
  await writeFile(project('stays'), randomBytes(2_500_000));
  const one = await part();
  await change();
  await expect(send(one)).rejects.toThrow(`here: cannot send files: ${message} since the batch started`);
  expect(await readdir(at('base/trees'))).toEqual([]);
  await writeFile(project('goes'), 'goes');
  await send(one);
  expect(await readFile(at('base/trees', one.id, 'goes'), 'utf8')).toBe('goes');
});

test('a file that only grew, such as a log of the batch itself, is sent as it was listed', async () => {
  await writeFile(project('log'), 'one\n');
  const one = await part();
  await appendFile(project('log'), 'two\n');
  await send(one);
  expect(await readFile(at('base/trees', one.id, 'log'), 'utf8')).toBe('one\n');
});

test('a disk without room is told before anything is sent, unless unused parts make room', async () => {
  await using disk = await smallDisk(5);
  if (disk === undefined) return;
  await makeStores(disk.path);
  const there = store('trees', disk.path);
  await writeFile(project('large'), randomBytes(3_000_000));
  const first = await part();
  await send(first, there);
  await writeFile(project('large'), randomBytes(3_000_000));
  const second = await part();
  await expect(send(second, there)).rejects.toMatchObject({
    stage: 'send',
    message: expect.stringMatching(
      /^here: cannot send files: No space left on device: 2.9 MiB are to be sent, .* has .* free$/,
    ),
  });
  expect((await readdir(join(disk.path, 'trees'))).sort()).toEqual([first.id, `${first.id}.list`]);
  await expireLeases(disk.path);
  await send(second, there);
  expect((await readdir(join(disk.path, 'trees'))).sort()).toEqual([second.id, `${second.id}.list`]);
});

/** Makes all leases as old as if nobody had used their parts for two hours. */
async function expireLeases(base: string): Promise<void> {
  const past = Date.now() / 1000 - 7200;
  for (const name of await readdir(join(base, 'leases')))
    await utimes(join(base, 'leases', name), past, past);
}

/** Parts of 300 kB each, the first the longest unused. */
async function sendThree(kind: PartStore['kind'] = 'trees'): Promise<string[]> {
  const names: string[] = [];
  for (let i = 0; i < 3; i++) {
    await writeFile(project('file'), randomBytes(300_000));
    const { name } = await send(await part(), store(kind));
    const used = Date.now() / 1000 - 1000 + i;
    await utimes(at('base', kind, name), used, used);
    names.push(name);
  }
  return names;
}

/** The parts that are left once the store holds no more than so many kB, or has become what is expected. */
async function pruned(
  limitKB: number,
  expected: readonly string[],
  kind: PartStore['kind'] = 'trees',
): Promise<void> {
  await pruneStores(shell, at('base'), at('base/leases'), limitKB * 1024);
  await shell.run('wait'); // for what goes on in the background
  const names = expected.flatMap((name) => [
    name,
    `${name}.list`,
    ...(kind === 'shares' ? [`${name}.facts`] : []),
  ]);
  await until(async () => (await readdir(at('base', kind))).sort().join() === names.sort().join(), {
    describe: async () => ({ expected: names, found: await readdir(at('base', kind)) }),
  });
}

test('unused parts are removed, the longest unused first, until the rest is within the limit', async () => {
  const [first, second, third] = (await sendThree()) as [string, string, string];
  await pruned(100, [first, second, third]); // all in use
  await expireLeases(at('base'));
  await pruned(700, [second, third]);
  await send(await part()); // takes a lease on the third
  await pruned(100, [third]);
});

test('a part that is asked for again is the last to go', async () => {
  const [first, second, third] = (await sendThree()) as [string, string, string];
  const trees = at('base/trees');
  await writeFile(project('file'), await readFile(join(trees, first, 'file')));
  await send(await part());
  await expireLeases(at('base'));
  await pruned(400, [first]);
  expect([second, third]).not.toContain(first);
});

test('what a dead controller left half way goes after a day, not before', async () => {
  for (const name of ['old', 'new'])
    await mkdir(at('base/trees', `${name}.partial/tree/ro`), { recursive: true });
  await chmod(at('base/trees/old.partial/tree/ro'), 0o555);
  await runOrThrow('touch', ['-d', '2 days ago', at('base/trees/old.partial')]);
  await pruneStores(shell, at('base'), at('base/leases'), 1e9);
  await until(async () => (await readdir(at('base/trees'))).join() === 'new.partial');
});

test('a shared input is read-only, is used again, and is not once a job has changed it', async () => {
  await writeFile(project('data'), randomBytes(200_000));
  await writeFile(project('tool'), '#!/bin/sh\n', { mode: 0o755 });
  const one = await part();
  const first = await send(one, store('shares'));
  expect(first.name).toMatch(new RegExp(`^${one.id}-[0-9a-f]{12}$`));
  const path = (name: string) => at('base/shares', first.name, name);
  expect((await lstat(path('data'))).mode & 0o777).toBe(0o444);
  expect((await lstat(path('tool'))).mode & 0o777).toBe(0o555);
  expect(await send(one, store('shares'))).toMatchObject({ name: first.name, sentBytes: 0 });
  await runOrThrow('sh', [
    '-c',
    'chmod u+w "$1"; printf x | dd of="$1" conv=notrunc 2>/dev/null',
    '-',
    path('data'),
  ]);
  const again = await send(one, store('shares'));
  expect(again.name).not.toBe(first.name);
  expect(again.newFiles).toBe(2);
  expect(await readFile(at('base/shares', again.name, 'data'))).toEqual(await readFile(project('data')));
  // Jobs that hold links to the damaged one keep it until nobody does.
  expect((await readdir(at('base/shares'))).filter((name) => !name.includes('.')).length).toBe(2);
});

test('of a shared input that grew only the new is sent, and both stay whole', async () => {
  await mkdir(project('set'));
  for (let i = 0; i < 50; i++) await writeFile(project(`set/${i}`), randomBytes(2000));
  const first = await part();
  const { name } = await send(first, store('shares'));
  await writeFile(project('set/more'), 'new');
  const second = await part();
  expect(await send(second, store('shares'))).toMatchObject({ newFiles: 1 });
  expect(await send(first, store('shares'))).toMatchObject({ name, sentBytes: 0 });
  expect(await send(second, store('shares'))).toMatchObject({ sentBytes: 0 });
});

test('unused shared inputs are pruned too, read-only as they are', async () => {
  const names = await sendThree('shares');
  await expireLeases(at('base'));
  await pruned(400, names.slice(2), 'shares');
});

test('a shared input of a job that runs without its controller stays until the job has ended', async () => {
  const [first, second, third] = (await sendThree('shares')) as [string, string, string];
  const attempt = at('base/runs/machine/batch/job/1');
  await mkdir(attempt, { recursive: true });
  await writeFile(join(attempt, 'request'), JSON.stringify({ job: 'job', shares: [first] }));
  await expireLeases(at('base'));
  await pruned(400, [first], 'shares');
  expect([second, third]).not.toContain(first);
  await writeFile(join(attempt, 'exit'), '0 1 2 0 - done\n');
  await pruned(0, [], 'shares');
});

test('a store that is not there is one clear error', async () => {
  await writeFile(project('file'), 'x');
  await expect(send(await part(), store('trees', at('no/such')))).rejects.toThrow(
    /here: cannot send files: .*no\/such/,
  );
});
