import { mkdirSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findPartial, ResultFiles, removeEmptyPartialFolder } from '../../src/lib/runner/result-files.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

const at = (...path: string[]) => join(folder.path, ...path);

test('publishes what was received by rename, the manifest last', async () => {
  const results = new ResultFiles(folder.path, 'job');
  results.openOutputs();
  results.append('out', Buffer.from('one '));
  results.append('err', Buffer.from([0xff, 0]));
  results.append('out', Buffer.from('two'));
  const partial = await results.makePartialFolder();
  await writeFile(join(partial, 'file'), 'received');
  expect(await readdir(folder.path)).not.toContain('job');
  results.publish({ command: 'x' }, 'received');
  removeEmptyPartialFolder(folder.path);
  expect((await readdir(folder.path)).sort()).toEqual(['job', 'job.err', 'job.json', 'job.out']);
  expect(await readFile(at('job.out'), 'utf8')).toBe('one two');
  expect([...(await readFile(at('job.err')))]).toEqual([0xff, 0]);
  expect(await readFile(at('job/file'), 'utf8')).toBe('received');
  expect(JSON.parse(await readFile(at('job.json'), 'utf8'))).toEqual({ command: 'x' });
});

test('an earlier try leaves nothing behind in the next', async () => {
  const results = new ResultFiles(folder.path, 'job');
  await writeFile(join(await results.makePartialFolder(), 'half'), 'x');
  expect(await readdir(await results.makePartialFolder())).toEqual([]);
  await results.dropPartialFolder();
  removeEmptyPartialFolder(folder.path);
  expect(await readdir(folder.path)).toEqual([]);
});

test('a partial folder that another batch uses stays', async () => {
  await mkdir(at('.partial/other'), { recursive: true });
  removeEmptyPartialFolder(folder.path);
  removeEmptyPartialFolder(at('no/such'));
  expect(await readdir(at('.partial'))).toEqual(['other']);
});

test('neither a folder nor a manifest is ever replaced', async () => {
  await mkdir(at('job'));
  const results = new ResultFiles(folder.path, 'job');
  await results.makePartialFolder();
  expect(() => results.publish({}, 'received')).toThrow(/job exists already; results are never replaced/);
  expect(() => results.publish({}, 'empty')).toThrow(/never replaced/);
  await writeFile(at('other.json'), 'first');
  const other = new ResultFiles(folder.path, 'other');
  expect(() => other.publish({}, 'none')).toThrow(/other\.json exists already/);
  expect(await readFile(at('other.json'), 'utf8')).toBe('first');
});

test('a new attempt starts the output anew', async () => {
  for (const text of ['a longer first attempt', 'second']) {
    const results = new ResultFiles(folder.path, 'job');
    results.openOutputs();
    results.append('out', Buffer.from(text));
  }
  expect(await readFile(at('job.out'), 'utf8')).toBe('second');
  expect(await readFile(at('job.err'), 'utf8')).toBe('');
});

test('a result with an empty folder, and one with none', async () => {
  new ResultFiles(folder.path, 'empty').publish({ x: 1 }, 'empty');
  new ResultFiles(folder.path, 'none').publish({ x: 2 }, 'none');
  removeEmptyPartialFolder(folder.path);
  expect((await readdir(folder.path)).sort()).toEqual(['empty', 'empty.json', 'none.json']);
  expect(await readdir(at('empty'))).toEqual([]);
});

test('names may be as long as the file system allows', async () => {
  const name = 'n'.repeat(250);
  new ResultFiles(folder.path, name).publish({}, 'empty');
  expect((await readdir(folder.path)).sort()).toEqual(['.partial', name, `${name}.json`]);
});

test('where the manifest cannot be written, no folder is published', async () => {
  const results = new ResultFiles(folder.path, 'job');
  await writeFile(join(await results.makePartialFolder(), 'file'), 'received');
  await mkdir(at('.partial/job.json')); // in its way
  expect(() => results.publish({}, 'received')).toThrow(/EISDIR/);
  expect(await readdir(folder.path)).toEqual(['.partial']);
  expect(await readFile(at('.partial/job/file'), 'utf8')).toBe('received');
});

test('where only the last rename fails, what is there stays to be completed', async () => {
  const results = new ResultFiles(folder.path, 'job');
  await writeFile(join(await results.makePartialFolder(), 'file'), 'received');
  // The folder takes its place; the manifest's is taken by something that came in between.
  const manifest = {
    toJSON: () => {
      mkdirSync(at('job.json'));
      return { x: 1 };
    },
  };
  expect(() => results.publish(manifest, 'received')).toThrow(/EISDIR/);
  await rm(at('job.json'), { recursive: true });
  await results.dropPartialFolder();
  expect(findPartial(folder.path, { name: 'job', hasFolder: true })).toEqual({
    type: 'complete',
    manifest: at('.partial/job.json'),
  });
  expect(await readFile(at('job/file'), 'utf8')).toBe('received');
});

test('what an earlier try left goes, whatever its names and modes', async () => {
  const results = new ResultFiles(folder.path, 'job');
  const partial = await results.makePartialFolder();
  await mkdir(join(partial, 'shut/in'), { recursive: true });
  await writeFile(Buffer.from(join(partial, 'shut/in/\xff'), 'latin1'), 'x');
  await writeFile(Buffer.from(join(partial, '\xfe'), 'latin1'), 'x');
  await chmod(join(partial, 'shut/in'), 0o500);
  await chmod(join(partial, 'shut'), 0o500);
  // As an ordinary user: root may remove anything, which would prove nothing.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) {
    await runOrThrow('chown', ['-R', '12345', folder.path]);
    process.seteuid?.(12_345);
  }
  try {
    expect(await readdir(await results.makePartialFolder())).toEqual([]);
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});
