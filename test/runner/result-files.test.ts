import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findPartial, ResultFiles, removeEmptyPartialFolder } from '../../src/lib/runner/result-files.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';

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
  const partial = await results.receive(async (into) => into);
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
  await writeFile(join(await results.receive(async (into) => into), 'half'), 'x');
  expect(await readdir(await results.receive(async (into) => into))).toEqual([]);
  await results.drop();
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
  await results.receive(async (into) => into);
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

const MANIFEST = { batch: 'b', attempt: 2, command: 'x' };

test('an attempt that another one follows is put beside, and leaves the name free', async () => {
  const results = new ResultFiles(folder.path, 'job');
  results.openOutputs();
  results.append('out', Buffer.from('second try'));
  await writeFile(join(await results.receive(async (into) => into), 'file'), 'made');
  results.publishBeside(MANIFEST, 'received');
  await results.drop();
  removeEmptyPartialFolder(folder.path);
  const base = 'job.attempt-2';
  expect((await readdir(folder.path)).sort()).toEqual([base, `${base}.err`, `${base}.json`, `${base}.out`]);
  expect(await readFile(at(base, 'file'), 'utf8')).toBe('made');
  expect(await readFile(at(`${base}.out`), 'utf8')).toBe('second try');
  expect(JSON.parse(await readFile(at(`${base}.json`), 'utf8'))).toEqual(MANIFEST);
});

test('what stands beside is not replaced: another attempt takes the next free number', async () => {
  await writeFile(at('job.attempt-2.json'), JSON.stringify({ ...MANIFEST, batch: 'another' }));
  await mkdir(at('job.attempt-3'));
  const results = new ResultFiles(folder.path, 'job');
  results.openOutputs();
  results.publishBeside(MANIFEST, 'empty');
  expect(JSON.parse(await readFile(at('job.attempt-4.json'), 'utf8'))).toEqual(MANIFEST);
  expect(await readdir(at('job.attempt-4'))).toEqual([]);
  expect(JSON.parse(await readFile(at('job.attempt-2.json'), 'utf8'))).toMatchObject({ batch: 'another' });
  expect(await readdir(folder.path)).not.toContain('job.attempt-2.out');
});

/** What a crash may leave of an attempt on its way beside, after each of its steps. */
const BESIDE_CRASHES: Readonly<Record<string, readonly string[]>> = {
  'after the manifest': ['json'],
  'after the folder': ['json', 'folder'],
  'after .out': ['json', 'folder', 'out'],
  'after all': ['json', 'folder', 'out', 'err'],
};
for (const [when, done] of Object.entries(BESIDE_CRASHES)) {
  test(`a crash ${when} of an attempt put beside is completed by the next try, under one name`, async () => {
    const base = 'job.attempt-2';
    if (done.includes('json')) await writeFile(at(`${base}.json`), JSON.stringify(MANIFEST));
    if (done.includes('folder')) await mkdir(at(base));
    if (done.includes('folder')) await writeFile(at(base, 'file'), 'made');
    for (const stream of ['out', 'err'])
      if (done.includes(stream)) await writeFile(at(`${base}.${stream}`), stream);
    const results = new ResultFiles(folder.path, 'job');
    results.resumeOutputs();
    results.append('out', Buffer.from('out'));
    results.append('err', Buffer.from('err'));
    await writeFile(join(await results.receive(async (into) => into), 'file'), 'made');
    results.publishBeside(MANIFEST, 'received');
    await results.drop();
    removeEmptyPartialFolder(folder.path);
    expect((await readdir(folder.path)).sort()).toEqual([base, `${base}.err`, `${base}.json`, `${base}.out`]);
    expect(await readFile(at(base, 'file'), 'utf8')).toBe('made');
    for (const stream of ['out', 'err']) expect(await readFile(at(`${base}.${stream}`), 'utf8')).toBe(stream);
  });
}

test('output goes on where the files stop; what lies beyond the limit is cut off', async () => {
  await writeFile(at('job.out'), 'first ');
  const results = new ResultFiles(folder.path, 'job');
  expect(results.resumeOutputs()).toEqual({ out: 6, err: 0 });
  results.append('out', Buffer.from('second'));
  results.append('err', Buffer.from('new'));
  expect(await readFile(at('job.out'), 'utf8')).toBe('first second');
  expect(await readFile(at('job.err'), 'utf8')).toBe('new');
  expect(results.endOf('out', 4).toString()).toBe('cond');
  expect(results.endOf('err', 100).toString()).toBe('new');
  expect(await results.hashOf('err')).toBe(createHash('sha256').update('new').digest('hex'));
  expect(new ResultFiles(folder.path, 'job').resumeOutputs(5)).toEqual({ out: 5, err: 3 });
  expect(await readFile(at('job.out'), 'utf8')).toBe('first');
});

test('an output file is replaced only when the new one is whole', async () => {
  const results = new ResultFiles(folder.path, 'job');
  results.openOutputs();
  results.append('out', Buffer.from('wrong'));
  const broken = results.replaceOutput('out', async (append) => {
    append(Buffer.from('ha'));
    throw new Error('cut');
  });
  await expect(broken).rejects.toThrow('cut');
  expect(await readFile(at('job.out'), 'utf8')).toBe('wrong');
  await results.replaceOutput('out', async (append) => {
    append(Buffer.from('right '));
    append(Buffer.from('now'));
  });
  results.append('out', Buffer.from('!'));
  expect(await readFile(at('job.out'), 'utf8')).toBe('right now!');
  removeEmptyPartialFolder(folder.path);
  expect((await readdir(folder.path)).sort()).toEqual(['job.err', 'job.out']);
});

test('an attempt that was given up writes nothing more, and the next one waits until it is out of the way', async () => {
  const old = new ResultFiles(folder.path, 'job');
  old.openOutputs();
  const events: string[] = [];
  let finish = () => {};
  const filling = old.receive(async (into) => {
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    await writeFile(join(into, 'old'), 'x');
    events.push('old is out');
  });
  await until(async () => (await readdir(at('.partial'))).includes('job'));
  old.leave();
  expect(() => old.append('out', Buffer.from('late'))).toThrow(/another attempt/);
  const next = new ResultFiles(folder.path, 'job');
  next.openOutputs();
  const received = next.receive(async (into) => {
    events.push('next begins');
    await writeFile(join(into, 'next'), 'x');
  });
  // Long enough for it to begin, if it did not wait.
  await until(() => events.length > 0, { deadlineMs: 500 }).catch(() => {});
  finish();
  await Promise.all([filling, received]);
  next.publish({}, 'received');
  expect(events).toEqual(['old is out', 'next begins']);
  expect(await readdir(at('job'))).toEqual(['next']);
  await expect(old.receive(async () => {})).rejects.toThrow(/another attempt/);
  expect(await readFile(at('job.out'), 'utf8')).toBe('');
});

test('names may be as long as the file system allows', async () => {
  const name = 'n'.repeat(250);
  new ResultFiles(folder.path, name).publish({}, 'empty');
  expect((await readdir(folder.path)).sort()).toEqual(['.partial', name, `${name}.json`]);
});

test('where the manifest cannot be written, no folder is published', async () => {
  const results = new ResultFiles(folder.path, 'job');
  await writeFile(join(await results.receive(async (into) => into), 'file'), 'received');
  await mkdir(at('.partial/job.json')); // in its way
  expect(() => results.publish({}, 'received')).toThrow(/EISDIR/);
  expect(await readdir(folder.path)).toEqual(['.partial']);
  expect(await readFile(at('.partial/job/file'), 'utf8')).toBe('received');
});

test('where only the last rename fails, what is there stays to be completed', async () => {
  const results = new ResultFiles(folder.path, 'job');
  await writeFile(join(await results.receive(async (into) => into), 'file'), 'received');
  // The folder takes its place; the manifest's is taken by something that came in between.
  const manifest = {
    toJSON: () => {
      mkdirSync(at('job.json'));
      return { x: 1 };
    },
  };
  expect(() => results.publish(manifest, 'received')).toThrow(/EISDIR/);
  await rm(at('job.json'), { recursive: true });
  await results.drop();
  expect(findPartial(folder.path, { name: 'job', hasFolder: true })).toEqual({
    type: 'complete',
    manifest: at('.partial/job.json'),
  });
  expect(await readFile(at('job/file'), 'utf8')).toBe('received');
});

test('what an earlier try left goes, whatever its names and modes', async () => {
  const results = new ResultFiles(folder.path, 'job');
  const partial = await results.receive(async (into) => into);
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
    expect(await readdir(await results.receive(async (into) => into))).toEqual([]);
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});
