/** What is said of requests that cannot run, or that hold jobs back: what is short where, and which default it is. */
import type { MachinePool } from '../allocator/machine-pool.ts';
import type { Job } from '../domain/job.ts';
import { DEFAULT_REQUEST } from '../domain/request-defaults.ts';
import { type ResourceRequest, requestKey } from '../domain/resources.ts';

const KINDS_SHOWN = 5;

/** The message that refuses jobs which can never run on a pool. `request`: the default. */
export function impossibleJobsText(
  pool: MachinePool,
  jobs: readonly Job[],
  request: ResourceRequest,
): string {
  const kinds = new Map<string, Job[]>();
  for (const job of jobs) {
    const key = requestKey(job.request);
    const kind = kinds.get(key);
    if (kind === undefined) kinds.set(key, [job]);
    else kind.push(job);
  }
  const text = [...kinds.values()].slice(0, KINDS_SHOWN).flatMap((same) => impossibleText(pool, same));
  if (kinds.size > KINDS_SHOWN) text.push(`and lines with ${kinds.size - KINDS_SHOWN} other requests`);
  const hints = [...memoryHint(pool, request), ...gpuHint(pool, request), ...busyHint(pool, kinds.values())];
  return [...text, ...hints].join('\n');
}

/** Says that a default holds jobs back, when it does. `waiting`: how many jobs ask for no more than the default. */
export function defaultsHint(
  pool: MachinePool,
  request: ResourceRequest,
  waiting: number,
): string | undefined {
  const atOnce = countFits(pool, request);
  if (waiting <= atOnce || atOnce === 0) return undefined;
  return [...memoryHint(pool, request), ...utilizationHint(pool, request)][0];
}

/** Says that some lines with one request can never run, and what is short on each machine. */
function impossibleText(pool: MachinePool, jobs: readonly Job[]): string[] {
  const [first] = jobs;
  if (first === undefined) return [];
  const lines = jobs.length === 1 ? `line ${first.line}` : `${jobs.length} lines, first line ${first.line},`;
  return [
    `${lines} can never run on these machines:`,
    ...reasonsOf(pool, first.request).map((reason) => `  ${reason}`),
  ];
}

/** What is short on each machine, a line each. */
export function reasonsOf(pool: MachinePool, request: ResourceRequest): string[] {
  return pool
    .explainEver(request)
    .map(
      ({ machine, shortfalls }) =>
        `${machine}: ${shortfalls.map((shortfall) => shortfall.message).join('; ')}`,
    );
}

function countFits(pool: MachinePool, request: ResourceRequest): number {
  return pool.machines.reduce((sum, { resources }) => sum + resources.countFits(request), 0);
}

/** Says that the default of `--memory-required` is what holds jobs back, when it is. */
function memoryHint(pool: MachinePool, request: ResourceRequest): string[] {
  if (request.memoryMiB !== DEFAULT_REQUEST.memoryMiB) return [];
  const now = countFits(pool, request);
  const without = countFits(pool, { ...request, memoryMiB: 1 });
  if (without <= now) return [];
  return [
    `hint: the default --memory-required ${request.memoryMiB} lets ${now} jobs run at once; with less memory each, up to ${without} would`,
  ];
}

/** Says that cores are short only because others use them now. */
function busyHint(pool: MachinePool, kinds: Iterable<readonly Job[]>): string[] {
  const isBusyOnly = [...kinds].some(([job]) =>
    job === undefined
      ? false
      : pool
          .explainEver(job.request)
          .some(({ shortfalls }) => shortfalls.every(({ resource }) => resource === 'cpuCores')),
  );
  if (!isBusyOnly) return [];
  return [
    'hint: a machine is only busy with the work of others: try again later, or ask for less with --num-cpus',
  ];
}

/** Says that a GPU is asked for by default, where no machine has one. */
function gpuHint(pool: MachinePool, request: ResourceRequest): string[] {
  if (request.gpus !== DEFAULT_REQUEST.gpus || pool.machines.some(({ snapshot }) => snapshot.gpus.length > 0))
    return [];
  return ['hint: a job asks for one GPU by default; --no-gpu-required is for jobs that need none'];
}

/** Says that the default of `--gpu-utilization` is what keeps GPUs from being shared, when it is. */
function utilizationHint(pool: MachinePool, request: ResourceRequest): string[] {
  if (request.gpus === 0 || request.reserveGpu || request.gpuUtilization !== DEFAULT_REQUEST.gpuUtilization)
    return [];
  const now = countFits(pool, request);
  const without = countFits(pool, { ...request, gpuUtilization: 0.1 });
  if (without <= now) return [];
  return [
    `hint: the default --gpu-utilization ${request.gpuUtilization} lets ${now} jobs share the GPUs at once; at 0.1 each, ${without} would`,
  ];
}
