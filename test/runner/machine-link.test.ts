/** What a connection that goes and comes back means for running jobs, on real ssh servers. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { entry } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { LocalRunner, type LocalRunnerOptions, smallJob } from './local-runner.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'far', bashrc: 'export FROM_BASHRC="of far"\necho noise from a start file\n' },
    { name: 'narrow', sshd: ['MaxSessions 4'] },
    { name: 'little', ...((await limitedDisk()) && { diskMiB: 8 }) },
  ]);
});
afterAll(() => hosts.close());

/** Whether hosts can have small disks here: as root, in namespaces. */
async function limitedDisk(): Promise<boolean> {
  await using probe = await TestHosts.start([]);
  return probe.capabilities.limitedDisk;
}

/** A runner on a test host that notices a cut connection within half a second. */
function open(name: string, more: LocalRunnerOptions = {}): Promise<LocalRunner> {
  const ssh = {
    configFile: hosts.sshConfigPath,
    env: { ...process.env, SSH_AUTH_SOCK: '' },
    keepaliveIntervalMs: 150,
    keepaliveCountMax: 2,
    connectTimeoutMs: 1500,
  };
  return LocalRunner.open({ connect: () => connectSsh(entry(name), ssh), loginEnvironment: true, ...more });
}

test('runs jobs with the environment of a login, whatever its start files print', async () => {
  await using far = await open('far');
  const job = smallJob('env', 'echo "$FROM_BASHRC|$JOB_NAME|$HOME"; readlink /proc/self/fd/0');
  expect(await far.run(job)).toEqual({ type: 'exited', exitCode: 0 });
  expect(await far.read('env.out')).toBe(`of far|env|${hosts.get('far').homeOnHost}\n/dev/null\n`);
});

test('runs more jobs at once than sshd allows sessions', async () => {
  await using far = await open('far');
  const gate = join(hosts.get('far').homeDir, 'all-run');
  const jobs = Array.from({ length: 40 }, (_, i) =>
    smallJob(`m${i}`, `echo in ${i}; until [ -e ~/all-run ]; do sleep 0.1; done; echo out ${i}`),
  );
  const runs = await Promise.all(jobs.map((job) => far.start(job)));
  await until(() => far.events.filter(({ type }) => type === 'job:started').length === 40, {
    deadlineMs: 15_000,
  });
  await writeFile(gate, '');
  for (const run of runs) expect(await run.ended).toEqual({ type: 'exited', exitCode: 0 });
  for (const [i, { name }] of jobs.entries())
    expect(await far.read(`${name}.out`)).toBe(`in ${i}\nout ${i}\n`);
});

test('a connection that is cut and heals loses no byte of output and doubles none', async () => {
  await using far = await open('far');
  const host = hosts.get('far');
  const count = 'i=0; until [ -e ~/enough ]; do echo "line $i of the output"; i=$((i+1)); sleep 0.005; done';
  const run = await far.start(
    smallJob(
      'long',
      `${count}; echo last; head -c 1000000 /dev/zero | tr "\\0" e >&2; echo kept >made; exit 5`,
      {
        copyBackwards: 'changed',
      },
    ),
  );
  await until(async () => (await stat(far.result('long.out'))).size > 500);
  await host.cut();
  await far.event('machine:away');
  expect(far.link.isUp).toBe(false);
  await host.heal();
  await far.event('machine:back');
  const sizeThen = (await stat(far.result('long.out'))).size;
  await until(async () => (await stat(far.result('long.out'))).size > sizeThen + 200);
  await writeFile(join(host.homeDir, 'enough'), '');
  expect(await run.ended).toEqual({ type: 'exited', exitCode: 5 });
  const lines = (await far.read('long.out')).trimEnd().split('\n');
  expect(lines.pop()).toBe('last');
  expect(lines.filter((line, i) => line !== `line ${i} of the output`)).toEqual([]);
  expect((await readFile(far.result('long.err'))).equals(Buffer.alloc(1_000_000, 'e'))).toBe(true);
  expect(await far.read('long/made')).toBe('kept\n');
  expect(far.events.filter(({ type }) => type === 'job:started').length).toBe(1);
});

test('a job that ends, and one that is cancelled, while the machine is away', async () => {
  await using far = await open('far', { killGraceMs: 500 });
  const host = hosts.get('far');
  const ends = await far.start(
    smallJob('ends', 'echo one; until [ -e ~/now ]; do sleep 0.02; done; echo two; exit 6'),
  );
  const stays = await far.start(smallJob('stays', 'echo $$; exec sleep 1000'));
  await until(async () => (await far.read('stays.out')) !== '' && (await far.read('ends.out')) !== '');
  await host.cut();
  await far.event('machine:away');
  await host.exec('touch ~/now');
  stays.cancel('not wanted any more');
  const late = await far.start(smallJob('late', 'touch ~/late-ran'));
  await host.heal();
  expect(await ends.ended).toEqual({ type: 'exited', exitCode: 6 });
  expect(await far.read('ends.out')).toBe('one\ntwo\n');
  expect(await stays.ended).toEqual({ type: 'cancelled', reason: 'not wanted any more' });
  await until(async () => !(await host.processes()).some((one) => one.commandLine.includes('sleep 1000')));
  // What could not be handed over is lost to the store, which gives it out again, and never starts by itself.
  expect(await late.ended).toMatchObject({ type: 'lost' });
  await expect(stat(join(host.homeDir, 'late-ran'))).rejects.toThrow('ENOENT');
});

test('a machine that allows four programs at a time gets files while results come home', async () => {
  await using narrow = await open('narrow');
  for (const name of ['one', 'two', 'three']) {
    await writeFile(narrow.project(name), randomBytes(100_000)); // too much for a request: it takes a channel
    const job = smallJob(name, `wc -c <${name}; echo x >made`, {
      copyForwards: [name],
      copyBackwards: 'changed',
    });
    expect(await narrow.run(job)).toEqual({ type: 'exited', exitCode: 0 });
    expect(await narrow.read(`${name}.out`)).toBe('100000\n');
    expect(await narrow.read(`${name}/made`)).toBe('x\n');
  }
});

test('a connection that is cut in the middle of a send: it is sent again, and the job runs once', async () => {
  if (!hosts.capabilities.powerOff) return; // without namespaces nobody else may end sshd's processes
  await using far = await open('far');
  const host = hosts.get('far');
  await writeFile(far.project('large'), randomBytes(120_000_000));
  const job = smallJob('sent', 'echo >>~/sent-ran; wc -c <large', { copyForwards: 'working-directory' });
  const run = await far.start(job);
  const trees = join(host.homeDir, '.cache/ssh-scheduler/trees');
  await until(async () => {
    const [partial] = (await readdir(trees)).filter((name) => name.endsWith('.partial'));
    return (await stat(join(trees, partial ?? '', 'tree/large'))).size > 0;
  });
  await host.exec('pkill -f "^sshd: lab"', { asRoot: true });
  expect(await run.ended).toEqual({ type: 'exited', exitCode: 0 });
  expect(await far.read('sent.out')).toBe('120000000\n');
  expect(await readFile(join(host.homeDir, 'sent-ran'), 'utf8')).toBe('\n');
  expect(far.events.some(({ type }) => type === 'machine:back')).toBe(true);
});

test('a machine that booted meanwhile has lost its jobs', async () => {
  if (!hosts.capabilities.powerOff)
    return console.warn('Test hosts cannot be powered off here: lost jobs are not tested.');
  await using far = await open('far');
  const run = await far.start(smallJob('doomed', 'echo begun; sleep 1000'));
  await until(async () => (await far.read('doomed.out')) === 'begun\n');
  await hosts.get('far').powerOff();
  await far.event('machine:away');
  await hosts.get('far').boot();
  expect(await run.ended).toMatchObject({ type: 'lost' });
  await far.event('machine:back');
  expect(await far.run(smallJob('after', 'exit 2'))).toEqual({ type: 'exited', exitCode: 2 });
});

test('a full disk there fails a job with the reason, and its folder stays', async () => {
  if (!hosts.capabilities.limitedDisk)
    return console.warn('Test hosts have no small disks here: full disks there are not tested.');
  await using little = await open('little');
  const host = hosts.get('little');
  await writeFile(little.project('input'), Buffer.alloc(100_000, 'i'));
  await host.fillDisk();
  const job = smallJob('crowded', 'true', { copyForwards: 'working-directory' });
  expect(await little.run(job)).toMatchObject({
    type: 'transfer-failed',
    reason: expect.stringMatching(/No space left/),
  });
  await host.freeDisk();
  expect(await little.run(job, 2)).toEqual({ type: 'exited', exitCode: 0 });

  const grows = smallJob('grows', 'echo precious >kept; sync; cat /dev/zero >big; echo failed as it must', {
    copyBackwards: 'changed',
  });
  const outcome = await little.run(grows);
  const folder = join(host.homeDir, '.cache/ssh-scheduler/runs/key/batch/grows/1/work');
  expect(outcome).toMatchObject({
    type: 'transfer-failed',
    reason: expect.stringMatching(/disk full|No space/),
  });
  expect(await readFile(join(folder, 'kept'), 'utf8')).toBe('precious\n');
  await host.exec(`rm -rf ~/.cache/ssh-scheduler/runs`);
});
