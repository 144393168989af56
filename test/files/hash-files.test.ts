import { createHash } from 'node:crypto';
import { chmod, mkdir, stat, symlink, truncate } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { type HashedFile, hashFiles } from '../../src/lib/files/hash-files.ts';
import { runOrThrow } from '../rig/command.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
beforeEach(async () => {
  project = await SourceProject.make();
});
afterEach(() => project[Symbol.asyncDispose]());

const MIB = 1024 * 1024;

async function hashAll(
  files: readonly { path: string; size: number }[],
): Promise<(HashedFile | undefined)[]> {
  const hashed: (HashedFile | undefined)[] = [];
  await hashFiles(files, (index, one) => {
    hashed[index] = one;
  });
  return hashed;
}

test('hashes files of all sizes, also of another size than was expected', async () => {
  const sizes = [0, 1, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 3 * MIB + 17];
  const contents = sizes.map((size) => Buffer.alloc(size, 'some content, not a power of two long'));
  const paths = await Promise.all(contents.map((content, i) => project.file(`f${i}`, content)));
  for (const expected of [0, 5 * MIB]) {
    const hashed = await hashAll(paths.map((path) => ({ path, size: expected })));
    expect(hashed.map((one) => one?.digest)).toEqual(
      contents.map((content) => createHash('sha256').update(content).digest('hex')),
    );
    expect(hashed.map((one) => one?.size)).toEqual(sizes);
    expect(hashed.every((one) => one?.isSteady)).toBe(true);
  }
});

test('a sparse file is hashed as the zeros that it holds', async () => {
  const path = await project.file('sparse', '');
  await truncate(path, 40 * MIB);
  const [hashed] = await hashAll([{ path, size: 40 * MIB }]);
  const digest = createHash('sha256')
    .update(Buffer.alloc(40 * MIB))
    .digest('hex');
  expect(hashed).toMatchObject({ size: 40 * MIB, digest, look: 'plain' });
});

test('what has vanished or is no file any more is told as gone, without waiting', async () => {
  const file = await project.file('file');
  await mkdir(project.at('folder'));
  await symlink('file', project.at('link'));
  await runOrThrow('mkfifo', [project.at('fifo')]);
  const names = ['gone', 'file/below', 'folder', 'link', 'fifo'];
  const hashed = await hashAll(
    [...names.map((name) => project.at(name)), file].map((path) => ({ path, size: 1 })),
  );
  expect(hashed.map((one) => one === undefined)).toEqual([true, true, true, true, true, false]);
});

test('a file that cannot be read is an error that names it', async () => {
  await chmod(project.at('..'), 0o755);
  const path = await project.file('locked', 'x', 0o000);
  const { uid } = await stat(path);
  if (uid === 0) process.seteuid?.(65_534); // root may read all
  try {
    const reading = hashAll([{ path, size: 1 }]);
    await expect(reading).rejects.toBeInstanceOf(UsageError);
    await expect(reading).rejects.toThrow(
      /^cannot send .*\/project\/locked: it cannot be read \(permission denied\); .*\.jobignore/,
    );
    await expect(project.list()).rejects.toThrow(/cannot send .*\/project\/locked/);
  } finally {
    if (uid === 0) process.seteuid?.(0);
  }
});
