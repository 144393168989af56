/**
 * What this machine is and has free, where the Linux probe does not run (a macOS controller). On Linux, `local` answers
 * through the probe like every other machine.
 */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import type { Systeminformation } from 'systeminformation';
import type { GpuSnapshot, MachineSnapshot } from '../domain/machine.ts';

const BYTES_PER_MIB = 1024 * 1024;

/** What systeminformation found. */
export interface LocalFacts {
  readonly hostname: string;
  /** The operating system's id of this machine; may be empty. */
  readonly osId: string;
  readonly cpus: number;
  readonly cpuLoadPercent: number;
  readonly memory: Pick<Systeminformation.MemData, 'total' | 'available'>;
  readonly controllers: readonly Systeminformation.GraphicsControllerData[];
}

/** Asks this machine, whatever its system is; about half a second, in which CPU use is measured. */
export async function queryLocalMachine(now: () => number = Date.now): Promise<MachineSnapshot> {
  // Loaded here, since hardly anybody needs it.
  const { default: system } = await import('systeminformation');
  // The first answer about load is an average since the start; the second is about the time between the two.
  await system.currentLoad();
  const [memory, ids, graphics] = await Promise.all([system.mem(), system.uuid(), system.graphics()]);
  await new Promise((resolve) => setTimeout(resolve, 250));
  const load = await system.currentLoad();
  return localSnapshot(
    {
      hostname: hostname(),
      osId: ids.os,
      cpus: load.cpus.length,
      cpuLoadPercent: load.currentLoad,
      memory,
      controllers: graphics.controllers,
    },
    now(),
  );
}

/** The snapshot that the facts make. Its boot id is empty: only Linux has one. */
export function localSnapshot(facts: LocalFacts, takenAt: number): MachineSnapshot {
  const load = Math.min(1, Math.max(0, facts.cpuLoadPercent / 100 || 0));
  const cpuCores = Math.max(1, facts.cpus);
  return {
    takenAt,
    identity: createHash('sha256')
      .update(`ssh-scheduler machine\0${facts.osId}\0${facts.hostname}`)
      .digest('hex')
      .slice(0, 32),
    hostname: facts.hostname,
    bootId: '',
    cpuCores,
    cpuCoresInUse: Math.round(cpuCores * load * 1000) / 1000,
    memoryTotalMiB: Math.floor(facts.memory.total / BYTES_PER_MIB),
    memoryFreeMiB: Math.floor(facts.memory.available / BYTES_PER_MIB),
    gpus: facts.controllers.filter(({ vendor }) => /nvidia/i.test(vendor)).map(gpuOf),
    warnings: [],
  };
}

/** systeminformation asks nvidia-smi too, and lists the GPUs in its order. */
function gpuOf(controller: Systeminformation.GraphicsControllerData, index: number): GpuSnapshot {
  const { memoryTotal, memoryFree, utilizationGpu = 0 } = controller;
  const isKnown = memoryTotal !== undefined && memoryFree !== undefined;
  return {
    index,
    uuid: controller.deviceId ?? '',
    name: controller.model,
    memoryTotalMiB: Math.floor(memoryTotal ?? 0),
    memoryFreeMiB: Math.floor(Math.min(memoryFree ?? 0, memoryTotal ?? 0)),
    utilization: Math.min(1, Math.max(0, utilizationGpu / 100)),
    mig: false,
    ...(isKnown ? {} : { unplaceable: 'memory not reported' }),
  };
}
