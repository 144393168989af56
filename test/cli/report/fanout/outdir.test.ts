import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { OutDir } from '../../../../src/cli/report/fanout/outdir.ts';
import { SchedulerError, UsageError } from '../../../../src/lib/domain/errors.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import { hostResult } from './kept-out.ts';

let folder = '';
let dir = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outdir-test-'));
  dir = join(folder, 'new', 'out');
});
afterEach(() => rmSync(folder, { recursive: true }));

const names = (...texts: string[]) => texts.map(machineName);
const read = (name: string): string => readFileSync(join(dir, name), 'latin1');

test('each machine has its file, and another for errors only where there are any', () => {
  using outDir = new OutDir(dir, names('a', 'b', 'c', 'd', '../x'));
  outDir.write(machineName('a'), 'out', Buffer.from('one'));
  outDir.write(machineName('b'), 'err', Buffer.from('oops\r\n'));
  expect(read('a')).toBe('one'); // as it comes
  outDir.write(machineName('a'), 'out', Buffer.from([0, 0xff]));
  outDir.write(machineName('../x'), 'out', Buffer.from('out of the folder?'));
  for (const name of names('a', 'b', 'c', '../x')) outDir.end(hostResult(name));
  outDir.end(hostResult('d', { type: 'unreachable', reason: { brief: 'x', full: 'x' } }));
  const found = readdirSync(dir).sort();
  expect(found).toEqual([expect.stringContaining('%2fx'), 'a', 'b', 'b.err', 'c']);
  expect([read('a'), read('b'), read('b.err'), read('c')]).toEqual(['one\0\xff', '', 'oops\r\n', '']);
  expect(readdirSync(join(folder, 'new'))).toEqual(['out']);
});

test("an earlier command's files stay until there are new ones, and then go together", () => {
  mkdirSync(dir, { recursive: true });
  for (const name of ['a', 'a.err', 'b', 'b.err', 'c', 'other']) writeFileSync(join(dir, name), 'old');
  using outDir = new OutDir(dir, names('a', 'b', 'c'));
  expect(read('a')).toBe('old');
  outDir.write(machineName('a'), 'out', Buffer.from('new'));
  outDir.end(hostResult('a'));
  outDir.end(hostResult('b'));
  outDir.end(hostResult('c', { type: 'unreachable', reason: { brief: 'x', full: 'x' } }));
  expect(readdirSync(dir).sort()).toEqual(['a', 'b', 'c', 'other']);
  expect([read('a'), read('b'), read('c'), read('other')]).toEqual(['new', '', 'old', 'old']);
});

test('a symbolic link is not followed, also when it comes meanwhile', () => {
  const victim = join(folder, 'victim');
  writeFileSync(victim, 'precious');
  mkdirSync(dir, { recursive: true });
  symlinkSync(victim, join(dir, 'a'));
  symlinkSync(victim, join(dir, 'a.err'));
  using outDir = new OutDir(dir, names('a'));
  outDir.write(machineName('a'), 'out', Buffer.from('new'));
  symlinkSync(victim, join(dir, 'a.err'));
  expect(() => outDir.write(machineName('a'), 'err', Buffer.from('new'))).toThrow(/a\.err: EEXIST/);
  expect([readFileSync(victim, 'utf8'), read('a')]).toEqual(['precious', 'new']);
  using later = new OutDir(dir, names('b'));
  later.write(machineName('b'), 'out', Buffer.from('new'));
  later.end(hostResult('b')); // closes the file
  rmSync(join(dir, 'b'));
  symlinkSync(victim, join(dir, 'b'));
  expect(() => later.write(machineName('b'), 'out', Buffer.from('new'))).toThrow(/b: ELOOP/);
  expect(readFileSync(victim, 'utf8')).toBe('precious');
});

test('many machines take turns with few open files', () => {
  const many = Array.from({ length: 300 }, (_, i) => machineName(`h${i}`));
  const openFiles = (): number => readdirSync('/dev/fd').length;
  const before = openFiles();
  using outDir = new OutDir(dir, many);
  for (let round = 0; round < 3; round++)
    for (const machine of many)
      for (const stream of ['out', 'err'] as const)
        outDir.write(machine, stream, Buffer.from(`${machine} ${stream} ${round}\n`));
  expect(openFiles() - before).toBeLessThanOrEqual(64);
  for (const machine of many) {
    outDir.end(hostResult(machine));
    expect(read(machine)).toBe([0, 1, 2].map((round) => `${machine} out ${round}\n`).join(''));
    expect(read(`${machine}.err`)).toBe([0, 1, 2].map((round) => `${machine} err ${round}\n`).join(''));
  }
  expect(openFiles()).toBe(before);
});

test('a file that cannot be written is said once', () => {
  using outDir = new OutDir(dir, names('a', 'b'));
  mkdirSync(join(dir, 'a'));
  const write = () => outDir.write(machineName('a'), 'out', Buffer.from('x'));
  expect(write).toThrow(SchedulerError);
  expect(write).not.toThrow();
  outDir.write(machineName('b'), 'out', Buffer.from('x'));
  expect(readdirSync(dir)).toEqual(['a']);
});

test('what can be foreseen is a mistake before anything runs', () => {
  mkdirSync(join(dir, 'a.err'), { recursive: true });
  expect(() => new OutDir(dir, names('b', 'a'))).toThrow(
    /^--outdir: cannot write .*a\.err: a folder is there$/,
  );
  const long = () => new OutDir(join(dir, 'x'.repeat(300)), names('a'));
  expect(long).toThrow(/ENAMETOOLONG/);
  expect(long).toThrow(UsageError);
});

test.runIf(process.platform === 'linux')(
  'a folder that cannot be made or written to is told, and at once',
  () => {
    // The kernel says of this one that it does not exist; a loop over missing parents would never end.
    expect(() => new OutDir('/proc/no-such/new', names('a'))).toThrow(
      /--outdir .*cannot be made or written to: ENOENT/,
    );
    expect(() => new OutDir('/proc/self/fdinfo', names('a'))).toThrow(UsageError);
  },
);

test('what can never be a folder for it is a mistake', () => {
  writeFileSync(join(folder, 'file'), '');
  expect(() => new OutDir(join(folder, 'file'), names('a'))).toThrow(UsageError);
  expect(() => new OutDir(dir, names('a', 'a.err'))).toThrow(/a and a\.err would both write the file a\.err/);
});

test('a disk that takes no more is said once, with the file', () => {
  const program = `
    import { OutDir } from ${JSON.stringify(new URL('../../../../src/cli/report/fanout/outdir.ts', import.meta.url).href)};
    const outDir = new OutDir(${JSON.stringify(dir)}, ['a']);
    for (let i = 0; i < 3; i++)
      try {
        outDir.write('a', 'out', Buffer.alloc(50_000_000, 'x'));
      } catch (error) {
        console.log(error.name + ': ' + error.message);
      }`;
  // A limit of some MB on the size of files, in blocks of 512 or 1024 bytes; ignoring the signal makes it an error of write.
  const limited = `trap '' XFSZ; ulimit -f 20000; exec "$0" "$@"`;
  const { stdout, stderr } = spawnSync(
    'sh',
    ['-c', limited, process.execPath, '--import', 'tsx', '--input-type=module', '-e', program],
    { encoding: 'utf8' },
  );
  expect(stdout + stderr).toBe(
    `SchedulerError: --outdir: cannot write ${join(dir, 'a')}: EFBIG: file too large, write\n`,
  );
  expect(read('a')).toMatch(/^x+$/);
});
