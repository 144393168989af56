import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { listSourceTree, type SourceTreeOptions } from '../../src/lib/files/source-tree.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

const list = (paths: readonly string[] | undefined, more: Partial<SourceTreeOptions> = {}) =>
  listSourceTree({ cwd: join(folder.path, 'project'), paths, neverSend: [], home: '/nowhere', ...more });

/** Makes a file with its folders. */
async function make(path: string, text = path): Promise<string> {
  const full = join(folder.path, 'project', path);
  await mkdir(join(full, '..'), { recursive: true });
  await writeFile(full, text);
  return full;
}

const pathsOf = (tree: Awaited<ReturnType<typeof list>>) => tree.groups.flatMap(({ paths }) => paths);

test('lists the working directory without .git, folders before what they hold', async () => {
  for (const path of ['a.txt', 'sub/deep/b', '.hidden', '.git/config', 'sub/.git/config', '.gitignore'])
    await make(path);
  const tree = await list(undefined);
  expect(pathsOf(tree)).toEqual(['.gitignore', '.hidden', 'a.txt', 'sub', 'sub/deep', 'sub/deep/b']);
  expect(tree).toMatchObject({ files: 4, bytes: '.gitignore.hiddena.txtsub/deep/b'.length });
});

test('names a tree by paths, modes and contents, and by nothing else', async () => {
  const file = await make('sub/file', 'one');
  const first = await list(undefined);
  expect(first.id).toMatch(/^[0-9a-f]{40}$/);
  await runOrThrow('touch', ['-d', '1999-01-01', file]);
  expect((await list(undefined)).id).toBe(first.id);
  expect((await list(['sub'])).id).toBe(first.id);
  expect((await list(['./sub/../sub/file', 'sub'])).id).toBe(first.id);
  const ids = new Set([first.id]);
  await writeFile(file, 'two');
  ids.add((await list(undefined)).id);
  await chmod(file, 0o755);
  ids.add((await list(undefined)).id);
  await make('other', '');
  ids.add((await list(undefined)).id);
  await symlink('sub/file', join(folder.path, 'project/link'));
  ids.add((await list(undefined)).id);
  await make('sub/empty/x');
  ids.add((await list(undefined)).id);
  expect(ids.size).toBe(6);
});

test('the results folder, machine files and keys are never sent, whichever way they are reached', async () => {
  for (const path of ['job_results/a/out', 'm.yaml', 'keys/id', 'keys/id.pub', 'code.py']) await make(path);
  await symlink('project', join(folder.path, 'way'));
  const neverSend = ['job_results', 'm.yaml', join(folder.path, 'project/keys/id')];
  expect(pathsOf(await list(undefined, { neverSend }))).toEqual(['code.py', 'keys', 'keys/id.pub']);
  expect(pathsOf(await list(['keys'], { neverSend }))).toEqual(['keys', 'keys/id.pub']);
  const outside = await list(['../way/keys'], { neverSend });
  expect(pathsOf(outside)).toEqual(['keys', 'keys/id.pub']);
  await expect(list(['keys/id'], { neverSend })).rejects.toThrow(/never sent/);
});

test('refuses the home folder and / unless they are named', async () => {
  await make('file');
  const cwd = join(folder.path, 'project');
  await expect(list(undefined, { home: cwd })).rejects.toThrow(/your home folder .*--copy-forwards/);
  await expect(list(undefined, { cwd: '/' })).rejects.toThrow(/working directory is \//);
  await symlink('project', join(folder.path, 'home'));
  await expect(list(undefined, { home: join(folder.path, 'home') })).rejects.toThrow(/your home folder/);
  expect(pathsOf(await list(['file'], { home: cwd }))).toEqual(['file']);
  expect(pathsOf(await list(['.'], { home: cwd }))).toEqual(['file']);
  await expect(list(['/'])).rejects.toThrow(/\/ cannot be sent whole/);
});

test('a path from outside is placed at the top; two for one place are refused', async () => {
  await make('inside/x');
  await mkdir(join(folder.path, 'else/data'), { recursive: true });
  await writeFile(join(folder.path, 'else/data/y'), 'y');
  const tree = await list(['inside/x', '../else/data', join(folder.path, 'project/inside')]);
  expect(tree.groups.map(({ root, paths }) => [root, paths])).toEqual([
    [join(folder.path, 'project'), ['inside', 'inside/x']],
    [join(folder.path, 'else'), ['data', 'data/y']],
  ]);
  await make('data/z');
  await expect(list(['data', '../else/data'])).rejects.toThrow(/would both be placed at data/);
});

test('a path that does not exist is one clear line', async () => {
  await make('file');
  await expect(list(['no/such'])).rejects.toThrow(
    /--copy-forwards: no\/such does not exist \(looked at .*project\/no\/such\)/,
  );
  await expect(list(['file/below'])).rejects.toThrow(/does not exist/);
});

test('nothing to send has no name', async () => {
  await mkdir(join(folder.path, 'project'));
  expect(await list([])).toMatchObject({ id: '', files: 0 });
  expect(await list(undefined)).toMatchObject({ id: '', files: 0 });
});

test('links are listed as links, sockets and FIFOs left out', async () => {
  await make('file');
  const at = (name: string) => join(folder.path, 'project', name);
  await symlink('/etc', at('away'));
  await symlink('loop', at('loop'));
  await runOrThrow('mkfifo', [at('fifo')]);
  expect(pathsOf(await list(undefined))).toEqual(['away', 'file', 'loop']);
});

test('each list of paths is listed once, and mistakes are found before anything runs', async () => {
  await make('file');
  const trees = new SourceTrees({ cwd: join(folder.path, 'project'), neverSend: [], home: '/nowhere' });
  await trees.listAll([{ copyForwards: 'working-directory' }, { copyForwards: ['file'] }]);
  const first = trees.of({ copyForwards: ['file'] });
  await make('file', 'changed since');
  expect(trees.of({ copyForwards: ['file'] })).toBe(first);
  await expect(trees.listAll([{ copyForwards: ['gone'] }])).rejects.toThrow('gone does not exist');
});
