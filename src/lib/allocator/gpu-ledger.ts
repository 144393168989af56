/** One GPU's line in a machine's ledger: what is free on it, how many jobs of ours are on it, and whether one more fits. */
import { SchedulerError } from '../domain/errors.ts';
import type { AvailableGpu, Shortfall } from '../domain/resources.ts';
import { unitsUp, wholeDown } from '../util/amount.ts';
import { utilizationIsWithinLimit } from './cost.ts';
import { checkCores, checkCount, checkMemory, type Demand } from './demand.ts';
import * as shortfall from './shortfall.ts';

/** What is written about one GPU; the machine's `VirtualResources` alone changes it. */
export interface GpuLedger {
  readonly index: number;
  /** Below 0 when adopted jobs hold more than there was. */
  memoryFreeMiB: number;
  /** Others' and ours, 1/10000. */
  utilization: number;
  /** Jobs of ours on it. */
  jobs: number;
  /** Jobs of ours that have it alone: more than one only when they were adopted. */
  reservations: number;
  /** The number of the choice that picked it last. */
  pickedIn: number;
}

/**
 * The lines of a machine's GPUs with no job of ours on them, ascending by index.
 * @throws SchedulerError when an amount is negative or not a number, or two GPUs have the same index.
 */
export function toGpuLedgers(gpus: readonly AvailableGpu[]): GpuLedger[] {
  const ledger = gpus.map((gpu) => {
    checkCount('available GPU index', gpu.index, Number.MAX_SAFE_INTEGER);
    checkMemory(`available memoryFreeMiB of GPU ${gpu.index}`, gpu.memoryFreeMiB);
    checkCores(`available utilizationInUse of GPU ${gpu.index}`, gpu.utilizationInUse);
    return {
      index: gpu.index,
      memoryFreeMiB: wholeDown(gpu.memoryFreeMiB),
      utilization: unitsUp(gpu.utilizationInUse),
      jobs: 0,
      reservations: 0,
      pickedIn: 0,
    };
  });
  ledger.sort((a, b) => a.index - b.index);
  for (const [position, gpu] of ledger.entries()) {
    if (ledger[position + 1]?.index === gpu.index) {
      throw new SchedulerError(`available gpus: found GPU ${gpu.index} twice, expected each index once`);
    }
  }
  return ledger;
}

/** Whether one more job of a demand can have this GPU now. */
export function fitsGpu(gpu: GpuLedger, demand: Demand): boolean {
  return (
    gpu.reservations === 0 &&
    demand.gpuMemoryMiB <= gpu.memoryFreeMiB &&
    utilizationIsWithinLimit(gpu.utilization + demand.gpuUtilization) &&
    !(demand.reserveGpu && gpu.jobs > 0)
  );
}

/** Why one GPU does not do; empty when it does. */
export function shortfallsOfGpu(gpu: GpuLedger, demand: Demand): Shortfall[] {
  const short: Shortfall[] = [];
  if (gpu.reservations > 0) short.push(shortfall.ofReservedGpu(gpu.index));
  else if (demand.reserveGpu && gpu.jobs > 0) short.push(shortfall.ofEmptyGpu(gpu.index, gpu.jobs));
  if (demand.gpuMemoryMiB > gpu.memoryFreeMiB) {
    short.push(shortfall.ofGpuMemory(gpu.index, demand.gpuMemoryMiB, Math.max(0, gpu.memoryFreeMiB)));
  }
  if (!utilizationIsWithinLimit(gpu.utilization + demand.gpuUtilization)) {
    short.push(shortfall.ofGpuUtilization(gpu.index, demand.gpuUtilization, gpu.utilization));
  }
  return short;
}
