/** The whole state goes out as text and comes in again; nothing changes before all of it was checked. */
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { KeptParts } from '../../src/lib/files/kept-parts.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { ScriptStore } from '../../src/lib/queue/script-store.ts';
import { StateTransfer } from '../../src/lib/queue/state-transfer.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { scratch } from '../remote/run-over.ts';
import { smallSpec } from '../stores/queue-jobs.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
const open: QueueStore[] = [];

beforeEach(async () => {
  folder = await scratch();
});

afterEach(async () => {
  for (const store of open.splice(0)) store.close();
  await folder[Symbol.asyncDispose]();
});

/** What a service has, in a data folder of its own. */
async function service(id: string, name = id) {
  const data = join(folder.path, name);
  await mkdir(data, { recursive: true });
  const store = await QueueStore.open(data);
  open.push(store);
  const scripts = new ScriptStore(join(data, 'scripts'));
  const parts = await KeptParts.open(join(data, 'parts'));
  let machines: unknown = [{ name: `of ${id}` }];
  const transfer = new StateTransfer({
    ...{ folder: data, serviceId: id, store, scripts, parts },
    machines: {
      toJSON: () => machines,
      check: (json) => {
        if (Array.isArray(json)) return json.length;
        throw new UsageError('machines: expected a list');
      },
      replace: async (json) => {
        machines = json;
      },
    },
  });
  return {
    ...{ data, store, scripts, parts, transfer },
    machines: () => machines,
    text: async () => {
      let text = '';
      for await (const piece of transfer.export()) text += piece;
      return text;
    },
    take: (text: string) => transfer.import({ index: 0, text, isLast: true }),
  };
}

/** A state with five jobs, one of them with a script, one that runs. */
async function exported() {
  const from = await service('one');
  const id = await from.scripts.keep('#!/bin/sh\necho "é\\n"\n');
  await from.store.add([
    smallSpec('a_1', { env: { A: '"\n' } }),
    smallSpec('b_2', { script: { name: 's.sh', id, args: ['x'] } }),
    smallSpec('c_3'),
    smallSpec('d_4', { dependsOn: [3] }),
    smallSpec('e_5'),
  ]);
  await from.store.kill([5], 'no');
  await from.store.claim(jobId('1'), machineName('m1'));
  await from.store.claim(jobId('3'), machineName('m1'));
  await from.store.kill([3], 'killed by ann');
  return { from, id, text: await from.text() };
}

test('another service goes on with it: its jobs, scripts and machines; what ran waits again', async () => {
  const { from, id, text } = await exported();
  expect(text.split('\n').filter((line) => line.startsWith('{"id"'))).toHaveLength(5);
  const to = await service('two');
  await to.store.add([smallSpec('old')]);
  const middle = text.indexOf('é');
  const pieces = [text.slice(0, middle), text.slice(middle, middle + 1), text.slice(middle + 1)];
  expect(await to.transfer.import({ index: 0, text: pieces[0], isLast: false })).toEqual({});
  expect((await stat(join(to.data, 'import.partial'))).mode & 0o777).toBe(0o600);
  await to.transfer.import({ index: 1, text: pieces[1], isLast: false });
  expect(to.store.list().map(({ spec }) => spec.name)).toEqual(['old']);
  expect(await to.transfer.import({ index: 2, text: pieces[2], isLast: true })).toEqual({
    jobs: 5,
    machines: 1,
    warnings: [expect.stringMatching(/^job 1 was running when .* and waits again/)],
  });
  expect(to.store.list().map(({ state, attempt }) => [state, attempt])).toEqual([
    ...[
      ['queued', 1],
      ['queued', 0],
      ['killed', 1],
      ['abort', 0],
      ['killed', 0],
    ],
  ]);
  expect(to.store.get(1)?.machine).toBeUndefined();
  expect(await to.scripts.text(id)).toBe(await from.scripts.text(id));
  expect(to.machines()).toEqual([{ name: 'of one' }]);
  expect(await readdir(to.data)).not.toContain('import.partial');
});

test('the same service follows what it does not know of, and makes no attempt twice', async () => {
  const { from, text } = await exported();
  const attempt = { job: jobId('1'), number: 1 };
  await expect(from.take(text)).rejects.toThrow('nothing can be imported while jobs run: 2 do');
  await from.store.finish(attempt, { type: 'cancelled', reason: 'x' });
  await from.store.finish({ job: jobId('3'), number: 1 }, { type: 'cancelled', reason: 'x' });
  await from.store.rerun([5]);
  await from.store.claim(jobId('5'));
  await from.store.finish({ job: jobId('5'), number: 1 }, { type: 'exited', exitCode: 0 });
  await from.take(text);
  expect(from.store.get(1)).toMatchObject({ state: 'queued', attempt: 1 });
  expect(from.store.get(5)).toMatchObject({ state: 'killed', attempt: 1 });
  // Its queue was lost, its name was not: the machines are asked.
  const anew = await service('one', 'restored');
  await anew.take(text);
  expect(anew.store.claimed().map(({ attempt: one, wanted }) => [one.job, wanted])).toEqual([
    ['1', undefined],
    ['3', 'killed'],
  ]);
});

test('what a job needs has to be here: its script, and its source tree while it has not ended', async () => {
  const { text, id } = await exported();
  const to = await service('two');
  const state = JSON.parse(text) as {
    scripts: Record<string, string>;
    jobs: { spec: Record<string, unknown> }[];
  };
  const without = { ...state, scripts: {} };
  await expect(to.take(JSON.stringify(without))).rejects.toThrow(
    `jobs[1].spec.script.id: job 2 needs the script ${id}`,
  );
  const edited = { ...state, scripts: { [id]: 'echo other' } };
  await expect(to.take(JSON.stringify(edited))).rejects.toThrow(`scripts.${id}: its text has the SHA-256`);
  const project = join(folder.path, 'project');
  await mkdir(project);
  await writeFile(join(project, 'data'), 'x');
  const trees = new SourceTrees({ cwd: project, cacheFolder: join(folder.path, 'hashes') });
  const tree = await trees.of({ copyForwards: 'working-directory', shareForwards: [] });
  for (const one of state.jobs) one.spec.treeParts = [tree.id];
  await expect(to.take(JSON.stringify(state))).rejects.toThrow(
    'the source trees of jobs 1, 2, 4 are not here',
  );
  expect(to.store.list()).toEqual([]);
  await to.parts.keep(tree);
  expect(await to.take(JSON.stringify(state))).toMatchObject({ jobs: 5 });
});

test.each([
  ['{', 'the state is no JSON'],
  ['[]', 'the state: expected an object'],
  [
    (text: string) => text.replace('"name":"b_2"', '"name":"../b"'),
    "jobs[1].spec.name: the job name '../b' contains a slash",
  ],
  [(text: string) => text.replace('[{"name":"of one"}]', '{}'), 'machines: expected a list'],
  [(text: string) => text.replace('"s.sh"', '"../s"'), "the script's name '../s'"],
])('a mistake is told, and nothing changes: %#', async (change, message) => {
  const { text } = await exported();
  const to = await service('two');
  await to.store.add([smallSpec('old')]);
  await expect(to.take(typeof change === 'string' ? change : change(text))).rejects.toThrow(message);
  expect(to.store.list().map(({ spec }) => spec.name)).toEqual(['old']);
  expect(to.machines()).toEqual([{ name: 'of two' }]);
  expect(await readdir(to.data)).not.toContain('import.partial');
});

test('pieces come in order, and the first one begins anew; half a character waits for its other half', async () => {
  const to = await service('two');
  await expect(to.transfer.import({ index: 1, text: '', isLast: false })).rejects.toThrow(
    'found piece 1, expected 0',
  );
  await expect(to.transfer.import({ index: 0, text: '' })).rejects.toThrow('isLast: is missing');
  await to.store.add([smallSpec('a_1', { env: { SMILE: '😀' } })]);
  const text = await to.text();
  const half = text.indexOf('😀') + 1;
  await to.transfer.import({ index: 0, text: 'of an import that was left', isLast: false });
  await to.transfer.import({ index: 0, text: text.slice(0, half), isLast: false });
  await expect(to.transfer.import({ index: 2, text: '', isLast: false })).rejects.toThrow('expected 0 or 1');
  await to.transfer.import({ index: 1, text: text.slice(half), isLast: true });
  expect(to.store.get(1)?.spec.env).toEqual({ SMILE: '😀' });
  await to.transfer.import({ index: 0, text: 'x', isLast: false });
  await to.transfer.close();
  expect(await readdir(to.data)).not.toContain('import.partial');
});
