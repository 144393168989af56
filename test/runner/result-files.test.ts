import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ResultFiles, removeEmptyPartialFolder } from '../../src/lib/runner/result-files.ts';
import { scratch } from '../remote/run-over.ts';

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
