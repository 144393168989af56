import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { MachineList } from '../../src/lib/queue/machine-list.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'machine-list-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const lab = {
  name: machineName('lab1'),
  from: '/home/ann/lab.yaml',
  env: { DATA: '/data' },
  maxJobs: 0,
  isLeaving: true,
};
const local = { name: machineName('local'), from: 'local' };
const gpu = { name: machineName('ann@gpu:2222'), from: 'ann@gpu:2222', skipCheck: true };

const opened = () => MachineList.open(folder).machines;
const write = (machines: unknown) =>
  writeFile(
    join(folder, 'machines.json'),
    typeof machines === 'string' ? machines : JSON.stringify({ machines }),
  );

test('a list is kept in its order, for nobody else to read, and read again', async () => {
  const list = MachineList.open(folder);
  expect(list.machines).toEqual([]);
  list.set([lab, local]);
  list.set([gpu, { ...local, maxJobs: 3 }]);
  expect(opened()).toEqual([lab, { ...local, maxJobs: 3 }, gpu]);
  list.delete('lab1');
  expect(opened()).toEqual([{ ...local, maxJobs: 3 }, gpu]);
  expect(list.get('local')?.maxJobs).toBe(3);
  expect(await readdir(folder)).toEqual(['machines.json']);
  expect((await stat(join(folder, 'machines.json'))).mode & 0o777).toBe(0o600);
  // What a service that died half way through a change left behind does no harm.
  await writeFile(join(folder, 'machines.json.partial'), '{"machines": [');
  expect(opened()).toEqual([{ ...local, maxJobs: 3 }, gpu]);
});

test('a change that cannot be written changes nothing', async () => {
  const list = MachineList.open(folder);
  list.set([local]);
  await rm(folder, { recursive: true });
  expect(() => list.set([gpu])).toThrow('ENOENT');
  expect(list.machines).toEqual([local]);
});

test.each<[string, unknown]>([
  ['machines: expected a list', {}],
  ['machines[0].from: is missing', [{ name: 'a' }]],
  ['machines[0].password: there is no such field', [{ ...local, password: 'x' }]],
  ['machines[1].name: expected each name once, found "local"', [local, local]],
  ['machines[0].maxJobs: expected a whole number of at least 0, found -1', [{ ...local, maxJobs: -1 }]],
  ['machines[0].env.A-B: expected a name of letters, digits and _', [{ ...local, env: { 'A-B': '1' } }]],
  ['machines[0].env.A: expected text, found 1', [{ ...local, env: { A: 1 } }]],
  ['machines[0].from: expected an absolute path of a machine file', [{ name: 'a', from: 'lab/one.yaml' }]],
  ['machines[0].name: expected the destination "ann@gpu" itself', [{ name: 'gpu', from: 'ann@gpu' }]],
  ['machines[0].name: expected another name than all or any', [{ ...lab, name: 'all' }]],
  ['machines[0].name: expected a name that is no number', [{ ...lab, name: '12' }]],
  ['machines[0]: expected an object', ['local']],
])('a mistake is told with its place: %s', async (message, machines) => {
  await write(machines);
  expect(opened).toThrow(UsageError);
  expect(opened).toThrow(`${join(folder, 'machines.json')}: ${message}`);
});

test('a file that is no JSON is refused, and what it holds is not told', async () => {
  await write('{"machines": [{"name": "a", "env": {"TOKEN": "secret",}}]}');
  expect(opened).toThrow(/machines\.json: found no JSON.*, expected the list of machines/);
  expect(opened).not.toThrow('secret');
  await write('');
  expect(opened).toThrow('found no JSON');
  expect(await readFile(join(folder, 'machines.json'), 'utf8')).toBe('');
});
