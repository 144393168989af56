import { expect, test } from 'vitest';
import {
  coresAreWithinLimit,
  cpuLoad,
  gpuLoad,
  utilizationIsWithinLimit,
} from '../../src/lib/allocator/cost.ts';

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
