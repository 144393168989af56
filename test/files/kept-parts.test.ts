import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { linkSync, lstatSync, writeFileSync } from 'node:fs';
import {
  appendFile,
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  rm,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { KeptParts } from '../../src/lib/files/kept-parts.ts';
import { type PartStore, sendParts } from '../../src/lib/files/send.ts';
import type { SourcePart, SourceTree } from '../../src/lib/files/source-part.ts';
import { writeArchive } from '../../src/lib/files/tar-writer.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';
import { contents, editOddProject, makeOddProject } from './odd-project.ts';
import { smallDisk } from './small-disk.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  project = await SourceProject.make();
  folder = await scratch();
});
afterEach(async () => {
  await runOrThrow('chmod', ['-R', 'u+rwX', project.at(), folder.path]); // whoever runs the tests
  await project[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

const isRoot = process.getuid?.() === 0;
const at = (...path: string[]) => join(folder.path, 'kept', ...path);
const open = (settleMs = 0) => KeptParts.open(at(), { settleMs });
const treeOf = async (...args: Parameters<SourceProject['list']>) => (await project.list(...args)).tree;

/** Each content is there once, whatever the parts. */
async function keptContents(): Promise<string[]> {
  return (await readdir(at('files'), { recursive: true })).filter((name) => name.length > 64).sort();
}

/** The parts, and whatever else lies beside them. */
async function kept(): Promise<string[]> {
  return (await readdir(at())).filter((name) => name !== 'files').sort();
}

/** The bytes that a part travels as; reading them checks each file against its digest. */
async function archive({ root, entries }: SourcePart): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of writeArchive(root, entries)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** What is the same of a tree wherever it lies. */
const withoutRoots = (tree: SourceTree): unknown =>
  JSON.parse(JSON.stringify(tree, (key, value: unknown) => (key === 'root' ? '' : value)));

test('a kept tree is the one that was listed, whatever becomes of the project: odd names, modes and links too', async () => {
  await makeOddProject(project.at());
  await symlink('with \\ blank\n\\0040\u00a0end', project.at('odd link'));
  await utimes(project.at('plain'), 1_000_000_000, 1_000_000_000);
  const before = await contents(project.at());
  const tree = await treeOf();
  const names = await (await open()).keep(tree);
  expect(names).toEqual(tree.parts.map(({ id }) => id));
  await editOddProject(project.at());

  const again = await (await open()).tree(names); // as a later process reads it
  expect(withoutRoots(again)).toEqual(withoutRoots(tree));
  await using host = new LocalHost(machineName('here'), { home: folder.path });
  await using shell = await RequestShell.open(host);
  const store = await makeStore();
  const [part] = again.parts;
  if (part === undefined) throw new Error('no part');
  await sendParts(host, shell, store, again.parts);
  expect(await contents(join(store.folder, part.id))).toEqual(before);
  expect((await stat(join(store.folder, part.id, 'plain'))).mtimeMs).toBe(1_000_000_000_000);
  // A machine that has the tree gets nothing sent, from wherever it was listed.
  expect((await sendParts(host, shell, store, tree.parts)).get(part.id)?.sentBytes).toBe(0);
});

async function makeStore(): Promise<PartStore> {
  const base = join(folder.path, 'base');
  for (const name of ['trees', 'leases']) await mkdir(join(base, name), { recursive: true });
  return { kind: 'trees', folder: join(base, 'trees'), leases: join(base, 'leases'), leaseSuffix: 'b.m' };
}

test('parts in one folder, shared inputs and their places come back; a tree of nothing too', async () => {
  await project.files('code/a.py', 'code/b.py', 'data/ünï\n%41 x/one', 'data/two');
  const tree = await treeOf(['code/a.py', 'code/b.py'], ['data']);
  const odd = await treeOf(['code'], ['data/ünï\n%41 x']);
  const parts = await open();
  const names = await parts.keep(tree);
  const oddNames = await parts.keep(odd);
  expect(names[2]).toBe(`share:${tree.shared[0]?.part.id}:data`);
  expect(oddNames[1]).toMatch(/^share:[0-9a-f]{40}:data\/%c3%bcn%c3%af%0a%2541%20x$/);
  expect(withoutRoots(await parts.tree(names))).toEqual(withoutRoots(tree));
  expect(withoutRoots(await parts.tree(oddNames))).toEqual(withoutRoots(odd));
  const nothing = await treeOf([]);
  expect(await parts.keep(nothing)).toEqual([]);
  expect(await parts.tree([])).toEqual(nothing);
  // A kept tree can be kept again, though that is where it is read from.
  expect(await parts.keep(await parts.tree(names))).toEqual(names);
});

test('each content is there once: a hundred submits that differ in one file cost one file each', async () => {
  for (let i = 0; i < 20; i++) await project.file(`lib/${i}`, `${i}`.repeat(1000));
  await project.file('lib/again', '1'.repeat(1000));
  const parts = await open();
  const names: string[] = [];
  for (let i = 0; i < 100; i++) {
    await project.file('config', `lr: ${i}`);
    names.push(...(await parts.keep(await treeOf())));
  }
  expect(new Set(names).size).toBe(100);
  expect(await keptContents()).toHaveLength(20 + 100);
  const inodes = new Set<number>();
  for (const name of names)
    for (const file of ['lib/7', 'lib/1', 'lib/again']) inodes.add((await stat(at(name, 'tree', file))).ino);
  expect(inodes.size).toBe(2);
  expect((await stat(at(names[0] ?? '', 'tree/lib/7'))).mode & 0o777).toBe(0o444);
  for (const name of names) for (const part of (await parts.tree([name])).parts) await archive(part);
});

test('trees that are kept at once share their contents too, and the same tree is copied once', async () => {
  await project.file('large', randomBytes(3_000_000));
  const trees: SourceTree[] = [];
  for (let i = 0; i < 20; i++) {
    await project.file('config', `number ${i + 10}`);
    const tree = await treeOf();
    trees.push(tree, tree);
  }
  const [last] = trees.splice(-2);
  if (last === undefined) throw new Error('no tree');
  // The config of the others is not what it was any more: only what is kept already could be taken.
  const parts = await open();
  const ends = await Promise.allSettled([...trees, last, last, last].map((tree) => parts.keep(tree)));
  expect(ends.filter(({ status }) => status === 'rejected')).toHaveLength(trees.length);
  expect(await kept()).toEqual([last.id]);
  expect(await keptContents()).toHaveLength(2);

  const more: SourceTree[] = [];
  for (let i = 0; i < 20; i++) {
    await project.file(`configs/${i}`, `${i}`);
    more.push(await treeOf(['large', `configs/${i}`]), await treeOf(['configs', 'large']));
  }
  await Promise.all(more.map((tree) => parts.keep(tree)).map((keep) => keep.catch(() => {})));
  const again = await Promise.all(more.map((tree) => parts.keep(tree)));
  expect(await keptContents()).toHaveLength(1 + 20 + 1);
  for (const names of again) for (const part of (await parts.tree(names)).parts) await archive(part);
  expect((await kept()).filter((name) => name.includes('.'))).toEqual([]);
});

const replace = async (replacement: () => Promise<unknown>) => {
  await rm(project.at('goes'));
  await replacement();
};
test.each([
  ['was changed', () => writeFile(project.at('goes'), 'Goes')],
  ['was changed', () => writeFile(project.at('goes'), 'go')],
  ['has vanished', () => rm(project.at('goes'))],
  ['became a link', () => replace(() => symlink('large', project.at('goes')))],
  ['is no file any more', () => replace(() => runOrThrow('mkfifo', [project.at('goes')]))],
  ['is no file any more', () => replace(() => mkdir(project.at('goes')))],
])('a file that %s since it was listed is named, and nothing is kept', async (how, change) => {
  await project.file('goes', 'goes');
  await project.file('large', randomBytes(2_000_000));
  await project.file('other/file', 'other');
  const trees = [await treeOf(['large', 'other', 'goes']), await treeOf()];
  await change();
  const parts = await open();
  for (const tree of trees) {
    await expect(parts.keep(tree)).rejects.toThrow(
      `cannot keep ${project.at('goes')}: it ${how} since it was listed; try again when it stays as it is`,
    );
    expect(await kept()).toEqual([]);
    expect(await keptContents()).toEqual([]);
  }
});

test('what only grew is kept as it was, and what is kept already need not be there any more', async () => {
  await project.file('log', 'first\n');
  await project.file('large log', Buffer.alloc(2_000_000, 'x'));
  await project.file('gone', 'gone');
  const parts = await open();
  const tree = await treeOf(['log', 'large log']);
  const other = await treeOf(['gone', 'log']);
  await parts.keep(await treeOf(['gone']));
  await appendFile(project.at('log'), 'second\n');
  await appendFile(project.at('large log'), 'second\n');
  await rm(project.at('gone'));
  for (const names of [await parts.keep(tree), await parts.keep(other)])
    for (const part of (await parts.tree(names)).parts) await archive(part);
  expect(await readFile(at(tree.parts[0]?.id ?? '', 'tree/log'), 'utf8')).toBe('first\n');
});

test('what a failing tree shares with one that was kept meanwhile stays', async () => {
  await project.files('common', 'goes');
  const both = await treeOf(['common', 'goes']);
  const common = await treeOf(['common']);
  await rm(project.at('goes'));
  const parts = await open();
  const [failed, names] = await Promise.allSettled([parts.keep(both), parts.keep(common)]);
  expect([failed?.status, names?.status]).toEqual(['rejected', 'fulfilled']);
  expect(await kept()).toEqual([common.id]);
});

// Killed as it does something for the so-many-th time.
test.each([
  { when: 'while it copies', call: 'linkSync', nth: 90, isWhole: false },
  { when: 'while it makes folders', call: 'mkdirSync', nth: 256 + 4, isWhole: false },
  { when: 'before it gives the name', call: 'promises.rename', nth: 1, isWhole: false },
  { when: 'when it has given the name', call: 'promises.rename', nth: 1, isAfter: true, isWhole: true },
  { when: 'when a removal has begun', call: 'renameSync', nth: 1, isAfter: true, isWhole: false },
  { when: 'in the middle of a removal', call: 'unlinkSync', nth: 30, isWhole: false },
])('killed $when, a part is whole or not there', async ({ call, nth, isAfter = false, isWhole }) => {
  for (let i = 0; i < 60; i++) await project.file(`d${i % 5}/${i}`, `content ${i}`);
  const tree = await treeOf();
  await folder.write('tree.json', JSON.stringify(tree));
  const program = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const owner = ${JSON.stringify(call)}.startsWith('promises.') ? fs.promises : fs;
    const name = ${JSON.stringify(call)}.replace('promises.', '');
    const real = owner[name];
    const die = () => process.kill(process.pid, 'SIGKILL');
    let calls = 0;
    owner[name] = (...args) => {
      if (++calls < ${nth}) return real.apply(owner, args);
      if (!${isAfter}) die();
      const result = real.apply(owner, args);
      if (!(result instanceof Promise)) die();
      return result.then(die);
    };
    syncBuiltinESMExports();
    const { KeptParts } = await import(${JSON.stringify(resolve('src/lib/files/kept-parts.ts'))});
    const parts = await KeptParts.open(${JSON.stringify(at())}, { settleMs: 0 });
    await parts.keep(JSON.parse(fs.readFileSync(${JSON.stringify(join(folder.path, 'tree.json'))}, 'utf8')));
    await parts.removeExcept([]);`;
  const run = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program]);
  expect(`${run.signal} ${run.stderr.toString()}`).toBe('SIGKILL ');
  if (!isWhole) expect((await kept()).join()).toMatch(/^[0-9a-f]{40}\.(partial|removed)-[0-9a-f]+$/);

  const parts = await open();
  expect(await kept()).toEqual(isWhole ? [tree.id] : []);
  expect(await keptContents()).toHaveLength(isWhole ? 60 : 0);
  if (isWhole) await rm(project.at('d0'), { recursive: true });
  const names = await parts.keep(tree);
  const [part] = (await parts.tree(names)).parts;
  expect(part?.entries).toEqual(tree.parts[0]?.entries);
  if (part !== undefined) await archive(part);
});

test('a full disk is one clear error, before or while it fills, and what was there stays', async () => {
  await using disk = await smallDisk(8);
  if (disk === undefined) return;
  await project.file('small', 'small');
  const parts = await KeptParts.open(join(disk.path, 'kept'), { settleMs: 0 });
  const small = await parts.keep(await treeOf());
  const free = async () => {
    const { bavail, bsize } = await statfs(disk.path);
    return bavail * bsize;
  };
  const before = await free();
  for (let i = 0; i < 3; i++) await project.file(`large ${i}`, randomBytes(4_000_000));
  const large = await treeOf();
  const message =
    /^cannot keep the source tree: no space left on device: it needs 11\.\d MiB, and the disk of \S+ has \S+ MiB free$/;
  await expect(parts.keep(large)).rejects.toThrow(message);
  expect(await free()).toBe(before);

  // Several that each would fit alone: the disk fills on the way.
  const trees = await Promise.all([0, 1, 2].map((i) => treeOf([`large ${i}`])));
  const ends = await Promise.allSettled(trees.map((tree) => parts.keep(tree)));
  const failed = ends.filter((end) => end.status === 'rejected');
  expect(failed.length).toBeGreaterThan(0);
  for (const { reason } of failed)
    expect(String(reason)).toMatch(
      /KeepError: cannot keep the source tree: no space left on device: it needs/,
    );
  expect((await readdir(join(disk.path, 'kept'))).filter((name) => name.includes('.'))).toEqual([]);
  await parts.removeExcept(small);
  expect(await free()).toBe(before);
  for (const part of (await parts.tree(small)).parts) await archive(part);
});

test('what no name means is removed, with the contents that nothing else has', async () => {
  await project.file('common', 'c'.repeat(1000));
  await project.file('twice/a', 't'.repeat(300));
  await project.file('twice/b', 't'.repeat(300));
  const parts = await open();
  const first = await parts.keep(await treeOf());
  await rm(project.at('twice'), { recursive: true });
  await project.file('new', 'new');
  const second = await parts.keep(await treeOf(['new'], ['common']));
  expect(await parts.removeExcept([...first, ...second])).toEqual({ parts: 0, bytes: 0 });
  await expect(parts.removeExcept([...second, '../../etc'])).rejects.toThrow('is no kept part');
  expect(await parts.removeExcept(second)).toEqual({ parts: 1, bytes: 300 });
  await expect(parts.tree(first)).rejects.toThrow(/needs the kept part [0-9a-f]{40}: \S+ is not there/);
  const tree = await parts.tree(second);
  for (const part of [...tree.parts, ...tree.shared.map((share) => share.part)]) await archive(part);
  expect(await parts.removeExcept([])).toEqual({ parts: 2, bytes: 1003 });
  expect(await keptContents()).toEqual([]);
  expect(await kept()).toEqual([]);
});

test('what was kept just now is not removed, for whoever kept it may not have written it down', async () => {
  await project.file('file');
  const tree = await treeOf();
  const parts = await KeptParts.open(at());
  const keeping = parts.keep(tree);
  expect(await parts.removeExcept([])).toEqual({ parts: 0, bytes: 0 });
  await keeping;
  expect(await parts.removeExcept([])).toEqual({ parts: 0, bytes: 0 });
  expect(await kept()).toEqual([tree.id]);
  // Of an earlier process nobody is that late.
  expect(await (await KeptParts.open(at())).removeExcept([])).toEqual({ parts: 1, bytes: 4 });
});

test('a part that is kept again while it is removed is there in the end', async () => {
  for (let i = 0; i < 50; i++) await project.file(`${i}`);
  const tree = await treeOf();
  await (await open()).keep(tree);
  for (let i = 0; i < 30; i++) {
    const parts = await KeptParts.open(at()); // knows of nobody who wants it
    const removal = parts.removeExcept([]);
    if (i % 3 === 0) await readdir(at(), { recursive: i % 2 === 0 });
    const names = await parts.keep(tree);
    await removal;
    for (const part of (await parts.tree(names)).parts) await archive(part);
    expect(await kept()).toEqual([tree.id]);
  }
});

test('a content that somebody has changed, or that has all the links it can have, is copied anew', async () => {
  await project.file('file', 'content');
  await project.file('other', 'a');
  const parts = await open();
  await parts.keep(await treeOf());
  const [name = ''] = (await keptContents()).filter((one) => lstatSync(at('files', one)).size === 7);
  await chmod(at('files', name), 0o644);
  await writeFile(at('files', name), 'damaged');
  await project.file('other', 'b');
  const names = await parts.keep(await treeOf());
  for (const part of (await parts.tree(names)).parts) await archive(part);

  // On ext4 that is 65,000; where there is no limit, this shows less.
  const [full = ''] = (await keptContents()).filter((one) => lstatSync(at('files', one)).size === 7);
  await mkdir(at('../links'));
  try {
    for (let i = 0; i < 66_000; i++) linkSync(at('files', full), at('../links', `${i}`));
  } catch (error) {
    expect(error).toMatchObject({ code: 'EMLINK' });
  }
  const copies: number[] = [];
  for (const other of ['c', 'd']) {
    await project.file('other', other);
    const more = await parts.keep(await treeOf());
    for (const part of (await parts.tree(more)).parts) await archive(part);
    copies.push((await stat(at(more[0] ?? '', 'tree/file'))).ino);
  }
  expect(copies[0]).toBe(copies[1]); // of which later ones are links again
});

test('a listing that somebody has changed is refused', async () => {
  await project.file('file');
  const names = await (await open()).keep(await treeOf());
  const list = at(names[0] ?? '', 'list');
  const text = await readFile(list, 'utf8');
  await unlink(list);
  await writeFile(list, text.replace(' 644 ', ' 755 '));
  const parts = await open();
  await expect(parts.tree(names)).rejects.toThrow(`${list} is damaged`);
  expect(await parts.removeExcept([])).toEqual({ parts: 1, bytes: 4 }); // and yet its contents are found
  expect(await keptContents()).toEqual([]);
});

test('ten thousand entries', { timeout: 240_000 }, async () => {
  const entries: SourcePart['entries'][number][] = [];
  const digest = 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb'; // of `a`
  for (let d = 0; d < 10; d++) {
    const name = `d${String(d).padStart(3, '0')}`;
    await mkdir(project.at(name));
    entries.push({ path: name, kind: 'folder', mode: 0o755, size: 0, digest: '' });
    for (let i = 100; i < 1099; i++)
      entries.push({ path: `${name}/${i}`.padEnd(8, '_'), kind: 'file', mode: 0o644, size: 1, digest });
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const { path, kind } of entries) if (kind === 'file') writeFileSync(project.at(path), 'a');
  const part = { id: 'a'.repeat(40), root: project.at(), entries, files: 9_990, bytes: 9_990 };
  const tree: SourceTree = {
    ...{ id: part.id, parts: [part], shared: [], isSmall: false },
    ...{ files: part.files, bytes: part.bytes },
  };
  const parts = await open();

  const names = await parts.keep(tree);

  expect((await (await open()).tree(names)).parts[0]?.entries).toEqual(entries);

  expect((await parts.removeExcept([])).parts).toBe(1);

  expect(await keptContents()).toEqual([]);
});

test('an ordinary user: the kept files cannot be written to, and one that became unreadable is named', async () => {
  const nobody = 65534;
  await project.file('run.sh', 'x', 0o755);
  await project.file('goes', 'y', 0o600);
  await project.file('closed/file', 'z');
  if (isRoot) await runOrThrow('chown', ['-R', `${nobody}`, project.at('..'), folder.path]);
  if (isRoot) await chown(folder.path, nobody, nobody);
  const outer = process.umask(0o077);
  if (isRoot) process.seteuid?.(nobody);
  try {
    await chmod(project.at('closed'), 0o555);
    const parts = await open();
    const runs = await parts.keep(await treeOf(['run.sh', 'closed']));
    await expect(appendFile(at(runs[0] ?? '', 'tree/run.sh'), 'x')).rejects.toThrow('EACCES');
    const goes = await treeOf(['goes']);
    await chmod(project.at('goes'), 0);
    await expect(parts.keep(goes)).rejects.toThrow(
      `cannot keep ${project.at('goes')}: it cannot be read (permission denied)`,
    );
    for (const part of (await parts.tree(runs)).parts) await archive(part);
    expect(await parts.removeExcept([])).toEqual({ parts: 2, bytes: 2 });
    expect((await stat(at())).mode & 0o777).toBe(0o700);
    await chmod(folder.path, 0o500);
    await expect(KeptParts.open(join(folder.path, 'other'))).rejects.toThrow('EACCES');
  } finally {
    if (isRoot) process.seteuid?.(0);
    process.umask(outer);
  }
});

test('where the disk can, large files share their blocks with those of the project', async () => {
  const [image, disk] = [join(folder.path, 'image'), join(folder.path, 'disk')];
  await writeFile(image, '');
  await truncate(image, 400 * 1024 * 1024);
  await mkdir(disk);
  const mounted = await runCommand('sh', [
    '-c',
    'mkfs.xfs -q -m reflink=1 "$1" && mount -o loop "$1" "$2"',
    'sh',
    image,
    disk,
  ]).catch((error: Error) => ({ exitCode: 1, stderr: error.message }));
  if (mounted.exitCode !== 0) {
    console.warn(`No XFS here, so shared blocks are not tested (${mounted.stderr.trim()})`);
    return;
  }
  try {
    await mkdir(join(disk, 'project'));
    await writeFile(join(disk, 'project/large'), randomBytes(60_000_000), { mode: 0o400 });
    const tree = await treeOf('working-directory', [], { cwd: join(disk, 'project') });
    await chmod(join(disk, 'project/large'), 0o600);
    await appendFile(join(disk, 'project/large'), 'more');
    await runOrThrow('sync', ['-f', disk]);
    const free = async () => {
      const { bfree, bsize } = await statfs(disk);
      return bfree * bsize;
    };
    const before = await free();
    const parts = await KeptParts.open(join(disk, 'kept'));
    const names = await parts.keep(tree);
    expect(before - (await free())).toBeLessThan(20_000_000);
    await writeFile(join(disk, 'project/large'), 'edited');
    expect((await stat(join(disk, 'kept', names[0] ?? '', 'tree/large'))).size).toBe(60_000_000);
    for (const part of (await parts.tree(names)).parts) await archive(part);

    // A clone is checked as a copy is.
    await writeFile(join(disk, 'project/large'), randomBytes(2_000_000));
    const other = await treeOf('working-directory', [], { cwd: join(disk, 'project') });
    await writeFile(join(disk, 'project/large'), randomBytes(2_000_000));
    await expect(parts.keep(other)).rejects.toThrow('it was changed since it was listed');
  } finally {
    await runOrThrow('umount', [disk]);
  }
});
