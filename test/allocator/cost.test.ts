import { expect, test } from 'vitest';
import {
  coresAreWithinLimit,
  cpuLoad,
  gpuLoad,
  utilizationIsWithinLimit,
} from '../../src/lib/allocator/cost.ts';
import { VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import { NO_RESOURCES } from '../../src/lib/domain/request-defaults.ts';

test('the load is the cube of the share of the limit', () => {
  expect(cpuLoad(120_000, 240_000)).toBeCloseTo((12 / 36) ** 3, 15);
  expect(gpuLoad(6000)).toBeCloseTo(0.125, 15);
  expect(cpuLoad(0, 10_000) + gpuLoad(0)).toBe(0);
});

test('both limits are strict, to one unit', () => {
  expect([359_999, 360_000, 360_001].map((used) => coresAreWithinLimit(used, 240_000))).toEqual([
    true,
    false,
    false,
  ]);
  expect([11_999, 12_000].map(utilizationIsWithinLimit)).toEqual([true, false]);
  // 1.5 x 0.0003 cores is half a unit above 4.
  expect([4, 5].map((used) => coresAreWithinLimit(used, 3))).toEqual([true, false]);
});

test('a machine without cores takes nothing', () => {
  expect(coresAreWithinLimit(0, 0)).toBe(false);
});

test('where an overload is refused, all cores can be in use, and no more', () => {
  expect([29_999, 30_000, 30_001].map((used) => coresAreWithinLimit(used, 30_000, true))).toEqual([
    true,
    true,
    false,
  ]);
  const none = { cpuCoresInUse: 0, memoryFreeMiB: 100, gpus: [] };
  const managed = new VirtualResources({ ...none, cpuCores: 3, refusesOverload: true });
  const request = { ...NO_RESOURCES, cpuCores: 2 };
  managed.allocate(request);
  const message = '2 of 3 cores in use, 2 more requested';
  expect(managed.explain(request)).toEqual([{ resource: 'cpuCores', requested: 2, available: 1, message }]);
  expect(managed.canEverFit({ ...request, cpuCores: 3 })).toBe(true);
  expect(managed.canEverFit({ ...request, cpuCores: 3.1 })).toBe(false);
});

test('what asks for no memory fits also where adopted jobs hold more than there is', () => {
  const full = new VirtualResources({ cpuCores: 8, cpuCoresInUse: 0, memoryFreeMiB: 100, gpus: [] });
  full.adopt({ ...NO_RESOURCES, memoryMiB: 200 }, []);
  expect(full.memoryFreeMiB).toBe(-100);
  expect(full.explain(NO_RESOURCES)).toEqual([]);
  expect(full.score(NO_RESOURCES)).toBeGreaterThan(-Infinity);
  expect(full.score({ ...NO_RESOURCES, memoryMiB: 1 })).toBe(-Infinity);
});
