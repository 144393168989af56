/** What every ExecutionBackend keeps to. Run against each implementation on real machines. */
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Job } from '../../src/lib/domain/job.ts';
import type { ExecutionBackend, Reservation, RunningAttempt } from '../../src/lib/domain/ports.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';

/** A backend under test. */
export interface BackendUnderTest extends AsyncDisposable {
  readonly backend: ExecutionBackend;
  /** Its machines: each takes one job that reserves a machine. */
  readonly machineCount: number;
  /** Where results go. */
  readonly results: string;
  /** Folders that jobs see as `pathThere`, one on each machine: files in them are how test and jobs talk. */
  readonly signals: { readonly pathThere: string; readonly pathsHere: readonly string[] };
  /** Another controller of the same batch on the same machines. The earlier backend is closed by then. */
  reopen(): Promise<ExecutionBackend>;
}

const alone = (name: string, command: string, more: Partial<Job> = {}): Job => {
  const job = smallJob(name, command, more);
  return { ...job, request: { ...job.request, cpuCores: 0, reserveMachine: true } };
};

function reserve(backend: ExecutionBackend, job: Job): Reservation {
  const placed = backend.reserve(job);
  if (placed.type === 'refused') throw new Error(`refused: ${JSON.stringify(placed)}`);
  return placed;
}

const start = (backend: ExecutionBackend, job: Job): RunningAttempt =>
  backend.start(job, { job: job.id, number: 1 }, reserve(backend, job));

const give = ({ signals }: BackendUnderTest, name: string) =>
  Promise.all(signals.pathsHere.map((path) => writeFile(join(path, name), '')));

/** A job has made a file of that name on one of the machines. */
const given = ({ signals }: BackendUnderTest, name: string) =>
  Promise.any(signals.pathsHere.map((path) => access(join(path, name)).then(() => true)));

/** Declares the tests. */
export function executionBackendContract(open: () => Promise<BackendUnderTest>): void {
  test('reserves what there is, refuses what has to wait, and tells when capacity comes back', async () => {
    await using under = await open();
    const { backend, machineCount } = under;
    const job = alone('a', 'true');
    const held = Array.from({ length: machineCount }, () => reserve(backend, job));
    expect(new Set(held.map(({ machine }) => machine)).size).toBe(machineCount);
    expect(backend.reserve(job)).toEqual({ type: 'refused', everFits: true, shortfalls: [] });
    let told = 0;
    const stop = backend.onCapacity(() => told++);
    const [first, ...others] = held;
    if (first === undefined) throw new Error('no machine');
    backend.release(first);
    expect(told).toBe(1);
    expect(reserve(backend, job).machine).toBe(first.machine);
    stop();
    for (const one of others) backend.release(one);
    expect(told).toBe(1);
    expect(() => backend.release(first)).toThrow(/once/);
  });

  test('says what is short where for a job that never fits', async () => {
    await using under = await open();
    const job = smallJob('huge', 'true');
    const placed = under.backend.reserve({ ...job, request: { ...job.request, memoryMiB: 1e9 } });
    expect(placed).toMatchObject({ type: 'refused', everFits: false });
    const shortfalls = placed.type === 'refused' ? placed.shortfalls : [];
    expect(shortfalls.length).toBe(under.machineCount);
    for (const { shortfalls: list } of shortfalls)
      expect(list).toMatchObject([{ resource: 'memoryMiB', requested: 1e9 }]);
  });

  test('runs an attempt: its results are home when it settles, and its capacity comes back', async () => {
    await using under = await open();
    const { backend, machineCount, results } = under;
    const command = 'echo "out $JOB_ATTEMPT"; echo err >&2; echo file >made; exit 3';
    const jobs = Array.from({ length: machineCount }, (_, i) =>
      alone(`r${i}`, command, { copyBackwards: 'changed' }),
    );
    let told = 0;
    backend.onCapacity(() => told++);
    const running = jobs.map((job) => start(backend, job));
    expect(backend.reserve(alone('more', 'true')).type).toBe('refused');
    for (const { ended } of running) expect(await ended).toEqual({ type: 'exited', exitCode: 3 });
    for (const { name } of jobs) {
      expect(await readFile(join(results, `${name}.out`), 'utf8')).toBe('out 1\n');
      expect(await readFile(join(results, `${name}.err`), 'utf8')).toBe('err\n');
      expect(await readFile(join(results, name, 'made'), 'utf8')).toBe('file\n');
      expect(JSON.parse(await readFile(join(results, `${name}.json`), 'utf8'))).toMatchObject({
        exit_code: 3,
      });
    }
    await until(() => told >= machineCount, { describe: () => `capacity told ${told} times` });
    backend.release(reserve(backend, alone('more', 'true')));
  });

  test('a reservation is used once', async () => {
    await using under = await open();
    const { backend } = under;
    const job = alone('once', 'true');
    const reservation = reserve(backend, job);
    await backend.start(job, { job: job.id, number: 1 }, reservation).ended;
    expect(() => backend.start(job, { job: job.id, number: 2 }, reservation)).toThrow(/once/);
  });

  test('a cancelled attempt ends as such, with what it had written', async () => {
    await using under = await open();
    const job = alone('endless', 'echo begun; sleep 1000', { copyBackwards: 'changed' });
    const running = start(under.backend, job);
    await until(async () => (await readFile(join(under.results, 'endless.out'), 'utf8')) === 'begun\n');
    running.cancel('no more');
    expect(await running.ended).toEqual({ type: 'cancelled', reason: 'no more' });
    const early = start(under.backend, alone('early', 'sleep 1000'));
    early.cancel('at once');
    expect(await early.ended).toEqual({ type: 'cancelled', reason: 'at once' });
  });

  test('jobs outlive the controller: the next one finds, adopts and finishes them', async () => {
    await using under = await open();
    const { backend, results } = under;
    const there = under.signals.pathThere;
    const more = { copyBackwards: 'changed' } as const;
    const running = smallJob(
      'running',
      `echo before; until [ -e ${there}/gate ]; do sleep 0.02; done; echo after; echo x >made; exit 4`,
      more,
    );
    const ended = smallJob('e n%d é', `until [ -e ${there}/go ]; do sleep 0.02; done; touch ${there}/went`);
    for (const job of [running, ended]) start(backend, job);
    await until(async () => (await readFile(join(results, 'running.out'), 'utf8')) === 'before\n');
    await backend.close();
    await give(under, 'go');
    await until(() => given(under, 'went'));

    const next = await under.reopen();
    const states = async () =>
      new Map((await next.discover()).map((found) => [String(found.attempt.job), found]));
    await until(async () => (await states()).get('e n%d é')?.state === 'ended');
    const found = (await states()).get('running');
    expect(found).toMatchObject({
      attempt: { job: 'running', number: 1 },
      state: 'running',
      command: running.command,
    });
    if (found === undefined) return;
    const adopted = next.adopt(running, found);
    await give(under, 'gate');
    expect(await adopted.ended).toEqual({ type: 'exited', exitCode: 4 });
    expect(await readFile(join(results, 'running.out'), 'utf8')).toBe('before\nafter\n');
    expect(await readFile(join(results, 'running/made'), 'utf8')).toBe('x\n');
    const other = (await states()).get('e n%d é');
    if (other === undefined) throw new Error('the ended job is not found any more');
    expect(await next.adopt(ended, other).ended).toEqual({ type: 'exited', exitCode: 0 });
  });
}
