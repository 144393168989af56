/** Where files from many machines go: names that cannot leave the folder, and folders that come and go whole. */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { type MachineName, machineName } from '../../src/lib/domain/machine.ts';
import { HostResults, hostFileName } from '../../src/lib/fanout/host-results.ts';
import { combineFolders } from '../../src/lib/folders/combine.ts';
import { scratch } from '../remote/run-over.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

const at = (...path: string[]) => join(folder.path, ...path);
const open = (jobName = 'check') =>
  HostResults.open({ resultsFolder: at('job_results'), jobName, checkName: () => {} });

async function bring(results: HostResults, machine: MachineName, text: string): Promise<void> {
  await writeFile(join(await results.begin(machine), 'file'), text);
}

/** All that is below the test's folder. */
const all = async () => (await readdir(folder.path, { recursive: true })).sort();

const HOSTILE = ['', '.', '..', '...', '../../x', '/etc/passwd', 'a/../../b', '-rf', '.partial', '\0', 'a\nb']
  .concat(['\x1b[2J', 'a\\b', '~', '%', '%2e', '%empty', '*', ' ', 'ssh://lab@10.0.0.1:2222', '[::1]:22'])
  .concat([
    'büro',
    '电脑',
    '\u202egnp',
    '\ud800',
    '\ud801',
    '\ufffd',
    'x'.repeat(200),
    'x'.repeat(201),
    'é'.repeat(90),
  ]);

/** Names that differ little, and all that text can be. */
const anyName = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom(...'./%-uU2eEx~', '\ud800', '\udfff', '\ufffd', 'é'), maxLength: 12 }),
  fc.string({ unit: fc.constantFrom('a', 'é', '%'), minLength: 190, maxLength: 210 }),
  fc.constantFrom(...HOSTILE, ...HOSTILE.map(hostFileName)),
);

test('plain names stay as they are', () => {
  for (const name of ['gpu01', 'lab@gpu01.example.org:2222', 'a_b-C.d'])
    expect(hostFileName(name)).toBe(name);
  expect(hostFileName('ssh://lab@10.0.0.1')).toBe('ssh:%2f%2flab@10.0.0.1');
});

test('no name is more than one file name', () => {
  fc.assert(
    fc.property(anyName, (name) => {
      expect(hostFileName(name)).toMatch(/^[A-Za-z0-9_@:%][A-Za-z0-9._@:%-]{0,199}$/);
    }),
    { numRuns: 2000 },
  );
});

test('different names have different file names', () => {
  fc.assert(
    fc.property(fc.uniqueArray(anyName, { maxLength: 30 }), (names) => {
      expect(new Set(names.map(hostFileName)).size).toBe(names.length);
    }),
    { numRuns: 2000 },
  );
});

test('what is not cut can be read back, so no two names meet', () => {
  fc.assert(
    fc.property(anyName, (name) => {
      const file = hostFileName(name);
      // Half a surrogate pair has no encoding that anything could read.
      if (!/%[-ue]/.test(file)) expect(decodeURIComponent(file)).toBe(name);
    }),
    { numRuns: 2000 },
  );
});

test('results of hostile names stay in their folder, each under a name of its own', async () => {
  const results = await open();
  const names = [...HOSTILE, 'GPU1', 'gpu1', 'Gpu1'];
  await Promise.all(
    names.map(async (name) => {
      await bring(results, machineName(name), name);
      await results.publish(machineName(name));
    }),
  );
  expect(await readdir(folder.path)).toEqual(['job_results']);
  expect(await readdir(at('job_results'))).toEqual(['check']);
  const found = await readdir(at('job_results/check'));
  expect(new Set(found.map((name) => name.toLowerCase())).size).toBe(names.length);
  const texts = await Promise.all(
    found.map((name) => readFile(at('job_results/check', name, 'file'), 'utf8')),
  );
  expect(texts.sort()).toEqual(names.map((name) => Buffer.from(name).toString()).sort());
});

test('folders of many machines can be combined', async () => {
  const results = await open();
  for (const name of ['a', 'b']) {
    const path = await results.begin(machineName(name));
    await writeFile(join(path, `${name}.log`), name);
    await writeFile(join(path, 'same'), 'same');
    await results.publish(machineName(name));
  }
  const hosts = (await readdir(results.folder)).map((name) => join(results.folder, name));
  expect((await combineFolders(at('all'), hosts)).conflicts).toEqual([]);
  expect((await readdir(at('all'))).sort()).toEqual(['a.log', 'b.log', 'same']);
});

test.each(['', '.json', '.out', '.err'])('existing results are refused: NAME%s', async (ending) => {
  await mkdir(at('job_results'));
  await symlink('/nowhere', at(`job_results/check${ending}`));
  await expect(open()).rejects.toThrow(
    new UsageError(
      `${at(`job_results/check${ending}`)} exists already: results are never replaced; move it away or use another --job-name`,
    ),
  );
  await open('other');
});

test('a bad name is refused before anything is looked at', async () => {
  const checkName = (name: string) => {
    throw new UsageError(`bad: ${name}`);
  };
  await expect(
    HostResults.open({ resultsFolder: at('job_results'), jobName: '..', checkName }),
  ).rejects.toThrow('bad: ..');
  expect(await all()).toEqual([]);
});

test('a call that brings nothing home leaves nothing behind, read-only folders neither', async () => {
  const results = await HostResults.open({
    resultsFolder: at('deep/er/job_results'),
    jobName: 'check',
    checkName: () => {},
  });
  expect(await all()).toEqual([]);
  const path = await results.begin(machineName('a'));
  expect(await readdir(path)).toEqual([]);
  await mkdir(join(path, 'shut'));
  await writeFile(join(path, 'shut/in'), '');
  await chmod(join(path, 'shut'), 0o500);
  await bring(results, machineName('b'), 'half');
  await results.discard(machineName('a'));
  expect(existsSync(path)).toBe(false);
  await results.discard(machineName('never begun'));
  await results[Symbol.asyncDispose]();
  expect(await all()).toEqual([]);
});

test('what was there before stays, and a machine may try again', async () => {
  await mkdir(at('job_results/.partial/batch-job'), { recursive: true });
  await using results = await open();
  await bring(results, machineName('a'), 'first try');
  await results.discard(machineName('a'));
  expect(await all()).toEqual(['job_results', 'job_results/.partial', 'job_results/.partial/batch-job']);
  await bring(results, machineName('a'), 'second try');
  await results.publish(machineName('a'));
  expect(await readFile(at('job_results/check/a/file'), 'utf8')).toBe('second try');
  expect(await readdir(at('job_results/.partial'))).toEqual(['batch-job']);
});

test('of two calls with one name the later one is refused when the first has published, and harms nothing', async () => {
  const [first, second] = [await open(), await open()];
  await bring(first, machineName('a'), 'first');
  await bring(second, machineName('a'), 'second');
  await first.publish(machineName('a'));
  await expect(second.publish(machineName('a'))).rejects.toThrow(
    `a: ${at('job_results/check')} exists already: results are never replaced`,
  );
  await expect(second.begin(machineName('b'))).rejects.toThrow(/check exists already/);
  await second[Symbol.asyncDispose]();
  expect(await readFile(at('job_results/check/a/file'), 'utf8')).toBe('first');
  expect(await all()).toEqual([
    'job_results',
    'job_results/check',
    'job_results/check/a',
    'job_results/check/a/file',
  ]);
});

test('a failed rename leaves no empty folder of that name, and others go on', async () => {
  const results = await open();
  await rm(await results.begin(machineName('a')), { recursive: true });
  await expect(results.publish(machineName('a'))).rejects.toThrow(
    /^a: cannot keep its results: ENOENT[^\n]*$/,
  );
  await results.discard(machineName('a'));
  expect(await all()).toEqual([]);
  await bring(results, machineName('b'), 'fine');
  await results.publish(machineName('b'));
  expect(await readdir(at('job_results/check'))).toEqual(['b']);
});

test('a results folder that cannot be used is told at once, in one line', async () => {
  await writeFile(at('file'), '');
  const inFile = { resultsFolder: at('file/job_results'), jobName: 'check', checkName: () => {} };
  await expect(HostResults.open(inFile)).rejects.toThrow(
    new UsageError(`cannot use the results folder ${at('file/job_results')}: ${at('file')} is no folder`),
  );
  await expect(HostResults.open({ ...inFile, resultsFolder: at('file') })).rejects.toThrow('is no folder');
  if (process.getuid?.() === 0) return console.warn('root can write anywhere: only half is tested here');
  await mkdir(at('shut'), { mode: 0o500 });
  await expect(HostResults.open({ ...inFile, resultsFolder: at('shut/a/b') })).rejects.toThrow(
    /^cannot use the results folder [^\n]*: EACCES: permission denied[^\n]*$/,
  );
});

test('a results folder that goes meanwhile is told in one line', async () => {
  const results = await open();
  await writeFile(at('job_results'), 'a file');
  await expect(results.begin(machineName('a'))).rejects.toThrow(/^cannot keep the results of a: E[^\n]*$/);
  expect(await all()).toEqual(['job_results']);
});

test('what a killed controller left goes after a week; what is younger stays', async () => {
  const [old, young] = [at('job_results/.partial/.to-old'), at('job_results/.partial/.to-young')];
  for (const path of [old, young]) await mkdir(join(path, 'host'), { recursive: true });
  const then = Date.now() / 1000 - 8 * 86_400;
  await utimes(old, then, then);
  await using results = await open();
  await results.begin(machineName('a'));
  expect(existsSync(old)).toBe(false);
  expect(existsSync(young)).toBe(true);
});
