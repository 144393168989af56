import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { makeKey } from '../rig/test-host.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';
import { MachinesRig } from './machines-rig.ts';

const GPU = { name: 'Test GPU', memoryTotalMiB: 8000 };
const LONG = 120_000;
const request = smallJob('', '').request;

/** Writes the machine file of a host below the rig's folder. */
async function fileOf(hosts: TestHosts, host: string, extra = '', name = host): Promise<string> {
  const path = join(hosts.folder, `${name}.yaml`);
  await writeFile(path, hosts.get(host).machineFile(`name: ${name}\nhost_key_checking: no\n${extra}`));
  return path;
}

const listOn = async ({ folder }: MachinesRig) =>
  JSON.parse(await readFile(join(folder, 'machines.json'), 'utf8')) as { machines: unknown[] };

test(
  'without machines it serves local; limits are kept, and told old and new',
  async () => {
    await using rig = await MachinesRig.open();
    const { machines } = rig;
    expect(await machines.start([])).toEqual([]);
    expect(await listOn(rig)).toEqual({ machines: [{ name: 'local', from: 'local', isDefault: true }] });
    const row = await rig.state('local', 'ready');
    expect(row).toMatchObject({ running: [], runningHere: [], maxJobs: null, waiting: [] });
    expect(row.capacity?.memoryMiB).toBeGreaterThan(0);
    expect(row.free?.cpuCores).toBe(row.capacity?.cpuCores);
    expect(rig.joined).toEqual(['local']);

    for (const maxJobs of [-1, 1.5, Number.NaN])
      expect(() => machines.configure({ machine: 'local', maxJobs })).toThrow(
        /--max-jobs-running: found .*, expected a whole number of at least 0/,
      );
    expect(() => machines.configure({ machine: 'lokal', maxJobs: 1 })).toThrow('did you mean local?');
    expect(machines.configure({ machine: 'all', maxJobs: 1 })).toEqual([
      { machine: 'local', oldMaxJobs: null, newMaxJobs: 1 },
    ]);
    const first = rig.start(1, 'sleep 0.2');
    expect(first?.machine).toBe('local');
    expect(rig.start(2, 'true')).toBeUndefined();
    expect(machines.configure({ machine: 'local', maxJobs: 0 })).toEqual([
      { machine: 'local', oldMaxJobs: 1, newMaxJobs: 0 },
    ]);
    expect(await first?.ended).toMatchObject({ type: 'exited', exitCode: 0 });
    expect(rig.row('local')).toMatchObject({ state: 'draining', maxJobs: 0 });
    expect(machines.isOpen('local')).toBe(false);
    // What it could hold is not less for being drained.
    expect(machines.canEver(request)).toEqual({ fits: true, shortfalls: [], unknown: [] });
    await rig.stop();

    await using again = await MachinesRig.open({ folder: rig.folder });
    await again.machines.start([]);
    await again.state('local', 'draining');
    expect(again.start(3, 'true')).toBeUndefined();
    again.machines.configure({ machine: 'local', maxJobs: 2 });
    expect(again.row('local')?.state).toBe('ready');
    expect(await again.start(3, 'true')?.ended).toMatchObject({ exitCode: 0 });
  },
  LONG,
);

test(
  'names that are no machines are refused, and nothing changes',
  async () => {
    await using rig = await MachinesRig.open();
    await rig.machines.start([]);
    const refused = async (request: unknown, message: string | RegExp) =>
      await expect(rig.machines.add(request as { names: string[] })).rejects.toThrow(message);
    await refused({ names: [] }, 'found no machine');
    await refused({ names: ['no/such.yaml'], cwd: rig.folder }, `found no file ${rig.folder}/no/such.yaml`);
    await refused({ names: ['all'], skipCheck: true }, 'found a machine named "all", expected another name');
    await refused({ names: ['local'], env: { '1A': '' } }, 'env.1A: expected a name of letters');
    await refused({ names: ['local'], password: 'x' }, 'password: there is no such field');
    await writeFile(join(rig.folder, 'bad.yaml'), 'username: ann\nprot: 22\n');
    await refused({ names: ['bad.yaml'], cwd: rig.folder }, 'bad.yaml:2:1');
    await expect(rig.machines.remove({ name: 'lab', how: 'kill' })).rejects.toThrow('found no machine "lab"');
    expect(rig.machines.names()).toEqual(['local']);
    await expect(rig.machines.start(['also/none.yaml'], rig.folder)).rejects.toThrow('found no file');
    expect(await listOn(rig)).toEqual({ machines: [{ name: 'local', from: 'local', isDefault: true }] });
  },
  LONG,
);

test('a damaged list stops the start and says where', async () => {
  await using rig = await MachinesRig.open();
  await writeFile(join(rig.folder, 'machines.json'), '{"machines": [{"name": "a", "from": "b/c"}]}');
  await expect(MachinesRig.open({ folder: rig.folder })).rejects.toThrow('machines[0].from: expected');
});

test(
  'a machine is added with its variables, used, and removed: refused while busy, waited for, or its jobs ended',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    await using rig = await MachinesRig.open();
    const { machines } = rig;
    const path = await fileOf(hosts, 'lab', 'password: hunter2\nenv: { A: file, B: file }\n');
    const told: string[] = [];
    const added = await machines.add({ names: ['lab.yaml'], env: { B: 'list' }, cwd: hosts.folder }, (line) =>
      told.push(line),
    );
    expect(added).toMatchObject({ added: ['lab'], updated: [] });
    expect(told).toEqual([expect.stringMatching(/^lab: .* cores, \d+ MiB, no GPU$/)]);
    // The file stays where it is; no password is written anywhere else.
    expect(await listOn(rig)).toEqual({ machines: [{ name: 'lab', from: path, env: { B: 'list' } }] });
    expect(machines.entryOf('lab')).toMatchObject({ config: { env: { A: 'file', B: 'list' }, name: 'lab' } });
    await rig.state('lab', 'ready');

    const say = 'echo $A $B';
    const output = async (id: number) => await readFile(join(rig.folder, 'results', `job_${id}.out`), 'utf8');
    await rig.start(1, say)?.ended;
    expect(await output(1)).toBe('file list\n');
    const updated = await machines.add({ names: [path], env: { A: 'now' } });
    expect(updated).toMatchObject({ added: [], updated: ['lab'], warnings: [expect.any(String)] });
    await rig.start(2, say)?.ended;
    expect(await output(2)).toBe('now file\n');

    const busy = rig.start(3, 'sleep 1000');
    await rig.event('job:started', ({ job }) => job === '3');
    rig.here.set('lab', [9]);
    await expect(machines.remove({ name: 'lab', how: 'refuse' })).rejects.toThrow(
      'lab runs jobs 3, 9: --wait',
    );
    rig.here.delete('lab');
    expect(machines.isOpen('lab')).toBe(true);

    const stop = new AbortController();
    const waiting = machines.remove({ name: 'lab', how: 'wait' }, stop.signal);
    expect(rig.row('lab')).toMatchObject({ state: 'leaving', running: [3] });
    expect(rig.start(4, 'true')).toBeUndefined();
    expect(await listOn(rig)).toMatchObject({ machines: [{ isLeaving: true }] });
    stop.abort(new Error('the client went'));
    await expect(waiting).rejects.toThrow('the client went');
    expect(rig.row('lab')?.state).toBe('leaving');

    // Added again, it stays.
    await machines.add({ names: [path] });
    expect(rig.row('lab')?.state).toBe('ready');
    rig.waiting.set('lab', [5, 6]);
    expect(await machines.remove({ name: 'lab', how: 'kill' })).toEqual({ waiting: 2 });
    expect(await busy?.ended).toMatchObject({ type: 'cancelled' });
    expect(machines.rows()).toEqual([]);
    expect(rig.pool.machines).toEqual([]);
    expect(await listOn(rig)).toEqual({ machines: [] });
  },
  LONG,
);

test(
  'a machine that was to leave leaves after a restart, when its last job has ended',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    await using before = await MachinesRig.open();
    await before.machines.add({ names: [await fileOf(hosts, 'lab')] });
    await before.state('lab', 'ready');
    before.here.set('lab', [7]);
    const going = before.machines.remove({ name: 'lab', how: 'wait' });
    const ended = expect(going).rejects.toThrow('at its next start it goes on');
    await before.stop();
    await ended;

    await using rig = await MachinesRig.open({ folder: before.folder });
    rig.here.set('lab', [7]);
    await rig.machines.start([]);
    await until(() => rig.joined.includes('lab'), { deadlineMs: 30_000 });
    expect(rig.row('lab')).toMatchObject({ state: 'leaving', runningHere: [7] });
    expect(rig.machines.canEver(request)).toEqual({ fits: false, shortfalls: [], unknown: [] });
    rig.here.delete('lab');
    await until(() => rig.machines.names().length === 0, { deadlineMs: 30_000 });
    expect(rig.pool.machines).toEqual([]);
  },
  LONG,
);

test(
  'a machine that cannot be reached is refused, or tried until it can; what is refused for good is told',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    await using rig = await MachinesRig.open();
    const { machines } = rig;
    const lab = hosts.get('lab');
    await makeKey(join(hosts.folder, 'wrong_key'), 'a key that the host does not know');
    const path = await fileOf(hosts, 'lab');
    const text = lab
      .machineFile('name: wrong\nhost_key_checking: no')
      .replace(lab.keyPath, join(hosts.folder, 'wrong_key'));
    const wrong = join(hosts.folder, 'wrong.yaml');
    await writeFile(wrong, text);
    await lab.refuse();
    await expect(machines.add({ names: [path] })).rejects.toThrow(
      /nothing was added, the machine cannot be used:\n {2}lab: .+\nhint: .*--skip-ssh-auth-check/,
    );
    expect(machines.names()).toEqual([]);

    expect(await machines.add({ names: [path], skipCheck: true })).toMatchObject({ added: ['lab'] });
    expect(machines.isOpen('lab')).toBe(true);
    await rig.event('machine:unreachable', ({ isTriedAgain }) => isTriedAgain);
    expect(rig.row('lab')).toMatchObject({ state: 'connecting', reason: expect.any(String) });
    expect(rig.row('lab')?.capacity).toBeUndefined();
    expect(machines.canEver(request)).toEqual({ fits: false, shortfalls: [], unknown: ['lab'] });
    // An earlier service gave it a job: nobody else can tell what became of that.
    const job = { ...smallJob('job_1', 'true'), id: jobId('1') };
    const awaited = rig.pool.awaitMachine(job, { job: job.id, number: 1 }, machineName('lab'));
    await expect(machines.remove({ name: 'lab', how: 'refuse' })).rejects.toThrow('lab runs job 1');
    expect(await machines.remove({ name: 'lab', how: 'kill' })).toEqual({ waiting: 0 });
    expect(await awaited.ended).toMatchObject({ type: 'lost' });
    expect(machines.names()).toEqual([]);

    await machines.add({ names: [path], skipCheck: true });
    await lab.restartSshd();
    await rig.state('lab', 'ready');
    expect(rig.row('lab')?.reason).toBeUndefined();
    // Another name for a machine that is there: its resources would be given out twice.
    const twin = await fileOf(hosts, 'lab', '', 'twin');
    await expect(machines.add({ names: [twin] })).rejects.toThrow('twin: it is the same machine as lab');
    await machines.add({ names: [twin], skipCheck: true });
    expect(await rig.state('twin', 'unusable')).toMatchObject({ reason: 'it is the same machine as lab' });
    // The way to a machine in use stays.
    await mkdir(join(hosts.folder, 'other'));
    await writeFile(join(hosts.folder, 'other', 'lab.yaml'), text.replace('name: wrong', 'name: lab'));
    await expect(machines.add({ names: [join(hosts.folder, 'other', 'lab.yaml')] })).rejects.toThrow(
      `it is in use as the one in ${path}`,
    );
    await machines.remove({ name: 'twin', how: 'refuse' });

    await expect(machines.add({ names: [wrong] })).rejects.toThrow(/ {2}wrong: /);
    await machines.add({ names: [wrong], skipCheck: true });
    await rig.state('wrong', 'unusable');
    // Repaired and added again, it is looked at again: now it is the machine that is there.
    await writeFile(wrong, lab.machineFile('name: wrong\nhost_key_checking: no'));
    await expect(machines.add({ names: [wrong] })).rejects.toThrow('the same machine as lab');
  },
  LONG,
);

test(
  'a machine whose file went or has a mistake is told of, and all others are used',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    await using before = await MachinesRig.open();
    const path = await fileOf(hosts, 'lab');
    await before.machines.add({ names: [path] });
    const gone = join(hosts.folder, 'gone.yaml');
    await writeFile(gone, 'name: gone\nusername: ann\nip: 127.0.0.1\n');
    await before.machines.add({ names: [gone], skipCheck: true });
    await before.stop();
    await writeFile(gone, 'usrname: ann\n');

    await using rig = await MachinesRig.open({ folder: before.folder });
    expect(await rig.machines.start([])).toEqual([expect.stringContaining(`${gone}:1:1`)]);
    expect(rig.row('gone')).toMatchObject({ state: 'unusable', reason: expect.stringContaining(gone) });
    expect(rig.machines.entryOf('gone')).toBeUndefined();
    await rig.state('lab', 'ready');
    expect(rig.machines.entries().map(({ config }) => config.name)).toEqual(['lab']);
    await rig.machines.remove({ name: 'gone', how: 'refuse' });
    expect(rig.machines.names()).toEqual(['lab']);
  },
  LONG,
);

test(
  'a machine that is away keeps its jobs, and those are given up when it is removed with --kill',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    await using rig = await MachinesRig.open({}, { ssh: { keepaliveIntervalMs: 500 } });
    await rig.machines.add({ names: [await fileOf(hosts, 'lab')] });
    await rig.state('lab', 'ready');
    const running = rig.start(1, 'echo $$ > ~/job-pid; exec sleep 1000');
    await rig.event('job:started');
    const lab = hosts.get('lab');
    await lab.cut();
    expect(await rig.state('lab', 'away')).toMatchObject({ running: [1], reason: expect.any(String) });
    await expect(rig.machines.remove({ name: 'lab', how: 'refuse' })).rejects.toThrow('lab runs job 1');
    await rig.machines.remove({ name: 'lab', how: 'kill' });
    expect(await running?.ended).toMatchObject({ type: 'lost' });
    expect(rig.machines.names()).toEqual([]);
    await lab.heal();
    await until(async () => (await lab.exec('kill -9 $(cat ~/job-pid)')).exitCode === 0);
  },
  LONG,
);

test(
  'figures are measured again while jobs wait, and before jobs are placed by old ones',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab', gpus: [GPU, GPU] }]);
    const lab = hosts.get('lab');
    let nowMs = 0;
    let isWaiting = false;
    await using rig = await MachinesRig.open({
      now: () => nowMs,
      isWaiting: () => isWaiting,
      measureEveryMs: 100,
    });
    await rig.machines.add({ names: [await fileOf(hosts, 'lab', 'gpus: [0]')] });
    const row = await rig.state('lab', 'ready');
    expect(row.capacity?.gpus).toEqual([{ index: 0, name: 'Test GPU', memoryMiB: 8000 }]);
    const freeMiB = () => rig.row('lab')?.free?.gpus.map(({ memoryFreeMiB }) => memoryFreeMiB);
    expect(freeMiB()).toEqual([8000]);
    const needs = (gpuMemoryMiB: number) => ({ request: { ...request, gpus: 1, gpuMemoryMiB } });

    // Somebody else takes most of the GPU. The figures are fresh enough to be placed by.
    await lab.setGpus([{ ...GPU, usedMiB: 6000 }, GPU]);
    nowMs += 29_000;
    rig.machines.noteWaiting();
    expect(rig.start(1, 'true', needs(4000))?.machine).toBe('lab');
    await until(() => rig.row('lab')?.running.length === 0, { deadlineMs: 30_000 });
    // They are not any more: nothing is placed until the machine was asked.
    nowMs += 2_000;
    rig.machines.noteWaiting();
    expect(rig.start(2, 'true', needs(100))).toBeUndefined();
    await until(() => freeMiB()?.[0] === 2000, { deadlineMs: 30_000, describe: freeMiB });
    expect(rig.start(3, 'true', needs(4000))).toBeUndefined();
    const placed = await until(() => rig.start(4, 'sleep 1000', needs(1500)), { deadlineMs: 30_000 });
    expect(placed.machine).toBe('lab');
    expect(rig.row('lab')?.free?.gpus[0]?.memoryFreeMiB).toBe(500);
    // What others hold now is no reason to say that it could never be.
    expect(rig.machines.canEver(needs(8000).request)).toMatchObject({ fits: true });
    const more = rig.machines.canEver(needs(8001).request, 'lab');
    expect(more).toMatchObject({ fits: false, unknown: [] });
    expect(more.shortfalls[0]?.shortfalls[0]?.message).toBe('GPU 0 has 8000 MiB, 8001 MiB was requested');

    // While jobs wait, no job has to come.
    await lab.setGpus([{ ...GPU, usedMiB: 1000 }, GPU]);
    nowMs += 95;
    isWaiting = true;
    await until(() => freeMiB()?.[0] === 5500, { deadlineMs: 30_000, describe: freeMiB });
    await lab.setGpus([{ ...GPU, memoryTotalMiB: 16_000 }]);
    nowMs += 100;
    const told = await rig.event('machine:warned', ({ message }) => message.includes('GPUs'));
    expect(told.message).toBe(
      'its GPUs have changed: now 0 (Test GPU, 16000 MiB); before 0 (Test GPU, 8000 MiB), 1 (Test GPU, 8000 MiB)',
    );
    expect(rig.machines.canEver(needs(16_000).request)).toMatchObject({ fits: true });
    placed.cancel('over');
    await placed.ended;
  },
  LONG,
);

test(
  'a machine that does not answer is used by what it said before, which is told once',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    let nowMs = 0;
    await using rig = await MachinesRig.open({ now: () => nowMs, limitMs: 1, measureEveryMs: 100 });
    await rig.machines.add({ names: [await fileOf(hosts, 'lab')] });
    await rig.state('lab', 'ready');
    const failures = () => rig.events.filter((event) => event.type === 'machine:warned').length;
    for (const id of [1, 2]) {
      nowMs += 60_000;
      rig.machines.noteWaiting();
      expect(rig.start(id, 'true')).toBeUndefined();
      const running = await until(() => rig.start(id, 'true'), { deadlineMs: 30_000 });
      expect(await running.ended).toMatchObject({ exitCode: 0 });
      // The failed try counts: what comes now need not wait again.
      rig.machines.noteWaiting();
      expect(await rig.start(id + 10, 'true')?.ended).toMatchObject({ exitCode: 0 });
      expect(failures()).toBe(1);
    }
    expect((await rig.event('machine:warned')).message).toMatch(
      /^not measured again, what it said before counts: /,
    );
  },
  LONG,
);

test(
  'a machine in quarantine says why, and gets jobs again once somebody has looked at it',
  async () => {
    await using hosts = await TestHosts.start([{ name: 'lab' }]);
    await using rig = await MachinesRig.open();
    await rig.machines.add({ names: [await fileOf(hosts, 'lab')] });
    await rig.state('lab', 'ready');
    // The last machine that can be used is never put into quarantine: there has to be another.
    await using local = await MachinesRig.open();
    await local.machines.start([]);
    await local.state('local', 'ready');
    const [other] = local.pool.machines;
    if (other === undefined) throw new Error('no machine');
    rig.pool.join(other);
    const full = 'echo "mktemp: No space left on device" >&2; exit 1';
    for (const id of [1, 2, 3]) await rig.start(id, full, { only: machineName('lab') })?.ended;
    const row = await rig.state('lab', 'quarantined');
    expect(row.reason).toMatch(/no space/i);
    expect(rig.start(4, 'true')).toBeUndefined();
    rig.machines.configure({ machine: 'lab', maxJobs: 5 });
    expect(rig.row('lab')?.state).toBe('ready');
    expect(await rig.start(5, 'true')?.ended).toMatchObject({ exitCode: 0 });
    // To add it again does the same.
    for (const id of [6, 7, 8]) await rig.start(id, full, { only: machineName('lab') })?.ended;
    await rig.state('lab', 'quarantined');
    await rig.machines.add({ names: [join(hosts.folder, 'lab.yaml')] });
    expect(rig.row('lab')).toMatchObject({ state: 'ready', maxJobs: 5 });
  },
  LONG,
);

test(
  'a list from elsewhere takes the place of this one',
  async () => {
    await using rig = await MachinesRig.open();
    await rig.machines.start([]);
    await rig.state('local', 'ready');
    expect(() => rig.machines.check([{ name: 'x' }])).toThrow('machines[0].from: is missing');
    const list = [{ name: machineName('worker'), from: 'worker', maxJobs: 1 }];
    expect(rig.machines.check(list)).toBe(1);
    await rig.machines.import(list);
    await until(() => rig.machines.names().join() === 'worker', { deadlineMs: 30_000 });
    expect(rig.machines.listed()).toEqual(list);
    expect(rig.pool.machines).toEqual([]);
  },
  LONG,
);
