import { mkdir, symlink } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findMachines } from '../../src/lib/machine/find-machines.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
beforeEach(async () => {
  project = await SourceProject.make();
});
afterEach(() => project[Symbol.asyncDispose]());

const MACHINE = 'ip: 192.0.2.1\nusername: me\n';
const PRIVATE_KEY = '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n';

test('version control, results, environments and compiled Python stay behind, each told once', async () => {
  await project.files(
    ...['.git/config', '.git/objects/a', 'sub/.git/config', 'tree/.git', '.gitignore', 'code.py'],
    ...['job_results/a/out', 'out/run1/x', 'out/keep', 'sub/job_results/x'],
    ...['.venv/pyvenv.cfg', '.venv/lib/python3/site.py', 'tools/env/pyvenv.cfg', 'tools/env/bin/python'],
    ...['__pycache__/a.pyc', 'sub/__pycache__/b.pyc'],
  );
  await project.file('docs/__pycache__', 'a file of that name');
  const { paths, notes } = await project.list('working-directory', [], { results: 'out/run1' });
  expect(paths).toEqual([
    ...['.gitignore', 'code.py', 'docs', 'docs/__pycache__', 'out', 'out/keep'],
    ...['sub', 'sub/job_results', 'sub/job_results/x', 'tools', 'tree'],
  ]);
  expect(notes.leftBehind).toEqual([
    { path: '.git', reason: 'git' },
    { path: '.venv', reason: 'virtual-environment' },
    { path: '__pycache__', reason: 'pycache' },
    { path: 'job_results', reason: 'results' },
    { path: 'out/run1', reason: 'results' },
    { path: 'sub/.git', reason: 'git' },
    { path: 'sub/__pycache__', reason: 'pycache' },
    { path: 'tools/env', reason: 'virtual-environment' },
    { path: 'tree/.git', reason: 'git' },
  ]);
});

test('a project that is itself a virtual environment is sent', async () => {
  await project.files('pyvenv.cfg', 'bin/python', 'code.py');
  expect((await project.list()).paths).toEqual(['bin', 'bin/python', 'code.py', 'pyvenv.cfg']);
});

test('what is named is sent, with what lies below it, and is no more told to stay behind', async () => {
  await project.files(
    '.git/config',
    '.git/m/.git',
    'code.py',
    '.venv/pyvenv.cfg',
    '.venv/lib/x',
    '.venv/env2/pyvenv.cfg',
  );
  await project.files('job_results/a/out', 'pkg/__pycache__/m.pyc', 'other/__pycache__/n.pyc');
  const named = ['.git', '.venv/lib', 'job_results', 'pkg/__pycache__'];
  expect((await project.list(named)).paths).toEqual([
    ...['.git', '.git/config', '.git/m', '.git/m/.git', '.venv', '.venv/lib', '.venv/lib/x'],
    ...[
      'job_results',
      'job_results/a',
      'job_results/a/out',
      'pkg',
      'pkg/__pycache__',
      'pkg/__pycache__/m.pyc',
    ],
  ]);
  expect((await project.list(['.venv'])).paths).toContain('.venv/env2/pyvenv.cfg');
  const { tree, paths, notes } = await project.list(['.', '.git', 'job_results/a']);
  expect(tree.parts).toHaveLength(3);
  expect(paths).toEqual(expect.arrayContaining(['code.py', '.git/config', 'job_results/a/out']));
  expect(notes.leftBehind.map(({ path }) => path)).toEqual([
    ...['.venv', 'job_results', 'other/__pycache__', 'pkg/__pycache__'],
  ]);
  const shared = await project.list('working-directory', ['.venv']);
  expect(shared.tree.shared[0]?.part.files).toBe(3);
  expect(shared.notes.leftBehind.map(({ path }) => path)).not.toContain('.venv');
});

test('the machine files of this run and their keys stay behind, whichever way they are reached', async () => {
  await project.file('machines/gpu', `${MACHINE}ssh_key_path: ../keys/id\n`);
  await project.file(
    '../away.yaml',
    `ip: 192.0.2.2\nusername: me\nssh_key_path: ${project.at('plain-key')}\n`,
  );
  await project.files('keys/id', 'keys/id.pub', 'plain-key', 'code.py', 'machines/README');
  await symlink('../away.yaml', project.at('m.yaml'));
  await symlink('project', project.at('../way'));
  const { machines } = await findMachines(['./machines/gpu', './m.yaml'], { cwd: project.at() });
  const list = (named?: readonly string[]) => project.list(named, [], { machines });
  const { paths, notes } = await list();
  expect(paths).toEqual(['code.py', 'keys', 'keys/id.pub', 'machines', 'machines/README']);
  expect(notes.leftBehind).toEqual([
    { path: 'keys/id', reason: 'key' },
    { path: 'm.yaml', reason: 'machine-file' },
    { path: 'machines/gpu', reason: 'machine-file' },
    { path: 'plain-key', reason: 'key' },
  ]);
  for (const folder of ['keys', '../way/keys', project.at('../way/keys')])
    expect((await list([folder])).paths).toEqual(['keys', 'keys/id.pub']);
  const named = await list(['keys/id', 'machines/gpu', 'code.py', '.']);
  expect(named.paths).toEqual(expect.arrayContaining(['keys/id', 'machines/gpu', 'code.py']));
  expect(named.notes.secrets).toEqual(['keys/id', 'machines/gpu']);
  expect(named.notes.leftBehind.map(({ path }) => path)).toEqual(['m.yaml', 'plain-key']);
});

test('other machine files in the tree stay behind, with the keys that they name', async () => {
  await project.file('infra/gpu.yaml', `${MACHINE}ssh_key_path: "keys/my key"\n`);
  await project.file('infra/keys/my key', 'no look of a key');
  await project.file('all.yml', 'machines:\n  a: {ip: 192.0.2.1, username: u, ssh_key_path: infra/id}\n');
  await project.file('infra/id', PRIVATE_KEY);
  await project.file('lost-key.yaml', `${MACHINE}ssh_key_path: ~/.ssh/not_here\n`);
  await project.file('conf.yaml', 'epochs: 3\n');
  const left = [
    { path: 'all.yml', reason: 'machine-file' },
    { path: 'infra/gpu.yaml', reason: 'machine-file' },
    { path: 'infra/id', reason: 'key' },
    { path: 'infra/keys/my key', reason: 'key' },
    { path: 'lost-key.yaml', reason: 'machine-file' },
  ];
  for (let run = 0; run < 2; run++) {
    const { paths, notes } = await project.list();
    expect(paths).toEqual(['conf.yaml', 'infra', 'infra/keys']);
    expect(notes.leftBehind).toEqual(left);
  }
  const named = await project.list(['infra/gpu.yaml', 'infra/id']);
  expect(named.paths).toEqual(['infra', 'infra/gpu.yaml', 'infra', 'infra/id']);
  expect(named.notes).toMatchObject({ leftBehind: [], secrets: ['infra/gpu.yaml', 'infra/id'] });
});

test('files that look like secrets are sent and told', async () => {
  await project.files(
    '.env',
    'a/.env.local',
    '.env.example',
    '.netrc',
    '.pgpass',
    'env',
    'my.env',
    'b/.envrc',
  );
  await project.file('keys/id_rsa', PRIVATE_KEY);
  await project.file('keys/id_rsa.pub', 'ssh-rsa AAAA me');
  await project.file('db.yaml', 'host: db.example.com\nport: 5432\nusername: app\npassword: geheim\n');
  await project.file('.npmrc', 'registry=https://registry.example.com/\n//r.example.com/:_authToken=abc\n');
  await project.file('a/.npmrc', 'registry=https://registry.example.com/\n# _authToken=abc\n');
  const { notes, paths } = await project.list();
  expect(notes.secrets).toEqual([
    ...['.env', '.netrc', '.npmrc', '.pgpass', 'a/.env.local', 'db.yaml', 'keys/id_rsa'],
  ]);
  expect(paths).toEqual(expect.arrayContaining([...notes.secrets]));
  expect(notes.leftBehind).toEqual([]);
  expect((await project.list([], ['keys'])).notes.secrets).toEqual(['keys/id_rsa']);
});

test('paths outside are told as seen from the working directory', async () => {
  await project.files('../else/data/.git/config', '../else/data/.env', '../else/data/x');
  await symlink('/etc', project.at('../else/data/link'));
  const { notes } = await project.list(['../else/data']);
  expect(notes).toEqual({
    leftBehind: [{ path: '../else/data/.git', reason: 'git' }],
    secrets: ['../else/data/.env'],
    linksOut: [{ path: '../else/data/link', target: '/etc' }],
  });
});

test('a job_results that is not there yet is left out when it comes', async () => {
  await project.file('code');
  const trees = project.trees({ results: project.at('results') });
  await mkdir(project.at('results'));
  const notes = await trees.listAll([{ copyForwards: 'working-directory', shareForwards: [] }]);
  expect(notes.leftBehind).toEqual([{ path: 'results', reason: 'results' }]);
});
