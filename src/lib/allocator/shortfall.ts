/** The words for each resource that can be short. Amounts come in as the ledger counts them and leave as decimals. */
import type { Shortfall } from '../domain/resources.ts';
import { fromUnits, UNITS_PER_ONE } from '../util/amount.ts';
import { CPU_OVERLOAD, GPU_OVERLOAD } from './cost.ts';

/** The machine runs as many of our jobs as it may. */
export function ofJobs(maxJobs: number): Shortfall {
  const message = `the limit of ${count(maxJobs, 'job')} at once is reached`;
  return { resource: 'maxJobs', requested: 1, available: 0, message };
}

/** A job of ours has the machine for itself. */
export function ofReservedMachine(): Shortfall {
  const message = 'the machine is reserved by another job';
  return { resource: 'machineReserved', requested: 1, available: 0, message };
}

/** The request reserves the machine and it is not empty. */
export function ofEmptyMachine(jobs: number): Shortfall {
  const message = `the machine runs ${count(jobs, 'job')}, it was requested for one alone`;
  return { resource: 'machineReserved', requested: 1, available: 0, message };
}

/** Main memory, in MiB. */
export function ofMemory(requested: number, available: number): Shortfall {
  const message = `${available} MiB of memory is free, ${requested} MiB was requested`;
  return { resource: 'memoryMiB', requested, available, message };
}

/** Cores: all three in units. */
export function ofCores(requested: number, inUse: number, cores: number, refusesOverload = false): Shortfall {
  const limit = CPU_OVERLOAD * cores;
  const message =
    `${fromUnits(inUse)} of ${count(fromUnits(cores), 'core')} in use, ${fromUnits(requested)} more requested` +
    (refusesOverload ? '' : `, the total must stay below ${fromUnits(limit)}`);
  return {
    resource: 'cpuCores',
    requested: fromUnits(requested),
    available: refusesOverload ? fromUnits(Math.max(0, cores - inUse)) : belowLimit(limit, inUse),
    message,
  };
}

/** The machine has fewer GPUs than requested. */
export function ofGpus(requested: number, available: number): Shortfall {
  const has = available === 0 ? 'no GPU' : count(available, 'GPU');
  const message = `the machine has ${has}, ${requested} ${requested === 1 ? 'was' : 'were'} requested`;
  return { resource: 'gpus', requested, available, message };
}

/** Memory of one GPU, in MiB. */
export function ofGpuMemory(index: number, requested: number, available: number): Shortfall {
  const message = `GPU ${index} has ${available} MiB free, ${requested} MiB was requested`;
  return { resource: 'gpuMemoryMiB', requested, available, message };
}

/** Utilization of one GPU: both in units. */
export function ofGpuUtilization(index: number, requested: number, inUse: number): Shortfall {
  const message =
    `GPU ${index} is at utilization ${fromUnits(inUse)}, ${fromUnits(requested)} more was requested, ` +
    `the total must stay below ${GPU_OVERLOAD}`;
  return {
    resource: 'gpuUtilization',
    requested: fromUnits(requested),
    available: belowLimit(GPU_OVERLOAD * UNITS_PER_ONE, inUse),
    message,
  };
}

/** A job of ours has the GPU for itself. */
export function ofReservedGpu(index: number): Shortfall {
  const message = `GPU ${index} is reserved by another job`;
  return { resource: 'gpuReserved', requested: 1, available: 0, message };
}

/** The request reserves its GPUs and this one is not empty. */
export function ofEmptyGpu(index: number, jobs: number): Shortfall {
  const message = `GPU ${index} has ${count(jobs, 'job')} on it, it was requested for one alone`;
  return { resource: 'gpuReserved', requested: 1, available: 0, message };
}

/** The most that could still be had when the total must stay strictly below a limit. */
function belowLimit(limit: number, inUse: number): number {
  return fromUnits(Math.max(0, Math.ceil(limit) - 1 - inUse));
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
