/** What the command does about machines that stay away, and about machines on which jobs fail at once. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { hostsAreMachines, linesOf, Project, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;

beforeAll(async () => {
  hosts = await TestHosts.start(
    ['away', 'here', 'ill', 'well', 'gone', 'other', 'late', 'stay', 'gone2', 'stay2'].map((name) => ({
      name,
    })),
  );
});
afterAll(() => hosts.close());

/** Short waiting times for the command: its own are for real networks. */
const QUICK = {
  env: { NODE_OPTIONS: `--import=${new URL('../faults/quick-times.js', import.meta.url).href}` },
};

const ledger = async (host: TestHost, test: string) =>
  linesOf(await readFile(join(host.homeDir, `ledger-${test}`), 'utf8').catch(() => ''));
/** A start is told when the command begins, a moment before it writes its line. */
const untilNoted = (host: TestHost, test: string, lines: readonly string[]) =>
  until(async () => (await ledger(host, test)).join() === lines.join(), {
    describe: () => ledger(host, test),
  });
const noted = (test: string, command: string) =>
  `echo "$JOB_NAME $JOB_ATTEMPT" >>~/ledger-${test}; ${command}`;
const waitFor = (name: string) => `until [ -e ~/${name} ]; do sleep 0.05; done`;
const open = (host: TestHost, name: string) => writeFile(join(host.homeDir, name), '');
const processesOf = async (host: TestHost, text: string) =>
  (await host.processes()).filter(({ commandLine }) => commandLine.includes(text));

describe.runIf(hostsAreMachines).concurrent('a machine that stays away', () => {
  test('--machine-lost-after: its job runs elsewhere; back with the old attempt alive, that one counts again', async () => {
    await using project = await Project.start(hosts);
    const [away, here] = [hosts.get('away'), hosts.get('here')];
    const command = `if [ "$MACHINE_NAME" = away ]; then ${waitFor('lost-go')}; echo from away; else echo begun; sleep 8301; fi`;
    await project.machine(away, 'name: away\nmax_jobs: 1', 'away.yaml');
    await project.machine(here, 'name: here\nmax_jobs: 2', 'here.yaml');
    await project.write('b.sh', [noted('lost', command)]);
    const args = ['b.sh', '--machines', 'away.yaml', ...TINY_CPU];
    const first = project.startBatch(args, QUICK);
    await first.says(/started: b\.sh\.1/);
    first.signal('SIGKILL');
    await first.ended;
    const both = ['b.sh', '--machines', 'away.yaml', 'here.yaml', ...TINY_CPU, '--machine-lost-after', '2'];
    const running = project.startBatch(both, QUICK);
    await running.says(/still running: b\.sh\.1/);
    await away.cut();
    await running.says(/started: b\.sh\.1/, 'stdout', 30_000);
    await untilNoted(here, 'lost', ['b.sh.1 2']);
    // Its ledger is written just before it becomes the sleep.
    await until(async () => (await processesOf(here, 'sleep 8301')).length === 1);
    await away.heal();
    await until(async () => (await processesOf(here, 'sleep 8301')).length === 0, { deadlineMs: 30_000 });
    await open(away, 'lost-go');
    const { exitCode, stdout, stderr } = await running.ended;
    expect([exitCode, stdout, stderr]).toEqual([0, expect.any(String), expect.any(String)]);
    expect(await project.read('job_results/b.sh.1.out')).toBe('from away\n');
    expect(await project.manifest('b.sh.1')).toMatchObject({ attempt: 1, machine: 'away', exit_code: 0 });
    expect(await ledger(away, 'lost')).toEqual(['b.sh.1 1']);
    for (const host of [away, here])
      expect((await host.exec('ls ~/.cache/ssh-scheduler/runs/*/*/*')).stdout.trim()).toBe('');
  });

  test('back after the replacement has a result, the old attempt is ended', async () => {
    await using project = await Project.start(hosts);
    const [gone, other] = [hosts.get('gone'), hosts.get('other')];
    const command = 'if [ "$MACHINE_NAME" = gone ]; then sleep 8302; else echo from other; fi';
    await project.machine(gone, 'name: gone', 'gone.yaml');
    await project.machine(other, 'name: other', 'other.yaml');
    await project.write('b.sh', [noted('back', command)]);
    const first = project.startBatch(['b.sh', '--machines', 'gone.yaml', ...TINY_CPU], QUICK);
    await first.says(/started: b\.sh\.1/);
    first.signal('SIGKILL');
    await first.ended;
    const limit = ['--machine-lost-after', '1'];
    const both = ['b.sh', '--machines', 'gone.yaml', 'other.yaml', ...TINY_CPU, ...limit];
    const running = project.startBatch(both, QUICK);
    await running.says(/still running: b\.sh\.1/);
    await gone.cut();
    const second = await running.ended;
    expect([second.exitCode, second.stderr]).toEqual([0, expect.stringMatching(/gone.*away/)]);
    expect(await project.read('job_results/b.sh.1.out')).toBe('from other\n');
    await gone.heal();
    expect(await processesOf(gone, 'sleep 8302')).not.toHaveLength(0);
    // All is home, but the last run could not clear up there.
    expect((await project.batch(...both)).exitCode).toBe(0);
    expect(await processesOf(gone, 'sleep 8302')).toHaveLength(0);
    expect(await project.read('job_results/b.sh.1.out')).toBe('from other\n');
  });
});

describe.runIf(hostsAreMachines).concurrent('a machine that was given up', () => {
  /** A batch whose job runs on the first host, which is cut; its controller is gone. */
  async function left(project: Project, away: TestHost, here: TestHost, command: string) {
    await project.machine(away, `name: ${away.name}`, 'away.yaml');
    await project.machine(here, `name: ${here.name}`, 'here.yaml');
    await project.write('b.sh', [noted('up', command)]);
    const first = await project.batch('b.sh', '--machines', 'away.yaml', ...TINY_CPU, '--leave');
    expect(first.exitCode).toBe(0);
    await away.cut();
    return ['b.sh', '--machines', 'away.yaml', 'here.yaml', ...TINY_CPU, '--machine-lost-after', '2'];
  }

  test('joins late: its attempt counts again, and output is of that one alone', async () => {
    await using project = await Project.start(hosts);
    const [away, here] = [hosts.get('late'), hosts.get('stay')];
    const command = `echo from $MACHINE_NAME; ${waitFor('late-go')}; echo last from $MACHINE_NAME; sleep 0.1`;
    const args = await left(project, away, here, command);
    const running = project.startBatch(args, QUICK);
    await running.says(/started: b\.sh\.1/, 'stdout', 30_000);
    await untilNoted(here, 'up', ['b.sh.1 2']);
    await away.heal();
    await running.says(/still running: b\.sh\.1/, 'stdout', 30_000);
    for (const host of [away, here]) await open(host, 'late-go');
    const { exitCode, stdout } = await running.ended;
    expect([exitCode, stdout]).toEqual([0, expect.not.stringContaining('failed: ')]);
    expect(await project.manifest('b.sh.1')).toMatchObject({ attempt: 1, machine: 'late', exit_code: 0 });
    expect(await project.read('job_results/b.sh.1.out')).toBe('from late\nlast from late\n');
  });

  test('and taken back, counts for the next controller, too', async () => {
    await using project = await Project.start(hosts);
    const [away, here] = [hosts.get('gone2'), hosts.get('stay2')];
    const command = `${waitFor('again-go')}; echo from $MACHINE_NAME`;
    const args = await left(project, away, here, command);
    const second = project.startBatch(args, QUICK);
    await second.says(/started: b\.sh\.1/, 'stdout', 30_000);
    await away.heal();
    await second.says(/still running: b\.sh\.1/, 'stdout', 30_000);
    second.signal('SIGKILL');
    await second.ended;
    const third = project.startBatch(args, QUICK);
    await third.says(/still running: b\.sh\.1/);
    for (const host of [away, here]) await open(host, 'again-go');
    expect((await third.ended).exitCode).toBe(0);
    expect(await project.read('job_results/b.sh.1.out')).toBe('from gone2\n');
    expect([await ledger(away, 'up'), await ledger(here, 'up')]).toEqual([['b.sh.1 1'], ['b.sh.1 2']]);
  });
});

describe.runIf(hostsAreMachines).concurrent('a machine on which jobs fail at once', () => {
  const broken =
    'if [ "$MACHINE_NAME" = ill ]; then echo "mktemp: cannot write: No space left on device" >&2; exit 1; fi';

  test('gets no more after three, with the reason, and its jobs go elsewhere', async () => {
    await using project = await Project.start(hosts);
    await project.machine(hosts.get('ill'), 'name: ill\nmax_jobs: 1', 'ill.yaml');
    await project.machine(hosts.get('well'), 'name: well\nmax_jobs: 1', 'well.yaml');
    await project.write(
      'b.sh',
      Array.from({ length: 12 }, () => noted('ill', `${broken}; sleep 0.3`)),
    );
    const args = ['b.sh', '--machines', 'ill.yaml', 'well.yaml', ...TINY_CPU];
    const { exitCode, stderr } = await project.batch(...args);
    expect([exitCode, stderr]).toEqual([
      0,
      expect.stringMatching(/^execute_batch: ill gets no more jobs.*no space left/m),
    ]);
    // One or two more may have begun before the third had ended.
    const there = (await ledger(hosts.get('ill'), 'ill')).length;
    expect(there).toBeGreaterThanOrEqual(3);
    expect(there).toBeLessThanOrEqual(5);
    expect((await ledger(hosts.get('well'), 'ill')).length).toBe(12);
  });

  test('--keep-going-on-bad-machines takes each failure for the job’s own', async () => {
    await using project = await Project.start(hosts);
    await project.machine(hosts.get('ill'), 'name: ill\nmax_jobs: 1', 'ill.yaml');
    await project.write(
      'b.sh',
      Array.from({ length: 5 }, () => broken),
    );
    const args = ['b.sh', '--machines', 'ill.yaml', ...TINY_CPU, '--keep-going-on-bad-machines'];
    const { exitCode, stderr } = await project.batch(...args);
    expect([exitCode, stderr]).toEqual([5, expect.not.stringMatching(/gets no more jobs/)]);
  });
});
