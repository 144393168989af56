/**
 * A mixed batch on hosts with different GPUs, some of them in use by others, a host without any and one that cannot be
 * reached. The hosts' ledgers, which say when which job held how much of which GPU, prove what the scheduler did: no GPU
 * is overbooked, a reserved one has one job, and none stands idle while a job that fits waits.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { GpuLedgerLine, GpuSpec } from '../rig/host-spec.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { hostsAreMachines, linesOf, Project, TINY } from './run-command.ts';

/** From an end to the next start: the job's end is told, the memory is seen as free, the next one begins. */
const SCHEDULING_GAP_MS = 1500;
const UTILIZATION = '0.25';
const MOST_SHARING = 4; // 4 x 0.25 < 1.2

const GPUS: Readonly<Record<string, readonly GpuSpec[]>> = {
  big: [{ memoryTotalMiB: 24_000 }, { memoryTotalMiB: 16_000, usedMiB: 9000 }],
  ...(hostsAreMachines
    ? {
        mid: [{ memoryTotalMiB: 8000, usedMiB: 2000 }, { memoryTotalMiB: 8000 }, { memoryTotalMiB: 8000 }],
        tiny: [{ memoryTotalMiB: 4000 }],
      }
    : {}),
};

let hosts: TestHosts;
let machines: string[];

beforeEach(async () => {
  const withGpus = Object.entries(GPUS).map(([name, gpus]) => ({ name, gpus }));
  hosts = await TestHosts.start(
    hostsAreMachines ? [...withGpus, { name: 'bare' }, { name: 'off' }] : withGpus,
  );
  if (hostsAreMachines) await hosts.get('off').refuse();
  machines = hosts.hosts.map(({ name }) => `${name}.yaml`);
});
afterEach(() => hosts.close());

/** One stand-in job: what it asks for is what it takes. */
interface GpuJob {
  readonly name: string;
  readonly memoryMiB: number;
  readonly gpus: number;
  readonly seconds: number;
  readonly lingerMs: number;
}

/** Different sizes and lengths, the same in every run. */
function makeJobs(count: number, more: Partial<GpuJob> = {}): GpuJob[] {
  const sizes = [500, 1500, 3000, 5000, 6500, 900, 2500, 7500];
  return Array.from({ length: count }, (_, i) => ({
    name: `job${i}`,
    memoryMiB: sizes[(i * 5) % sizes.length] ?? 500,
    gpus: 1,
    seconds: 0.1 + ((i * 7) % 5) / 10,
    lingerMs: 0,
    ...more,
  }));
}

function lineOf({ name, memoryMiB, gpus, seconds, lingerMs }: GpuJob): string {
  const linger = lingerMs > 0 ? ` --linger-ms ${lingerMs}` : '';
  return (
    `execute_remote --gpu-memory-required ${memoryMiB} --num-gpus ${gpus} --job-name ${name} ` +
    `'gpu-job --memory ${memoryMiB} --seconds ${seconds.toFixed(1)}${linger}'`
  );
}

/** One job on one GPU, from the ledger. */
interface Held {
  readonly job: string;
  readonly from: number;
  readonly to: number;
}

/** What happened on one GPU. */
interface GpuHistory {
  readonly gpu: string;
  readonly freeMiB: number;
  readonly lines: readonly GpuLedgerLine[];
  /** In the order of their starts. */
  readonly held: readonly Held[];
}

async function histories(): Promise<GpuHistory[]> {
  const all = Object.entries(GPUS).map(async ([name, gpus]) => {
    const ledger = await hosts.get(name).gpuLedger();
    return gpus.map(({ memoryTotalMiB, usedMiB = 0 }, index): GpuHistory => {
      const lines = ledger.filter(({ gpu }) => gpu === index);
      const gives = lines.filter(({ event }) => event === 'give');
      const held = lines.flatMap(({ event, at, pid, jobName }) => {
        const to = gives.find((give) => give.pid === pid)?.at ?? Number.POSITIVE_INFINITY;
        return event === 'take' ? [{ job: jobName, from: at, to }] : [];
      });
      return { gpu: `${name}:${index}`, freeMiB: memoryTotalMiB - usedMiB, lines, held };
    });
  });
  return (await Promise.all(all)).flat();
}

function expectNoOverbooking(all: readonly GpuHistory[], mostJobs: number): void {
  for (const { gpu, lines } of all) {
    const [host = '', index] = gpu.split(':');
    const total = GPUS[host]?.[Number(index)]?.memoryTotalMiB ?? 0;
    for (const line of lines) {
      const where = `${gpu} after ${JSON.stringify(line)}`;
      expect(line.event, where).not.toBe('refuse');
      expect(line.usedMiB, where).toBeLessThanOrEqual(total);
      expect(line.jobs, where).toBeLessThanOrEqual(mostJobs);
    }
  }
}

/** The longest that a GPU stood idle while a job that fits on it (alone) had not begun anywhere. */
function longestIdleWait(all: readonly GpuHistory[], jobs: readonly GpuJob[]): { ms: number; where: string } {
  const beganAt = new Map<string, number>();
  for (const { held } of all) {
    for (const { job, from } of held) beganAt.set(job, Math.min(from, beganAt.get(job) ?? from));
  }
  const first = Math.min(...beganAt.values());
  let longest = { ms: 0, where: '' };
  for (const { gpu, freeMiB, held } of all) {
    const fitting = jobs.filter((job) => job.gpus === 1 && job.memoryMiB <= freeMiB);
    let idleFrom = first;
    for (const next of [...held, { from: Number.POSITIVE_INFINITY, to: 0, job: 'the end' }]) {
      for (const { name } of fitting) {
        const ms = Math.min(next.from, beganAt.get(name) ?? first) - idleFrom;
        if (ms > longest.ms)
          longest = { ms, where: `${gpu}, before ${next.job} began, while ${name} waited` };
      }
      idleFrom = Math.max(idleFrom, next.to);
    }
  }
  return longest;
}

async function runJobs(project: Project, jobs: readonly GpuJob[], ...flags: string[]) {
  for (const name of Object.keys(GPUS)) {
    // Where a host has no /usr/local of its own, a login shell does not find its tools.
    const { stdout } = await hosts.get(name).exec('dirname "$(command -v gpu-job)"');
    await project.machine(hosts.get(name), `setup: PATH=$PATH:${stdout.trim()}`);
  }
  const cpuLines = Array.from(
    { length: 4 },
    (_, i) =>
      `execute_remote --no-gpu-required --job-name cpu${i} 'echo "[$CUDA_VISIBLE_DEVICES]"; sleep 0.2'`,
  );
  await project.write('batch.sh', [...jobs.map(lineOf), ...cpuLines]);
  // Nothing is sent: the test is about GPUs.
  const args = ['batch.sh', '--machines', ...machines, ...TINY, '--copy-forwards', 'batch.sh', ...flags];
  const end = await project.batch(...args);
  if (hostsAreMachines)
    expect(end.stderr).toMatch(/^execute_batch: off\.yaml is left out: connection refused/m);
  const failed = linesOf(end.stdout).filter((line) => line.startsWith('failed: '));
  expect(failed).toEqual([]);
  expect(end.exitCode).toBe(0);
  return end;
}

/** Where a job ran, as its manifest has it, is where the ledger saw it. */
async function expectManifestsAgree(project: Project, all: readonly GpuHistory[], jobs: readonly GpuJob[]) {
  for (const { name } of jobs) {
    const { machine, gpus } = await project.manifest(name);
    const seen = all.filter(({ held }) => held.some(({ job }) => job === name)).map(({ gpu }) => gpu);
    const told = (gpus as number[]).map((gpu) => `${String(machine).replace('.yaml', '')}:${gpu}`); // as manifests have them
    expect(told, name).toEqual(seen);
  }
}

test('reserved GPUs: never two jobs, never too little memory, never idle while a job that fits waits', async () => {
  await using project = await Project.start(hosts);
  const jobs = makeJobs(30).map((job, i) => (i % 10 === 4 ? { ...job, gpus: 2, memoryMiB: 5000 } : job));
  await runJobs(project, jobs);
  const all = await histories();
  expectNoOverbooking(all, 1);
  expect(all.flatMap(({ held }) => held)).toHaveLength(30 + 3);
  await expectManifestsAgree(project, all, jobs);
  const { ms, where } = longestIdleWait(all, jobs);
  expect(ms, where).toBeLessThan(SCHEDULING_GAP_MS);
  // Every GPU had work: all of them hold the smallest jobs.
  for (const { gpu, held } of all) expect(held.length, gpu).toBeGreaterThan(0);
  // Jobs without a GPU need none of these machines, and see no GPU number.
  expect(await project.read('job_results/cpu0.out')).toBe('[]\n');
});

test('a reserved GPU is given on only when its memory is really free', async () => {
  await using project = await Project.start(hosts);
  // As big as the GPUs allow: started one moment too early, CUDA would refuse it.
  const jobs = makeJobs(12, { seconds: 0.1, lingerMs: 700 }).map((job, i) => ({
    ...job,
    memoryMiB: [7000, 6000, 4000][i % 3] ?? 4000,
  }));
  await runJobs(project, jobs);
  const all = await histories();
  expectNoOverbooking(all, 1);
  await expectManifestsAgree(project, all, jobs);
  for (const { gpu, held } of all) {
    for (const [i, { from, job }] of held.entries()) {
      const before = held[i - 1];
      if (before) expect(from, `${job} on ${gpu} after ${before.job}`).toBeGreaterThanOrEqual(before.to);
    }
  }
  const { ms, where } = longestIdleWait(all, jobs);
  expect(ms, where).toBeLessThan(SCHEDULING_GAP_MS);
});

test('shared GPUs: as many jobs as memory and utilization allow, and not one more', async () => {
  await using project = await Project.start(hosts);
  const jobs = makeJobs(40);
  await runJobs(project, jobs, '--no-reserve-gpu', '--gpu-utilization', UTILIZATION);
  const all = await histories();
  expectNoOverbooking(all, MOST_SHARING);
  await expectManifestsAgree(project, all, jobs);
  const { ms, where } = longestIdleWait(all, jobs);
  expect(ms, where).toBeLessThan(SCHEDULING_GAP_MS);
  const atOnce = all.map(({ lines }) => Math.max(0, ...lines.map((line) => line.jobs)));
  expect(Math.max(...atOnce)).toBeGreaterThan(1);
});
