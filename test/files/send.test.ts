import { randomBytes } from 'node:crypto';
import {
  appendFile,
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { sendTree } from '../../src/lib/files/send.ts';
import { listSourceTree } from '../../src/lib/files/source-tree.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { smallDisk } from './small-disk.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
let host: LocalHost;
let shell: RequestShell;
beforeEach(async () => {
  folder = await scratch();
  await Promise.all(['project', 'trees'].map((name) => mkdir(join(folder.path, name))));
  host = new LocalHost(machineName('here'), { home: folder.path });
  shell = await RequestShell.open(host);
});
afterEach(async () => {
  shell.close();
  await host.close();
  await folder[Symbol.asyncDispose]();
});

const project = (...path: string[]) => join(folder.path, 'project', ...path);
const list = (paths?: readonly string[]) =>
  listSourceTree({ cwd: project(), paths, neverSend: [], home: '/nowhere' });

/** Path, kind, mode and content of everything below a folder, paths byte for byte. */
async function contents(root: string, below: Buffer = Buffer.from('')): Promise<string[]> {
  const at = Buffer.concat([Buffer.from(`${root}/`), below]);
  const names = (await readdir(at, { encoding: 'buffer' })).sort(Buffer.compare);
  const found = names.map(async (name) => {
    const path = below.length === 0 ? name : Buffer.concat([below, Buffer.from('/'), name]);
    const full = Buffer.concat([Buffer.from(`${root}/`), path]);
    const stat = await lstat(full);
    const line = `${path.toString('latin1')} ${stat.mode.toString(8)}`;
    if (stat.isSymbolicLink()) return [`${line} -> ${await readlink(full)}`];
    if (stat.isDirectory()) return [line, ...(await contents(root, path))];
    return [`${line} ${await readFile(full, 'latin1')}`];
  });
  return (await Promise.all(found)).flat();
}

test('a tree arrives as it is, whatever its names and modes', async () => {
  for (const name of [
    'plain',
    'with space',
    'quote\'s "here"',
    'new\nline',
    '-rf',
    '--help',
    'ünï',
    '$HOME',
    '*',
    'back\\slash',
    '%d',
  ])
    await writeFile(project(name), `content of ${name}`);
  await writeFile(
    Buffer.concat([Buffer.from(project('')), Buffer.from('not utf8 \xff\xfe', 'latin1')]),
    'bytes',
  );
  await mkdir(project('empty'));
  await mkdir(project('deep/er/est'), { recursive: true });
  await writeFile(project('deep/er/est/zero'), '');
  await writeFile(project('run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(project('secret'), 'x', { mode: 0o600 });
  await symlink('deep/er', project('link'));
  await symlink('/no/such/place', project('dangling'));
  await mkdir(project('read-only'));
  await writeFile(project('read-only/inside'), 'x', { mode: 0o444 });
  await chmod(project('read-only'), 0o555);
  await writeFile(project('big'), randomBytes(3_000_000));
  const tree = await list();
  const sent = await sendTree(host, shell, join(folder.path, 'trees'), tree);
  expect(sent.sentBytes).toBeGreaterThan(3_000_000);
  expect(await readdir(join(folder.path, 'trees'))).toEqual([tree.id]);
  expect(await contents(join(folder.path, 'trees', tree.id))).toEqual(await contents(project()));
  await chmod(project('read-only'), 0o755); // so that it can be removed by whoever runs the tests
  await chmod(join(folder.path, 'trees', tree.id, 'read-only'), 0o755);
});

test('a tree that is there already is not sent again, nor when two send it at once', async () => {
  await writeFile(project('file'), 'x'.repeat(100_000));
  const tree = await list();
  const trees = join(folder.path, 'trees');
  const other = await RequestShell.open(host);
  const both = await Promise.all([shell, other].map((one) => sendTree(host, one, trees, tree)));
  expect(both.every(({ sentBytes }) => sentBytes > 100_000)).toBe(true);
  expect(await sendTree(host, shell, trees, tree)).toEqual({ sentBytes: 0 });
  expect(await readdir(trees, { recursive: true })).toEqual([tree.id, join(tree.id, 'file')]);
  other.close();
});

test('only the named files are sent, from wherever they are', async () => {
  await mkdir(project('a'));
  await mkdir(join(folder.path, 'outside'));
  for (const path of [project('a/one'), project('a/two'), join(folder.path, 'outside/three')])
    await writeFile(path, 'x');
  const tree = await list(['a/one', '../outside']);
  await sendTree(host, shell, join(folder.path, 'trees'), tree);
  const there = await readdir(join(folder.path, 'trees', tree.id), { recursive: true });
  expect(there.sort()).toEqual(['a', 'a/one', 'outside', 'outside/three']);
});

test('a file that vanishes before it is sent is named, and nothing half is left in the place of the tree', async () => {
  for (const name of ['stays', 'goes']) await writeFile(project(name), name);
  const tree = await list();
  await rm(project('goes'));
  await expect(sendTree(host, shell, join(folder.path, 'trees'), tree)).rejects.toThrow(
    /here: cannot send files: .*goes.*No such file/,
  );
  expect(await readdir(join(folder.path, 'trees'))).not.toContain(tree.id);
  await writeFile(project('goes'), 'goes');
  await sendTree(host, shell, join(folder.path, 'trees'), tree);
  expect(await readFile(join(folder.path, 'trees', tree.id, 'goes'), 'utf8')).toBe('goes');
});

test('a file that grows while it is sent does not break the archive', async () => {
  await writeFile(project('log'), 'one\n');
  const tree = await list();
  await appendFile(project('log'), 'two\n');
  await sendTree(host, shell, join(folder.path, 'trees'), tree);
  expect(await readFile(join(folder.path, 'trees', tree.id, 'log'), 'utf8')).toBe('one\ntwo\n');
});

test('a full disk there is told, and what was sent is removed', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  await writeFile(project('large'), randomBytes(4 << 20));
  const tree = await list();
  await expect(sendTree(host, shell, disk.path, tree)).rejects.toMatchObject({
    stage: 'send',
    message: expect.stringMatching(/here: cannot send files: .*No space left on device/),
  });
  expect(await readdir(disk.path)).toEqual([]);
});

test('a folder of trees that is not there is one clear error', async () => {
  await writeFile(project('file'), 'x');
  await expect(sendTree(host, shell, join(folder.path, 'no/such'), await list())).rejects.toThrow(
    /cannot send files: .*no\/such/,
  );
});
