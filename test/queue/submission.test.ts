/** From a submit to jobs: what comes of each field, and what is said of each mistake. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import { type MachineName, machineName } from '../../src/lib/domain/machine.ts';
import type { QueueJobSpec } from '../../src/lib/domain/queue.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { KeptParts } from '../../src/lib/files/kept-parts.ts';
import { ScriptStore } from '../../src/lib/queue/script-store.ts';
import { prepareSubmit, type SubmissionOptions } from '../../src/lib/queue/submission.ts';
import { checkSpec } from '../../src/lib/stores/queue-spec-check.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { scratch } from '../remote/run-over.ts';
import { smallSpec } from '../stores/queue-jobs.ts';

const request = { ...smallSpec('x').request };
const machine = new VirtualResources({ cpuCores: 4, cpuCoresInUse: 0, memoryFreeMiB: 8000, gpus: [] });

let folder: Awaited<ReturnType<typeof scratch>>;
let options: SubmissionOptions;
let parts: KeptParts;
let scripts: ScriptStore;
let asked = 0;

beforeEach(async () => {
  folder = await scratch();
  parts = await KeptParts.open(join(folder.path, 'parts'));
  scripts = new ScriptStore(join(folder.path, 'scripts'));
  await mkdir(join(folder.path, 'home', 'project'), { recursive: true });
  asked = 0;
  const machineNames = ['gpu01', 'gpu02'].map(machineName);
  options = {
    home: join(folder.path, 'home'),
    machineNames,
    parts,
    cacheFolder: join(folder.path, 'hashes'),
    keepScript: (text) => scripts.keep(text),
    isKnown: (id) => id < 17,
    canEver: (wanted, only) => {
      asked += 1;
      const names = machineNames.filter((name) => only === undefined || name === only);
      const shortfalls = names.map((name) => ({ machine: name, shortfalls: machine.explainEver(wanted) }));
      return { fits: machine.canEverFit(wanted) && names.length > 0, shortfalls, unknown: [] };
    },
  };
});

afterEach(() => folder[Symbol.asyncDispose]());

const one = (more: object = {}) => ({ jobs: [{ command: 'echo hi' }], request, ...more });

async function specsOf(submit: unknown, more: Partial<SubmissionOptions> = {}): Promise<QueueJobSpec[]> {
  const specs = (await prepareSubmit(submit, { ...options, ...more })).specs(17);
  for (const spec of specs) checkSpec(JSON.parse(JSON.stringify(spec)), 'spec');
  return specs;
}

test('a command alone: nothing is sent, everything else has its default', async () => {
  const prepared = await prepareSubmit(one(), options);
  expect(prepared).toMatchObject({ count: 1, hold: false, warnings: [] });
  const home = join(folder.path, 'home');
  expect(prepared.specs(17)).toEqual([
    {
      ...smallSpec('job_17', { command: 'echo hi', request, cwd: home, results: join(home, 'job_results') }),
      copyBackwards: 'changed',
      submitted: 17,
    },
  ]);
});

test('every field finds its place, in a store too', async () => {
  const submit = one({
    machine: 'gpu02',
    name: 'train',
    env: { A: 'b', C: '' },
    cwd: '~/project',
    results: '../out',
    stdout: 'logs/%x-%j%%.log',
    stderr: '~/err-%j',
    copyForwards: [],
    copyBackwards: ['model.pt'],
    timeoutPercent: 300,
    killAfterMs: 5,
    retries: 2,
    retryOn: [{ type: 'oom' }, { type: 'exit', exitCode: 3 }],
    oomGrow: 1.5,
    maxOutputBytes: 1000,
    priority: -3,
    hold: true,
    dependsOn: [2, 3, 2],
    dependsOnAny: true,
    beginAt: 5,
  });
  const [spec] = await specsOf(submit);
  const home = join(folder.path, 'home');
  expect(spec).toEqual({
    ...{ name: 'train_17', command: 'echo hi', machine: 'gpu02', request, env: { A: 'b', C: '' } },
    ...{ cwd: `${home}/project`, results: `${home}/out`, stdout: `${home}/project/logs/train_17-17%.log` },
    ...{ stderr: `${home}/err-17`, copyForwards: [], shareForwards: [], copyBackwards: ['model.pt'] },
    ...{ treeParts: [], timeoutPercent: 300, submitted: 17, killAfterMs: 5, retries: 2, oomGrow: 1.5 },
    ...{ retryOn: [{ type: 'oom' }, { type: 'exit', exitCode: 3 }], maxOutputBytes: 1000, priority: -3 },
    ...{ dependsOn: [2, 3], dependsOnAny: true, beginAt: 5, waitForMachine: false },
  });
  expect((await prepareSubmit(submit, options)).hold).toBe(true);
  const store = await QueueStore.open(join(folder.path, 'parts'));
  const prepared = await prepareSubmit({ ...submit, dependsOn: undefined, dependsOnAny: false }, options);
  const [id = 0] = await store.add(prepared.specs(store.nextId), { hold: prepared.hold });
  expect(store.get(id)?.spec).toEqual(prepared.specs(1)[0]);
  store.close();
});

test('an array: each job its index, in its environment and its files', async () => {
  const submit = one({ array: { first: 2, last: 9, step: 3, atOnce: 2 }, env: { A: 'b' }, stdout: 'o-%a' });
  const specs = await specsOf(submit);
  expect(specs.map(({ array }) => array)).toEqual(
    [2, 5, 8].map((index) => ({ first: 17, index, atOnce: 2 })),
  );
  expect(specs.map(({ env }) => env)).toEqual(
    ['2', '5', '8'].map((index) => ({ A: 'b', JOB_ARRAY_INDEX: index, JOB_ARRAY_ID: '17' })),
  );
  expect(specs.map(({ name, stdout = '' }) => [name, stdout.split('/').at(-1)])).toEqual([
    ['job_17', 'o-2'],
    ['job_18', 'o-5'],
    ['job_19', 'o-8'],
  ]);
});

test('a script: its text is kept, its words are the command; here it sends nothing', async () => {
  const script = { name: 'run me.sh', text: '#!/bin/sh\n', args: ['a', 'b c', ''] };
  const [spec] = await specsOf({ script, request });
  expect(spec?.command).toBe(`'run me.sh' a 'b c' ''`);
  expect(await scripts.text(spec?.script?.id ?? '')).toBe(script.text);
  expect(spec?.script).toMatchObject({ name: script.name, args: script.args });
  await writeFile(join(folder.path, 'home', 'project', 'data'), 'x');
  const here = { script, request: DEFAULT_REQUEST, runHere: true, machine: 'all', cwd: '~/project' };
  expect(await specsOf(here)).toMatchObject([
    { runHere: true, machine: 'gpu01', treeParts: [], copyForwards: [], copyBackwards: [] },
    { runHere: true, machine: 'gpu02', treeParts: [], copyForwards: [], copyBackwards: [] },
  ]);
});

test('machines: all of them, or one that has to be there unless it may come later', async () => {
  const commands = { jobs: [{ command: 'a' }, { command: 'b' }], request, machine: 'all' };
  expect((await specsOf(commands)).map(({ command, machine: on }) => `${command} ${on}`)).toEqual([
    ...['a gpu01', 'a gpu02', 'b gpu01', 'b gpu02'],
  ]);
  await expect(specsOf(one({ machine: 'gpu1' }))).rejects.toThrow(
    '--machine: there is no machine gpu1 (did you mean gpu01?)',
  );
  const later = await prepareSubmit(one({ machine: 'gpu1', waitForMachine: true }), options);
  expect(later.warnings).toEqual([
    'there is no machine gpu1 yet (did you mean gpu01?): the job waits for it',
  ]);
  await expect(specsOf(one({ machine: 'all' }), { machineNames: [] })).rejects.toThrow(
    'there are no machines',
  );
});

test('source trees are kept once for all jobs that name the same, machine files not, and later edits do not matter', async () => {
  const project = join(folder.path, 'home', 'project');
  await writeFile(join(project, 'a.txt'), 'first');
  await writeFile(join(project, 'b.txt'), 'b');
  await writeFile(join(project, 'lab.yaml'), 'host: x');
  const source = { type: 'file' as const, path: join(project, 'lab.yaml'), line: 1 };
  const prepared = await prepareSubmit(
    {
      jobs: [
        { command: 'x' },
        { command: 'y' },
        { command: 'z', copyForwards: ['b.txt'] },
        { command: 'n', copyForwards: [] },
      ],
      request,
      cwd: project,
    },
    { ...options, machines: [{ config: { source } }] },
  );
  await writeFile(join(project, 'a.txt'), 'later');
  expect(prepared.warnings).toEqual([expect.stringContaining('lab.yaml (machine file)')]);
  const [x, y, z, n] = prepared.specs(1);
  expect(x?.treeParts).toBe(y?.treeParts);
  expect([z?.copyForwards, z?.treeParts.length, n?.treeParts]).toEqual([['b.txt'], 1, []]);
  const tree = await parts.tree(x?.treeParts ?? []);
  expect(tree.parts[0]?.entries.map(({ path }) => path)).toEqual(['a.txt', 'b.txt']);
  expect(tree.parts[0]?.entries[0]?.size).toBe('first'.length);
  await expect(specsOf(one({ cwd: project, copyForwards: ['no-such-file'] }))).rejects.toThrow(
    'no-such-file',
  );
});

test('what no machine here can ever hold is refused with what is short, unless it may wait', async () => {
  const large = { ...request, memoryMiB: 9000 };
  await expect(specsOf(one({ request: large }))).rejects.toThrow(
    'the job can never run on any of these machines:\n' +
      '  gpu01: 8000 MiB of memory is free, 9000 MiB was requested\n' +
      '  gpu02: 8000 MiB of memory is free, 9000 MiB was requested\n' +
      'hint: --wait-for-machine',
  );
  expect(await specsOf(one({ request: large, waitForMachine: true }))).toHaveLength(1);
  await expect(specsOf(one({ request: DEFAULT_REQUEST }))).rejects.toThrow('--no-gpu-required');
  const mixed = {
    jobs: [{ command: 'a' }, { command: 'b', request: large }, { command: 'c', request: { ...large } }],
    request,
  };
  await expect(specsOf(mixed)).rejects.toThrow('2 jobs of 3, job 2 first, can never run');
  await expect(specsOf(one({ request: large, machine: 'gpu02' }))).rejects.toThrow(
    'never run on gpu02:\n  gpu02: 8000',
  );
  await expect(
    specsOf(one(), { canEver: () => ({ fits: false, shortfalls: [], unknown: [] }) }),
  ).rejects.toThrow('there is no machine to run it');
  // Of one that was not reached yet nobody knows.
  const canEver = () => ({ fits: false, shortfalls: [], unknown: ['gpu03' as MachineName] });
  expect(await specsOf(one({ request: large }), { canEver })).toHaveLength(1);
});

test('many jobs share what they have alike, and each different request is asked about once', async () => {
  const jobs = Array.from({ length: 20_000 }, (_, n) => ({
    command: `echo ${n}`,
    ...(n % 2 === 0 ? {} : { request: { ...request, memoryMiB: 2 } }),
  }));
  const specs = await specsOf(JSON.parse(JSON.stringify({ jobs, request })));
  expect(asked).toBe(2);
  expect(new Set(specs.map((spec) => spec.request)).size).toBe(2);
  expect(new Set(specs.map(({ env }) => env)).size).toBe(1);
  expect(specs.at(-1)).toMatchObject({ name: 'job_20016', command: 'echo 19999', request: { memoryMiB: 2 } });
});

const MISTAKES: readonly (readonly [
  what: string,
  submit: object | string | null,
  message: string | RegExp,
])[] = [
  ['no object', null, 'a submit: expected an object, found null'],
  ['no command', { request }, 'expected either --command, --command-file or a SCRIPT'],
  ['both', one({ script: { name: 'a', text: 'b', args: [] } }), 'expected either --command'],
  ['an empty list', { jobs: [], request }, '--command, --command-file: there is no command in it'],
  ['an empty command', { jobs: [{ command: ' ' }], request }, 'the command: expected text that is not empty'],
  ['the second', { jobs: [{ command: 'a' }, {}], request }, 'job 2 of 2: a job: the command is missing'],
  ['a NUL', { jobs: [{ command: 'a\0' }], request }, 'the command: contains a NUL byte'],
  ['no request', { jobs: [{ command: 'a' }] }, 'a submit: the request is missing'],
  [
    'memory',
    one({ request: { ...request, memoryMiB: '1G' } }),
    '--memory-required: expected a number from 0',
  ],
  [
    'GPUs',
    one({ request: { ...request, gpus: 1.5 } }),
    '--num-gpus: expected a whole number from 0 to 1024, found 1.5',
  ],
  ['half a request', one({ request: { gpus: 1 } }), 'the request: --memory-required is missing'],
  ['an unknown field', one({ prioritty: 3 }), "a submit has no field 'prioritty' (did you mean priority?)"],
  ['__proto__', JSON.parse('{"jobs":[{"command":"a"}],"__proto__":1}'), "a submit has no field '__proto__'"],
  ['a name', one({ name: '../x' }), "--name: the job name '../x' contains a slash"],
  ['a long name', one({ name: 'x'.repeat(190) }), '--name: found a name of 190 bytes'],
  ['an env name', one({ env: { 'A-B': '1' } }), "--env: found the name 'A-B', expected letters"],
  ['an env value', one({ env: { A: 1 } }), '--env.A: expected text, found 1'],
  ['an env NUL', one({ env: { A: '\0' } }), '--env.A: contains a NUL'],
  ['our env', one({ env: { JOB_ARRAY_ID: '1' } }), '--env: JOB_ARRAY_ID cannot be set'],
  ['a huge env', one({ env: { A: 'x'.repeat(131_072) } }), '--env: A takes 131075 bytes'],
  ['cwd', one({ cwd: 'here' }), '--cwd: found here, expected an absolute path'],
  ['no cwd', one({ cwd: '/no/such/folder' }), '--cwd: /no/such/folder is no folder'],
  ['a time', one({ timeoutMs: 0 }), '--timeout: expected a number above 0'],
  ['both times', one({ timeoutMs: 1, timeoutPercent: 1 }), '--timeout: found a time and a percentage'],
  ['retries', one({ retries: -1 }), '--retries: expected a whole number from 0 to 9999, found -1'],
  ['retry-on', one({ retryOn: [{ type: 'oom' }] }), '--retry-on says nothing without --retries'],
  ['retry-on what', one({ retries: 1, retryOn: [{ type: 'x' }] }), '--retry-on[0].type: expected one of oom'],
  [
    'retry-on 0',
    one({ retries: 1, retryOn: [{ type: 'exit', exitCode: 0 }] }),
    'exitCode: expected a whole number from 1',
  ],
  ['oom-grow', one({ retries: 1, oomGrow: 17 }), '--oom-grow: expected a number above 1, at most 16'],
  ['priority', one({ priority: 1.5 }), '--priority: expected a whole number, found 1.5'],
  ['begin', one({ beginAt: -1 }), '--begin: expected a whole number from 0'],
  ['an unknown job', one({ dependsOn: [3, 99] }), '--depends-on: job 99 is not known'],
  ['any of none', one({ dependsOnAny: true }), '--depends-on-any says nothing without'],
  [
    'indexes',
    one({ array: { first: 5, last: 2, step: 1 } }),
    '--array: found 5-2, expected the lower index first',
  ],
  [
    'a step',
    one({ array: { first: 1, last: 2, step: 0 } }),
    '--array.step: expected a whole number of at least 1',
  ],
  ['a huge array', one({ array: { first: 0, last: 1e6, step: 1 } }), '1000001 jobs in one submit'],
  [
    'array and jobs',
    { jobs: [{ command: 'a' }, { command: 'b' }], request, array: { first: 1, last: 2, step: 1 } },
    '--array: not together',
  ],
  [
    'array on all',
    one({ machine: 'all', array: { first: 1, last: 2, step: 1 } }),
    '--array: not together with --machine all',
  ],
  [
    'one file',
    one({ stdout: 'o', array: { first: 1, last: 2, step: 1 } }),
    '--stdout: all 2 jobs would write to',
  ],
  ['one file for both', one({ stdout: 'o', stderr: './o' }), '--stderr: found'],
  ['a pattern', one({ stdout: 'o-%k' }), '--stdout: found %k, expected %j'],
  ['%a alone', one({ stdout: 'o-%a' }), '--stdout: %a says nothing without --array'],
  ['a folder', one({ stdout: 'out/' }), 'expected a file'],
  ['here', one({ runHere: true }), '--run-here: expected a SCRIPT'],
  [
    'here to a file',
    { script: { name: 'a', text: 'b', args: [] }, runHere: true, stdout: 'x', request },
    '--stdout: not together with --run-here',
  ],
  [
    'a script in a folder',
    { script: { name: 'a/b', text: 'b', args: [] }, request },
    "the script's name 'a/b'",
  ],
];

test('each mistake is told', async () => {
  for (const [what, submit, message] of MISTAKES)
    await expect(prepareSubmit(submit, options), what).rejects.toThrow(message);
});
