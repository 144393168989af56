/** What others use of a machine on which jobs of our own run. */
import type { GpuSnapshot, MachineSnapshot, OwnUse } from '../domain/machine.ts';

/**
 * The snapshot as if our own jobs were not there, for a ledger that their requests are charged to. It holds no `ownUse`,
 * so that nothing is taken off twice. One without `ownUse` is returned as it is.
 */
export function withoutOwnUse(snapshot: MachineSnapshot): MachineSnapshot {
  const { ownUse, ...rest } = snapshot;
  if (ownUse === undefined) return snapshot;
  return {
    ...rest,
    cpuCoresInUse: Math.round(Math.max(0, rest.cpuCoresInUse - ownUse.cpuCores) * 1000) / 1000,
    // Both amounts are already those of the tightest control group, where there is one.
    memoryFreeMiB: Math.min(rest.memoryFreeMiB + ownUse.memoryMiB, rest.memoryTotalMiB),
    gpus: rest.gpus.map((gpu) => withoutOwnUseOfGpu(gpu, ownUse)),
  };
}

function withoutOwnUseOfGpu(gpu: GpuSnapshot, { gpus }: OwnUse): GpuSnapshot {
  const own = gpus.find(({ index }) => index === gpu.index);
  if (own === undefined) return gpu;
  return {
    ...gpu,
    memoryFreeMiB: Math.min(gpu.memoryFreeMiB + own.memoryMiB, gpu.memoryTotalMiB),
    utilization: own.isAlone ? 0 : gpu.utilization,
  };
}
