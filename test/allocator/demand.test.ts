import { describe, expect, test } from 'vitest';
import { demandOf } from '../../src/lib/allocator/demand.ts';
import { SchedulerError } from '../../src/lib/domain/errors.ts';
import { request } from './requests.ts';

test('amounts become integers, rounded up', () => {
  const demand = demandOf(
    request({ memoryMiB: 10.5, cpuCores: 0.00001, gpus: 1, gpuMemoryMiB: 0.1, gpuUtilization: 0.3 }),
  );
  expect(demand).toMatchObject({ memoryMiB: 11, cpu: 1, gpuMemoryMiB: 1, gpuUtilization: 3000 });
});

test('without GPUs the other GPU fields have no effect', () => {
  const demand = demandOf(request({ gpuMemoryMiB: 1000, gpuUtilization: 1, reserveGpu: true }));
  expect(demand).toMatchObject({ gpus: 0, gpuMemoryMiB: 0, gpuUtilization: 0, reserveGpu: false });
});

test('equal requests have one key, others do not', () => {
  const key = demandOf(request({ memoryMiB: 5 })).key;
  expect(demandOf(request({ memoryMiB: 5 })).key).toBe(key);
  expect(demandOf(request({ memoryMiB: 6 })).key).not.toBe(key);
});

describe('a wrong amount is one clear message', () => {
  test.each([
    [{ memoryMiB: -1 }, 'memoryMiB: found -1, expected a number from 0 to 1099511627776'],
    [{ memoryMiB: Number.NaN }, 'memoryMiB: found NaN, expected a number from 0 to'],
    [{ cpuCores: Number.POSITIVE_INFINITY }, 'cpuCores: found Infinity, expected a number from 0 to 1000000'],
    [{ gpus: 1.5 }, 'gpus: found 1.5, expected a whole number from 0 to 1024'],
    [{ gpus: 2000 }, 'gpus: found 2000, expected a whole number from 0 to 1024'],
    [{ gpuMemoryMiB: 2 ** 41 }, 'gpuMemoryMiB: found 2199023255552, expected'],
    [{ gpuUtilization: 1.01 }, 'gpuUtilization: found 1.01, expected a number from 0 to 1'],
  ])('%o', (changes, message) => {
    expect(() => demandOf(request(changes))).toThrow(SchedulerError);
    expect(() => demandOf(request(changes))).toThrow(message);
  });

  test('text that came in past the types is refused', () => {
    const parsed = JSON.parse('{"memoryMiB":"7"}') as { memoryMiB: number }; // the lie under test
    expect(() => demandOf(request(parsed))).toThrow('memoryMiB: found 7, expected a number');
  });
});
