/**
 * What the command promises when the controller, a connection or a machine goes away: started again, it runs nothing
 * twice and loses nothing. Each job notes its start in a ledger on its host.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { hostsAreMachines, linesOf, Project, type RunningCommand, TINY, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;

beforeAll(async () => {
  const names = ['box', 'nfs1', 'later1', 'later2', 'power1', 'power2', 'silent', 'quick'];
  hosts = await TestHosts.start([
    ...names.map((name) => ({ name })),
    { name: 'nfs2', sharedHome: 'nfs1' },
    // Behind a relay, so that while it is cut it accepts connections and says nothing.
    { name: 'hanging', delayMs: 1 },
    { name: 'slow', bashrc: 'echo welcome; sleep 3; echo to this machine' },
    { name: 'gpu', gpus: [{ memoryTotalMiB: 8000 }] },
  ]);
});
afterAll(() => hosts.close());

const RUNS = '.cache/ssh-scheduler/runs';
/** Short waiting times for the command: its own are for real networks. */
const QUICK = {
  env: { NODE_OPTIONS: `--import=${new URL('../faults/quick-times.js', import.meta.url).href}` },
};

/** A line that notes its start, and then does something. `$L` is the ledger. */
const noted = (test: string, line: string) =>
  `L=~/ledger-${test}; echo "$JOB_NAME $JOB_ATTEMPT" >>$L; ${line}`;
/** Waits for a file in the home folder. */
const waitFor = (name: string) => `until [ -e ~/${name} ]; do sleep 0.05; done`;

async function ledger(host: TestHost, test: string): Promise<string[]> {
  const text = await readFile(join(host.homeDir, `ledger-${test}`), 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

/** Makes the file in a host's home folder that a line waits for. */
async function open(host: TestHost, name: string): Promise<void> {
  await writeFile(join(host.homeDir, name), '');
}

/** Ends a controller as a power cut does. */
async function kill(controller: RunningCommand): Promise<void> {
  controller.signal('SIGKILL');
  await controller.ended;
}

/** The folder that a batch's jobs have on the one machine that keeps its runs in that home folder. */
async function runsOf(project: Project, host: TestHost): Promise<string> {
  const id = (await project.read('job_results/.batches/lines.sh.id')).trim();
  const runs = join(host.homeDir, RUNS);
  const machines = await readdir(runs);
  const machine = machines.find((one) => existsSync(join(runs, one, id)));
  if (machine === undefined) throw new Error(`${host.name} has nothing of batch ${id}`);
  return join(runs, machine, id);
}

/** Waits for a file. */
async function appears(path: string): Promise<void> {
  await until(() => existsSync(path), { deadlineMs: 20_000, describe: path });
}

/** What the project has of a job's output now. */
async function outputOf(project: Project, job: string): Promise<string> {
  return await project.read(`job_results/${job}.out`).catch(() => '');
}

const outputIs = (project: Project, job: string, text: string) =>
  until(async () => (await outputOf(project, job)) === text, {
    deadlineMs: 20_000,
    describe: async () => `${job}.out is ${JSON.stringify(await outputOf(project, job))}`,
  });

/** The events of a run with `--json`. */
const eventsOf = (stdout: string) =>
  linesOf(stdout).map((line) => JSON.parse(line) as { readonly [field: string]: unknown }); // an object, or the test fails

describe.concurrent('the controller goes away', () => {
  test('kill -9 with jobs running, ended and waiting: each runs once, output goes on where it stopped', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    const two = await project.machine(host, 'max_jobs: 2', 'two.yaml');
    await project.write('lines.sh', [
      noted(
        'kill',
        `echo one; ${waitFor('kill-a')}; echo two; ${waitFor('kill-b')}; echo three; echo x >made`,
      ),
      noted('kill', `echo said; ${waitFor('kill-c')}; echo y >made`),
      noted('kill', 'echo z >made'),
      noted('kill', 'true'),
    ]);
    const args = ['lines.sh', '--machines', two, ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(
      /started: lines\.sh\.1[\s\S]*started: lines\.sh\.2|started: lines\.sh\.2[\s\S]*lines\.sh\.1/,
    );
    await outputIs(project, 'lines.sh.1', 'one\n');
    await kill(first);
    expect(existsSync(join(project.path, 'job_results/.batches/lines.sh.lock'))).toBe(true); // of a dead one: taken over
    // While nobody listens, the first says more and the second ends.
    await open(host, 'kill-a');
    await open(host, 'kill-c');
    const runs = await runsOf(project, host);
    await appears(join(runs, 'lines.sh.2/1/exit'));
    await until(async () => (await readFile(join(runs, 'lines.sh.1/1/out'), 'utf8')) === 'one\ntwo\n');

    const second = project.startBatch(args);
    await outputIs(project, 'lines.sh.1', 'one\ntwo\n'); // live, while it runs
    expect(await ledger(host, 'kill')).toContain('lines.sh.1 1');
    await open(host, 'kill-b');
    const { exitCode } = await second.ended;
    expect(exitCode).toBe(0);
    expect(await ledger(host, 'kill')).toEqual([1, 2, 3, 4].map((line) => `lines.sh.${line} 1`));
    expect(await outputOf(project, 'lines.sh.1')).toBe('one\ntwo\nthree\n');
    expect(await outputOf(project, 'lines.sh.2')).toBe('said\n');
    expect(await project.read('job_results/lines.sh.1/made')).toBe('x\n');
    expect(await project.read('job_results/lines.sh.2/made')).toBe('y\n');
    expect((await project.manifest('lines.sh.1')).attempt).toBe(1);
    expect(existsSync(runs)).toBe(false);
  });

  test('adopted jobs count against their machine as they did', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    const one = await project.machine(host, 'max_jobs: 1', 'one.yaml');
    await project.write('lines.sh', [
      noted('count', `${waitFor('count-go')}; echo end >>$L`),
      noted('count', 'true'),
    ]);
    const args = ['lines.sh', '--machines', one, ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(/started: lines\.sh\.1/);
    await kill(first);
    const second = project.startBatch([...args, '--verbose']);
    await until(
      async () =>
        (await outputOf(project, 'lines.sh.1')) === '' &&
        /earlier run|still run/.test(second.stderr + second.stdout),
    );
    await open(host, 'count-go');
    expect((await second.ended).exitCode).toBe(0);
    // In the order in which they were written: the second began when the first had ended.
    const text = await readFile(join(host.homeDir, 'ledger-count'), 'utf8');
    expect(linesOf(text)).toEqual(['lines.sh.1 1', 'end', 'lines.sh.2 1']);
  });

  test.each(['with its request', 'still empty'])(
    'death between `folder made` and `started`, the folder %s: the job runs once, the old attempt never',
    async (how) => {
      const host = hosts.get('box');
      const name = how === 'still empty' ? 'empty' : 'request';
      await using project = await Project.start(hosts);
      const one = await project.machine(host, 'max_jobs: 1', 'one.yaml');
      await project.write('lines.sh', [noted(name, waitFor(`${name}-go`)), noted(name, 'echo ran')]);
      const args = ['lines.sh', '--machines', one, ...TINY_CPU];
      const first = project.startBatch(args);
      await first.says(/started: lines\.sh\.1/);
      await kill(first);
      // As a wrapper leaves it that dies right after its first mkdir.
      const runs = await runsOf(project, host);
      const runsThere = join(host.homeOnHost, runs.slice(host.homeDir.length));
      await host.exec(`mkdir -p '${runsThere}/lines.sh.2/1/work'`);
      if (how !== 'still empty') {
        const request = JSON.parse(await readFile(join(runs, 'lines.sh.1/1/request'), 'utf8')) as object; // ours
        const second = { ...request, job: 'lines.sh.2', command: noted(name, 'echo ran') };
        await writeFile(join(host.homeDir, 'request.new'), `${JSON.stringify(second)}\n`, { mode: 0o644 });
        await host.exec(`cp ~/request.new '${runsThere}/lines.sh.2/1/request'`);
      }
      await open(host, `${name}-go`);
      const { exitCode, stdout, stderr } = await project.batch(...args);
      expect([exitCode, stdout, stderr]).toEqual([
        0,
        expect.stringContaining('finished: lines.sh.2'),
        expect.anything(),
      ]);
      const starts = await ledger(host, name);
      expect(starts).toHaveLength(2);
      expect(starts[0]).toBe('lines.sh.1 1');
      expect(await outputOf(project, 'lines.sh.2')).toBe('ran\n');
    },
  );

  test('death between `ended` and `published`: the result is fetched whole, the job not run again', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [
      noted('publish', `echo said; ${waitFor('publish-go')}; echo whole >made; echo more >also`),
    ]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    const first = project.startBatch(args);
    await outputIs(project, 'lines.sh.1', 'said\n');
    await kill(first);
    await open(host, 'publish-go');
    await appears(join(await runsOf(project, host), 'lines.sh.1/1/exit'));
    // As a controller leaves it that dies while the files arrive: half of them, and a manifest cut short.
    await mkdir(join(project.path, 'job_results/.partial/lines.sh.1'), { recursive: true });
    await project.write('job_results/.partial/lines.sh.1/made', 'wh');
    await project.write('job_results/.partial/lines.sh.1.json', '{ "schema": 1, "na');
    expect((await project.batch(...args)).exitCode).toBe(0);
    expect(await ledger(host, 'publish')).toEqual(['lines.sh.1 1']);
    expect(await project.list('job_results/lines.sh.1')).toEqual(['also', 'made']);
    expect(await project.read('job_results/lines.sh.1/made')).toBe('whole\n');
    expect(await outputOf(project, 'lines.sh.1')).toBe('said\n');
    expect(await project.list('job_results')).not.toContain('.partial');
  });

  test('the same command when all is home clears up what the controller could not before it died', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [noted('clear', waitFor('clear-go'))]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(/started: lines\.sh\.1/);
    await kill(first);
    const runs = await runsOf(project, host);
    await open(host, 'clear-go');
    await appears(join(runs, 'lines.sh.1/1/exit'));
    // The folder comes back after its result is home, as a controller leaves it that dies before it removes it.
    const runsThere = join(host.homeOnHost, runs.slice(host.homeDir.length));
    await until(async () => (await host.exec(`cp -a '${runsThere}' ~/clear-copy`)).exitCode === 0);
    expect((await project.batch(...args)).exitCode).toBe(0);
    expect(existsSync(runs)).toBe(false);
    await host.exec(`mkdir -p '${runsThere}'; cp -a ~/clear-copy/. '${runsThere}'`);
    expect(existsSync(join(runs, 'lines.sh.1/1/exit'))).toBe(true);
    const dead = { host: hostname(), pid: 2 ** 22 + 1, processStart: '1' }; // no process has that id
    await project.write('job_results/.batches/lines.sh.lock', JSON.stringify(dead));
    const again = await project.batch(...args);
    expect(again.exitCode).toBe(0);
    expect(existsSync(runs)).toBe(false);
    expect(await ledger(host, 'clear')).toEqual(['lines.sh.1 1']);
  });

  test('an edited file: unchanged lines keep their jobs, a changed and a new line run, what belongs to none is told', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    const line = (text: string, gate: string) => noted('edit', `echo ${text}; ${waitFor(gate)}`);
    await project.write('lines.sh', [line('kept', 'edit-a'), line('old', 'edit-b'), line('ended', 'edit-c')]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(/(started: [\s\S]*){3}/);
    await kill(first);
    await open(host, 'edit-c');
    await appears(join(await runsOf(project, host), 'lines.sh.3/1/exit'));
    await project.write('lines.sh', [
      line('kept', 'edit-a'),
      line('changed', 'edit-a'),
      line('ended', 'edit-c'),
      line('new', 'edit-a'),
    ]);
    const second = project.startBatch(args);
    await second.says(/finished: lines\.sh\.3/);
    await open(host, 'edit-a');
    const { exitCode, stdout, stderr } = await second.ended;
    expect([exitCode, stderr]).toEqual([0, expect.stringMatching(/orphan|belong to no line/)]);
    expect(stdout).toContain('finished: lines.sh.1');
    for (const [job, said] of [
      ['lines.sh.1', 'kept'],
      ['lines.sh.2', 'changed'],
      ['lines.sh.3', 'ended'],
      ['lines.sh.4', 'new'],
    ] as const) {
      expect(await outputOf(project, job)).toBe(`${said}\n`);
    }
    const starts = await ledger(host, 'edit');
    expect(starts.filter((start) => !start.startsWith('lines.sh.2 '))).toEqual([
      'lines.sh.1 1',
      'lines.sh.3 1',
      'lines.sh.4 1',
    ]);
    expect(starts).toHaveLength(5); // the changed line ran beside the old one, as another attempt
    expect(new Set(starts).size).toBe(5);
    await open(host, 'edit-b'); // what belongs to no line may end now
  });

  test('a second controller is refused with the pid and the host of the first, which goes on', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [noted('second', waitFor('second-go'))]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(/started: lines\.sh\.1/);
    const refused = await project.batch(...args);
    expect(refused.exitCode).toBe(255);
    expect(refused.stderr).toMatch(/process \d+/);
    expect(refused.stderr).toContain(hostname());
    const lock = await project.read('job_results/.batches/lines.sh.lock');
    expect(refused.stderr).toContain(`process ${(JSON.parse(lock) as { pid: number }).pid}`); // written by the first
    await open(host, 'second-go');
    expect((await first.ended).exitCode).toBe(0);
    expect(await ledger(host, 'second')).toEqual(['lines.sh.1 1']);
  });

  test.runIf(hostsAreMachines)(
    'two hosts with one home: neither takes the other’s jobs for lost',
    async () => {
      const [one, two] = [hosts.get('nfs1'), hosts.get('nfs2')];
      await using project = await Project.start(hosts);
      for (const host of [one, two]) await project.machine(host, 'max_jobs: 2');
      const lines = Array.from({ length: 4 }, () => noted('nfs', `hostname; ${waitFor('nfs-go')}; hostname`));
      await project.write('lines.sh', lines);
      const run = (...names: readonly string[]) =>
        project.startBatch(['lines.sh', '--machines', ...names, ...TINY_CPU]);
      const first = run('nfs1.yaml', 'nfs2.yaml');
      await first.says(/(started: [\s\S]*){4}/);
      await kill(first);
      // The other order, so that each could meet the other's folders first.
      const second = run('nfs2.yaml', 'nfs1.yaml');
      for (const line of [1, 2, 3, 4])
        await until(async () => /^nfs[12]\n$/.test(await outputOf(project, `lines.sh.${line}`)));
      await open(one, 'nfs-go');
      expect((await second.ended).exitCode).toBe(0);
      expect(await ledger(one, 'nfs')).toEqual([1, 2, 3, 4].map((line) => `lines.sh.${line} 1`));
      for (const line of [1, 2, 3, 4]) {
        const { machine } = await project.manifest(`lines.sh.${line}`);
        const name = String(machine).replace('.yaml', '');
        expect(await outputOf(project, `lines.sh.${line}`)).toBe(`${name}\n${name}\n`);
      }
    },
  );

  test.runIf(hostsAreMachines)(
    'a machine that is down at the second start: its jobs run nowhere else, and are adopted when it is back',
    async () => {
      const [one, two] = [hosts.get('later1'), hosts.get('later2')];
      await using project = await Project.start(hosts);
      for (const host of [one, two]) await project.machine(host, 'max_jobs: 1');
      const job = noted('later', `hostname; ${waitFor('later-go')}; echo end`);
      await project.write('lines.sh', [job, job, noted('later', 'true'), noted('later', 'true')]);
      const args = ['lines.sh', '--machines', 'later1.yaml', 'later2.yaml', ...TINY_CPU];
      const first = project.startBatch(args, QUICK);
      await first.says(/(started: [\s\S]*){2}/);
      await until(
        async () => (await ledger(one, 'later')).length === 1 && (await ledger(two, 'later')).length === 1,
      );
      const [onFirst = ''] = await ledger(one, 'later');
      await kill(first);
      await one.refuse();

      const second = project.startBatch(args, QUICK);
      await open(two, 'later-go');
      // All that is not on the machine that is away ends on the other.
      await second.says(/(finished: [\s\S]*){3}/);
      expect(second.stdout).not.toContain(`finished: ${onFirst.split(' ')[0]};`);
      expect((await ledger(two, 'later')).length).toBe(3);
      expect(second.isRunning).toBe(true); // it waits for the one that is left
      await one.restartSshd();
      await open(one, 'later-go');
      expect((await second.ended).exitCode).toBe(0);
      expect(await ledger(one, 'later')).toEqual([onFirst]);
      expect(await outputOf(project, onFirst.split(' ')[0] ?? '')).toBe('later1\nend\n');
    },
  );

  test('--leave starts what fits and leaves; --status tells and starts nothing; the same command collects', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    const two = await project.machine(host, 'max_jobs: 2', 'two.yaml');
    await project.write('lines.sh', [
      noted('leave', `echo one; ${waitFor('leave-a')}`),
      noted('leave', `echo two; ${waitFor('leave-b')}`),
      noted('leave', 'echo three'),
    ]);
    const args = ['lines.sh', '--machines', two, ...TINY_CPU];
    const left = await project.batch(...args, '--leave');
    expect([left.exitCode, left.stderr]).toEqual([0, expect.stringContaining('execute_batch')]);
    await open(host, 'leave-a');
    await appears(join(await runsOf(project, host), 'lines.sh.1/1/exit'));
    const status = await project.batch(...args, '--status', '--json');
    expect(status.exitCode).toBe(0);
    const states = eventsOf(status.stdout).map((one) => one.state);
    expect(states).toEqual(['ended', 'running', 'waiting']);
    expect(await ledger(host, 'leave')).toEqual(['lines.sh.1 1', 'lines.sh.2 1']);
    await open(host, 'leave-b');
    expect((await project.batch(...args)).exitCode).toBe(0);
    expect(await ledger(host, 'leave')).toEqual([1, 2, 3].map((line) => `lines.sh.${line} 1`));
    expect(await outputOf(project, 'lines.sh.2')).toBe('two\n');
  });

  test('--cancel ends what runs and nothing else', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await using other = await Project.start(hosts);
    await project.write('lines.sh', [
      noted('cancel', 'sleep 8101'),
      noted('cancel', 'setsid sleep 8102 & wait'),
    ]);
    await other.write('lines.sh', [noted('cancel', `sleep 8103 & ${waitFor('cancel-go')}; kill $!`)]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    for (const one of [project, other]) {
      const running = one.startBatch(args);
      await running.says(one === project ? /(started: [\s\S]*){2}/ : /started: /);
      await kill(running);
    }
    const sleepers = async () =>
      (await host.processes())
        .map(({ commandLine }) => commandLine)
        .filter((line) => /^sleep 810/.test(line));
    await until(async () => (await sleepers()).length === 3);
    expect((await project.batch(...args, '--cancel')).exitCode).toBe(0);
    expect(await sleepers()).toEqual(['sleep 8103']);
    await open(host, 'cancel-go');
    expect((await other.batch(...args)).exitCode).toBe(0);
  });

  test('in another folder, or without its folder, a job that has begun is not taken for one that never did', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [noted('moved', waitFor('moved-go'))]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    expect((await project.batch(...args, '--leave')).exitCode).toBe(0);
    await project.machine(host, 'remote_dir: ~/elsewhere', 'other.yaml');
    const other = await project.batch('lines.sh', '--machines', 'other.yaml', ...TINY_CPU);
    expect([other.exitCode, other.stderr]).toEqual([
      1,
      expect.stringMatching(/1 job .*may still run on box/),
    ]);
    expect(await ledger(host, 'moved')).toEqual(['lines.sh.1 1']);
    const cancelled = await project.batch('lines.sh', '--machines', 'other.yaml', ...TINY_CPU, '--cancel');
    expect([cancelled.exitCode, cancelled.stderr]).toEqual([
      1,
      expect.stringContaining('lines.sh.1 may run on there'),
    ]);
    await rm(join(project.path, 'job_results/.to-be-ended.json'));
    const id = (await project.read('job_results/.batches/lines.sh.id')).trim();
    // A cleaner of caches removes the folder: what runs is ended before the job runs again.
    await rm(await runsOf(project, host), { recursive: true });
    const again = project.startBatch([...args, '--kill-after', '2']);
    await again.says(/lost: its folder on the machine is gone/, 'stdout', 30_000);
    await until(async () => (await ledger(host, 'moved')).length === 2, { deadlineMs: 20_000 });
    const alive = (await host.processes()).filter(({ commandLine }) =>
      commandLine.includes(`${id}/lines.sh.1/`),
    );
    expect(alive.map(({ commandLine }) => commandLine)).toEqual([expect.stringContaining('/lines.sh.1/2/')]);
    await open(host, 'moved-go');
    expect((await again.ended).exitCode).toBe(0);
  });

  test('a job that is followed again holds the GPU that it held, and its own use is not counted as that of others', async () => {
    const host = hosts.get('gpu');
    await using project = await Project.start(hosts);
    const held = 'gpu-job --memory 5000 --until ~/gpu-go';
    await project.write('lines.sh', [
      noted('gpu', held),
      noted('gpu', 'gpu-job --memory 5000 --seconds 0.1'),
    ]);
    const args = ['lines.sh', '--machines', 'gpu.yaml', ...TINY, '--gpu-memory-required', '5000'];
    const left = await project.batch(...args, '--leave');
    expect([left.exitCode, left.stderr]).toEqual([
      0,
      expect.stringContaining('1 started, 1 running now, 1 waiting'),
    ]);
    await until(async () => (await host.gpuLedger()).some(({ event }) => event === 'take'));
    // 3000 MiB are free now. That line 2 fits at all is known since what line 1 uses is ours.
    const running = project.startBatch(args);
    await running.says(/still running: lines\.sh\.1/);
    expect(running.stdout).toMatch(/machine limits: {2}\{'gpu\.yaml': 1\}/);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(await ledger(host, 'gpu')).toEqual(['lines.sh.1 1']);
    await open(host, 'gpu-go');
    expect((await running.ended).exitCode).toBe(0);
    expect(await ledger(host, 'gpu')).toEqual(['lines.sh.1 1', 'lines.sh.2 1']);
    expect((await host.gpuLedger()).every(({ event, jobs }) => event !== 'refuse' && jobs <= 1)).toBe(true);
  });

  test('what a machine keeps in another folder now is run again when absences are given up, and nothing hangs', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [noted('given', waitFor('given-go'))]);
    const left = await project.batch('lines.sh', '--machines', 'box.yaml', ...TINY_CPU, '--leave');
    expect(left.exitCode).toBe(0);
    await project.machine(host, 'name: box.yaml\nremote_dir: ~/given-up', 'other.yaml');
    const args = ['lines.sh', '--machines', 'other.yaml', ...TINY_CPU, '--machine-lost-after', '0'];
    const running = project.startBatch(args);
    await running.says(/started: lines\.sh\.1/);
    await open(host, 'given-go');
    expect((await running.ended).exitCode).toBe(0);
    expect(await ledger(host, 'given')).toEqual(['lines.sh.1 1', 'lines.sh.1 2']);
  });

  test('lines that have moved are not run twice', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [
      noted('shift', `: one; ${waitFor('shift-go')}`),
      noted('shift', `: two; ${waitFor('shift-go')}`),
    ]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    expect((await project.batch(...args, '--leave')).exitCode).toBe(0);
    const before = await project.read('lines.sh');
    await project.write('lines.sh', `echo new\n${before}`);
    const moved = await project.batch(...args);
    expect([moved.exitCode, moved.stderr]).toEqual([
      255,
      expect.stringMatching(/line 2 \(and 1 more\).*may still run as lines\.sh\.1/),
    ]);
    await project.write('lines.sh', `${before}echo new\n`);
    await open(host, 'shift-go');
    expect((await project.batch(...args)).exitCode).toBe(0);
    expect(await ledger(host, 'shift')).toEqual(['lines.sh.1 1', 'lines.sh.2 1']);
  });

  test('--cancel ends what belongs to no line any more, and notes what it cannot reach', async () => {
    const host = hosts.get('quick');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', ['sleep 8401', 'sleep 8402']);
    const args = ['lines.sh', '--machines', 'quick.yaml', ...TINY_CPU];
    expect((await project.batch(...args, '--leave')).exitCode).toBe(0);
    await project.write('lines.sh', ['sleep 8401']);
    const sleepers = async () =>
      (await host.processes()).filter(({ commandLine }) => /^sleep 840[12]$/.test(commandLine)).length;
    await host.refuse();
    const out = await project.batch('lines.sh', '--cancel');
    expect([out.exitCode, out.stderr]).toEqual([1, expect.stringContaining('lines.sh.1 may run on there')]);
    expect(await sleepers()).toBe(2);
    await host.restartSshd();
    const done = await project.batch('lines.sh', '--cancel');
    expect([done.exitCode, done.stderr]).toEqual([
      0,
      expect.stringContaining('nothing of this batch runs any more'),
    ]);
    expect(await sleepers()).toBe(0);
  });

  test('--orphans lists what belongs to no line any more, --kill-orphans ends it', async () => {
    const host = hosts.get('box');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [noted('orphan', 'sleep 8201')]);
    const args = ['lines.sh', '--machines', 'box.yaml', ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(/started: /);
    await kill(first);
    const id = (await project.read('job_results/.batches/lines.sh.id')).trim();
    await project.write('lines.sh', ['echo another']);
    expect((await project.batch(...args)).exitCode).toBe(0);
    const sleepers = async () =>
      (await host.processes()).filter(({ commandLine }) => commandLine === 'sleep 8201');
    expect(await sleepers()).toHaveLength(1);
    const listed = await project.batch('--orphans', '--machines', 'box.yaml');
    expect(listed.exitCode).toBe(0);
    expect(listed.stdout).toMatch(/sleep 8201/);
    expect(listed.stdout).toContain(id);
    expect((await project.batch('--kill-orphans', id, '--machines', 'box.yaml')).exitCode).toBe(0);
    expect(await sleepers()).toHaveLength(0);
  });

  test.each(['SIGINT', 'SIGHUP', 'SIGTERM'] as const)(
    'the first %s says how to come back',
    async (signal) => {
      const host = hosts.get('box');
      await using project = await Project.start(hosts);
      await project.write('lines.sh', [waitFor(`back-${signal}`)]);
      const running = project.startBatch(['lines.sh', '--machines', 'box.yaml', ...TINY_CPU]);
      await running.says(/started: /);
      running.signal(signal);
      await running.says(/run in this folder: .* lines\.sh --machines box\.yaml /, 'stderr');
      await open(host, `back-${signal}`);
      await running.ended;
    },
  );
});

describe.concurrent('a connection goes away', () => {
  test('cut at the login, while it runs and while its results wait: nothing is restarted, lost or doubled', async () => {
    const host = hosts.get('silent');
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [
      noted('cut', `echo one; ${waitFor('cut-a')}; echo two; ${waitFor('cut-b')}; echo three; echo x >made`),
    ]);
    const args = ['lines.sh', '--machines', 'silent.yaml', ...TINY_CPU];
    await host.cut();
    const running = project.startBatch(args, QUICK);
    await new Promise((resolve) => setTimeout(resolve, 500)); // into the login, or still before it
    await host.heal();
    await outputIs(project, 'lines.sh.1', 'one\n');

    await host.cut();
    await running.says(/silent\.yaml: connection lost/, 'stderr');
    await open(host, 'cut-a');
    await host.heal();
    await outputIs(project, 'lines.sh.1', 'one\ntwo\n');

    await host.cut();
    await open(host, 'cut-b');
    await running.says(/(connection lost[\s\S]*){2}/, 'stderr');
    await host.heal();
    const { exitCode } = await running.ended;
    expect(exitCode).toBe(0);
    expect(await outputOf(project, 'lines.sh.1')).toBe('one\ntwo\nthree\n');
    expect(await project.read('job_results/lines.sh.1/made')).toBe('x\n');
    expect(await ledger(host, 'cut')).toEqual(['lines.sh.1 1']);
  });

  test.runIf(hostsAreMachines)(
    'a machine that accepts connections and says nothing, and one whose login takes long, hold up no other',
    async () => {
      await using project = await Project.start(hosts);
      await project.machine(hosts.get('slow'), 'max_jobs: 1');
      await project.machine(hosts.get('quick'), 'max_jobs: 1');
      await project.write('lines.sh', ['echo ran', 'echo ran', 'echo ran']);
      await hosts.get('hanging').cut();
      const machines = ['hanging.yaml', 'slow.yaml', 'quick.yaml'];
      const { stdout, exitCode } = await project.batch(
        'lines.sh',
        '--machines',
        ...machines,
        ...TINY_CPU,
        '--json',
      );
      expect(exitCode).toBe(0);
      const events = eventsOf(stdout);
      const at = (type: string, machine: string) =>
        events.findIndex((event) => event.type === type && event.machine === machine);
      // The batch has ended without the silent one, which was asked again and again meanwhile.
      expect(at('machine:unreachable', 'hanging.yaml')).toBeGreaterThanOrEqual(0);
      expect(at('machine:queried', 'quick.yaml')).toBeGreaterThanOrEqual(0);
      expect(at('machine:queried', 'slow.yaml')).toBeGreaterThanOrEqual(0);
      expect(events.filter(({ type }) => type === 'job:ended')).toHaveLength(3);
      // What a login says is no output of a job.
      for (const line of [1, 2, 3]) expect(await outputOf(project, `lines.sh.${line}`)).toBe('ran\n');
    },
  );
});

describe.concurrent('a machine goes away', () => {
  test.runIf(hostsAreMachines)(
    'powered off: its jobs run elsewhere, and count as lost once it is back',
    async () => {
      const [one, two] = [hosts.get('power1'), hosts.get('power2')];
      await using project = await Project.start(hosts);
      for (const host of [one, two]) await project.machine(host, 'max_jobs: 1');
      const job = noted('power', `hostname; ${waitFor('power-go')}; echo end`);
      await project.write('lines.sh', [job, job]);
      const running = project.startBatch(
        ['lines.sh', '--machines', 'power1.yaml', 'power2.yaml', ...TINY_CPU],
        QUICK,
      );
      await running.says(/(started: [\s\S]*){2}/);
      await until(async () => (await ledger(one, 'power')).length === 1);
      await until(async () => (await ledger(two, 'power')).length === 1);
      const [lost = ''] = await ledger(one, 'power');
      await one.powerOff();
      await open(two, 'power-go'); // so that there is room for it
      await running.says(/power1\.yaml: connection lost/, 'stderr');
      expect(await ledger(two, 'power')).toHaveLength(1); // silence proves nothing
      await one.boot();
      await open(one, 'power-go');
      const { exitCode, stdout, stderr } = await running.ended;
      expect([exitCode, stdout, stderr]).toEqual([0, expect.anything(), expect.anything()]);
      const name = lost.split(' ')[0] ?? '';
      const all = [...(await ledger(one, 'power')), ...(await ledger(two, 'power'))];
      expect(all.filter((start) => start.startsWith(`${name} `)).sort()).toEqual([`${name} 1`, `${name} 2`]);
      expect(all).toHaveLength(3);
      expect((await project.manifest(name)).attempt).toBe(2);
      expect(await outputOf(project, name)).toMatch(/^power[12]\nend\n$/);
    },
  );
});
