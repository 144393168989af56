/** The exported state: it comes back the same, and each mistake is told with its place. */
import { expect, test } from 'vitest';
import { jobId } from '../../src/lib/domain/job.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec, temporaryFolder } from './queue-jobs.ts';

async function exported() {
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  await store.add([
    smallSpec('a_1', { timeoutMs: 5000, env: { A: 'b' } }),
    smallSpec('b_2', { dependsOn: [1], copyBackwards: ['out'] }),
    smallSpec('c_3', {
      env: { JOB_ARRAY_INDEX: '1', JOB_ARRAY_ID: '3' },
      script: { name: 'true', id: 'abc', args: ['x'] },
      runHere: true,
      retryOn: [{ type: 'oom' }, { type: 'exit', exitCode: 3 }],
      array: { first: 3, index: 1, atOnce: 2 },
    }),
  ]);
  await store.kill([3], 'no');
  const attempt = await store.claim(jobId('1'));
  if (attempt !== undefined) await store.finish(attempt, { type: 'lost', reason: 'booted' });
  const state = JSON.parse(JSON.stringify(store.exportState())) as Record<string, unknown>;
  store.close();
  return state;
}

test('an exported state comes back the same, in another queue too, and nothing stays of what was there', async () => {
  const state = await exported();
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  await store.add(Array.from({ length: 9 }, (_, n) => smallSpec(`old${n}`)));
  let told = 0;
  store.onPending(() => told++);
  expect(await store.importState(state)).toBe(3);
  expect(told).toBe(1);
  expect([...store.pending()].map(({ id }) => id)).toEqual(['1']);
  expect(store.exportState()).toEqual({ ...state, nextId: 10 });
  expect(store.counts()).toMatchObject({ queued: 1, holding: 1, killed: 1 });
  expect(await store.add([smallSpec('next')])).toEqual([10]);
  await store.claim(jobId('1'));
  await expect(store.importState(state)).rejects.toThrow('nothing can be imported while jobs run: 1 do');
  store.close();
});

test.each([
  [
    'jobs.0.spec.request.memoryMiB',
    'a lot',
    'jobs[0].spec.request.memoryMiB: expected a number from 0 to 1099511627776, found "a lot"',
  ],
  [
    'jobs.0.spec.request.gpus',
    0.5,
    'jobs[0].spec.request.gpus: expected a whole number from 0 to 1024, found 0.5',
  ],
  [
    'jobs.0.spec.request.cpuCores',
    1e9,
    'jobs[0].spec.request.cpuCores: expected a number from 0 to 100000, found',
  ],
  ['jobs.1.spec.name', '../x', "jobs[1].spec.name: the job name '../x' contains a slash"],
  ['scripts', { abc: 3 }, 'scripts.abc: expected text, found 3'],
  ['jobs.1.spec.prioritty', 3, 'jobs[1].spec.prioritty: there is no such field'],
  ['jobs.1.spec.name', undefined, 'jobs[1].spec.name: is missing'],
  ['jobs.0.state', 'waiting', 'jobs[0].state: expected one of queued, holding'],
  ['jobs.1.spec.dependsOn', [7], 'jobs[1].spec.dependsOn[0]: expected an id below its own (2), found 7'],
  ['jobs.1.id', 1, 'jobs[1].id: jobs[0] has the id 1 as well'],
  ['jobs.0.id', 2.5, 'jobs[0].id: expected a whole number from 1 to 1000000000000, found 2.5'],
  ['jobs.0.outcome.type', 'gone', 'jobs[0].outcome.type: expected one of exited'],
  ['jobs.0.isHeld', true, 'jobs[0].isHeld: expected false with the state queued, found true'],
  [
    'jobs.2.spec.array.atOnce',
    0,
    'jobs[2].spec.array.atOnce: expected a whole number of at least 1, found 0',
  ],
  ['jobs.2.spec.cwd', 'here', 'jobs[2].spec.cwd: expected an absolute path, found "here"'],
  [
    'jobs.0.spec.copyForwards',
    'all',
    'jobs[0].spec.copyForwards: expected a list, or "working-directory", found "all"',
  ],
  [
    'jobs.2.endedAt',
    undefined,
    'jobs[2].endedAt: expected the time of its end with the state killed, found nothing',
  ],
  [
    'jobs.0.spec.env',
    { 'X=1; touch /tmp/pwn; Y': 'secret' },
    "jobs[0].spec.env: found the name 'X=1; touch /tmp/pwn; Y', expected letters, digits and _, no digit first",
  ],
  ['jobs.0.spec.env', { A: 'b\0' }, 'jobs[0].spec.env.A: contains a NUL byte'],
  ['jobs.0.spec.env', { BASHOPTS: 'x' }, 'jobs[0].spec.env: BASHOPTS cannot be set'],
  ['jobs.0.spec.env', { SSH_SCHEDULER_X: 'x' }, 'jobs[0].spec.env: SSH_SCHEDULER_X cannot be set'],
  ['jobs.0.spec.env', { JOB_ARRAY_ID: '3' }, 'jobs[0].spec.env: JOB_ARRAY_ID cannot be set'],
  ['jobs.2.spec.env.JOB_ARRAY_ID', '4', 'jobs[2].spec.env: JOB_ARRAY_ID cannot be set'],
  ['jobs.0.spec.command', ' ', 'jobs[0].spec.command: expected text that is not empty'],
  ['jobs.0.spec.command', 'a\0', 'jobs[0].spec.command: contains a NUL byte'],
  ['jobs.2.spec.script.args', ['a\0'], 'jobs[2].spec.script.args[0]: contains a NUL byte'],
  ['jobs.0.spec.runHere', true, 'jobs[0].spec.runHere: expected a jobs[0].spec.script'],
  ['jobs.2.spec.stdout', '/tmp/out', 'jobs[2].spec.stdout: not together with jobs[2].spec.runHere'],
  ['jobs.2.spec.copyBackwards', 'changed', 'jobs[2].spec.copyBackwards: expected [] with'],
  ['jobs.0.spec.stdout', '/tmp/', 'jobs[0].spec.stdout: expected a file, found "/tmp/"'],
  ['jobs.0.spec.beginAt', 1e16, 'jobs[0].spec.beginAt: expected a whole number from 0'],
  ['jobs.0.spec.timeoutPercent', 5, 'jobs[0].spec.timeoutMs: found a time and a percentage'],
  ['jobs.0.spec.retries', 1e15, 'jobs[0].spec.retries: expected a whole number from 0 to 9999'],
  ['jobs.1.spec.name', 'a_1', 'jobs[1].spec.name: expected a name that ends in its own id, _2, found "a_1"'],
  ['jobs.1.spec.machine', 'm\n', "jobs[1].spec.machine: the name 'm\\n' contains a control character"],
  ['jobs.0.submittedAt', 1e16, 'jobs[0].submittedAt: expected a whole number from 0'],
  ['jobs.0.id', 2 ** 53 - 1, 'jobs[0].id: expected a whole number from 1 to 1000000000000'],
  ['nextId', 2 ** 53 - 1, 'nextId: expected a whole number from 1 to 1000000000001'],
  ['jobs', {}, 'jobs: expected a list, found {}'],
  ['nextId', 2, 'jobs[1].id: expected less than nextId (2), found 2'],
  ['version', 2, 'version: 2 is of a newer version of this program'],
  ['format', 'x', 'format: expected one of job_queue state, found "x"'],
])('a mistake at %s is told, and nothing changes', async (path, value, message) => {
  const state = await exported();
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  let at = state;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  if (value === undefined) delete at[last];
  else at[last] = value;
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  await store.add([smallSpec('here')]);
  await expect(store.importState(state)).rejects.toThrow(message);
  expect(store.list().map(({ spec }) => spec.name)).toEqual(['here']);
  store.close();
});

test('one file for both streams is refused, however it is written', async () => {
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  await store.add([smallSpec('a_1', { stdout: '/tmp/out', stderr: '/tmp/x/../out' })]);
  await expect(store.importState(store.exportState())).rejects.toThrow(
    'jobs[0].spec.stderr: expected another file than stdout',
  );
  store.close();
});

test.each([[null], [[]], ['text'], [3]])('%j is no state', async (json) => {
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  await expect(store.importState(json)).rejects.toThrow('the state: expected an object');
  store.close();
});
