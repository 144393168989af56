import { chmod, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { runOrThrow } from '../rig/command.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
beforeEach(async () => {
  project = await SourceProject.make();
});
afterEach(() => project[Symbol.asyncDispose]());

test('lists the working directory as one part, folders before what they hold', async () => {
  await project.files('a.txt', 'sub/deep/b', '.hidden', '.gitignore', 'sub-x', 'sub.y/z');
  await mkdir(project.at('empty'));
  const { tree, paths } = await project.list();
  expect(paths).toEqual([
    ...[
      '.gitignore',
      '.hidden',
      'a.txt',
      'empty',
      'sub',
      'sub-x',
      'sub.y',
      'sub.y/z',
      'sub/deep',
      'sub/deep/b',
    ],
  ]);
  expect(tree.parts.map(({ root }) => root)).toEqual([project.at()]);
  expect(tree).toMatchObject({
    id: tree.parts[0]?.id,
    shared: [],
    files: 6,
    bytes: '.gitignore.hiddena.txtsub-xsub.y/zsub/deep/b'.length,
  });
});

test('a tree is named by paths, modes and contents, and by nothing else', async () => {
  const file = await project.file('sub/file', 'one');
  const first = (await project.list()).tree;
  expect(first.id).toMatch(/^[0-9a-f]{40}$/);
  await runOrThrow('touch', ['-d', '1999-01-01', file]);
  expect((await project.list()).tree.id).toBe(first.id);
  expect((await project.list(['sub'])).tree.id).toBe(first.id);
  const ids = [first.id];
  const note = async () => ids.push((await project.list()).tree.id);
  await writeFile(file, 'two');
  await note();
  await chmod(file, 0o755);
  await note();
  await chmod(project.at('sub'), 0o700);
  await note();
  await project.file('other', '');
  await note();
  await symlink('sub/file', project.at('link'));
  await note();
  await rm(project.at('link'));
  await symlink('sub/./file', project.at('link'));
  await note();
  await mkdir(project.at('sub/empty'));
  await note();
  expect(new Set(ids).size).toBe(8);
});

test('each named path is a part of its own, with the folders above it', async () => {
  await project.files('code/lib/a.py', 'code/b.py', 'data/x', 'unsent');
  await chmod(project.at('code'), 0o750);
  const { tree } = await project.list(['data/x', 'code/lib']);
  expect(tree.parts.map(({ entries }) => entries.map(({ path }) => path))).toEqual([
    ['data', 'data/x'],
    ['code', 'code/lib', 'code/lib/a.py'],
  ]);
  expect(tree.parts[1]?.entries[0]).toEqual({
    path: 'code',
    kind: 'folder',
    mode: 0o750,
    size: 0,
    digest: '',
  });
  expect(tree).toMatchObject({ files: 2, isSmall: false });
  const swapped = (await project.list(['code/lib', 'data/x'])).tree;
  expect(swapped.id).toBe(tree.id);
  expect(tree.id).not.toBe((await project.list(['code/lib', 'data/x', 'code/b.py'])).tree.id);
});

test('what another path brings along, and another spelling of a path, make no part', async () => {
  await project.files('sub/file', 'sub/deep/x', 'subway');
  await symlink('project', project.at('../way'));
  for (const more of ['./sub/../sub/file', project.at('sub'), 'sub/', '../project/sub/deep', '../way/sub']) {
    const { paths, tree } = await project.list([more, 'sub', more]);
    expect(paths).toEqual(['sub', 'sub/deep', 'sub/deep/x', 'sub/file']);
    expect(tree.parts).toHaveLength(1);
  }
  expect((await project.list(['sub', 'subway'])).tree.parts).toHaveLength(2);
  expect((await project.list(['sub/file', '.'])).tree.parts).toHaveLength(1);
});

test('a path from outside is placed at the top; two things for one place are refused', async () => {
  await project.files('inside/x', '../else/data/y', '../other/data/z');
  const { tree } = await project.list(['inside/x', '../else/data', project.at('inside')]);
  expect(tree.parts.map(({ root, entries }) => [root, ...entries.map(({ path }) => path)])).toEqual([
    [project.at('../else'), 'data', 'data/y'],
    [project.at(), 'inside', 'inside/x'],
  ]);
  await expect(project.list(['../other/data', '../else/data'])).rejects.toThrow(
    /other\/data and \/.*else\/data would both be placed at data$/,
  );
  await project.file('data/z');
  for (const named of [
    ['data/z', '../else/data'],
    ['.', '../else/data'],
  ])
    await expect(project.list(named)).rejects.toThrow(/would both be placed at data$/);
  await expect(project.list('working-directory', ['../else/data'])).rejects.toThrow(
    /both be placed at data$/,
  );
  await expect(project.list([], ['../else/data', '../other/data'])).rejects.toThrow(
    /both be placed at data$/,
  );
});

test('a path that does not exist is one clear line', async () => {
  await project.file('file');
  const missing = project.list(['no/such']);
  await expect(missing).rejects.toBeInstanceOf(UsageError);
  await expect(missing).rejects.toThrow(
    /^--copy-forwards: no\/such does not exist \(looked at .*project\/no\/such\)$/,
  );
  await expect(project.list(['file/below'])).rejects.toThrow(/file\/below does not exist/);
  await expect(project.list(['../no/such'])).rejects.toThrow(/: \.\.\/no\/such does not exist/);
  await expect(project.list([project.at('file/below/x')])).rejects.toThrow(/file\/below\/x does not exist/);
  await expect(project.list(['file/'])).resolves.toMatchObject({ paths: ['file'] });
  await expect(project.list(['../no\n'])).rejects.toThrow(/: \.\.\/no\\n does not exist/);
  await expect(project.list([], ['gone'])).rejects.toThrow(/^--share-forwards: gone does not exist/);
});

test('refuses the home folder and / unless they are named', async () => {
  await project.file('file');
  const home = project.at();
  await expect(project.list('working-directory', [], { home })).rejects.toThrow(
    /your home folder .*--copy-forwards/,
  );
  await expect(project.list('working-directory', [], { cwd: '/' })).rejects.toThrow(
    /working directory is \//,
  );
  await symlink('project', project.at('../home'));
  await expect(project.list('working-directory', [], { home: project.at('../home') })).rejects.toThrow(
    /your home folder/,
  );
  for (const path of ['file', '.'])
    expect((await project.list([path], [], { home })).paths).toEqual(['file']);
  await expect(project.list(['/'])).rejects.toThrow(/\/ cannot be sent whole/);
});

test('nothing to send has no name', async () => {
  for (const named of [[], 'working-directory'] as const) {
    const { tree, notes } = await project.list(named);
    expect(tree).toEqual({ id: '', parts: [], shared: [], files: 0, bytes: 0, isSmall: false });
    expect(notes).toEqual({ leftBehind: [], secrets: [], linksOut: [] });
  }
});

test('a small tree is one part with few entries and bytes, no link and nothing shared', async () => {
  await project.files('a', 'b');
  expect((await project.list()).tree.isSmall).toBe(true);
  expect((await project.list(['a'])).tree.isSmall).toBe(true);
  expect((await project.list(['a', 'b'])).tree.isSmall).toBe(false);
  expect((await project.list(['a'], ['b'])).tree.isSmall).toBe(false);
  await project.file('b', 'x'.repeat(32 * 1024 - 1));
  expect((await project.list()).tree.isSmall).toBe(true);
  await project.file('b', 'x'.repeat(32 * 1024));
  expect((await project.list()).tree.isSmall).toBe(false);
  await project.file('b');
  await symlink('a', project.at('link'));
  expect((await project.list()).tree.isSmall).toBe(false);
  await rm(project.at('link'));
  for (let i = 0; i < 49; i++) await project.file(`c${i}`);
  expect((await project.list()).tree.isSmall).toBe(false);
});

test('each path is listed once for a thousand jobs, and mistakes are found before anything runs', async () => {
  await project.files('code/a', 'code/b');
  for (let i = 0; i < 1000; i++) await project.file(`jobs/${i}.cfg`);
  const trees = project.trees();
  const jobs = Array.from({ length: 1000 }, (_, i) => ({
    copyForwards: ['code', `jobs/${i}.cfg`],
    shareForwards: [],
  }));
  await trees.listAll(jobs);
  await project.file('code/a', 'changed since');
  const listed = await Promise.all(jobs.map((job) => trees.of(job)));
  expect(new Set(listed.map(({ parts }) => parts[0])).size).toBe(1);
  expect(new Set(listed.flatMap(({ parts }) => parts.map(({ id }) => id))).size).toBe(1001);
  expect(new Set(listed.map(({ id }) => id)).size).toBe(1000);
  const [job] = jobs;
  if (job !== undefined) expect(trees.of({ ...job })).toBe(trees.of(job));
  await expect(trees.listAll([{ copyForwards: ['gone'], shareForwards: [] }])).rejects.toThrow(
    'gone does not exist',
  );
});

test('a job that names very many paths has them in one part per folder', async () => {
  for (let i = 0; i < 70; i++) await project.file(`d/${i}`);
  await project.files('../else/x', 'd/.venv/pyvenv.cfg');
  const named = [...Array.from({ length: 70 }, (_, i) => `d/${i}`), '../else', 'd/3', 'd/.venv'];
  const { tree, paths } = await project.list(named);
  expect(tree.parts).toHaveLength(2);
  expect(paths).toHaveLength(1 + 70 + 2 + 2);
  expect(paths).toContain('d/.venv/pyvenv.cfg');
});

test('a shared path is a part of its own and left out of the others', async () => {
  await project.files('code/a', 'code/big/1', 'code/big/2', 'data/large', 'data/small');
  const { tree, paths } = await project.list('working-directory', ['code/big', './data/large']);
  expect(paths).toEqual(['code', 'code/a', 'data', 'data/small']);
  expect(tree.shared.map(({ path, part }) => [path, ...part.entries.map((entry) => entry.path)])).toEqual([
    ['code/big', 'code', 'code/big', 'code/big/1', 'code/big/2'],
    ['data/large', 'data', 'data/large'],
  ]);
  expect(tree.files).toBe(5);
  expect((await project.list(['code'], ['code/big'])).paths).toEqual(['code', 'code/a']);
  expect((await project.list(['code'])).paths).toContain('code/big/1');
  const none = await project.list([], ['data']);
  expect(none.tree).toMatchObject({ parts: [], files: 2, isSmall: false });
  expect(none.tree.id).not.toBe(tree.id);
  const outside = await project.list(['code/a'], ['../project/data', project.at('data')]);
  expect(outside.tree.shared.map(({ path }) => path)).toEqual(['data']);
});

test('a tree has another name when the same thing is shared instead of copied', async () => {
  await project.file('data/x');
  const ids = await Promise.all(
    [project.list(['data']), project.list([], ['data']), project.list([], ['data/x'])].map(
      async (listing) => (await listing).tree.id,
    ),
  );
  expect(new Set(ids).size).toBe(3);
});

test('a path is either copied or shared, and shares do not lie in each other', async () => {
  await project.files('data/x', 'data/sub/y');
  const expected = /^--copy-forwards, --share-forwards: .* either copied or shared$/;
  await expect(project.list(['data'], ['./data'])).rejects.toThrow(expected);
  for (const shared of ['data', './data/', project.at('data')])
    await expect(project.list(['data'], [shared])).rejects.toThrow(/data is in both lists/);
  await expect(project.list(['data/x'], ['data'])).rejects.toThrow(/data\/x lies in data, which is shared/);
  await expect(project.list([], ['data/sub', 'data'])).rejects.toThrow(
    /--share-forwards: data\/sub lies in data, which is shared whole/,
  );
  await expect(project.list([], ['.'])).rejects.toThrow(/whole working directory/);
  await expect(project.list([], ['..'])).resolves.toBeDefined();
});

test('a shared link is followed to its folder: large data often lies on another disk', async () => {
  await project.files('../disk/data/x', '../disk/file', 'code');
  await symlink('../disk/data', project.at('data'));
  await symlink('../disk/file', project.at('file'));
  await symlink('nowhere', project.at('dangling'));
  const { tree, paths } = await project.list('working-directory', ['data']);
  expect(paths).toEqual(['code', 'dangling', 'file']);
  expect(tree.shared[0]?.part.entries.map(({ path, kind }) => [path, kind])).toEqual([
    ['data', 'folder'],
    ['data/x', 'file'],
  ]);
  for (const link of ['file', 'dangling'])
    await expect(project.list([], [link])).rejects.toThrow(/is a link that leads to no folder/);
});

test('a copied link stays a link, and what lies behind one is reached through it', async () => {
  await project.files('real/x');
  await chmod(project.at('real'), 0o700);
  await symlink('real', project.at('link'));
  expect((await project.list(['link'])).tree.parts[0]?.entries).toEqual([
    { path: 'link', kind: 'link', mode: 0o777, size: 0, digest: 'real' },
  ]);
  expect((await project.list(['link/x'])).tree.parts[0]?.entries).toMatchObject([
    { path: 'link', kind: 'folder', mode: 0o700 },
    { path: 'link/x', kind: 'file' },
  ]);
  await expect(project.list(['.', 'link/x'])).rejects.toThrow(
    /link\/x lies behind the link link, which \. brings along as a link/,
  );
});

test('links that point out of what is sent are told, with their targets', async () => {
  await project.files('code/a', 'data/x', '.git/config', '../beside');
  const links = {
    'code/absolute': '/etc/passwd',
    'code/inside': '../code/a',
    'code/over': '../data/x',
    'code/here': '..',
    'code/up': '../../beside',
    'code/out-and-in': '../../project/code/a',
    'code/git': '../.git/config',
    'code/dangling': 'nothing',
    'code/by-link': 'here/code/a',
    'top\n': '.git',
  };
  for (const [path, target] of Object.entries(links)) await symlink(target, project.at(path));
  const whole = await project.list();
  expect(whole.paths).toContain('code/up');
  const out = [
    { path: 'code/absolute', target: '/etc/passwd' },
    { path: 'code/git', target: '../.git/config' },
    { path: 'code/out-and-in', target: '../../project/code/a' },
    { path: 'code/up', target: '../../beside' },
  ];
  expect(whole.notes.linksOut).toEqual([...out, { path: 'top\n', target: '.git' }]);
  expect((await project.list(['code', 'data'])).notes.linksOut).toEqual(out);
  expect((await project.list(['code'], ['data'])).notes.linksOut).toEqual(out);
  const alone = (await project.list(['code'])).notes.linksOut.map(({ path }) => path);
  expect(alone).toContain('code/over');
  expect((await project.list(['code/up'])).notes.linksOut).toHaveLength(1);
});
