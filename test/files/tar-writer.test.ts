import { createHash } from 'node:crypto';
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
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SourceEntry } from '../../src/lib/files/source-part.ts';
import { archiveBytes, entryHeader, PIECE_BYTES, writeArchive } from '../../src/lib/files/tar-writer.ts';
import { scratch } from '../remote/run-over.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
  await mkdir(at('from'));
});
afterEach(() => folder[Symbol.asyncDispose]());

const at = (...path: string[]) => join(folder.path, ...path);

/** A path below a folder, byte for byte. */
const bytes = (root: string, path: string) =>
  Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);

const digestOf = (content: Buffer | string) => createHash('sha256').update(content).digest('hex');

const fileEntry = (path: string, content: Buffer | string, mode = 0o644): SourceEntry => ({
  path,
  kind: 'file',
  mode,
  size: Buffer.byteLength(content),
  digest: digestOf(content),
});

async function make(path: string, content: Buffer | string, mode = 0o644): Promise<SourceEntry> {
  await writeFile(bytes(at('from'), path), content, { mode });
  return fileEntry(path, content, mode);
}

async function makeFolder(path: string, mode = 0o755): Promise<SourceEntry> {
  await mkdir(bytes(at('from'), path));
  return { path, kind: 'folder', mode, size: 0, digest: '' };
}

async function makeLink(path: string, target: string): Promise<SourceEntry> {
  await symlink(Buffer.from(target, 'latin1'), bytes(at('from'), path));
  return { path, kind: 'link', mode: 0o777, size: 0, digest: target };
}

async function archive(entries: readonly SourceEntry[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of writeArchive(at('from'), entries)) pieces.push(piece);
  expect(pieces.slice(0, -1).every(({ length }) => length === PIECE_BYTES)).toBe(true);
  return Buffer.concat(pieces);
}

/** What an entry became. */
async function found(root: string, { path }: SourceEntry): Promise<SourceEntry> {
  const full = bytes(root, path);
  const stats = await lstat(full);
  const mode = stats.mode & 0o777;
  if (stats.isSymbolicLink())
    return { path, kind: 'link', mode, size: 0, digest: await readlink(full, 'latin1') };
  if (stats.isDirectory()) return { path, kind: 'folder', mode, size: 0, digest: '' };
  return { path, kind: 'file', mode, size: stats.size, digest: digestOf(await readFile(full)) };
}

for (const tar of [['tar'], ['busybox', 'tar']]) {
  test(`${tar.join(' ')} unpacks every kind of name, mode and size`, async () => {
    const long = 'l'.repeat(255);
    const deep = [...'abcdefghij'].map((letter) => letter.repeat(20));
    const entries: SourceEntry[] = [];
    for (let i = 1; i <= deep.length; i++) entries.push(await makeFolder(deep.slice(0, i).join('/')));
    entries.push(
      await make('plain', 'x'),
      await make(' blanks ', ''),
      await make('new\nline', 'y'),
      await make('-rf', '--'),
      await make('not utf8 \xff\xfe', 'bytes'),
      await make('\xc3\xbc', 'utf8'),
      await make(long, 'long'),
      await make('n'.repeat(100), 'exactly what a header holds'),
      await make('n'.repeat(101), 'one more'),
      await make(`${deep.join('/')}/${long}`, 'deep'),
      await make('run.sh', '#!/bin/sh\n', 0o755),
      await make('secret', 's', 0o600),
      await make('read-only', 'r', 0o444),
      await make('block', Buffer.alloc(512, 'b')),
      await make('large', Buffer.alloc(3 * PIECE_BYTES + 77, 'large ')),
      await makeLink('link', 'to nowhere'),
      await makeLink('long link', `${'../'.repeat(60)}\xff${'t'.repeat(100)}`),
      await makeFolder('empty'),
    );
    const packed = await archive(entries);
    expect(packed.length).toBe(archiveBytes(entries));
    await writeFile(at('a.tar'), packed);
    await mkdir(at('to'));
    await runOrThrow(tar[0] ?? '', [...tar.slice(1), '-xf', at('a.tar'), '-C', at('to')]);
    expect(await Promise.all(entries.map((entry) => found(at('to'), entry)))).toEqual(entries);
    expect((await readdir(at('to'))).length).toBe((await readdir(at('from'))).length);
    const [sent, came] = await Promise.all([lstat(at('from', 'plain')), lstat(at('to', 'plain'))]);
    expect(Math.floor(came.mtimeMs / 1000)).toBe(Math.floor(sent.mtimeMs / 1000));
  });
}

test('sizes beyond 8 GiB are told to tar', async () => {
  const sizes = [2 ** 33 - 1, 2 ** 33, 5 * 2 ** 40];
  for (const size of sizes) {
    await writeFile(
      at('a.tar'),
      entryHeader({ path: 'huge', kind: 'file', mode: 0o644, size, digest: '' }, 0),
    );
    const { stdout } = await runCommand('tar', ['-tvf', at('a.tar')]); // fails: the content is not there
    expect(stdout).toMatch(new RegExp(` ${size} 1970-01-01 .* huge`));
  }
});

test.each([
  ['is another one of the same length', async (path: string) => await writeFile(path, 'TEXT'), 'was changed'],
  [
    'became longer and another',
    async (path: string) => await writeFile(path, 'Text and more'),
    'was changed',
  ],
  ['became shorter', async (path: string) => await truncate(path, 1), 'was changed'],
  ['is gone', async (path: string) => await rm(path), 'has vanished'],
  [
    'became a link to the same bytes',
    async (path: string) => {
      await writeFile(`${path}2`, 'text');
      await rm(path);
      await symlink(`${path}2`, path);
    },
    'became a link',
  ],
  [
    'became a FIFO',
    async (path: string) => {
      await rm(path);
      await runOrThrow('mkfifo', [path]);
    },
    'is no file any more',
  ],
  [
    'became a folder',
    async (path: string) => {
      await rm(path);
      await mkdir(path);
    },
    'is no file any more',
  ],
])('a file that %s is an error with its name', async (_what, change, how) => {
  const entry = await make('notes (1).txt', 'text');
  await change(at('from', 'notes (1).txt'));
  await expect(archive([entry])).rejects.toThrow(`notes (1).txt ${how} since the batch started`);
});

test('a file that only grew is packed as it was listed', async () => {
  const entry = await make('log', 'text');
  const before = await archive([entry]);
  await appendFile(at('from', 'log'), ' and more');
  expect((await archive([entry])).subarray(512)).toEqual(before.subarray(512)); // all but its times
});

test('a large file is checked too, and one that shrinks while it is read', async () => {
  const content = Buffer.alloc(4 * PIECE_BYTES, 'x');
  const entry = await make('large', content);
  content[3 * PIECE_BYTES] = 0;
  await writeFile(at('from', 'large'), content);
  await expect(archive([entry])).rejects.toThrow('large was changed since');
  const pieces = writeArchive(at('from'), [entry]);
  await pieces.next();
  await truncate(at('from', 'large'), 2 * PIECE_BYTES);
  const rest = async () => {
    for await (const piece of pieces) expect(piece.length).toBeGreaterThan(0);
  };
  await expect(rest()).rejects.toThrow('large became shorter since');
});

test('a file that became unreadable is an error with its name', async () => {
  const entry = await make('private', 'text');
  await chmod(at('from', 'private'), 0o000);
  if (process.getuid?.() === 0) return; // root reads everything
  await expect(archive([entry])).rejects.toThrow('private became unreadable since');
});
