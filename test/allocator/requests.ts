/** Requests, machines and their arbitraries for the allocator's tests. */
import fc from 'fast-check';
import { NO_RESOURCES } from '../../src/lib/domain/request-defaults.ts';
import type { AvailableResources, ResourceRequest } from '../../src/lib/domain/resources.ts';

/** A request for next to nothing and no GPU, with changes. */
export function request(changes: Partial<ResourceRequest> = {}): ResourceRequest {
  return { ...NO_RESOURCES, ...changes };
}

/** An idle machine with that many GPUs of 8000 MiB, with changes. */
export function machine(gpus: number, changes: Partial<AvailableResources> = {}): AvailableResources {
  return {
    cpuCores: 8,
    cpuCoresInUse: 0,
    memoryFreeMiB: 32_000,
    gpus: Array.from({ length: gpus }, (_, index) => ({ index, memoryFreeMiB: 8000, utilizationInUse: 0 })),
    ...changes,
  };
}

const units = (max: number) => fc.integer({ min: 0, max: max * 10_000 }).map((n) => n / 10_000);

/** Machines of up to 5 GPUs, partly in use, some overloaded by others. */
export const anyMachine: fc.Arbitrary<AvailableResources> = fc.record({
  cpuCores: units(16),
  cpuCoresInUse: units(4),
  memoryFreeMiB: fc.integer({ min: 0, max: 20_000 }),
  gpus: fc.uniqueArray(
    fc.record({
      index: fc.integer({ min: 0, max: 9 }),
      memoryFreeMiB: fc.integer({ min: 0, max: 8000 }),
      utilizationInUse: units(1),
    }),
    { maxLength: 5, selector: (gpu) => gpu.index },
  ),
});

/** Requests that fit on many of those machines, of every kind. */
export const anyRequest: fc.Arbitrary<ResourceRequest> = fc.record({
  memoryMiB: fc.integer({ min: 0, max: 6000 }),
  cpuCores: units(3),
  gpus: fc.integer({ min: 0, max: 3 }),
  gpuMemoryMiB: fc.integer({ min: 0, max: 4000 }),
  gpuUtilization: fc.oneof(fc.constantFrom(0, 0.3, 0.6, 1), units(1)),
  reserveGpu: fc.boolean(),
  reserveMachine: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
});
