import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import {
  knownBatches,
  lookUpBatch,
  rememberedRequest,
  takeBatch,
} from '../../src/lib/stores/batch-record.ts';
import { scratch } from '../remote/run-over.ts';

test('a batch keeps its id from run to run, and each batch file has its own', async () => {
  await using folder = await scratch();
  const results = join(folder.path, 'job_results');
  const first = takeBatch(results, 'a.sh');
  expect(first.isUnclean).toBe(false);
  const other = takeBatch(results, 'b.sh');
  expect(first.id).toMatch(/^[0-9a-f]{12}$/);
  expect(first.isNew && other.isNew).toBe(true);
  expect(other.id).not.toBe(first.id);
  first.release();
  const again = takeBatch(results, 'a.sh');
  expect(again).toMatchObject({ id: first.id, isNew: false, isUnclean: true });
  again.release({ isClean: true });
  const clean = takeBatch(results, 'a.sh');
  expect(clean.isUnclean).toBe(false);
  clean.release({ isClean: true });
  other.release({ isClean: true });
  expect((await readdir(join(results, '.batches'))).sort()).toEqual([
    'a.sh.id',
    'a.sh.journal',
    'b.sh.id',
    'b.sh.journal',
  ]);
});

test('a second controller is refused with the process that has the batch', async () => {
  await using folder = await scratch();
  const held = takeBatch(folder.path, 'a.sh');
  expect(() => takeBatch(folder.path, 'a.sh')).toThrow(
    `this batch is being run by process ${process.pid} on ${hostname()}: wait for it or end it`,
  );
  held.release();
  takeBatch(folder.path, 'a.sh').release();
});

/** A lock as another process would leave it. */
async function leaveLock(results: string, holder: object): Promise<string> {
  await mkdir(join(results, '.batches'), { recursive: true });
  const lock = join(results, '.batches/a.sh.lock');
  await writeFile(lock, `${JSON.stringify(holder)}\n`);
  return lock;
}

test('the lock of a process that is no more is taken over', async () => {
  await using folder = await scratch();
  const child = spawn('true');
  await once(child, 'exit');
  await leaveLock(folder.path, { host: hostname(), pid: child.pid, processStart: '1' });
  takeBatch(folder.path, 'a.sh').release();
});

test('a process that merely has the same number now does not hold the batch', async () => {
  await using folder = await scratch();
  if (process.platform !== 'linux') return; // elsewhere nobody tells when a process started
  await leaveLock(folder.path, { host: hostname(), pid: process.pid, processStart: '1' });
  takeBatch(folder.path, 'a.sh').release();
});

test('nobody can say of another host whether its controller lives', async () => {
  await using folder = await scratch();
  const lock = await leaveLock(folder.path, { host: 'elsewhere', pid: 7, processStart: '1' });
  expect(() => takeBatch(folder.path, 'a.sh')).toThrow(
    `this batch is being run by process 7 on elsewhere: if it is no more, remove ${lock}`,
  );
});

test('half a lock holds nobody up', async () => {
  await using folder = await scratch();
  await leaveLock(folder.path, {});
  const taken = takeBatch(folder.path, 'a.sh');
  expect(taken.isNew).toBe(true);
  expect(await readFile(join(folder.path, '.batches/a.sh.id'), 'utf8')).toBe(`${taken.id}\n`);
  taken.release();
});

test('a batch is looked up without being taken, with who has it and the machines of its last run', async () => {
  await using folder = await scratch();
  expect(lookUpBatch(folder.path, 'a.sh')).toBeUndefined();
  expect(rememberedRequest(folder.path, 'a.sh')).toBeUndefined();
  const held = takeBatch(folder.path, 'a.sh');
  const asked = { machines: ['one.yaml', 'me@two:22'], file: 'a.sh', cwd: '/project' };
  held.remember(asked);
  held.journal.given({ id: jobId('a.sh.1'), command: 'true' }, 1, {
    machine: machineName('one'),
    machineKey: 'k',
    runs: '/r',
  });
  expect(lookUpBatch(folder.path, 'a.sh')).toMatchObject({
    id: held.id,
    controller: { host: hostname(), pid: process.pid },
  });
  held.release();
  const known = lookUpBatch(folder.path, 'a.sh');
  expect(known?.controller).toBeUndefined();
  expect(known?.journal.get(jobId('a.sh.1'))?.open?.machine).toBe('one');
  expect(rememberedRequest(folder.path, 'a.sh')).toEqual(asked);
  expect([...(knownBatches(folder.path) ?? [])]).toEqual([[held.id, 'a.sh']]);
});

test.each(['', 'no id\n'])('an id that is gone is not replaced by another one (%j)', async (text) => {
  await using folder = await scratch();
  const first = takeBatch(folder.path, 'a.sh');
  first.release();
  const path = join(folder.path, '.batches/a.sh.id');
  await writeFile(path, text);
  expect(() => takeBatch(folder.path, 'a.sh')).toThrow(/does not hold the id of this batch/);
  await rm(path);
  expect(() => takeBatch(folder.path, 'a.sh')).toThrow(/does not hold the id of this batch/);
  await writeFile(path, `${first.id}\n`);
  takeBatch(folder.path, 'a.sh').release();
});
