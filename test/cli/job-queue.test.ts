/** The queue service as its users have it: the built command, real hosts, and a service that dies at any moment. */
import { existsSync, readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { smallDisk } from '../files/small-disk.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { hostsAreMachines, linesOf, Project, type RunningCommand, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'one' }, { name: 'two' }]);
}, 60_000);
afterAll(() => hosts.close());

/** Starts a service and waits until it answers. */
async function serve(project: Project, ...args: readonly string[]): Promise<RunningCommand> {
  const service = project.startQueue(['start', ...args]);
  await service.says(/serving /, 'stderr', 30_000);
  return service;
}

/** Submits; returns the ids. */
async function submit(project: Project, ...args: readonly string[]): Promise<number[]> {
  const { exitCode, stdout, stderr } = await project.queue(
    ...['submit', '--quiet', ...(args.includes('--run-here') ? [] : TINY_CPU), ...args],
  );
  expect([exitCode, stderr]).toEqual([0, expect.not.stringContaining('problem')]);
  return linesOf(stdout).map(Number);
}

interface Listed {
  readonly id: number;
  readonly state: string;
  readonly machine?: string;
  readonly attempt: number;
}

async function list(project: Project): Promise<Listed[]> {
  const { stdout } = await project.queue('list', '--json');
  return linesOf(stdout).map((line) => JSON.parse(line) as Listed);
}

test('a service that is killed at any moment loses nothing: what was acknowledged runs once, and what ran is adopted', async () => {
  await using project = await Project.start(hosts);
  const machines = hostsAreMachines ? ['one.yaml', 'two.yaml'] : ['one.yaml'];
  const command = 'echo "$JOB_ID $JOB_ATTEMPT" >start.txt; sleep 0.4; echo end';
  const acknowledged: number[] = [];
  let service = await serve(project, '--machines', ...machines);
  for (let round = 0; round < 3; round++) {
    for (let each = 0; each < 2; each++)
      acknowledged.push(...(await submit(project, '--command', command, '--array', '1-3')));
    service.signal('SIGKILL');
    await service.ended;
    service = await serve(project);
  }
  const waited = await project.queue('wait', ...acknowledged.map(String));
  expect(waited.exitCode).toBe(0);
  const all = await list(project);
  expect(all.map(({ id }) => id)).toEqual(acknowledged);
  for (const { id, state, attempt } of all) {
    expect([id, state]).toEqual([id, 'success']);
    expect(readFileSync(join(project.path, `job_results/job_${id}/start.txt`), 'utf8')).toBe(
      `${id} ${attempt}\n`,
    );
    expect(readFileSync(join(project.path, `job_results/job_${id}.out`), 'utf8')).toBe('end\n');
    // A loss would be an attempt that began twice, or one that ran and was not found again.
    expect(attempt).toBeLessThanOrEqual(2);
  }
  expect(service.stderr).toMatch(/died: taking over/);
  const stopped = await project.queue('stop', '--when-idle');
  expect(stopped.exitCode).toBe(0);
  expect((await service.ended).exitCode).toBe(0);
});

test('one JSON line for each job, ids with --quiet, and the lines of a command file in their order', async () => {
  await using project = await Project.start();
  const service = await serve(project);
  const first = await project.queue('submit', ...TINY_CPU, '--command', 'echo hello');
  expect(first.stdout).toBe('{"status":"OK","message":"job submitted successfully","code":0,"job_id":1}\n');
  await project.write('commands.txt', [
    '# a comment',
    'echo two',
    '',
    "execute_remote --num-cpus 0.2 'echo three'",
  ]);
  expect(await submit(project, '--command-file', 'commands.txt')).toEqual([2, 3]);
  expect((await project.queue('wait', '1', '2', '3')).exitCode).toBe(0);
  expect((await project.queue('log', '3')).stdout).toBe('three\n');
  const failing = await submit(project, '--command', 'echo problem >&2; exit 3');
  const followed = await project.queue('follow', String(failing[0]));
  expect(followed.stderr).toContain('problem\n');
  expect((await project.queue('wait', ...failing.map(String), '1')).exitCode).toBe(1);
  expect((await project.queue('status', 'local', '--json')).stdout).toBe(
    '{"status":"OK","jobs_running":0,"max_jobs_running":null,"code":0,"jobs_queued":"[]"}\n',
  );
  service.signal('SIGTERM');
  expect((await service.ended).exitCode).toBe(0);
});

test('scripts travel as text and run with their arguments, on a machine or here for a worker', async () => {
  await using project = await Project.start(hosts);
  await serve(project, '--machines', 'one.yaml', '--log-dir', 'logs');
  await project.write('job.sh', '#!/bin/sh\necho "script $1 on $(hostname)"\n', 0o755);
  const [there] = await submit(project, 'job.sh', '--strange arg');
  expect((await project.queue('wait', String(there))).exitCode).toBe(0);
  expect((await project.queue('log', String(there))).stdout).toMatch(/^script --strange arg on /);

  await project.write('here.sh', '#!/bin/bash\necho "$JOB_ID for $SLAVE_IP ($MACHINE_NAME) $1"\n', 0o755);
  const [here] = await submit(project, '--run-here', 'here.sh', 'data_1');
  expect((await project.queue('wait', String(here))).exitCode).toBe(0);
  expect(await project.read(`logs/job_${here}.txt`)).toBe(
    `${here} for ${hosts.get('one').address} (one.yaml) data_1\n`,
  );
  await submit(project, '--hold', '--run-here', 'here.sh', 'data_2');
  await submit(project, '--hold', '--run-here', 'here.sh', 'data_2');
  await submit(project, '--hold', '--run-here', 'here.sh', 'data_3');
  const removed = await project.queue('remove-job', 'here.sh', 'data_2');
  expect(removed.exitCode).toBe(0);
  expect((await list(project)).map(({ state }) => state)).toEqual([
    ...['success', 'success', 'killed', 'killed', 'user-hold'],
  ]);
});

test('machines come and go while it runs', async () => {
  if (!hostsAreMachines) return;
  await using project = await Project.start(hosts);
  await serve(project, '--machines', 'one.yaml');
  const added = await project.queue('add-machine', 'two.yaml', '--env', 'EXTRA=yes');
  expect(added).toMatchObject({ exitCode: 0 });
  expect((await project.queue('add-machine', 'nobody@127.0.0.1:1')).exitCode).toBe(255);
  const [onTwo] = await submit(
    project,
    '--machine',
    'two.yaml',
    '--command',
    'echo $EXTRA; until [ -e /tmp/go ]; do sleep 0.05; done',
  );
  await until(async () => (await project.queue('log', String(onTwo))).stdout === 'yes\n', {
    deadlineMs: 20_000,
  });
  const refused = await project.queue('remove-machine', 'two.yaml');
  expect(refused.exitCode).toBe(255);
  expect(refused.stderr).toContain(String(onTwo));
  const every = await submit(project, '--machine', 'all', '--command', 'echo $MACHINE_NAME');
  expect(every).toHaveLength(2);
  expect((await project.queue('wait', ...every.map(String))).exitCode).toBe(0);
  const killed = await project.queue('remove-machine', 'two.yaml', '--kill', '--drop');
  expect(killed).toMatchObject({ exitCode: 0 });
  expect((await list(project)).find(({ id }) => id === onTwo)?.state).toBe('killed');
  expect((await project.queue('configure', 'one.yaml', '--max-jobs-running', '0')).stdout).toContain(
    '"old_max_jobs_running":null',
  );
  const [waits] = await submit(project, '--command', 'echo later');
  expect((await project.queue('explain', String(waits))).stdout).toContain('one.yaml: It gets no new jobs');
  expect((await project.queue('configure', 'one.yaml', '--max-jobs-running', '-1')).exitCode).toBe(255);
  await project.queue('configure', 'all', '--max-jobs-running', '3');
  expect((await project.queue('wait', String(waits))).exitCode).toBe(0);
});

test('through ssh: the service of another machine is asked with --host; scripts travel as text, paths are its own', async () => {
  // In loopback mode sshd runs as this account, so what is reached is the service of this test.
  await using server = await TestHosts.start([{ name: 'server' }], { mode: 'loopback' });
  await using project = await Project.start(server);
  const data = join(project.path, 'data');
  await serve(project, '--data-dir', data, '--machines', 'local');
  const host = ['--host', 'server.yaml', '--data-dir', data] as const;
  await project.write('job.sh', 'echo "sent as text: $1 in $PWD"\n');
  const sent = await project.queue(...host, 'submit', '--quiet', ...TINY_CPU, 'job.sh', 'a b');
  expect(sent).toMatchObject({ exitCode: 0, stdout: '1\n' });
  expect((await project.queue(...host, 'wait', '1')).exitCode).toBe(0);
  expect((await project.queue(...host, 'log', '1')).stdout).toMatch(/^sent as text: a b in \/.*\/work\n$/);
  // Its results are where the service is: in the home folder there, since no --cwd was given.
  expect(existsSync(join(project.home, 'job_results/job_1.json'))).toBe(true);
  expect((await project.queue(...host, 'status', 'local', '--json')).stdout).toContain('"jobs_running":0');
  const none = await project.queue('--host', 'server.yaml', 'status');
  expect(none.exitCode).toBe(255);
  expect(none.stderr).toMatch(/no service runs on/);
  expect((await project.queue(...host, 'stop')).exitCode).toBe(0);
});

test('a second service is refused, a dead one is told of, and every command says when there is none', async () => {
  await using project = await Project.start();
  const none = await project.queue('status');
  expect(none).toMatchObject({ exitCode: 255, stdout: '' });
  expect(none.stderr).toMatch(/no service runs on .*job_queue start/);
  const daemon = await project.queue('start', '--daemon');
  expect(daemon).toMatchObject({ exitCode: 0, stderr: '' });
  const pid = Number(/process (\d+)/.exec(daemon.stdout)?.[1]);
  try {
    const second = await project.queue('start');
    expect(second).toMatchObject({ exitCode: 255 });
    expect(second.stderr).toContain(`process ${pid}`);
    const log = join(project.home, '.local/share/ssh-scheduler/queue/logs/service.log');
    expect(existsSync(log)).toBe(true);
  } finally {
    await project.queue('stop', '--kill');
  }
});

test('a full disk under its log does not end the service, and keeps none from starting', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  await using project = await Project.start();
  const logs = join(disk.path, 'logs');
  const filler = join(disk.path, 'filler');
  expect(await project.queue('start', '--daemon', '--log-dir', logs)).toMatchObject({ exitCode: 0 });
  await writeFile(filler, Buffer.alloc(2 * 1024 * 1024)).catch(() => {}); // full
  await project.queue('add-machine', 'nobody@127.0.0.1:1', '--skip-ssh-auth-check'); // has it say something
  const [id] = await submit(project, '--command', 'echo fine');
  expect((await project.queue('wait', String(id))).exitCode).toBe(0);
  expect((await project.queue('stop')).exitCode).toBe(0);
  await rm(filler);
  const log = await readFile(join(logs, 'service.log'), 'utf8');
  expect(log).toContain('serving ');
});
