/** Ctrl-C once and twice, SIGTERM and SIGHUP: what becomes of waiting and running jobs, looked at on the hosts. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { hostsAreMachines, linesOf, Project, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;

beforeAll(async () => {
  hosts = await TestHosts.start(['once', 'twice', 'far', 'term', 'hup', 'remote'].map((name) => ({ name })));
});
afterAll(() => hosts.close());

/** Runs until the test lets it end: `touch ~/go`. */
const HELD = 'echo began; until [ -e ~/go ]; do sleep 0.05; done; echo ended';

/** Processes of a kind that no signal but KILL, and no end of a parent, ends. */
const STUBBORN = [
  'echo early > kept.txt; echo said',
  'trap "" TERM INT HUP',
  'nohup sleep 7001 >/dev/null 2>&1 &',
  '(trap "" TERM; exec sleep 7002) &',
  '(sleep 7003 & disown; sleep 7004) &',
  'bash -c "set -m; sleep 7005 & wait" &',
  'setsid --wait sleep 7008 &',
  'touch ~/is-up; while :; do sleep 7006; done',
]
  .join('\n')
  .replaceAll('&\n', '& ')
  .replaceAll('\n', '; ');

/** What a host runs all the time. */
const SYSTEM = /init\.sh|^sleep infinity$|\[listener\]/;

/** What lives on the host besides its system. */
async function survivors(host: TestHost): Promise<string[]> {
  const lines = (await host.processes()).map(({ commandLine }) => commandLine);
  return lines.filter((line) => !SYSTEM.test(line)).sort();
}

async function nothingSurvives(host: TestHost): Promise<void> {
  await until(async () => (await survivors(host)).length === 0, {
    describe: async () => `nothing lives on ${host.name}; found ${(await survivors(host)).join(' | ')}`,
  });
}

/** Waits for a file in the host's home folder. */
async function appears(host: TestHost, name: string): Promise<void> {
  const file = join(host.homeDir, name);
  await until(() => readFile(file).then(() => true), {
    deadlineMs: 15_000,
    describe: `${name} on ${host.name}`,
  });
}

describe.concurrent('execute_batch', () => {
  test('Ctrl-C once: what runs ends well, what waits does not start, and how to leave is said', async () => {
    const host = hosts.get('once');
    await using project = await Project.start(hosts);
    await project.machine(host, 'max_jobs: 2');
    await project.write('batch.sh', [HELD, HELD, 'echo never']);
    const running = project.startBatch(['batch.sh', '--machines', 'once.yaml', ...TINY_CPU]);
    await running.says(/started: [\s\S]*started: /);
    running.signal('SIGINT');
    await running.says(
      /^execute_batch: Ctrl-C: starting nothing more and waiting for the 2 running jobs\. Ctrl-C again ends them; kill -TERM \d+ leaves them running$/m,
      'stderr',
    );
    expect(running.isRunning).toBe(true);
    await host.exec('touch ~/go');
    const { stdout, stderr, exitCode } = await running.ended;
    expect(linesOf(stdout).filter((line) => line.startsWith('finished: '))).toHaveLength(2);
    expect(stdout).not.toContain('batch.sh.3');
    expect(stderr).toContain('2 done, 0 failed, 0 skipped, 1 not run');
    expect(exitCode).toBe(1);
    expect(await project.read('job_results/batch.sh.2.out')).toBe('began\nended\n');
    expect(project.has('job_results/batch.sh.3')).toBe(false);
    // The line that did not run is run by the next call, the others are skipped.
    const next = await project.batch('batch.sh', '--machines', 'once.yaml', ...TINY_CPU);
    expect(next.exitCode).toBe(0);
    expect(linesOf(next.stdout).filter((line) => line.startsWith('started: '))).toEqual([
      'started: batch.sh.3;  echo never',
    ]);
  });

  test('Ctrl-C twice: every process of every job ends, what they wrote is brought home, exit code 130', async () => {
    const host = hosts.get('twice');
    await using project = await Project.start(hosts);
    await project.machine(host, 'max_jobs: 2');
    await project.write('batch.sh', [STUBBORN, 'echo early > kept.txt; sleep 7007', 'echo never']);
    const running = project.startBatch(['batch.sh', '--machines', 'twice.yaml', ...TINY_CPU]);
    await running.says(/started: [\s\S]*started: /);
    await appears(host, 'is-up');
    await until(
      async () => (await survivors(host)).filter((line) => line.startsWith('sleep 700')).length === 8,
    );
    running.signal('SIGINT');
    await running.says(/Ctrl-C again ends them/, 'stderr');
    await running.interruptAgain();
    await running.says(/^execute_batch: Ctrl-C twice: ending the 2 running jobs$/m, 'stderr');
    const { stdout, exitCode } = await running.ended;
    expect(exitCode).toBe(130);
    await nothingSurvives(host);
    expect(stdout).toMatch(/^failed: batch\.sh\.1; .* \(cancelled: ended by Ctrl-C, twice\.yaml, /m);
    expect(stdout).toMatch(/^failed: batch\.sh\.2; .* \(cancelled: ended by Ctrl-C, twice\.yaml, /m);
    expect(stdout).not.toContain('started: batch.sh.3');
    for (const job of ['batch.sh.1', 'batch.sh.2']) {
      expect(await project.read(`job_results/${job}/kept.txt`)).toBe('early\n');
      expect((await project.manifest(job)).outcome).toBe('cancelled');
    }
    expect(await project.read('job_results/batch.sh.1.out')).toBe('said\n');
  });

  test.runIf(hostsAreMachines)(
    'Ctrl-C twice names what an unreachable machine still runs; the next contact ends it',
    async () => {
      const host = hosts.get('far');
      await using project = await Project.start(hosts);
      const args = ['batch.sh', '--machines', 'far.yaml', ...TINY_CPU];
      await project.write('batch.sh', [HELD]);
      const running = project.startBatch(args);
      await running.says(/started: /);
      await host.refuse();
      await host.exec('pkill -f "^sshd: lab"', { asRoot: true });
      await running.says(/far\.yaml: connection lost, its jobs may run on/, 'stderr');
      running.signal('SIGINT');
      await running.says(/Ctrl-C again ends them/, 'stderr');
      await running.interruptAgain();
      const { stderr, exitCode } = await running.ended;
      expect(stderr).toContain(
        'execute_batch: far.yaml cannot be reached: batch.sh.1 may run on there, and is ended when this batch next reaches it',
      );
      expect(exitCode).toBe(130);
      expect((await survivors(host)).some((line) => line.endsWith('/script'))).toBe(true);

      await host.restartSshd();
      await project.write('batch.sh', ['echo instead']);
      const next = await project.batch(...args);
      expect(next.stderr).toContain(
        'far.yaml: ended what an earlier run had left here to be ended: batch.sh.1',
      );
      expect(next.exitCode).toBe(0);
      expect(await project.read('job_results/batch.sh.1.out')).toBe('instead\n');
      await nothingSurvives(host);
    },
  );

  test.each(['SIGTERM', 'SIGHUP'] as const)(
    '%s leaves the jobs running, and they end well',
    async (signal) => {
      const host = hosts.get(signal === 'SIGTERM' ? 'term' : 'hup');
      await using project = await Project.start(hosts);
      await project.write('batch.sh', [HELD, HELD]);
      const running = project.startBatch(['batch.sh', '--machines', `${host.name}.yaml`, ...TINY_CPU]);
      await running.says(/started: [\s\S]*started: /);
      running.signal(signal);
      const { stderr, exitCode } = await running.ended;
      expect(stderr).toContain(`execute_batch: ${signal}: leaving; the 2 running jobs run on where they are`);
      expect(exitCode).toBe(signal === 'SIGTERM' ? 143 : 129);
      // Our connection is gone and what it kept there, the jobs are not.
      await until(async () => !(await survivors(host)).some((line) => /^sshd: lab/.test(line)));
      // A shell that is about to become another program counts for a moment, too.
      await until(async () => (await survivors(host)).filter((line) => /\/script$/.test(line)).length === 2);
      await host.exec('touch ~/go');
      await nothingSurvives(host);
      const ended = await host.exec(
        'head -qn 1 ~/.cache/ssh-scheduler/runs/*/*/*/1/exit; cat ~/.cache/ssh-scheduler/runs/*/*/*/1/out',
      );
      expect(linesOf(ended.stdout)).toEqual([
        expect.stringMatching(/^0 .* done *$/),
        expect.stringMatching(/^0 .* done *$/),
        ...['began', 'ended', 'began', 'ended'],
      ]);
    },
  );
});

describe.concurrent('execute_remote', () => {
  test('one Ctrl-C ends the command with all its processes and keeps nothing on the host', async () => {
    const host = hosts.get('remote');
    await using project = await Project.start(hosts);
    const running = project.startRemote(['--machine', 'remote.yaml', STUBBORN]);
    await running.says(/^said\n/);
    await appears(host, 'is-up');
    running.signal('SIGINT');
    const { stdout, stderr, exitCode } = await running.ended;
    expect(exitCode).toBe(130);
    expect(stdout).toBe('said\n');
    expect(stderr).toContain('execute_remote: Ctrl-C: ending the command');
    await nothingSurvives(host);
    expect((await host.exec('find ~/.cache/ssh-scheduler -type f')).stdout).toBe('');
  });
});
