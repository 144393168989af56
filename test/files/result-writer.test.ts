import { chmodSync, chownSync, mkdirSync, rmSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ResultWriter, reasonHere } from '../../src/lib/files/result-writer.ts';
import { TarReader } from '../../src/lib/files/tar-reader.ts';
import { scratch } from '../remote/run-over.ts';
import { type CraftedEntry, craftedArchive } from './crafted-archive.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
  await mkdir(join(folder.path, 'into'));
  await writeFile(join(folder.path, 'victim'), 'precious');
});
afterEach(() => folder[Symbol.asyncDispose]());

const into = (...path: string[]) => join(folder.path, 'into', ...path);

/** Writes an archive into the folder. */
function write(entries: readonly CraftedEntry[], target = into()): number {
  const writer = new ResultWriter(target);
  try {
    const reader = new TarReader(writer);
    reader.push(craftedArchive(entries));
    reader.end();
    writer.finish();
    return writer.files;
  } finally {
    writer.abort();
  }
}

test('files, folders and links come with modes and times', async () => {
  const files = write([
    { path: './', type: '5', mode: 0o700 },
    { path: './deep/er/', type: '5', mode: 0o750 },
    { path: './deep/er/tool', content: 'run', mode: 0o6755 },
    { path: './private', content: 'x', mode: 0o600 },
    { path: './open', content: 'x', mode: 0o666 },
    { path: './sticky/', type: '5', mode: 0o1777 },
    { path: './link', type: '2', target: '/nowhere' },
    { path: './second', type: '1', target: './deep/er/tool' },
  ]);
  expect(files).toBe(4);
  const modes = { 'deep/er': 0o750, 'deep/er/tool': 0o755, private: 0o600, open: 0o666, sticky: 0o777 };
  for (const [path, mode] of Object.entries(modes)) {
    const found = await lstat(into(path));
    expect([path, found.mode & 0o7777]).toEqual([path, mode]);
    expect(found.mtimeMs).toBe(1.6e12);
  }
  expect(await readlink(into('link'))).toBe('/nowhere');
  expect((await lstat(into('link'))).mtimeMs).toBe(1.6e12);
  expect((await stat(into('second'))).ino).toBe((await stat(into('deep/er/tool'))).ino);
});

test('names come byte for byte', async () => {
  write([
    { path: 'a\xff\xfe', content: 'x' },
    { path: 'a\xff\xfd', content: 'y' },
    { path: '\xe4/\n', content: 'z' },
  ]);
  const names = await readdir(into(), { encoding: 'buffer' });
  expect(names.map((name) => name.toString('latin1')).sort()).toEqual(['a\xff\xfd', 'a\xff\xfe', '\xe4']);
});

const REFUSED: readonly (readonly [string, readonly CraftedEntry[], RegExp])[] = [
  ['a name with ..', [{ path: '../evil' }], /^\.\.\/evil: its name leads out by \.\.$/],
  ['a name with .. inside', [{ path: 'good/../../evil' }], /^good\/\.\.\/\.\.\/evil: its name leads out/],
  ['a folder ..', [{ path: '..', type: '5' }], /^\.\.: its name leads out/],
  ['an absolute name', [{ path: '/tmp/evil' }], /^\/tmp\/evil: its name is absolute$/],
  [
    'a name with NUL',
    [{ path: 'l', type: 'L', content: 'a\0b\0' }, { path: 'x' }],
    /^a\\x00b: its name holds a NUL/,
  ],
  ['an empty name', [{ path: '' }], /is a file and yet is named like the folder itself/],
  [
    'a link in place of the folder',
    [{ path: './', type: '2', target: '/' }],
    /is a symlink and yet is named like/,
  ],
  [
    'a file through a link',
    [{ path: 'way', type: '2', target: '..' }, { path: 'way/evil' }],
    /^way\/evil: lies below way, which is a symlink$/,
  ],
  [
    'a folder through a link',
    [
      { path: 'way', type: '2', target: '..' },
      { path: 'way/evil/', type: '5' },
    ],
    /^way\/evil\/: lies below way, which is a symlink$/,
  ],
  [
    'a file through a link with dots',
    [{ path: './way', type: '2', target: '..' }, { path: 'way/./evil' }],
    /lies below way, which is a symlink$/,
  ],
  [
    'a file over a link',
    [{ path: 'evil', type: '2', target: '../evil' }, { path: 'evil' }],
    /^evil: comes as a file and was a symlink before$/,
  ],
  [
    'a link over a file',
    [{ path: 'a' }, { path: 'a', type: '2', target: '..' }],
    /^a: comes as a symlink and was a file/,
  ],
  [
    'a folder over a link',
    [
      { path: 'a', type: '2', target: '..' },
      { path: 'a/', type: '5' },
    ],
    /^a\/: comes as a folder/,
  ],
  [
    'a file and then a folder',
    [{ path: 'a' }, { path: 'a', type: '5' }],
    /^a: comes as a folder and was a file before$/,
  ],
  [
    'a file and then a file below it',
    [{ path: 'a' }, { path: 'a/b' }],
    /^a\/b: lies below a, which is a file$/,
  ],
  [
    'a folder and then a file',
    [{ path: 'a/b' }, { path: 'a' }],
    /^a: comes as a file and was a folder before$/,
  ],
  ['a file twice', [{ path: 'a' }, { path: './a' }], /^\.\/a: comes as a file and was a file before$/],
  [
    'a folder twice',
    [
      { path: 'a/', type: '5' },
      { path: 'a', type: '5' },
    ],
    /^a: comes as a folder and was a folder/,
  ],
  ['a link to nowhere', [{ path: 'a', type: '2' }], /^a: is a symlink that leads nowhere$/],
  [
    'a hard link out',
    [{ path: 'mine', type: '1', target: '../victim' }],
    /^mine: the name that it is a hard link to leads out/,
  ],
  ['an absolute hard link', [{ path: 'mine', type: '1', target: '/etc/passwd' }], /^mine: .* is absolute$/],
  [
    'a hard link to what never came',
    [{ path: 'mine', type: '1', target: 'there' }],
    /^mine: is a hard link to there, which is no file/,
  ],
  [
    'a hard link through a link',
    [
      { path: 'way', type: '2', target: '..' },
      { path: 'mine', type: '1', target: 'way/victim' },
    ],
    /^mine: is a hard link to way\/victim, which is no file that came before$/,
  ],
  [
    'a hard link to a folder',
    [
      { path: 'a/', type: '5' },
      { path: 'b', type: '1', target: 'a' },
    ],
    /^b: is a hard link to a,/,
  ],
  [
    'a hard link to itself',
    [{ path: 'a', type: '1', target: 'a' }],
    /^a: is a hard link to a, which is no file/,
  ],
  [
    'a name that is too long',
    [{ path: 'l', type: 'L', content: 'n'.repeat(300) }, { path: 'x' }],
    /^n+: cannot be written here \(ENAMETOOLONG/,
  ],
  [
    'a path without end',
    [
      { path: 'l', type: 'L', content: 'a/'.repeat(400_000) },
      { path: 'x', type: '5' },
    ],
    /: its name has 800000 bytes, more than the 4096 that can be$/,
  ],
];

test.each(REFUSED)('refuses %s by name, and writes nothing outside', async (_, entries, message) => {
  await writeFile(into('there'), 'stood here before');
  expect(() => write(entries)).toThrow(message);
  expect(await readFile(join(folder.path, 'victim'), 'utf8')).toBe('precious');
  expect((await lstat(join(folder.path, 'victim'))).nlink).toBe(1);
  expect((await readdir(folder.path)).sort()).toEqual(['into', 'victim']);
  expect(await readFile(into('there'), 'utf8')).toBe('stood here before');
});

test('what stood in the folder before is neither written to nor through', async () => {
  await symlink(folder.path, into('way'));
  await symlink('../victim', into('name'));
  await writeFile(into('kept'), 'kept');
  expect(() => write([{ path: 'way/victim', content: 'x' }])).toThrow(
    /^way\/victim: cannot be written here \(EEXIST/,
  );
  expect(() => write([{ path: 'name', content: 'x' }])).toThrow(/EEXIST/);
  expect(() => write([{ path: 'kept', content: 'x' }])).toThrow(/EEXIST/);
  expect(() => write([{ path: 'kept', type: '2', target: 'x' }])).toThrow(/EEXIST/);
  expect(await readFile(join(folder.path, 'victim'), 'utf8')).toBe('precious');
  expect(await readFile(into('kept'), 'utf8')).toBe('kept');
});

test('a second name of a symlink is a symlink', async () => {
  write([
    { path: 'a', type: '2', target: '../victim' },
    { path: 'b', type: '1', target: 'a' },
  ]);
  expect(await readlink(into('b'))).toBe('../victim');
  expect((await lstat(join(folder.path, 'victim'))).nlink).toBe(1);
});

test('read-only folders are filled first, for ordinary users too', async () => {
  const target = join(folder.path, 'theirs');
  mkdirSync(target);
  const isRoot = process.getuid?.() === 0;
  if (isRoot) {
    chmodSync(folder.path, 0o755);
    chownSync(target, 12_345, 12_345);
    process.seteuid?.(12_345); // root may write anywhere, which would prove nothing
  }
  try {
    write(
      [
        { path: 'shut/', type: '5', mode: 0o000 },
        { path: 'shut/in/', type: '5', mode: 0o555 },
        { path: 'shut/in/file', content: 'x', mode: 0o444 },
        { path: 'shut/in/link', type: '2', target: 'file' },
      ],
      target,
    );
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
  expect((await stat(join(target, 'shut'))).mode & 0o777).toBe(0);
  chmodSync(join(target, 'shut'), 0o700);
  expect((await stat(join(target, 'shut/in'))).mode & 0o777).toBe(0o555);
  expect(await readFile(join(target, 'shut/in/link'), 'utf8')).toBe('x');
  chmodSync(join(target, 'shut/in'), 0o700);
  rmSync(target, { recursive: true });
});

test('a time that no disk can hold is left out', async () => {
  const patch = (header: Buffer) => header.write('77777777777\0', 136);
  write([
    { path: 'a', content: 'x', patch: (header) => header.write('7'.repeat(12), 136) },
    { path: 'b', patch },
  ]);
  expect((await stat(into('a'))).mtimeMs).toBeGreaterThan(1.7e12);
  expect((await readdir(into())).sort()).toEqual(['a', 'b']);
});

test('a full disk is told in plain words', () => {
  const error = (code: string) => Object.assign(new Error(`${code}: why, write '/x'`), { code });
  expect(reasonHere(error('ENOSPC'))).toBe('no space left on device here');
  expect(reasonHere(error('EDQUOT'))).toBe('disk quota exceeded here');
  expect(reasonHere(error('EACCES'))).toBe('cannot be written here (EACCES: why)');
});
