import type { ResourceRequest } from './resources.ts';

/** For what takes nothing that is counted. */
export const NO_RESOURCES: ResourceRequest = {
  memoryMiB: 0,
  cpuCores: 0,
  gpus: 0,
  gpuMemoryMiB: 0,
  gpuUtilization: 0,
  reserveGpu: false,
  reserveMachine: false,
};

/** What a job asks for when nobody says otherwise: one core, 7000 MiB, and one whole GPU with 1000 MiB free. */
export const DEFAULT_REQUEST = {
  memoryMiB: 7000,
  cpuCores: 1,
  gpus: 1,
  gpuMemoryMiB: 1000,
  gpuUtilization: 0.75,
  reserveGpu: true,
  reserveMachine: false,
} as const satisfies ResourceRequest;
