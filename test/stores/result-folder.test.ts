import { spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Job, jobId } from '../../src/lib/domain/job.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { ResultFiles } from '../../src/lib/runner/result-files.ts';
import { openResultFolder, readResultFolder } from '../../src/lib/stores/result-folder.ts';
import { scratch } from '../remote/run-over.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

const job = (name: string, more: Partial<Job> = {}): Job => ({
  id: jobId(name),
  name,
  line: 1,
  command: `echo ${name}`,
  request: DEFAULT_REQUEST,
  copyForwards: [],
  shareForwards: [],
  copyBackwards: 'changed',
  ...more,
});
const manifest = (name: string, more: object = {}) =>
  folder.write(
    `${name}.json`,
    JSON.stringify({ command: `echo ${name}`, outcome: 'exited', exit_code: 0, ...more }),
  );

test('a line with a finished result is skipped, good or not', async () => {
  await manifest('good');
  await manifest('bad', { exit_code: 3 });
  const jobs = ['good', 'new', 'bad'].map((name) => job(name));
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
  for (const text of ['{ broken', 'null', '"text"']) {
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

const at = (...path: string[]) => join(folder.path, ...path);
const WHOLE = JSON.stringify({ command: 'echo a', outcome: 'exited', exit_code: 0 });

/** What a run leaves that is ended at some step of its publishing. */
const CRASHES: Readonly<
  Record<string, { readonly left: Readonly<Record<string, string>>; readonly isFinished: boolean }>
> = {
  'while files arrive': { left: { '.partial/a/half': 'x' }, isFinished: false },
  'while the manifest is written': {
    left: { '.partial/a/file': 'x', '.partial/a.json': '{"comm' },
    isFinished: false,
  },
  'before the folder is renamed': {
    left: { '.partial/a/file': 'x', '.partial/a.json': WHOLE },
    isFinished: false,
  },
  'before the manifest is renamed': { left: { 'a/file': 'x', '.partial/a.json': WHOLE }, isFinished: true },
  'after all': { left: { 'a/file': 'x', 'a.json': WHOLE }, isFinished: true },
};

test.each(Object.entries(CRASHES))(
  'a crash %s leaves a job that is finished or runs again',
  async (_, crash) => {
    for (const [path, text] of Object.entries({ ...crash.left, 'a.out': 'printed' })) {
      await mkdir(dirname(at(path)), { recursive: true });
      await folder.write(path, text);
    }
    const before = (await readdir(folder.path, { recursive: true })).sort();
    const seen = await readResultFolder(folder.path, [job('a')]);
    expect((await readdir(folder.path, { recursive: true })).sort()).toEqual(before); // it only looks
    expect(await openResultFolder(folder.path, [job('a')])).toEqual(seen);
    expect(seen.toRun).toHaveLength(crash.isFinished ? 0 : 1);
    expect(seen.skipped).toMatchObject(crash.isFinished ? [{ reason: 'finished-result', isGood: true }] : []);
    expect(await readdir(at('.partial')).catch(() => [])).toEqual([]);
    const left = (await readdir(folder.path)).filter((name) => name !== '.partial').sort();
    expect(left).toEqual(crash.isFinished ? ['a', 'a.json', 'a.out'] : ['a.out']);
    if (!crash.isFinished) new ResultFiles(folder.path, 'a').publish(JSON.parse(WHOLE) as object, 'empty');
    expect((await openResultFolder(folder.path, [job('a')])).skipped).toMatchObject([{ isGood: true }]);
  },
);

test('a run that is really killed between the two renames is completed', async () => {
  // The manifest's rename is the process's last wish: it is killed as soon as the folder stands.
  const program = `
    import fs, { mkdirSync, writeFileSync } from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const rename = fs.renameSync;
    fs.renameSync = (from, to) => { if (to.endsWith('.json')) process.kill(process.pid, 'SIGKILL'); else rename(from, to); };
    syncBuiltinESMExports();
    const { ResultFiles } = await import(${JSON.stringify(resolve('src/lib/runner/result-files.ts'))});
    const results = new ResultFiles(${JSON.stringify(folder.path)}, 'a');
    await results.receive(async (into) => writeFileSync(into + '/file', 'received'));
    results.publish(${WHOLE}, 'received');`;
  const { signal } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program]);
  expect(signal).toBe('SIGKILL');
  expect((await readdir(folder.path)).sort()).toEqual(['.partial', 'a']);
  expect((await openResultFolder(folder.path, [job('a')])).skipped).toMatchObject([{ isGood: true }]);
  expect(await readFile(at('a/file'), 'utf8')).toBe('received');
  expect(await readFile(at('a.json'), 'utf8')).toContain('"exit_code": 0');
});

test('a job without a folder is finished by its manifest alone', async () => {
  await mkdir(at('.partial'));
  await folder.write('.partial/a.json', WHOLE);
  const jobs = [job('a', { copyBackwards: [] })];
  expect((await readResultFolder(folder.path, jobs)).skipped).toHaveLength(1);
  expect((await openResultFolder(folder.path, jobs)).skipped).toHaveLength(1);
  expect(await readdir(folder.path)).toContain('a.json');
});

test("a cancelled job's result is completed, and then moved aside", async () => {
  await mkdir(at('.partial'));
  await mkdir(at('a'));
  await folder.write('.partial/a.json', JSON.stringify({ command: 'echo a', outcome: 'cancelled' }));
  expect((await readResultFolder(folder.path, [job('a')])).toRun).toHaveLength(1);
  expect((await openResultFolder(folder.path, [job('a')])).toRun).toHaveLength(1);
  expect((await readdir(folder.path)).sort()).toEqual(['.partial', 'a.attempt-1', 'a.attempt-1.json']);
});

test("a folder that is not ours stays, and so do others' partial results", async () => {
  await folder.write('b.json', WHOLE.replace('echo a', 'echo b'));
  for (const path of ['a', '.partial/a', '.partial/other', '.partial/b.json', '.partial/b'])
    await mkdir(at(path), { recursive: true });
  await folder.write('a/precious', 'x');
  await folder.write('.partial/other.json', WHOLE);
  await folder.write('.partial/a.json', WHOLE);
  const { skipped } = await openResultFolder(folder.path, [job('a'), job('b')]);
  expect(skipped).toMatchObject([{ reason: 'result-without-manifest' }, { reason: 'finished-result' }]);
  expect(await readdir(at('a'))).toEqual(['precious']);
  // `.partial/b.json` is a folder: that of a job named `b.json`, which is no job of this batch.
  expect((await readdir(at('.partial'))).sort()).toEqual(['b.json', 'other', 'other.json']);
});

test('a folder made by hand beside a torn manifest is not taken for a result', async () => {
  await mkdir(at('.partial'));
  await mkdir(at('a'));
  await folder.write('.partial/a.json', '{"command": "echo a"');
  const { skipped } = await openResultFolder(folder.path, [job('a')]);
  expect(skipped).toMatchObject([{ reason: 'result-without-manifest' }]);
});

test.each(['', '\0\0\0\0'])(
  'a manifest that a power cut has emptied (%j) is none: what is left stands aside',
  async (text) => {
    await folder.write('a.json', text);
    await mkdir(at('a'));
    await folder.write('a/file', 'perhaps torn, too');
    const { toRun, skipped, torn, setAside } = await openResultFolder(folder.path, [job('a')]);
    expect([toRun, torn].map((list) => list.map(({ name }) => name))).toEqual([['a'], ['a']]);
    expect([skipped, setAside]).toEqual([[], []]);
    expect((await readdir(folder.path)).sort()).toEqual(['a.attempt-1', 'a.attempt-1.json']);
  },
);

test('a result that a crash left half set aside is set aside', async () => {
  const cancelled = JSON.stringify({ ...JSON.parse(WHOLE), outcome: 'cancelled' });
  await folder.write('a.attempt-1.json', cancelled);
  await mkdir(at('a'));
  await folder.write('a/file', 'of the first attempt');
  await folder.write('a.out', 'said');
  expect(await readResultFolder(folder.path, [job('a')])).toMatchObject({
    toRun: [{ name: 'a' }],
    skipped: [],
  });
  expect(await openResultFolder(folder.path, [job('a')])).toMatchObject({
    toRun: [{ name: 'a' }],
    skipped: [],
  });
  expect((await readdir(folder.path)).sort()).toEqual(['a.attempt-1', 'a.attempt-1.json', 'a.attempt-1.out']);
});
