/** Scripts that run here for workers: real processes below a home of each test's own, and a real ssh to a test host. */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { SchedulerEvent } from '../../src/lib/domain/events.ts';
import { type Job, jobId } from '../../src/lib/domain/job.ts';
import { type MachineName, machineName } from '../../src/lib/domain/machine.ts';
import type { Reservation, RunningAttempt } from '../../src/lib/domain/ports.ts';
import type { QueueJobSpec } from '../../src/lib/domain/queue.ts';
import type { MachineConfig } from '../../src/lib/machine/config.ts';
import { HereRuns, type HereRunsOptions } from '../../src/lib/queue/here-runs.ts';
import { ScriptStore } from '../../src/lib/queue/script-store.ts';
import { originOf } from '../../src/lib/runner/batch-origin.ts';
import { EventStream } from '../../src/lib/util/event-stream.ts';
import { entry } from '../remote/run-over.ts';
import { findProgram } from '../rig/find-program.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';
import { scratch } from './programs.ts';

const SLOW = { deadlineMs: 25_000 };
const FREE = { type: 'refused', everFits: true, shortfalls: [] };

type Worker = ReturnType<HereRunsOptions['workers']>[number];

/** A service as far as scripts need one, in a folder that outlives it. */
class Stand {
  readonly events: SchedulerEvent[] = [];
  readonly configs = new Map<string, MachineConfig>();
  workers: Worker[] = [];
  readonly scripts: ScriptStore;
  /** Of services before this one as well, as a store would have it. */
  readonly specs: Map<number, QueueJobSpec>;
  readonly given: Map<number, MachineName>;
  /** One of its own for each test: processes are found by it, wherever they lie. */
  readonly serviceId: string;
  readonly here: HereRuns;

  constructor(
    readonly folder: string,
    workers: readonly string[],
    more: Partial<HereRunsOptions> & { readonly path?: string } = {},
    earlier?: Stand,
  ) {
    this.specs = earlier?.specs ?? new Map();
    this.given = earlier?.given ?? new Map();
    this.serviceId = earlier?.serviceId ?? randomBytes(6).toString('hex');
    this.scripts = new ScriptStore(join(folder, 'scripts'));
    for (const name of workers) this.add(name);
    const events = new EventStream<SchedulerEvent>();
    events.subscribe((event) => this.events.push(event));
    const { path = process.env.PATH, ...options } = more;
    this.here = new HereRuns({
      serviceId: this.serviceId,
      toolVersion: 'test',
      origin: originOf(folder, join(folder, 'queue.sqlite')),
      workers: () => this.workers,
      configOf: (name) => this.configs.get(name),
      specOf: (id) => this.specs.get(id),
      workerOf: (id) => this.given.get(id),
      scripts: this.scripts,
      logFolder: join(folder, 'logs'),
      events,
      ssh: { configFile: '/dev/null' },
      host: { home: folder, env: { ...process.env, HOME: folder, PATH: path } },
      backoff: { firstMs: 50, longestMs: 200 },
      ...options,
    });
  }

  add(name: string, more: Partial<MachineConfig> = {}): void {
    this.configs.set(name, entry(`${name}.invalid`, { name: machineName(name), ...more }));
    this.workers = [...this.workers, { name: machineName(name), isOpen: true }];
  }

  async job(id: number, text: string, more: Partial<QueueJobSpec> = {}, args: string[] = []): Promise<Job> {
    const scriptId = await this.scripts.keep(text);
    const { request } = smallJob('any', '');
    const spec: QueueJobSpec = {
      name: `job_${id}`,
      command: `job.sh ${args.join(' ')}`,
      script: { name: 'job.sh', id: scriptId, args },
      runHere: true,
      request,
      env: {},
      cwd: this.folder,
      results: join(this.folder, 'job_results'),
      copyForwards: [],
      shareForwards: [],
      copyBackwards: 'changed',
      treeParts: [],
      retries: 0,
      oomGrow: 1,
      priority: 0,
      dependsOn: [],
      dependsOnAny: false,
      waitForMachine: false,
      ...more,
    };
    this.specs.set(id, spec);
    const { name, command, copyBackwards, machine } = spec;
    const only = machine === undefined ? {} : { only: machine };
    return { ...smallJob(name, command, { copyBackwards }), ...only, id: jobId(String(id)) };
  }

  reserve(job: Job): Reservation {
    const placed = this.here.reserve(job);
    if (placed.type === 'refused') throw new Error(`refused: ${JSON.stringify(placed)}`);
    return placed;
  }

  start(job: Job, number = 1): RunningAttempt {
    const reservation = this.reserve(job);
    this.given.set(Number(job.id), reservation.machine);
    return this.here.start(job, { job: job.id, number }, reservation);
  }

  log(id: number): Promise<string> {
    return readFile(join(this.folder, 'logs', `job_${id}.txt`), 'utf8');
  }

  ofType<T extends SchedulerEvent['type']>(type: T) {
    return this.events.filter((event): event is Extract<SchedulerEvent, { type: T }> => event.type === type);
  }
}

async function stand(
  workers: readonly string[] = ['w1'],
  more: ConstructorParameters<typeof Stand>[2] = {},
): Promise<Stand & AsyncDisposable> {
  const folder = await scratch();
  const made = new Stand(folder.path, workers, more);
  return Object.assign(made, {
    async [Symbol.asyncDispose]() {
      await made.here.close();
      await folder[Symbol.asyncDispose]();
    },
  });
}

/** Whether a process runs: one that nobody has asked about since its end does not. */
async function isAlive(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return status !== '' && !/^State:\s+[ZX]/m.test(status);
}

async function alive(pids: readonly string[]): Promise<readonly string[]> {
  const are = await Promise.all(pids.map(isAlive));
  return pids.filter((_pid, at) => are[at]);
}

test('a script has what it is told about its job and its worker, its arguments and its folder', async () => {
  await using here = await stand([]);
  here.add('w1', {
    username: 'ann',
    port: 2222,
    env: { FROM_WORKER: "it's", BOTH: 'worker', HOME: '/else' },
  });
  await mkdir(join(here.folder, 'project'));
  const text = `#!/bin/bash
set -u
printf '<%s>' "$JOB_ID" "$SLAVE_IP" "$MACHINE_NAME" "$MACHINE_USER" "$MACHINE_PORT" "$FROM_WORKER" "$BOTH" "$MINE" "$PWD" "$@"
[ "$(readlink -f /dev/stdin)" = /dev/null ] && echo; echo err >&2
[ -x "$0" ] && echo "$0"
echo made >made
exit 3
`;
  const more = { cwd: join(here.folder, 'project'), env: { BOTH: 'job', MINE: "a 'b'\nc" } };
  const job = await here.job(17, text, more, ['data 1', '']);
  const running = here.start(job);
  expect(running.machine).toBe('w1');
  expect(await running.ended).toEqual({ type: 'exited', exitCode: 3 });
  const told = ['17', 'w1.invalid', 'w1', 'ann', '2222', "it's", 'job', "a 'b'\nc"];
  const words = [...told, join(here.folder, 'project'), 'data 1', ''].map((word) => `<${word}>`).join('');
  const log = await here.log(17);
  expect(log).toMatch(/\/script-file\/job\.sh\n$/);
  expect(log.slice(0, log.lastIndexOf('/.cache/'))).toBe(`${words}\nerr\n${here.folder}`);
  expect(((await stat(join(here.folder, 'logs'))).mode & 0o777).toString(8)).toBe('700');
  expect(((await stat(join(here.folder, 'logs/job_17.txt'))).mode & 0o777).toString(8)).toBe('600');
  // Nothing is kept but the log, and what the script itself made where it ran.
  expect(await readdir(here.folder)).not.toContain('job_results');
  expect(await readdir(join(here.folder, 'project'))).toEqual(['made']);
  expect(here.ofType('job:started')).toMatchObject([
    { job: '17', name: 'job_17', machine: 'w1', attempt: 1, command: 'job.sh data 1 ', request: job.request },
  ]);
  expect(here.ofType('job:ended')).toMatchObject([
    { job: '17', machine: 'w1', outcome: { type: 'exited', exitCode: 3 }, willRetry: false },
  ]);
});

test('#! says what a script runs under, and another attempt appends to the log', async () => {
  await using here = await stand();
  const text = '#! /bin/cat\nno shell reads this\n';
  const job = await here.job(1, text);
  expect(await here.start(job).ended).toEqual({ type: 'exited', exitCode: 0 });
  expect(await here.start(job, 2).ended).toEqual({ type: 'exited', exitCode: 0 });
  expect(await here.log(1)).toBe(`${text}${text}`);
});

test('user and port that an entry does not say are those of ssh, else one’s own and 22', async () => {
  await using here = await stand([]);
  const config = join(here.folder, 'ssh_config');
  await writeFile(config, 'Host w1.invalid\n  User bob\n  Port 2200\n');
  await using asked = await stand([], { ssh: { configFile: config } });
  asked.add('w1');
  asked.add('w2', { port: 99 });
  // No host at all to ssh, and its configuration cannot be read.
  await using odd = await stand([], { ssh: { configFile: join(here.folder, 'none') } });
  odd.add('w3', { host: 'rack 7, left' });
  const text = 'echo "$SLAVE_IP|$MACHINE_USER|$MACHINE_PORT"';
  const told = async (one: Stand, id: number, name: string) => {
    const job = await one.job(id, text, { machine: machineName(name) });
    expect(await one.start(job).ended).toEqual({ type: 'exited', exitCode: 0 });
    return await one.log(id);
  };
  const me = userInfo().username;
  expect(await told(asked, 1, 'w1')).toBe('w1.invalid|bob|2200\n');
  expect(await told(asked, 2, 'w2')).toBe(`w2.invalid|${me}|99\n`);
  expect(await told(odd, 3, 'w3')).toBe(`rack 7, left|${me}|22\n`);
});

test('a worker has one script at a time; the one that was idle for longest is taken', async () => {
  await using here = await stand(['w1', 'w2']);
  const gate = join(here.folder, 'gate');
  const waits = `until [ -e ${gate}-$JOB_ID ]; do sleep 0.02; done`;
  const jobs = await Promise.all([1, 2, 3, 4].map((id) => here.job(id, waits)));
  const [one, two, three, four] = jobs;
  if (one === undefined || two === undefined || three === undefined || four === undefined) throw new Error();
  let told = 0;
  here.here.onCapacity(() => told++);
  const first = here.start(one);
  const second = here.start(two);
  expect([first.machine, second.machine]).toEqual(['w1', 'w2']);
  expect([here.here.runningFor(first.machine), here.here.runningFor(second.machine)]).toEqual([[1], [2]]);
  expect(here.here.reserve(three)).toEqual(FREE);
  await writeFile(`${gate}-2`, '');
  await second.ended;
  await until(() => told > 0, SLOW);
  await writeFile(`${gate}-1`, '');
  await first.ended;
  await until(() => here.here.runningFor(first.machine).length === 0, SLOW);
  // w2 was free before w1.
  const third = here.reserve(three);
  const fourth = here.reserve(four);
  expect([third.machine, fourth.machine]).toEqual(['w2', 'w1']);
  here.here.release(third);
  expect(() => here.here.release(third)).toThrow(/once/);
});

test('a job for one worker waits for that one; closed workers get nothing; one that comes back is still busy', async () => {
  await using here = await stand(['w1', 'w2']);
  const gate = join(here.folder, 'gate');
  const w1 = machineName('w1');
  const job = await here.job(1, `until [ -e ${gate} ]; do sleep 0.02; done`, { machine: w1 });
  const other = await here.job(2, 'true', { machine: w1 });
  const any = await here.job(3, 'true');
  const running = here.start(job);
  expect(running.machine).toBe('w1');
  expect(here.here.reserve(other)).toEqual(FREE);
  here.workers = [{ name: machineName('w2'), isOpen: false }];
  expect(here.here.reserve(other)).toEqual(FREE);
  expect(here.here.reserve(any)).toEqual(FREE);
  here.configs.delete('w1');
  here.workers = [];
  here.add('w1');
  expect(here.here.reserve(other)).toEqual(FREE);
  await writeFile(gate, '');
  expect(await running.ended).toEqual({ type: 'exited', exitCode: 0 });
  await until(() => here.here.runningFor(w1).length === 0, SLOW);
  expect(here.reserve(other).machine).toBe('w1');
});

test('a job keeps away from where it failed while there is another worker', async () => {
  await using here = await stand(['w1', 'w2']);
  const job = { ...(await here.job(1, 'true')), avoid: [machineName('w1')] };
  const held = here.reserve(job);
  expect(held.machine).toBe('w2');
  expect(here.here.reserve(job)).toEqual(FREE);
  here.here.release(held);
  here.workers = here.workers.filter(({ name }) => name === 'w1');
  expect(here.reserve(job).machine).toBe('w1');
});

test('a cancelled script gets SIGTERM, and may end by itself', async () => {
  await using here = await stand();
  const text = `trap 'echo told; exit 0' TERM\necho ready\nwhile :; do sleep 0.02; done`;
  const running = here.start(await here.job(1, text));
  await until(async () => (await here.log(1)) === 'ready\n', SLOW);
  running.cancel('no more');
  expect(await running.ended).toEqual({ type: 'cancelled', reason: 'no more' });
  // Bash tells of the sleep that SIGTERM has ended as well, if that came first.
  expect(await here.log(1)).toMatch(/^ready\n(.*Terminated.*\n)?told\n$/);
  expect(here.ofType('job:ended')).toMatchObject([{ machine: 'w1', outcome: { type: 'cancelled' } }]);
});

test('what ignores SIGTERM is killed after the grace time, with all that it started', async () => {
  await using here = await stand();
  // A child that ignores TERM as well, one in a session of its own, and one in the background of a subshell.
  const text = `trap 'echo told' TERM
(trap '' TERM; echo $BASHPID >>pids; exec sleep 1000) &
setsid bash -c 'trap "" TERM; echo $$ >>pids; sleep 1000 & echo $! >>pids; wait' &
(sleep 1000 & echo $! >>pids) 
echo $$ >>pids
until [ "$(wc -l <pids)" = 5 ]; do sleep 0.02; done
echo ready
while :; do sleep 0.02; done`;
  const running = here.start(await here.job(1, text, { killAfterMs: 300 }));
  await until(async () => (await here.log(1)) === 'ready\n', SLOW);
  const pids = (await readFile(join(here.folder, 'pids'), 'utf8')).trim().split('\n');
  expect(await alive(pids)).toEqual(pids);
  running.cancel('no more');
  expect(await running.ended).toEqual({ type: 'cancelled', reason: 'no more' });
  expect(await here.log(1)).toMatch(/^told$/m);
  expect(await alive(pids)).toEqual([]);
});

test('a script that runs for too long is ended as such', async () => {
  await using here = await stand();
  const job = await here.job(1, 'sleep 1000', { timeoutMs: 300, killAfterMs: 100 });
  expect(await here.start(job).ended).toEqual({ type: 'timed-out', timeoutMs: 300 });
});

test('a script outlives its service and is adopted by the next one', async () => {
  await using first = await stand(['w1', 'w2']);
  const { folder } = first;
  const gate = join(folder, 'gate');
  const waits = `echo before; until [ -e ${gate} ]; do sleep 0.02; done; echo after; exit 4`;
  const w2 = { machine: machineName('w2') };
  const job = await first.job(17, waits, w2);
  const other = await first.job(18, `until [ -e ${gate}-18 ]; do sleep 0.02; done; echo 18; exit 5`);
  first.start(job);
  first.start(other);
  await until(async () => (await first.log(17)) === 'before\n' && (await first.log(18)) === '', SLOW);
  await first.here.close();
  await writeFile(`${gate}-18`, '');
  await until(async () => (await first.log(18)) === '18\n', SLOW);

  const second = new Stand(folder, ['w1', 'w2'], {}, first);
  const found = await until(async () => {
    const all = await second.here.discover();
    return all.some(({ state }) => state === 'ended') && all;
  }, SLOW);
  expect(found.map(({ attempt, machine, state, command }) => ({ attempt, machine, state, command }))).toEqual(
    expect.arrayContaining([
      { attempt: { job: '17', number: 1 }, machine: 'w2', state: 'running', command: job.command },
      { attempt: { job: '18', number: 1 }, machine: 'w1', state: 'ended', command: other.command },
    ]),
  );
  const [running] = found.filter(({ state }) => state === 'running');
  const [ended] = found.filter(({ state }) => state === 'ended');
  if (running === undefined || ended === undefined) throw new Error('not found');
  const adopted = second.here.adopt(job, running);
  expect(await second.here.adopt(other, ended).ended).toEqual({ type: 'exited', exitCode: 5 });
  expect(adopted.machine).toBe('w2');
  expect(second.here.runningFor(adopted.machine)).toEqual([17]);
  expect(second.here.reserve(await second.job(19, 'true', w2))).toEqual(FREE);
  await writeFile(gate, '');
  expect(await adopted.ended).toEqual({ type: 'exited', exitCode: 4 });
  expect(await second.log(17)).toBe('before\nafter\n');
  await until(() => second.here.runningFor(adopted.machine).length === 0, SLOW);
  const adoptions = second.ofType('job:started').filter(({ isAdopted }) => isAdopted);
  expect(adoptions.map(({ job: id, machine }) => `${id} ${machine}`).sort()).toEqual(['17 w2', '18 w1']);
  expect(await second.here.close()).toBe(true);
});

test('an adopted script can be cancelled, and what nobody wants is ended and removed', async () => {
  await using first = await stand(['w1', 'w2']);
  const text = `echo $$ >pid-$JOB_ID; exec sleep 1000`;
  const jobs = [await first.job(1, text), await first.job(2, text)] as const;
  for (const job of jobs) first.start(job);
  const pids = await Promise.all(
    [1, 2].map((id) =>
      until(async () => (await readFile(join(first.folder, `pid-${id}`), 'utf8')).trim(), SLOW),
    ),
  );
  await first.here.close();
  const second = new Stand(first.folder, ['w1', 'w2'], { killGraceMs: 200 }, first);
  const found = await second.here.discover();
  const [one, two] = [1, 2].map((id) => found.find(({ attempt }) => Number(attempt.job) === id));
  if (one === undefined || two === undefined) throw new Error('not found');
  const adopted = second.here.adopt(jobs[0], one);
  adopted.cancel('no more');
  expect(await adopted.ended).toEqual({ type: 'cancelled', reason: 'no more' });
  second.here.end(two);
  await until(async () => (await alive(pids)).length === 0, SLOW);
  expect(await second.here.close()).toBe(true);
});

test('one whose folder was made, and that was never begun, never will be, and says so at once', async () => {
  let runs = '';
  await using first = await stand(['w1'], { beforeStart: (_job, _attempt, folder) => (runs = folder) });
  const waits = await first.job(1, 'sleep 1000');
  first.start(waits);
  await until(async () => (await first.log(1)) === '', SLOW);
  const job = await first.job(2, 'echo never');
  first.given.set(2, machineName('w1'));
  await mkdir(join(runs, '2/1'), { recursive: true }); // as far as a service may come that is killed
  await first.here.close();
  const second = new Stand(first.folder, ['w1'], {}, first);
  const found = await second.here.discover();
  const unstarted = found.find(({ state }) => state === 'unstarted');
  const other = found.find(({ state }) => state === 'running');
  // Its own record is missing, so its job is known by its folder.
  if (unstarted === undefined || other === undefined) throw new Error('not found');
  expect(unstarted.attempt).toEqual({ job: '2', number: 1 });
  expect(await second.here.adopt(job, unstarted).ended).toMatchObject({ type: 'lost', neverStarted: true });
  const adopted = second.here.adopt(waits, other);
  adopted.cancel('no more');
  await adopted.ended;
  expect(await second.here.close()).toBe(true);
  await expect(second.log(2)).rejects.toThrow(/ENOENT/);
});

test('a folder that is not there is told in the log and in the event', async () => {
  await using here = await stand();
  const cwd = join(here.folder, "no 'such' folder");
  expect(await here.start(await here.job(1, 'echo never', { cwd })).ended).toEqual({
    type: 'exited',
    exitCode: 126,
  });
  const message = `cannot run in ${cwd}: it is no folder, or is closed to us`;
  expect(await here.log(1)).toBe(`${message}\n`);
  expect(here.ofType('job:ended')).toMatchObject([{ lastErrorLine: message }]);
});

test('a log that cannot be written keeps the script from running', async () => {
  await using here = await stand();
  await writeFile(join(here.folder, 'logs'), 'a file');
  const made = join(here.folder, 'made');
  const job = await here.job(1, `echo >${made}`);
  expect(await here.start(job).ended).toEqual({ type: 'exited', exitCode: 126 });
  expect(here.ofType('job:ended')[0]?.lastErrorLine).toMatch(/logs/);
  expect(await readdir(here.folder)).not.toContain('made');
});

test('a script whose text is gone, and a variable that is none, end as not started', async () => {
  await using here = await stand();
  const job = await here.job(1, 'echo 1');
  await here.scripts.keep('echo 1');
  expect(await new ScriptStore(join(here.folder, 'scripts'), { settleMs: 0 }).removeExcept([])).toBe(1);
  expect(await here.start(job).ended).toMatchObject({
    type: 'transfer-failed',
    reason: expect.stringMatching(/cannot read the script/),
  });
  const bad = await here.job(2, 'echo 2', { env: { 'a b': 'c' } });
  expect(await here.start(bad).ended).toMatchObject({
    type: 'transfer-failed',
    reason: "'a b' is no variable's name: expected letters, digits and _",
  });
  await until(() => here.here.runningFor(machineName('w1')).length === 0, SLOW);
});

test('without such a job nothing is opened, and nothing made', async () => {
  await using here = await stand();
  expect(await here.here.discover()).toEqual([]);
  const job = await here.job(1, 'true');
  here.here.release(here.reserve(job));
  expect(await here.here.close()).toBe(true);
  expect(await readdir(here.folder)).toEqual(['scripts']);
  expect(here.here.reserve(job)).toEqual(FREE);
});

test('where this machine has no bash, that is said', async () => {
  await using folder = await scratch();
  for (const tool of ['sh', 'tar', 'mkdir', 'mv', 'rm', 'cp', 'cat', 'setsid', 'sed', 'grep', 'sleep'])
    await symlink(findProgram(tool), join(folder.path, tool));
  await using here = await stand(['w1'], { path: folder.path });
  expect(await here.start(await here.job(1, 'true')).ended).toEqual({
    type: 'transfer-failed',
    reason: "no script can run here: no bash on the service's machine",
  });
  await until(() => here.here.runningFor(machineName('w1')).length === 0, SLOW);
});

test('a supervisor that dies takes no script with it, and another one hears of its end', async () => {
  await using here = await stand();
  const gate = join(here.folder, 'gate');
  const job = await here.job(1, `echo ready; until [ -e ${gate} ]; do sleep 0.02; done; exit 6`);
  let runs = '';
  const { here: first } = here;
  await first.close();
  const second = new Stand(
    here.folder,
    ['w1'],
    { beforeStart: (_job, _attempt, folder) => (runs = folder) },
    here,
  );
  const running = second.start(job);
  await until(async () => (await here.log(1)) === 'ready\n', SLOW);
  const [pid = ''] = (await readFile(join(runs, '.controller'), 'utf8')).split(' ');
  process.kill(Number(pid), 'SIGKILL');
  await until(async () => !(await readFile(join(runs, '.controller'), 'utf8')).startsWith(`${pid} `), SLOW);
  await writeFile(gate, '');
  expect(await running.ended).toEqual({ type: 'exited', exitCode: 6 });
  expect(await second.here.close()).toBe(true);
});

test('a script copies, runs and brings home by ssh, as a user wrote it', async () => {
  await using hosts = await TestHosts.start([{ name: 'slave' }]);
  const slave = hosts.get('slave');
  await using here = await stand([]);
  here.add('slave', {
    host: slave.address,
    username: slave.user,
    port: slave.port,
    env: { SSH_CONFIG: hosts.sshConfigPath, KNOWN_HOSTS: hosts.knownHostsPath, KEY: slave.keyPath },
  });
  const text = `#! /bin/bash
set -e
to="$MACHINE_USER@$SLAVE_IP"
options=(-F none -i "$KEY" -o IdentitiesOnly=yes -o BatchMode=yes -o "UserKnownHostsFile=$KNOWN_HOSTS")
# Preparing the environment, copying necessary files etc.
scp -q "\${options[@]}" -P "$MACHINE_PORT" $1.txt "$to:"
# Running the job
ssh -t -t "\${options[@]}" -p "$MACHINE_PORT" "$to" "wc -w <$1.txt >$JOB_ID.out; uname -n"
# Collecting the results
scp -q "\${options[@]}" -P "$MACHINE_PORT" "$to:$JOB_ID.out" $1.out
# Optionally cleaning up the remote machine, by the name that ssh's configuration has for it
ssh -F "$SSH_CONFIG" $MACHINE_NAME "rm -f $1.txt $JOB_ID.out"
`;
  await writeFile(join(here.folder, 'data_1.txt'), 'one two three\n');
  const running = here.start(await here.job(5, text, {}, ['data_1']));
  const outcome = await running.ended;
  expect({
    outcome,
    log: outcome.type === 'exited' && outcome.exitCode === 0 ? '' : await here.log(5),
  }).toEqual({
    outcome: { type: 'exited', exitCode: 0 },
    log: '',
  });
  expect((await readFile(join(here.folder, 'data_1.out'), 'utf8')).trim()).toBe('3');
  expect((await readdir(slave.homeDir)).filter((name) => /data_1|5\.out/.test(name))).toEqual([]);
});
