/** A request as the allocator counts with it: checked, in integers, with its key. */
import { SchedulerError } from '../domain/errors.ts';
import { type ResourceRequest, requestKey } from '../domain/resources.ts';
import { unitsUp, wholeUp } from '../util/amount.ts';

/** The amounts of a request in integers (rounded up), zero where they have no effect. */
export interface Demand {
  /** The same for equal requests. */
  readonly key: string;
  readonly memoryMiB: number;
  /** 1/10000 core. */
  readonly cpu: number;
  readonly gpus: number;
  readonly gpuMemoryMiB: number;
  /** 1/10000 of a GPU's time. */
  readonly gpuUtilization: number;
  readonly reserveGpu: boolean;
  readonly reserveMachine: boolean;
}

// Far above any machine, and low enough that sums of many stay exact integers.
const MAX_MIB = 2 ** 40;
const MAX_CORES = 1_000_000;
const MAX_GPUS = 1024;

/** Checks that a number lies in a range. @throws SchedulerError that names the field, what was found and what is expected. */
export function checkAmount(field: string, value: number, max: number): void {
  // The form catches NaN too, and text that came in past the types.
  if (typeof value !== 'number' || !(value >= 0 && value <= max)) {
    throw new SchedulerError(`${field}: found ${value}, expected a number from 0 to ${max}`);
  }
}

/** As `checkAmount`, for counts. @throws SchedulerError */
export function checkCount(field: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new SchedulerError(`${field}: found ${value}, expected a whole number from 0 to ${max}`);
  }
}

/** @throws SchedulerError when it is not a memory size in MiB. */
export function checkMemory(field: string, value: number): void {
  checkAmount(field, value, MAX_MIB);
}

/** @throws SchedulerError when it is not a number of cores. */
export function checkCores(field: string, value: number): void {
  checkAmount(field, value, MAX_CORES);
}

function toDemand(request: ResourceRequest): Demand {
  checkMemory('memoryMiB', request.memoryMiB);
  checkCores('cpuCores', request.cpuCores);
  checkCount('gpus', request.gpus, MAX_GPUS);
  checkMemory('gpuMemoryMiB', request.gpuMemoryMiB);
  checkAmount('gpuUtilization', request.gpuUtilization, 1);
  const onGpu = request.gpus > 0;
  return {
    key: requestKey(request),
    memoryMiB: wholeUp(request.memoryMiB),
    cpu: unitsUp(request.cpuCores),
    gpus: request.gpus,
    gpuMemoryMiB: onGpu ? wholeUp(request.gpuMemoryMiB) : 0,
    gpuUtilization: onGpu ? unitsUp(request.gpuUtilization) : 0,
    reserveGpu: onGpu && request.reserveGpu,
    reserveMachine: request.reserveMachine,
  };
}

// A placement asks for the same request again and again (once per machine that changed), so each request object is
// worked out once; the last one is kept at hand because even a WeakMap is slow next to scoring. Requests are
// read-only values: one that is changed in place afterwards would not be noticed.
const demands = new WeakMap<ResourceRequest, Demand>();
let lastRequest: ResourceRequest | undefined;
let lastDemand: Demand | undefined;

/** The demand of a request. @throws SchedulerError when an amount is negative, not a number or beyond its range. */
export function demandOf(request: ResourceRequest): Demand {
  if (request === lastRequest && lastDemand !== undefined) return lastDemand;
  let demand = demands.get(request);
  if (demand === undefined) {
    demand = toDemand(request);
    demands.set(request, demand);
  }
  lastRequest = request;
  lastDemand = demand;
  return demand;
}
