import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openResultFolder, readResultFolder } from '../../src/lib/stores/result-folder.ts';
import { scratch } from '../remote/run-over.ts';
import { smallJob } from '../runner/local-runner.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

const job = (name: string) => smallJob(name, `echo ${name}`);
const manifest = (name: string, more: object = {}) =>
  folder.write(
    `${name}.json`,
    JSON.stringify({ command: `echo ${name}`, outcome: 'exited', exit_code: 0, ...more }),
  );

test('a line with a finished result is skipped, good or not', async () => {
  await manifest('good');
  await manifest('bad', { exit_code: 3 });
  const jobs = ['good', 'new', 'bad'].map(job);
  const { toRun, skipped } = await openResultFolder(folder.path, jobs);
  expect(toRun.map(({ name }) => name)).toEqual(['new']);
  expect(skipped.map((one) => [one.job.name, one.reason, one.isGood])).toEqual([
    ['good', 'finished-result', true],
    ['bad', 'finished-result', false],
  ]);
});

test('a cancelled job runs again, and what it left is moved aside', async () => {
  for (const round of [1, 2]) {
    await manifest('stopped', { outcome: 'cancelled', exit_code: null });
    await folder.write('stopped.out', `round ${round}`);
    await mkdir(join(folder.path, 'stopped'));
    const jobs = [job('stopped')];
    expect((await readResultFolder(folder.path, jobs)).toRun).toEqual(jobs); // looks, and moves nothing
    expect((await openResultFolder(folder.path, jobs)).toRun).toEqual(jobs);
    const left = (await readdir(folder.path)).filter((name) => !name.includes('.attempt-'));
    expect(left).toEqual([]);
    expect(await readFile(join(folder.path, `stopped.attempt-${round}.out`), 'utf8')).toBe(`round ${round}`);
  }
  expect((await readdir(folder.path)).sort()).toEqual(
    [1, 2].flatMap((round) => ['', '.json', '.out'].map((ending) => `stopped.attempt-${round}${ending}`)),
  );
});

test('a result folder without a manifest is skipped as such; output alone is not', async () => {
  await mkdir(join(folder.path, 'unknown'));
  await folder.write('broken-off.out', 'x');
  await mkdir(join(folder.path, '.partial', 'broken-off'), { recursive: true });
  const { toRun, skipped } = await openResultFolder(folder.path, [job('unknown'), job('broken-off')]);
  expect(toRun.map(({ name }) => name)).toEqual(['broken-off']);
  expect(skipped).toMatchObject([{ reason: 'result-without-manifest', isGood: false }]);
});

test('the result of another command under the same name is refused with both shown', async () => {
  await manifest('a', { command: 'echo something else' });
  await expect(openResultFolder(folder.path, [job('a')])).rejects.toThrow(
    /line 1: .*a\.json is the result of another command:\n {2}there: echo something else\n {2}here: {2}echo a\n/,
  );
});

test('a manifest that cannot be read is one clear line', async () => {
  for (const text of ['{ broken', 'null', '"text"', '']) {
    const path = await folder.write('a.json', text);
    await expect(openResultFolder(folder.path, [job('a')])).rejects.toThrow(
      `${path}: cannot be read as a result's manifest`,
    );
  }
});

test('the folder is made, but not by looking', async () => {
  const results = join(folder.path, 'deep/er');
  expect(await readResultFolder(results, [job('a')])).toMatchObject({ toRun: [{ name: 'a' }], skipped: [] });
  expect(await readdir(folder.path)).toEqual([]);
  await openResultFolder(results, []);
  expect(await readdir(folder.path)).toEqual(['deep']);
  await folder.write('file', '');
  await expect(openResultFolder(join(folder.path, 'file'), [])).rejects.toThrow(
    /cannot use the results folder .*file/,
  );
});
