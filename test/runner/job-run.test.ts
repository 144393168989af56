/** The life of one attempt, on a real ssh server: how it ends, what is kept of it, and what a later run makes of it. */
import { readdirSync } from 'node:fs';
import { appendFile, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { JobOutcome } from '../../src/lib/domain/job.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { jobFolder } from '../../src/lib/runner/job-folder.ts';
import { entry, scratch } from '../remote/run-over.ts';
import { runCommand } from '../rig/command.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { LocalRunner, type LocalRunnerOptions, smallJob } from './local-runner.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'far' }]);
});
afterAll(() => hosts.close());

const EXITED_0 = { type: 'exited', exitCode: 0 };
const SLOW = { deadlineMs: 20_000 };

function connectFar(): Promise<RemoteHost> {
  const env = { ...process.env, SSH_AUTH_SOCK: '' };
  return connectSsh(entry('far'), { configFile: hosts.sshConfigPath, env });
}

function open(more: LocalRunnerOptions = {}): Promise<LocalRunner> {
  return LocalRunner.open({ connect: connectFar, name: 'far', killGraceMs: 500, ...more });
}

/** A path in the test host's home folder, and the shell text that waits for it. */
function gate(name: string) {
  const path = join(hosts.get('far').homeDir, name);
  return { wait: `until [ -e ~/${name} ]; do sleep 0.02; done`, open: () => writeFile(path, '') };
}

function attemptFolder(job: string, number = 1): string {
  return join(
    hosts.get('far').homeDir,
    '.cache/ssh-scheduler/runs/key/batch',
    jobFolder(job),
    String(number),
  );
}

function moduleUrl(path: string): string {
  return JSON.stringify(pathToFileURL(resolve(path)).href);
}

async function manifestOf(runner: LocalRunner, name: string): Promise<unknown> {
  return JSON.parse(await runner.read(`${name}.json`)) as unknown;
}

async function settledOutcome(ended: Promise<JobOutcome>): Promise<JobOutcome | 'pending'> {
  return await Promise.race([ended, new Promise<'pending'>((resolve) => setImmediate(resolve, 'pending'))]);
}

// Outcomes

test('a GPU that is out of memory and a plain SIGKILL are told apart, with the last line that was said', async () => {
  await using far = await open();
  const said = 'RuntimeError: CUDA out of memory. Tried to allocate 20.00 GiB.';
  const oom = await far.run(smallJob('oom', `echo working; echo "${said}" >&2; echo >&2; exit 1`));
  expect(oom).toEqual({
    type: 'out-of-memory',
    memory: 'gpu',
    exitCode: 1,
    reason: `its standard error says: ${said}`,
  });
  expect(await manifestOf(far, 'oom')).toMatchObject({
    outcome: 'out-of-memory',
    memory: 'gpu',
    exit_code: 1,
  });
  const ended = await far.event('job:ended', (e) => e.name === 'oom');
  expect(ended).toMatchObject({ lastErrorLine: said, willRetry: false });
  expect(await far.run(smallJob('killed', 'echo gone >&2; kill -9 $$'))).toEqual({
    type: 'exited',
    exitCode: 137,
  });
  expect(await far.run(smallJob('fine', `echo "${said}" >&2`))).toEqual(EXITED_0);
  expect((await far.event('job:ended', (e) => e.name === 'fine')).lastErrorLine).toBeUndefined();
});

test('a job that fails at once for want of something on its machine says so', async () => {
  await using far = await open();
  const outcome = await far.run(
    smallJob('no room', 'echo "cp: writing \'x\': No space left on device" >&2; exit 1'),
  );
  expect(outcome).toEqual({ type: 'exited', exitCode: 1, machineFault: 'no space left on a disk' });
});

test('a time limit that the machine keeps, and one that is told', async () => {
  await using far = await open({ timeoutMs: 400 });
  expect(await far.run(smallJob('limited', 'echo begun; sleep 1000'))).toEqual({
    type: 'timed-out',
    timeoutMs: 400,
  });
  expect(await manifestOf(far, 'limited')).toMatchObject({
    outcome: 'timed-out',
    timeout_s: 0.4,
    exit_code: null,
  });
  expect(await far.read('limited.out')).toBe('begun\n');
  await using unlimited = await open();
  const run = await unlimited.start(smallJob('told', 'echo begun; sleep 1000'));
  await unlimited.event('job:started');
  run.expire(1234);
  expect(await run.ended).toEqual({ type: 'timed-out', timeoutMs: 1234 });
  expect(await unlimited.run(smallJob('in time', 'true'))).toEqual(EXITED_0);
});

test('an end that an earlier controller asked for is a cancellation', async () => {
  await using far = await open();
  const job = smallJob('asked', 'sleep 1000');
  const run = await far.start(job);
  await far.event('job:started');
  run.giveUp('this controller forgets it');
  far.link.cancel({ folder: 'asked', number: 1 }, 300);
  const adopted = await far.adopt(job, 'cancelled');
  expect(await adopted.ended).toEqual({ type: 'cancelled', reason: 'its end was asked for' });
});

test('a lost attempt says why', async () => {
  await using far = await open();
  const run = await far.start(smallJob('lost', 'sleep 1000'));
  await far.event('job:started');
  const [wrapper = ''] = (await readFile(join(attemptFolder('lost'), 'wrapper'), 'utf8')).split(' ');
  expect(wrapper).toMatch(/^\d+$/);
  await hosts.get('far').exec(`kill -9 ${wrapper}`);
  expect(await run.ended).toEqual({ type: 'lost', reason: 'its processes are gone without an exit record' });
  expect(await far.resultNames('lost')).toEqual(['lost.err', 'lost.out']);
});

test('an attempt is lost when its machine was started anew', async ({ skip }) => {
  await using booting = await TestHosts.start([{ name: 'booting' }]);
  if (!booting.capabilities.powerOff) return skip('these test hosts cannot be powered off');
  const env = { ...process.env, SSH_AUTH_SOCK: '' };
  const ssh = { configFile: booting.sshConfigPath, env, keepaliveIntervalMs: 150, keepaliveCountMax: 2 };
  await using far = await open({ connect: () => connectSsh(entry('booting'), ssh), name: 'booting' });
  const run = await far.start(smallJob('booted', 'echo begun; sleep 1000'));
  await until(async () => (await far.read('booted.out')) === 'begun\n', SLOW);
  await booting.get('booting').powerOff();
  await booting.get('booting').boot();
  expect(await run.ended).toEqual({ type: 'lost', reason: 'its machine was started anew' });
});

test('an attempt that its machine never began says so', async () => {
  let isReachable = true;
  let first: RemoteHost | undefined;
  const connect = async () => {
    if (!isReachable) throw new Error('unreachable');
    first = await connectFar();
    return first;
  };
  await using far = await open({ connect });
  isReachable = false;
  await first?.close();
  await far.event('machine:away');
  const run = await far.start(smallJob('never', 'true'));
  isReachable = true;
  expect(await run.ended).toMatchObject({ type: 'lost', neverStarted: true });
  expect(far.events.filter((e) => e.type === 'job:started')).toEqual([]);
});

// Start

test('the files here are the attempt\u2019s before its machine hears of it, and the caller knows', async () => {
  const seen: string[][] = [];
  await using far = await open({
    beforeStart: () => {
      seen.push(readdirSync(far.result()), readdirSync(attemptsOf('begin')));
    },
  });
  const attemptsOf = (job: string) => join(attemptFolder(job), '../..');
  await far.run(smallJob('begin', 'true'));
  expect(seen).toHaveLength(2);
  expect(seen[0]).toEqual(['begin.err', 'begin.out']);
  expect(seen[1]).not.toContain('begin');
});

// Not final

test('an attempt that another one follows is kept beside, the next one has the name', async () => {
  const asked: unknown[] = [];
  await using far = await open({
    isLast: (attempt, outcome, machine) => {
      asked.push([attempt.number, outcome, machine]);
      return attempt.number === 2;
    },
  });
  const job = smallJob('again', 'echo "try $JOB_ATTEMPT" | tee made; exit $((2 - JOB_ATTEMPT))', {
    copyBackwards: 'changed',
  });
  expect(await far.run(job, 1)).toEqual({ type: 'exited', exitCode: 1 });
  const names = ['', '.err', '.json', '.out'];
  expect(await far.resultNames('again')).toEqual(names.map((ending) => `again.attempt-1${ending}`));
  expect(await far.run(job, 2)).toEqual(EXITED_0);
  expect(await far.resultNames('again')).toEqual(
    [
      'again',
      ...names.map((ending) => `again.attempt-1${ending}`),
      ...names.slice(1).map((e) => `again${e}`),
    ].sort(),
  );
  expect(await far.read('again.attempt-1/made')).toBe('try 1\n');
  expect(await far.read('again.attempt-1.out')).toBe('try 1\n');
  expect(await manifestOf(far, 'again.attempt-1')).toMatchObject({ attempt: 1, exit_code: 1 });
  expect(await far.read('again/made')).toBe('try 2\n');
  expect(await manifestOf(far, 'again')).toMatchObject({ attempt: 2, exit_code: 0 });
  expect(asked).toEqual([
    [1, { type: 'exited', exitCode: 1 }, 'far'],
    [2, EXITED_0, 'far'],
  ]);
  const ends = far.events.filter((e) => e.type === 'job:ended');
  expect(ends.map(({ willRetry }) => willRetry)).toEqual([true, false]);
  await far.runner.close();
  expect(await readdir(join(attemptFolder('again'), '..')).catch(() => [])).toEqual([]);
});

// Output goes on

test('a later controller goes on with the output where the files stop, and tells only what is new', async () => {
  const half = gate('resume-half');
  const end = gate('resume-end');
  await using far = await open();
  const noise = 'head -c 700000 /dev/zero | tr "\\0" n';
  const job = smallJob(
    'resumed',
    `${noise}; echo one; echo first >&2; ${half.wait}; echo two; echo second >&2; ${end.wait}; echo three; exit 4`,
  );
  const before = Date.now();
  await (await far.start(job)).started;
  await until(async () => (await far.read('resumed.out')).endsWith('one\n'), SLOW);
  await until(async () => (await far.read('resumed.err')) === 'first\n', SLOW);
  await far.runner.close();
  await half.open(); // it goes on meanwhile
  const heard: string[] = [];
  await using later = await open({
    folder: far.folder,
    ownsOutput: () => true,
    onOutput: (_, stream, chunk) => heard.push(`${stream} ${chunk.toString()}`),
  });
  const run = await later.adopt(job, 'running');
  const started = await later.event('job:started');
  expect(started.isAdopted).toBe(true);
  expect(started.startedAt).toBeGreaterThan(before - 2000);
  expect(started.startedAt).toBeLessThanOrEqual(Date.now());
  await until(async () => (await later.read('resumed.out')).endsWith('two\n'), SLOW);
  await end.open();
  expect(await run.ended).toEqual({ type: 'exited', exitCode: 4 });
  expect(await later.read('resumed.out')).toBe(`${'n'.repeat(700_000)}one\ntwo\nthree\n`);
  expect(await later.read('resumed.err')).toBe('first\nsecond\n');
  expect(heard.sort()).toEqual(['err second\n', 'out three\n', 'out two\n']);
  expect((await later.event('job:ended')).lastErrorLine).toBe('second');
});

test('where the files here are not what is there, they are fetched anew, whole', async () => {
  await using far = await open({ ownsOutput: () => true });
  const cases = {
    'changed in the middle': async (path: string) => {
      const bytes = await readFile(path);
      bytes[10] = 0x21;
      await writeFile(path, bytes);
    },
    'longer than there': (path: string) => appendFile(path, 'more than there ever was'),
    'cut short': (path: string) => truncate(path, 5),
    gone: (path: string) => rm(path),
    right: async () => {},
  };
  for (const [name, spoil] of Object.entries(cases)) {
    const text = 'head -c 600000 /dev/urandom | base64';
    const end = gate(`spoilt-${name.replaceAll(' ', '-')}`);
    const job = smallJob(name, `echo begun; ${text}; ${text} >&2; ${end.wait}`);
    const run = await far.start(job);
    await until(async () => (await stat(far.result(`${name}.out`))).size > 100_000, SLOW);
    run.giveUp('this controller forgets it');
    await end.open();
    const there = await until(async () => {
      await stat(join(attemptFolder(name), 'exit'));
      return await Promise.all(['out', 'err'].map((stream) => readFile(join(attemptFolder(name), stream))));
    }, SLOW);
    await writeFile(far.result(`${name}.err`), there[1]?.subarray(0, 1000) ?? '');
    await writeFile(far.result(`${name}.out`), there[0]?.subarray(0, 300_000) ?? '');
    await spoil(far.result(`${name}.out`));
    const adopted = await far.adopt(job, 'ended');
    expect(await adopted.ended, name).toEqual(EXITED_0);
    expect((await readFile(far.result(`${name}.out`))).equals(there[0] ?? Buffer.alloc(0)), name).toBe(true);
    expect((await readFile(far.result(`${name}.err`))).equals(there[1] ?? Buffer.alloc(0)), name).toBe(true);
    expect(await readdir(far.result('.partial')).catch(() => [])).toEqual([]);
  }
});

test('an attempt adopted after its end started when it did', async () => {
  await using far = await open();
  const job = smallJob('over', 'sleep 1.2');
  const before = Date.now();
  const run = await far.start(job);
  await run.started;
  run.giveUp('this controller forgets it');
  const adopted = await far.adopt(job, 'ended');
  expect(await adopted.ended).toEqual(EXITED_0);
  const { startedAt = 0, durationMs } = await far.event('job:ended', (e) => e.outcome.type === 'exited');
  expect(durationMs).toBeGreaterThan(1000);
  // A machine tells whole seconds of its clock.
  expect(startedAt).toBeGreaterThan(before - 2500);
  expect(startedAt).toBeLessThan(Date.now() - 1000);
  const manifest = (await manifestOf(far, 'over')) as { started_at: string };
  expect(Date.parse(manifest.started_at)).toBe(startedAt);
});

// Another attempt counts, or nobody waits

test('an abandoned attempt is ended and leaves nothing, here or there', async () => {
  await using far = await open();
  const run = await far.start(
    smallJob('abandoned', 'trap "" TERM; echo >made; while :; do echo x; sleep 0.02; done', {
      copyBackwards: 'changed',
    }),
  );
  await until(async () => (await far.read('abandoned.out')) !== '', SLOW);
  run.abandon('the first one is back');
  await writeFile(far.result('abandoned.out'), 'of the newer attempt');
  expect(await run.ended).toEqual({ type: 'cancelled', reason: 'the first one is back' });
  expect(await far.read('abandoned.out')).toBe('of the newer attempt');
  expect(await far.resultNames('abandoned')).toEqual(['abandoned.err', 'abandoned.out']);
  expect(far.events.some(({ type }) => type === 'job:ended')).toBe(false);
  await far.runner.close();
  expect(await readdir(attemptFolder('abandoned')).catch(() => 'gone')).toBe('gone');
});

test('an attempt abandoned while its results come publishes nothing', async () => {
  await using far = await open();
  const job = smallJob('late', 'head -c 30000000 /dev/urandom >large', { copyBackwards: 'changed' });
  const run = await far.start(job);
  await until(async () => (await readdir(far.result('.partial'))).includes('late'), SLOW);
  run.abandon('another one counts');
  expect(await run.ended).toEqual({ type: 'cancelled', reason: 'another one counts' });
  expect(await far.resultNames('late')).toEqual(['late.err', 'late.out']);
  expect(await readdir(far.result('.partial')).catch(() => [])).toEqual([]);
});

test('an attempt that is given up settles at once, and can be adopted again', async () => {
  const end = gate('given-up-end');
  await using far = await open();
  const job = smallJob('given up', `echo one; ${end.wait}; echo two; echo >made`, {
    copyBackwards: 'changed',
  });
  const run = await far.start(job);
  await until(async () => (await far.read('given up.out')) === 'one\n', SLOW);
  run.giveUp('away for too long');
  expect(await settledOutcome(run.ended)).toEqual({ type: 'lost', reason: 'away for too long' });
  await run.freed;
  await writeFile(far.result('given up.out'), '');
  const adopted = await far.adopt(job, 'running');
  run.abandon('too late');
  run.cancel('too late');
  await end.open();
  expect(await adopted.ended).toEqual(EXITED_0);
  expect(await far.read('given up.out')).toBe('one\ntwo\n');
  expect(await far.read('given up/made')).toBe('\n');
  const ends = far.events.filter((e) => e.type === 'job:ended');
  expect(ends.map(({ outcome }) => outcome.type)).toEqual(['lost', 'exited']);
});

// Bursts

test('a burst of 500 MB arrives whole, in less than 200 MB of memory', async () => {
  await using folder = await scratch();
  // A process of its own, so that its memory is the runner's alone.
  const program = `
    import { connectSsh } from ${moduleUrl('src/lib/remote/ssh-host.ts')};
    import { entry } from ${moduleUrl('test/remote/run-over.ts')};
    import { LocalRunner, smallJob } from ${moduleUrl('test/runner/local-runner.ts')};
    let mostBytes = 0;
    const look = () => { mostBytes = Math.max(mostBytes, process.memoryUsage().rss); };
    const timer = setInterval(look, 20);
    const ssh = { configFile: ${JSON.stringify(hosts.sshConfigPath)}, env: { ...process.env, SSH_AUTH_SOCK: '' } };
    const runner = await LocalRunner.open({
      connect: () => connectSsh(entry('far'), ssh),
      folder: ${JSON.stringify(folder.path)},
      onOutput: look,
    });
    const outcome = await runner.run(smallJob('burst', 'yes "a line of the burst, again and again" | head -c 500000000'));
    await runner.runner.close();
    clearInterval(timer);
    console.log(JSON.stringify({ outcome, mostBytes }));`;
  const child = await runCommand(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program]);
  expect(child.stderr).toBe('');
  const { outcome, mostBytes } = JSON.parse(child.stdout) as { outcome: JobOutcome; mostBytes: number };
  expect(outcome).toEqual(EXITED_0);
  expect(mostBytes).toBeLessThan(200e6);
  const path = join(folder.path, 'job_results/burst.out');
  expect((await stat(path)).size).toBe(500_000_000);
  const compare = 'yes "a line of the burst, again and again" | head -c 500000000 | cmp - "$1"';
  expect(await runCommand('bash', ['-c', compare, 'bash', path])).toMatchObject({ exitCode: 0, stdout: '' });
}, 120_000);

// --max-output

test('output beyond the limit stays there: the files end with one line that says so', async () => {
  await using far = await open({ maxOutputBytes: 1_000_000 });
  const job = smallJob(
    'loud',
    'yes abcdefg | head -c 3000000; head -c 1000000 /dev/zero | tr "\\0" "\\n" >&2; echo the reason >&2; exit 1',
  );
  expect(await far.run(job)).toEqual({ type: 'exited', exitCode: 1 });
  const mark = (bytes: number) => `[ssh-scheduler: cut here, ${bytes} bytes in all: see --max-output]\n`;
  expect(await far.read('loud.out')).toBe(`${'abcdefg\n'.repeat(125_000)}${mark(3_000_000)}`);
  expect(await far.read('loud.err')).toBe(`${'\n'.repeat(1_000_000)}${mark(1_000_011)}`);
  expect(await manifestOf(far, 'loud')).toMatchObject({
    out_bytes: 3_000_000,
    out_cut: true,
    err_bytes: 1_000_011,
    err_cut: true,
  });
  expect((await far.event('job:ended')).lastErrorLine).toBe('the reason');
  // Exactly at the limit nothing is cut, and a cut in the middle of a line ends it.
  await far.run(smallJob('exact', 'head -c 1000000 /dev/zero'));
  expect((await stat(far.result('exact.out'))).size).toBe(1_000_000);
  expect(await manifestOf(far, 'exact')).not.toHaveProperty('out_cut');
  await far.run(smallJob('line', 'head -c 1000001 /dev/zero | tr "\\0" x'));
  expect(await far.read('line.out')).toBe(`${'x'.repeat(1_000_000)}\n${mark(1_000_001)}`);
});

test('a cut file that a later controller goes on with is marked once', async () => {
  const end = gate('cut-end');
  await using far = await open({ maxOutputBytes: 50_000 });
  const job = smallJob('cut', `yes | head -c 60000; ${end.wait}; yes | head -c 10000`);
  const run = await far.start(job);
  await until(async () => (await stat(far.result('cut.out'))).size === 50_000, SLOW);
  run.giveUp('this controller forgets it');
  await appendFile(far.result('cut.out'), '[an earlier mark]\n');
  await using later = await open({ folder: far.folder, maxOutputBytes: 50_000, ownsOutput: () => true });
  const adopted = await later.adopt(job, 'running');
  await adopted.started;
  await end.open();
  expect(await adopted.ended).toEqual(EXITED_0);
  const mark = '[ssh-scheduler: cut here, 70000 bytes in all: see --max-output]\n';
  expect(await later.read('cut.out')).toBe(`${'y\n'.repeat(25_000)}${mark}`);
});
