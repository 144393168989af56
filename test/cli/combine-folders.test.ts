import { execFile } from 'node:child_process';
import { chownSync, existsSync, lstatSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect, test, vi } from 'vitest';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';
import { COMBINE_FOLDERS, contentsOf, Sandbox, snapshotOf, stamp } from '../folders/sandbox.ts';
import { type CommandResult, runCommand } from '../rig/command.ts';
import { Screen } from './report/screen.ts';

vi.setConfig({ testTimeout: 60_000 });

const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;

function run(box: Sandbox, ...args: readonly string[]): Promise<CommandResult> {
  return runCommand(process.execPath, [COMBINE_FOLDERS, ...args], { cwd: box.path });
}

/** As somebody whom permissions apply to. */
async function runAsUser(box: Sandbox, ...args: readonly string[]): Promise<CommandResult> {
  if (!isRoot) return await run(box, ...args);
  const user = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups'];
  return await runCommand('setpriv', [...user, process.execPath, COMBINE_FOLDERS, ...args], {
    cwd: box.path,
  });
}

/** Gives the whole sandbox to that user. */
async function giveAway(box: Sandbox): Promise<void> {
  if (isRoot) await runCommand('chown', ['-hR', `${NOBODY}:${NOBODY}`, box.path]);
}

test('done: exit 0, one line, and again nothing to do', async () => {
  await using box = await Sandbox.open();
  box.tree('a', { f: 'f', 'sub/same': 's', l: '-> f' });
  box.tree('b', { g: 'gg', 'sub/same': 's' });
  expect(await run(box, 'out', 'a', 'b/')).toEqual({
    ...{ exitCode: 0, stderr: '' },
    stdout: 'put 3 files (4 B), 1 link, 2 new folders into out; 1 identical\n',
  });
  expect(await run(box, 'out', 'a', 'b')).toEqual({
    ...{ exitCode: 0, stderr: '' },
    stdout: 'out has everything already; 5 identical\n',
  });
});

test('conflicts: exit 1, all of them listed, nothing written', async () => {
  await using box = await Sandbox.open();
  box.tree('a', { 'f.txt': '1', thing: '', link: '-> 1' });
  box.tree('b', { 'f.txt': '2', 'thing/x': '', link: '-> 2' });
  const before = snapshotOf(box.path);
  const end = await run(box, 'out', 'a', 'b');
  expect(end).toMatchObject({ exitCode: 1, stdout: '' });
  expect(end.stderr.split('\n')).toEqual([
    'combine_folders: 3 conflicts, nothing was written (--on-conflict keep-first, keep-newest or rename settles files that differ):',
    ...['  f.txt: differs in a, b', '  link: differs in a, b', '  thing: a file in a, a folder in b', ''],
  ]);
  expect(snapshotOf(box.path)).toEqual(before);
});

test('many conflicts are cut for people and whole in JSON, which has stdout to itself', async () => {
  await using box = await Sandbox.open();
  const [a, b] = [box.tree('a'), box.tree('b', { 'bad\n\x1b[31mname': '' })];
  for (let i = 0; i < 70; i++) {
    writeFileSync(`${a}/${i}`, 'one');
    writeFileSync(`${b}/${i}`, 'two');
  }
  const text = await run(box, 'out', 'a', 'b');
  expect(text.stderr).toContain('  and 20 more\n');
  expect(text.stderr.split('\n')).toHaveLength(53);
  const json = await run(box, '--json', 'out', 'a', 'b');
  expect(json.exitCode).toBe(1);
  const told: unknown = JSON.parse(json.stdout);
  expect(told).toMatchObject({ dest: 'out', dryRun: false, onConflict: 'error', leftOut: [], renamed: [] });
  expect(told).toHaveProperty('conflicts.length', 70);
  expect(json.stdout.split('\n')).toHaveLength(2);
});

test('a dry run says what would happen and writes nothing', async () => {
  await using box = await Sandbox.open();
  box.tree('a', { 'f.txt': '1' });
  box.tree('b', { 'f.txt': '2' });
  await runCommand('mkfifo', [box.at('b', 'fifo')]);
  const before = snapshotOf(box.path);
  const { exitCode, stdout, stderr } = await run(box, '--dry-run', '--on-conflict=rename', 'out', 'a', 'b');
  expect(exitCode).toBe(0);
  expect(stdout).toBe('dry run: would put 2 files (2 B), 1 new folder into out; 1 renamed; 1 left out\n');
  expect(stderr).toBe('combine_folders: left out 1 path:\n  b: fifo (a fifo)\n');
  expect(snapshotOf(box.path)).toEqual(before);
  const json = await run(box, '--dry-run', '--json', '--on-conflict', 'rename', 'out', 'a', 'b');
  expect(JSON.parse(json.stdout)).toMatchObject({
    dryRun: true,
    counts: { files: 2, bytes: 2, folders: 1 },
    leftOut: [{ folder: 'b', path: 'fifo', what: 'fifo' }],
    renamed: [{ folder: 'b', path: 'f.txt', to: 'f.d4735e3a.txt' }],
  });
});

test.each([
  [[], /nothing is named: expected combine_folders DEST SRC\.\.\./],
  [['out'], /no source is named/],
  [['out', 'gone'], /the source gone does not exist/],
  [['out', 'a', 'a/f', 'a/g'], /the sources a\/f, a\/g are files, expected folders: .*write a\/\*\/$/m],
  [['a/f', 'a'], /cannot be a folder: \S+f is a file/],
  [['a/new', 'a'], /the destination a\/new lies inside the source a/],
  [['a', 'a/sub'], /the source a\/sub lies inside the destination a/],
  [['out', 'a', '--on-conflict', 'newest'], /keep-newest/],
  [
    ['out', 'a', '--on-conflict', 'rename', '--on-conflict', 'error'],
    /--on-conflict was given several times/,
  ],
  [['out', 'a', '--dryrun'], /unknown flag --dryrun \(did you mean --dry-run\?\)/],
])('a wrong call is one line and exit 2: %j', async (args, message) => {
  await using box = await Sandbox.open();
  box.tree('a', { f: '', g: '', 'sub/x': '' });
  const end = await run(box, ...args);
  expect(end).toMatchObject({ exitCode: 2, stdout: '' });
  expect(end.stderr).toMatch(message);
  expect(end.stderr).toMatch(/^combine_folders: [^\n]+\n$/);
  expect(existsSync(box.at('out'))).toBe(false);
});

test('folders whose names begin with a dash stand behind --', async () => {
  await using box = await Sandbox.open();
  box.tree('-a', { '--link': 'x' });
  expect(await run(box, '--link', '--', '-out', '-a')).toMatchObject({ exitCode: 0 });
  expect(contentsOf(box.at('-out'))).toEqual({ '--link': 'x' });
  expect(lstatSync(box.at('-out', '--link')).nlink).toBe(2);
});

test('an ordinary user can combine read-only folders and files, and run again', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'locked/deep/f': 'f', 'shut/x': 'x' });
  stamp(`${a}/locked/deep/f`, 1000, 0o400);
  stamp(`${a}/locked/deep`, 1000, 0o555);
  stamp(`${a}/locked`, 1000, 0o500);
  stamp(`${a}/shut/x`, 1000);
  stamp(`${a}/shut`, 1000, 0o300); // may be entered and not listed
  stamp(a, 1000, 0o555);
  await giveAway(box);
  const unlistable = await runAsUser(box, 'out', 'a');
  expect(unlistable).toMatchObject({ exitCode: 1, stdout: '' });
  expect(unlistable.stderr).toMatch(/a\/shut: permission denied; nothing was written\n$/);
  expect(existsSync(box.at('out'))).toBe(false);
  stamp(`${a}/shut`, 1000, 0o500);
  expect(await runAsUser(box, 'out', 'a')).toMatchObject({ exitCode: 0, stderr: '' });
  const facts = (root: string) => snapshotOf(box.at(root), { inodes: false });
  expect(facts('out')).toEqual(facts('a'));
  const before = snapshotOf(box.at('out'));
  expect(await runAsUser(box, 'out', 'a')).toMatchObject({ exitCode: 0, stderr: '' });
  expect(snapshotOf(box.at('out'))).toEqual(before);
  if (isRoot) expect(lstatSync(box.at('out', 'locked')).uid).toBe(NOBODY);
});

test('a file is read to compare it only where another of its path has its size', async () => {
  await using box = await Sandbox.open();
  const [a, b] = [box.tree('a', { f: '1', g: '1' }), box.tree('b', { f: 'longer', g: '2' })];
  for (const path of [`${a}/f`, `${b}/f`]) stamp(path, 1, 0o000);
  const out = box.tree('out', { f: 'own' });
  await giveAway(box);
  // Three sizes, two of the files cannot be read: nobody has to.
  const differ = await runAsUser(box, 'out', 'a', 'b');
  expect(differ.stderr).toContain('  f: differs in out, a, b\n');
  stamp(`${a}/g`, 1, 0o000);
  const compared = await runAsUser(box, 'out', 'a', 'b');
  expect(compared.stderr).toMatch(/cannot read \S+\/a\/g: permission denied; nothing was written\n$/);
  expect(contentsOf(out)).toEqual({ f: 'own' });
});

test('what cannot be read or written is found before anything is written', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { first: '1', secret: '2', 'sub/f': 'f' });
  stamp(`${a}/secret`, 1, 0o000);
  box.tree('out', { 'sub/own': 'own' });
  await giveAway(box);
  const before = snapshotOf(box.at('out'));
  const unreadable = await runAsUser(box, 'out', 'a');
  expect(unreadable).toMatchObject({ exitCode: 1, stdout: '' });
  expect(unreadable.stderr).toMatch(
    /^combine_folders: cannot read \S+\/a\/secret: permission denied; nothing was written\n$/,
  );
  stamp(`${a}/secret`, 1, 0o600);
  if (isRoot) chownSync(box.at('out', 'sub'), 0, 0);
  stamp(box.at('out', 'sub'), 1, 0o555);
  const beforeWrite = snapshotOf(box.at('out'));
  const unwritable = await runAsUser(box, 'out', 'a');
  expect(unwritable.exitCode).toBe(1);
  expect(unwritable.stderr).toMatch(/cannot write into \S+\/out\/sub: permission denied/);
  expect(snapshotOf(box.at('out'))).toEqual(beforeWrite);
  expect(before).toHaveLength(beforeWrite.length);
});

test('on a terminal it shows how far it is, and takes that away', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a');
  for (let folder = 0; folder < 40; folder++) {
    const place = box.tree(`a/${folder}`);
    for (let i = 0; i < 200; i++) writeFileSync(`${place}/${i}`, 'x');
  }
  const line = [process.execPath, COMBINE_FOLDERS, box.at('o'), a].map(shellQuote).join(' ');
  const args = ['-qec', `stty rows 10 cols 100 && ${line}`, '/dev/null'];
  const onTerminal = promisify(execFile)('script', args, { env: { ...process.env, TERM: 'xterm' } });
  onTerminal.child.stdin?.end();
  const raw = (await onTerminal).stdout;
  expect(raw).toMatch(/\r\x1b\[K(comparing: [\d,]+ paths so far|writing: [\d,]+ of 8,000 files)/);
  const screen = new Screen(100, 10);
  screen.write(raw);
  expect(screen.text.trim()).toBe(`put 8,000 files (7.8 KiB), 41 new folders into ${box.at('o')}`);
  const piped = await run(box, 'p', 'a');
  expect(piped).toMatchObject({ exitCode: 0, stderr: '' });
});

test('help names every option and the exit codes', async () => {
  await using box = await Sandbox.open();
  const { exitCode, stdout } = await run(box, '--help');
  expect(exitCode).toBe(0);
  for (const word of ['--on-conflict', '--link', '--dry-run', '--json', 'Exit code: 0']) {
    expect(stdout).toContain(word);
  }
});
