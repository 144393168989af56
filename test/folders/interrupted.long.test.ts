/** What is left when the real command is killed or its disk is full, and that the same command completes it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { combineFolders } from '../../src/lib/folders/combine.ts';
import { smallDisk } from '../files/small-disk.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';
import { COMBINE_FOLDERS, contentsOf, Sandbox, snapshotOf, stamp } from './sandbox.ts';

vi.setConfig({ testTimeout: 120_000 });

const FOLDERS = 40;
const FILES = 100;

/** Two sources with so many files that the command works on them in threads, and every kind of mode and time. */
function largeSources(box: Sandbox): string[] {
  return ['a', 'b'].map((name) => {
    const root = box.tree(name);
    for (let folder = 0; folder < FOLDERS; folder++) {
      const place = box.tree(join(name, `d${folder}`), { 'empty/': '', link: '-> f0' });
      for (let file = 0; file < FILES; file++) {
        const isShared = file % 4 === 0;
        const path = join(place, isShared ? `f${file}` : `${name}${file}`);
        writeFileSync(path, `${folder} ${file} ${isShared ? '' : name}\n`.repeat(50));
        stamp(path, 1_000_000_000 + file, file % 2 === 0 ? 0o640 : 0o444);
      }
      writeFileSync(join(place, `large-${name}`), Buffer.alloc(400_000, folder));
      stamp(place, 1_100_000_000 + folder, folder % 2 === 0 ? 0o755 : 0o555);
    }
    stamp(root, 1_200_000_000);
    return root;
  });
}

/** Everything that has its final name has all its bytes. */
function expectNothingHalf(out: string, wanted: Record<string, string>): void {
  const half = Object.entries(contentsOf(out)).filter(
    ([path, content]) => !path.includes('.combine-folders.') && content !== wanted[path],
  );
  expect(half.map(([path]) => path)).toEqual([]);
}

function isThere(path: string): boolean {
  return existsSync(path);
}

test('kill -9 at any moment leaves no half file, and the same command completes it', async () => {
  await using box = await Sandbox.open();
  const sources = largeSources(box);
  const reference = box.at('reference');
  await combineFolders(reference, sources);
  const [wanted, exact] = [contentsOf(reference), snapshotOf(reference, { inodes: false })];
  const moments: readonly ((out: string) => boolean)[] = [
    (out) => isThere(out),
    (out) => isThere(join(out, '.combine-folders.json')),
    (out) => isThere(join(out, 'd9')),
    (out) => isThere(join(out, 'd19', 'f40')),
    (out) => isThere(join(out, 'd30', 'b3')),
    (out) => isThere(join(out, 'd39', 'large-b')),
    (out) => isThere(out) && !isThere(join(out, '.combine-folders.json')) && isThere(join(out, 'd9', 'f0')),
  ];
  let killed = 0;
  let incomplete = 0;
  for (const [i, moment] of moments.entries()) {
    const out = box.at(`out${i}`);
    const child = spawn(process.execPath, [COMBINE_FOLDERS, out, ...sources], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    await until(() => moment(out) || hasEnded(child), { intervalMs: 0, deadlineMs: 20_000 });
    child.kill('SIGKILL');
    await ended;
    if (child.signalCode === 'SIGKILL') killed++;
    expectNothingHalf(out, wanted);
    const isNoted = isThere(join(out, '.combine-folders.json'));
    if (isNoted) incomplete++;
    await runOrThrow(process.execPath, [COMBINE_FOLDERS, out, ...sources]);
    // Modes and times of folders as well. Only those of DEST itself can be lost, in the moment between two calls when it
    // is made and not yet noted, or no longer.
    const from = isNoted ? 0 : 1;
    expect(snapshotOf(out, { inodes: false }).slice(from)).toEqual(exact.slice(from));
  }
  expect(killed).toBeGreaterThan(3);
  expect(incomplete).toBeGreaterThan(3);
});

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

test('half files of a killed run are removed, also where nothing else is to do', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'sub/f': 'f' });
  for (const path of ['sub/f', 'sub', '']) stamp(join(a, path), 1000);
  const out = box.at('out');
  await combineFolders(out, [a]);
  const before = snapshotOf(out);
  const half = box.at('out', 'sub', '.combine-folders.0123456789abcdef');
  writeFileSync(half, 'half');
  stamp(box.at('out', 'sub'), 1000);
  await combineFolders(out, [a], { dryRun: true });
  expect(existsSync(half)).toBe(true);
  await combineFolders(out, [a]);
  expect(snapshotOf(out)).toEqual(before);
});

test('a note that is not ours stops everything before a write', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { f: 'f' });
  for (const text of ['', '{}', '{"version":1,"folders":[[1,2,3]]}', '{"version":2,"folders":[]}']) {
    const out = box.tree('out', { '.combine-folders.json': text });
    const before = snapshotOf(out);
    await expect(combineFolders(out, [a])).rejects.toThrow(/not what an interrupted combine_folders leaves/);
    expect(snapshotOf(out)).toEqual(before);
  }
});

test('on a full disk it says so, nothing is half, and with room the same command completes it', async () => {
  await using disk = await smallDisk(8);
  if (disk === undefined) return;
  await using box = await Sandbox.open();
  const sources = largeSources(box);
  const reference = box.at('reference');
  await combineFolders(reference, sources);
  const out = join(disk.path, 'out');
  const full = await runCommand(process.execPath, [COMBINE_FOLDERS, out, ...sources]);
  expect(full).toMatchObject({ exitCode: 1, stdout: '' });
  expect(full.stderr).toMatch(
    /^combine_folders: d\d+\/\S+: no space left on the disk; \S+out is incomplete: run the same command again to complete it\n$/,
  );
  expectNothingHalf(out, contentsOf(reference));
  await runOrThrow('mount', ['-o', 'remount,size=200m', disk.path]);
  await runOrThrow(process.execPath, [COMBINE_FOLDERS, out, ...sources]);
  expect(snapshotOf(out, { inodes: false })).toEqual(snapshotOf(reference, { inodes: false }));
});

test('a disk that is full from the start is left as it was', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  await using box = await Sandbox.open();
  const a = box.tree('a', { f: 'f' });
  await runCommand('dd', ['if=/dev/zero', `of=${disk.path}/filler`, 'bs=4096']);
  await expect(combineFolders(join(disk.path, 'out'), [a])).rejects.toThrow(
    /no space left on the disk; nothing was written/,
  );
  expect(readdirSync(disk.path)).toEqual(['filler']);
});

test('a source that changes between comparing and copying is an error with its name', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { f: 'f', other: 'x' });
  const caught = combineFolders(box.at('out'), [a], {
    // Asked before anything is listed, so the change has to come later: with the first pause, which is after listing.
    caseOf: () => 'sensitive',
    signal: changesWhenAsked(() => writeFileSync(`${a}/f`, 'longer'), 2),
  });
  await expect(caught).rejects.toThrow(/f: it changed since it was compared; \S+out is incomplete/);
  expect(contentsOf(box.at('out')).f).toBeUndefined();
  chmodSync(`${a}/f`, 0o600);
  await combineFolders(box.at('out'), [a]);
  expect(contentsOf(box.at('out'))).toEqual({ f: 'longer', other: 'x' });
});

/** A signal that does something when it is looked at for the nth time: between two steps of what is under way. */
function changesWhenAsked(action: () => void, nth: number): AbortSignal {
  const { signal } = new AbortController();
  let asked = 0;
  signal.throwIfAborted = () => {
    if (++asked === nth) action();
  };
  return signal;
}
