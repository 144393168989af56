import type { ResourceRequest } from './resources.ts';

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
