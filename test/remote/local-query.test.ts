import { cpus, totalmem } from 'node:os';
import { expect, test } from 'vitest';
import { type LocalFacts, localSnapshot, queryLocalMachine } from '../../src/lib/remote/local-query.ts';

const facts: LocalFacts = {
  hostname: 'laptop',
  osId: 'abc',
  cpus: 8,
  cpuLoadPercent: 12.4,
  memory: { total: 16 * 1024 ** 3, available: 4 * 1024 ** 3 },
  controllers: [],
};

test('facts become a snapshot', () => {
  expect(localSnapshot(facts, 5)).toMatchObject({
    takenAt: 5,
    hostname: 'laptop',
    bootId: '',
    cpuCores: 8,
    cpuCoresInUse: 0.992,
    memoryTotalMiB: 16384,
    memoryFreeMiB: 4096,
    gpus: [],
  });
  expect(localSnapshot(facts, 5).identity).not.toBe(localSnapshot({ ...facts, osId: 'x' }, 5).identity);
});

test('only NVIDIA GPUs count, and only with memory that is known', () => {
  const controller = { vendor: 'NVIDIA Corporation', model: 'Quadro', bus: '', vram: 0, vramDynamic: false };
  const controllers = [
    { ...controller, vendor: 'Apple' },
    { ...controller, memoryTotal: 8192, memoryFree: 8000, utilizationGpu: 50 },
    controller,
  ];
  expect(localSnapshot({ ...facts, controllers }, 5).gpus).toMatchObject([
    { index: 0, name: 'Quadro', memoryFreeMiB: 8000, utilization: 0.5 },
    { index: 1, unplaceable: 'memory not reported' },
  ]);
});

test('this machine answers', async () => {
  const snapshot = await queryLocalMachine(() => 9);
  expect(snapshot).toMatchObject({ takenAt: 9, cpuCores: cpus().length, gpus: [] });
  expect(snapshot.memoryTotalMiB).toBe(Math.floor(totalmem() / 1024 / 1024));
  expect(snapshot.memoryFreeMiB).toBeGreaterThan(10);
});
