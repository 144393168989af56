/** A pool of machines that are all this one, each with a home of its own and the resources that a test wants. */

import { MachinePool, type PoolListener } from '../../src/lib/allocator/machine-pool.ts';
import { VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import type { MachineSnapshot } from '../../src/lib/domain/machine.ts';
import type { AvailableResources } from '../../src/lib/domain/resources.ts';
import { LocalRunner, type LocalRunnerOptions } from '../runner/local-runner.ts';

/** A machine with two idle cores, 1000 MiB and no GPU. */
export const SMALL_MACHINE: AvailableResources = {
  cpuCores: 2,
  cpuCoresInUse: 0,
  memoryFreeMiB: 1000,
  gpus: [],
};

/** A pool, and the runners behind it. */
export interface LocalPool extends AsyncDisposable {
  readonly pool: MachinePool;
  readonly runners: readonly LocalRunner[];
}

/** Opens a pool with one machine for each of these options. */
export async function openLocalPool(
  machines: readonly LocalRunnerOptions[] = [{}],
  available: AvailableResources = SMALL_MACHINE,
  listener: PoolListener = {},
): Promise<LocalPool> {
  const runners = await Promise.all(machines.map((options) => LocalRunner.open(options)));
  const pool = new MachinePool(
    runners.map(({ runner }) => ({
      name: runner.name,
      snapshot: snapshotOf(available),
      resources: new VirtualResources(available),
      runner,
    })),
    listener,
  );
  for (const { stream, runner } of runners) {
    stream.on('machine:away', () => pool.setAway(runner.name, true));
    stream.on('machine:back', () => pool.setAway(runner.name, false));
  }
  return {
    pool,
    runners,
    async [Symbol.asyncDispose]() {
      for (const runner of runners) await runner[Symbol.asyncDispose]();
    },
  };
}

function snapshotOf({ cpuCores, cpuCoresInUse, memoryFreeMiB, gpus }: AvailableResources): MachineSnapshot {
  return {
    takenAt: 0,
    identity: 'local',
    hostname: 'local',
    bootId: '',
    cpuCores,
    cpuCoresInUse,
    memoryTotalMiB: memoryFreeMiB,
    memoryFreeMiB,
    gpus: gpus.map(({ index, memoryFreeMiB: freeMiB, utilizationInUse }) => ({
      index,
      uuid: `GPU-${index}`,
      name: 'test',
      memoryTotalMiB: freeMiB,
      memoryFreeMiB: freeMiB,
      utilization: utilizationInUse,
      mig: false,
    })),
    warnings: [],
  };
}
