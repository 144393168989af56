import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runOrThrow } from '../rig/command.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
beforeEach(async () => {
  project = await SourceProject.make();
});
afterEach(() => project[Symbol.asyncDispose]());

test('names are bytes: spaces, newlines, quotes, dashes, what is no UTF-8, 255 of them', async () => {
  const names = [
    ...[' ', 'with space', 'new\nline', '\'single\' and "double"', '-rf', '--', '*', '$(x)', '\\', '%s', '~'],
    ...['ünï', '日本語', 'x'.repeat(255), '.hidden', '..more', 'a:b', '#', 'tab\tand\x1b'],
  ];
  for (const name of names) {
    await mkdir(project.at(`d/${name}`), { recursive: true });
    await writeFile(project.at(`d/${name}/${name}`), name);
  }
  await writeFile(Buffer.concat([Buffer.from(project.at('d/not utf8 ')), Buffer.from([0xff, 0xfe])]), 'x');
  await symlink(
    Buffer.from([0xe9, 0x0a]),
    Buffer.concat([Buffer.from(project.at('d/')), Buffer.from([0xe9])]),
  );
  await project.file('.jobignore', 'unused\n'); // the rules see the same bytes
  const { paths, tree } = await project.list(['d']);
  const bytes = (text: string) => Buffer.from(text).toString('latin1');
  const expected = names.map(bytes).flatMap((name) => [`d/${name}`, `d/${name}/${name}`]);
  expect(paths).toEqual(['d', ...expected, 'd/not utf8 \xff\xfe', 'd/\xe9'].sort());
  expect(tree.parts[0]?.entries.find(({ path }) => path === 'd/\xe9')?.digest).toBe('\xe9\n');
  for (const name of names) {
    const named = await project.list([`./d/${name}`]);
    expect(named.paths).toEqual(['d', `d/${bytes(name)}`, `d/${bytes(name)}/${bytes(name)}`]);
  }
  const inside = await project.list('working-directory', [], { cwd: project.at('d/日本語') });
  expect(inside.paths).toEqual([bytes('日本語')]);
});

test('names that are no UTF-8 and look alike as text are two files', async () => {
  for (const byte of [0xfe, 0xff])
    await writeFile(Buffer.concat([Buffer.from(project.at('x')), Buffer.from([byte])]), String(byte));
  const { tree, paths } = await project.list();
  expect(paths).toEqual(['x\xfe', 'x\xff']);
  expect(new Set(tree.parts[0]?.entries.map(({ digest }) => digest)).size).toBe(2);
});

test('deep folders, and one that is too deep', async () => {
  const deep = Array.from({ length: 150 }, (_, i) => `level${i}`).join('/');
  await project.file(`${deep}/file`, 'x');
  const { paths } = await project.list();
  expect(paths).toHaveLength(151);
  expect(paths.at(-1)).toBe(`${deep}/file`);
  expect((await project.list([deep])).paths).toHaveLength(151);
  const name = 'n'.repeat(250);
  await runOrThrow('bash', ['-c', `for i in {1..20}; do mkdir ${name} && cd ${name} || exit 1; done`], {
    cwd: project.at(),
  });
  await expect(project.list()).rejects.toThrow(/cannot send .*nnn.* \(its path is too long\)/);
  await runOrThrow('rm', ['-rf', project.at(name)]);
});

test('kinds, modes and sizes are as they are; sockets and FIFOs are left out', async () => {
  await project.file('zero', '');
  await project.file('run.sh', '#!/bin/sh\n', 0o755);
  await project.file('secret', 'x', 0o600);
  await project.file('read-only/file', 'x', 0o444);
  await chmod(project.at('read-only'), 0o555);
  await project.file('setuid', 'x');
  await chmod(project.at('setuid'), 0o4755);
  await truncate(await project.file('sparse', ''), 5_000_000);
  await mkdir(project.at('empty'));
  await symlink('loop', project.at('loop'));
  await symlink('no/where', project.at('dangling'));
  await runOrThrow('mkfifo', [project.at('fifo')]);
  const { tree } = await project.list();
  await chmod(project.at('read-only'), 0o755); // so that it can be removed by whoever runs the tests
  const seen = tree.parts[0]?.entries.map(
    ({ path, kind, mode, size }) => `${kind} ${mode.toString(8)} ${size} ${path}`,
  );
  expect(seen).toEqual([
    'link 777 0 dangling',
    'folder 755 0 empty',
    'link 777 0 loop',
    'folder 555 0 read-only',
    'file 444 1 read-only/file',
    'file 755 10 run.sh',
    'file 600 1 secret',
    'file 755 1 setuid',
    'file 644 5000000 sparse',
    'file 644 0 zero',
  ]);
  expect((await project.list(['fifo'])).paths).toEqual([]);
});

test('files and folders that vanish while they are listed are left out', async () => {
  await project.file('stays');
  const churn = `while :; do mkdir -p d/e; for i in 1 2 3 4 5 6 7 8 9; do echo $i >d/e/$i; echo $i >d/$i; done; rm -rf d; done`;
  const child = spawn('sh', ['-c', churn], { cwd: project.at(), stdio: 'ignore' });
  try {
    for (let run = 0; run < 100; run++) expect((await project.list()).paths).toContain('stays');
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
});
