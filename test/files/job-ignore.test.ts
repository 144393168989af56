import { mkdir, rename } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runOrThrow } from '../rig/command.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
beforeEach(async () => {
  project = await SourceProject.make();
});
afterEach(() => project[Symbol.asyncDispose]());

const FILES = [
  ...['a.log', 'keep.log', 'build/out.o', 'src/build/x', 'src/a.log', 'src/keep.log', 'src/deep/a.log'],
  ...['src/deep/keep.log', 'data/raw/1', 'data/raw/2', 'data/keep/1', 'A.LOG', 'tmp/x', 'src/tmp/x', 'file'],
  ...['with space', '#hash', '!bang', 'src/[x]/f', 'src/x/f', 'vendor/a/b/c.txt', 'vendor/c.txt', 'üml.log'],
  ...['src/gen/a.py', 'src/gen/keep.py', 'src/gen/deep/a.py', 'trailing ', 'back\\slash'],
];

/** What git itself would not ignore, with the same rules in `.gitignore` files. */
async function asGitSees(rules: Readonly<Record<string, string>>): Promise<string[]> {
  const root = project.at('../git');
  await mkdir(root);
  for (const path of FILES) await project.file(`../git/${path}`);
  for (const [path, text] of Object.entries(rules)) await project.file(`../git/${path}.gitignore`, text);
  const env = { PATH: process.env.PATH, HOME: '/nowhere', GIT_CONFIG_NOSYSTEM: '1' };
  await runOrThrow('git', ['init', '-q'], { cwd: root, env });
  const listed = await runOrThrow('git', ['ls-files', '-z', '--others', '--exclude-standard'], {
    cwd: root,
    env,
  });
  const paths = listed.split('\0').filter((path) => path !== '');
  return paths.map((path) => Buffer.from(path.replace('.gitignore', '.jobignore')).toString('latin1')).sort();
}

test.each([
  ['plain names, folders and places', { '': '*.log\nbuild/\n/tmp\n\n# a comment\nvendor/**/c.txt\n' }],
  [
    'negation, and folders that nothing can be taken out of',
    { '': '*.log\n!keep.log\ndata/*\n!data/keep\ntmp\n!tmp/x' },
  ],
  [
    'files in folders win over those above',
    { '': '*.log\ngen\n', 'src/': '!keep.log\n!gen/\ngen/*\n!keep.py\n' },
  ],
  ['places in folders', { 'src/': '/build\ndeep/a.log\n*.py\n', 'data/': 'raw/1\r\n/keep/\r\n' }],
  ['odd names', { '': '\\#hash\n\\!bang\nwith\\ space\ntrailing\\ \nfile   \nback\\\\slash\n\ufeff' }],
  ['odd folders', { 'src/[x]/': 'f\n', 'src/gen/': '\\!no\n*.py\n!/keep.py\n' }],
  ['letters beyond ASCII, and case', { '': 'ü*.log\n*.log\n!A.log\n' }],
  ['all but some', { '': '*\n!*/\n!*.py\n!.jobignore\n!.gitignore\n' }],
])('says what git says: %s', async (_name, rules) => {
  for (const path of FILES) await project.file(path);
  for (const [path, text] of Object.entries<string>(rules)) await project.file(`${path}.jobignore`, text);
  const { tree, notes } = await project.list();
  const sent = tree.parts.flatMap(({ entries }) => entries.filter(({ kind }) => kind === 'file'));
  expect(sent.map(({ path }) => path).sort()).toEqual(await asGitSees(rules));
  expect(new Set(notes.leftBehind.map(({ reason }) => reason))).toEqual(new Set(['jobignore']));
});

test('a .gitignore is not applied, and a .jobignore is sent', async () => {
  await project.files('data/x', 'cache/y');
  await project.file('.gitignore', 'data\n');
  await project.file('.jobignore', 'cache\n');
  const { paths, notes } = await project.list();
  expect(paths).toEqual(['.gitignore', '.jobignore', 'data', 'data/x']);
  expect(notes.leftBehind).toEqual([{ path: 'cache', reason: 'jobignore' }]);
});

test('for a path that is named the rules that hide it are off, and no others', async () => {
  await project.files('data/raw/1.bin', 'data/raw/x.tmp', 'data/x.log', 'notes.log', 'other.log', 'code.py');
  await project.file('.jobignore', 'data/\n*.log\n*.tmp\n');
  expect((await project.list()).paths).toEqual(['.jobignore', 'code.py']);
  expect((await project.list(['data'])).paths).toEqual(['data', 'data/raw', 'data/raw/1.bin']);
  expect((await project.list(['data/raw'])).paths).toEqual(['data', 'data/raw', 'data/raw/1.bin']);
  expect((await project.list(['data/x.log'])).paths).toEqual(['data', 'data/x.log']);
  const { paths, notes } = await project.list(['.', 'notes.log', 'data/raw/x.tmp']);
  expect(paths).toEqual(['.jobignore', 'code.py', 'notes.log', 'data', 'data/raw', 'data/raw/x.tmp']);
  expect(notes.leftBehind.map(({ path }) => path)).toEqual(['data', 'other.log']);
  const shared = await project.list('working-directory', ['data/raw']);
  expect(shared.tree.shared[0]?.part.entries.map(({ path }) => path)).toContain('data/raw/1.bin');
});

test('a .jobignore in a folder counts when the folder, or something in it, is named', async () => {
  await project.files('sub/deep/a.o', 'sub/deep/b', '../else/data/a.o', '../else/data/b');
  await project.file('sub/.jobignore', '*.o\n');
  await project.file('../else/data/.jobignore', '*.o\n');
  await project.file('../else/.jobignore', '*\n');
  expect((await project.list(['sub/deep'])).paths).toEqual(['sub', 'sub/deep', 'sub/deep/b']);
  expect((await project.list(['../else/data'])).paths).toEqual(['data', 'data/.jobignore', 'data/b']);
  expect((await project.list(['sub/deep/a.o'])).paths).toContain('sub/deep/a.o');
});

test('a .jobignore that cannot be read is an error, and a folder of that name is none', async () => {
  await project.file('code');
  await mkdir(project.at('.jobignore'));
  expect((await project.list()).paths).toEqual(['.jobignore', 'code']);
  await rename(project.at('.jobignore'), project.at('x'));
  await runOrThrow('ln', ['-s', '.jobignore', project.at('.jobignore')]);
  await expect(project.list()).rejects.toThrow(/cannot read .*\.jobignore \(ELOOP\)/);
});
