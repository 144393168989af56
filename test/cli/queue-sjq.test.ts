/** `job_queue start` with an sjq door, as a process, with a `~/.sjqrc` of its own. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SjqClient } from '../queue/sjq-client.ts';
import { until } from '../rig/until.ts';
import { Project } from './run-command.ts';

const untilFile = (path: string) =>
  `#!/bin/sh\nfor i in $(seq 2000); do [ -e '${path}' ] && break; sleep 0.05; done\n`;

const isThere = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('~/.sjqrc opens the door, in the background, and the service ends when nobody needs it', async () => {
  await using project = await Project.start();
  const home = (name: string) => join(project.home, name);
  writeFileSync(
    home('.sjqrc'),
    `other.key=1
sjq.socket = ~/my.sock
sjq.logfile=$HOME/sjq.log
sjq.daemon=T
sjq.pidfile=~/my.pid
sjq.maxprocs=2
sjq.maxmem=1G
sjq.defaults.mem=512M
sjq.schedtime=60
`,
  );
  const data = ['--data-dir', home('data')];
  const go = home('go');
  const started = await project.queue('start', ...data);
  expect(started).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^serving as process \d+\n/) });
  const pid = Number(readFileSync(home('my.pid'), 'utf8'));
  expect(started.stdout).toContain(`process ${pid}\n`);
  expect(statSync(home('my.sock')).mode & 0o777).toBe(0o600);
  {
    using client = await SjqClient.connect(home('my.sock'));
    const first = await client.job(untilFile(go), [`CWD ${project.path}`]);
    await client.reaches(first, 'R');
    expect(await client.job(untilFile(go), [`CWD ${project.path}`])).toBe(2);
    await client.reaches(2, 'R');
    expect(await client.submit('#!/bin/sh', ['PROCS 3', 'MEM 2G'])).toBe(
      'ERROR PROCS: the job needs 3 CPUs, and 2 are managed (sjq.maxprocs); MEM: the job needs 2048M, and 1024M are managed (sjq.maxmem)',
    );
    // Two CPUs are in use, and two times 512M.
    const third = await client.job('#!/bin/sh', [`CWD ${project.path}`, 'NAME third']);
    const listed = await project.queue('explain', String(third), ...data);
    expect(listed.stdout).toContain('2 of 2 cores in use, 1 more requested');
  }
  // Only now, so that it does not end before it has its first job.
  appendFileSync(home('.sjqrc'), 'sjq.waittime=1\n');
  // Killed, and started again: jobs run on, the socket is taken over.
  process.kill(pid, 'SIGKILL');
  await until(() => !isThere(pid));
  const again = await project.queue('start', ...data);
  expect(again).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining('2 jobs of before: their machines are asked'),
  });
  const next = Number(readFileSync(home('my.pid'), 'utf8'));
  writeFileSync(go, '');
  await until(() => !isThere(next), { deadlineMs: 20_000 });
  expect(existsSync(home('my.sock'))).toBe(false);
  expect(existsSync(home('my.pid'))).toBe(false);
  expect(readFileSync(home('sjq.log'), 'utf8')).toMatch(
    /adopted on local: (.|\n)*no jobs for 1 s \(sjq.waittime\): stopping/,
  );
  for (const id of [1, 2, 3]) expect(existsSync(join(project.path, `${id}.stdout`))).toBe(true);
});

test('--sjq opens it with the defaults, --no-sjq does not; a second server and mistakes are told', async () => {
  await using project = await Project.start();
  const socket = join(project.home, '.sjq.sock');
  const start = (...args: readonly string[]) => project.startQueue(['start', ...args]);
  {
    const service = start('--sjq', '--data-dir', join(project.home, 'one'));
    await until(() => service.stderr.includes('serving'), { describe: () => service.stderr });
    using client = await SjqClient.connect(socket);
    expect(await client.ask('PING')).toMatch(/^OK R:0 /);
    const second = await start('--sjq', '--data-dir', join(project.home, 'two')).ended;
    expect(second.exitCode).toBe(255);
    expect(second.stderr).toContain(socket);
    // Nothing of the failed start is left in the way.
    expect(await client.ask('PING')).toMatch(/^OK R:0 /);
    expect(await client.ask('SHUTDOWN')).toBe('OK');
    expect((await service.ended).exitCode).toBe(0);
    expect(existsSync(socket)).toBe(false);
  }
  writeFileSync(join(project.home, '.sjqrc'), '# my queue\nsjq.maxproc=2\n');
  const mistaken = await start('--data-dir', join(project.home, 'one')).ended;
  expect(mistaken).toMatchObject({
    exitCode: 255,
    stderr: expect.stringContaining(
      '~/.sjqrc line 2: sjq.maxproc: there is no such key; did you mean sjq.maxprocs?',
    ),
  });
  const plain = start('--no-sjq', '--data-dir', join(project.home, 'one'));
  await until(() => plain.stderr.includes('serving'), { describe: () => plain.stderr });
  expect(existsSync(socket)).toBe(false);
  plain.signal('SIGTERM');
  await plain.ended;
});

test('a service that is not run by root takes no other user, and none takes what is not its own', async () => {
  await using project = await Project.start();
  const code = `import(${JSON.stringify(join(process.cwd(), 'dist/lib/queue/sjq/sjq-submit.js'))}).then(async ({ readSubmit }) => {
    const options = { socketPath: '/', maxProcs: 1, defaultProcs: 1, defaultMemMiB: 1, autoshutdown: false, waitTimeMs: 1, allowsUid: true };
    const lines = ['UID 0', 'GID 0', 'UID ' + process.getuid()].map((line) => ({ word: line.slice(0, 3), value: line.slice(4) }));
    const context = { options, home: '/', isKnown: () => true };
    const read = async (...some) => JSON.stringify((await readSubmit(some, Buffer.from('#!/bin/sh'), context)).reasons ?? []);
    console.log(await read(lines[0], lines[1]), await read(lines[2]));
  })`;
  const root = process.getuid?.() === 0;
  const user = root ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : ['env'];
  const [program = '', ...args] = [...user, process.execPath, '-e', code];
  const said = execFileSync(program, args, { cwd: '/', encoding: 'utf8', env: { HOME: project.home } });
  expect(said).toMatch(
    /^\["UID: found 0, and the service runs as \d+: only one that runs as root can take others","GID: [^"]*"\] \[\]\n$/,
  );
  // A file of somebody's is not taken for one of ours, and a pipe that nobody reads holds up nothing.
  writeFileSync(join(project.home, 'precious'), 'text\n');
  execFileSync('mkfifo', [join(project.home, 'log')]);
  writeFileSync(
    join(project.home, '.sjqrc'),
    'sjq.pidfile=~/precious\nsjq.logfile=~/log\nsjq.waittime=0.5\n',
  );
  const ended = await project.queue('start');
  expect(ended).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining('sjq.pidfile cannot be written'),
  });
  expect(ended.stderr).toContain('sjq.logfile cannot be written');
  expect(readFileSync(join(project.home, 'precious'), 'utf8')).toBe('text\n');
  const refused = await project.queue('start', '--allow-uid', '--no-sjq');
  expect(refused).toMatchObject({ exitCode: 255, stderr: expect.stringContaining('--allow-uid') });
});
