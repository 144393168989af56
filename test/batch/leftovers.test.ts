/** A cancellation that a machine cannot hear is noted and carried out at the next contact. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BatchRun } from '../../src/lib/batch/batch-run.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { findMachines } from '../../src/lib/machine/find-machines.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

let hosts: TestHosts;
let folder: string;

beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'away' }]);
  folder = await mkdtemp(join(tmpdir(), 'leftovers-'));
  await writeFile(join(folder, 'away.yaml'), hosts.get('away').machineFile('host_key_checking: no'));
});

afterAll(async () => {
  await hosts.close();
  await rm(folder, { recursive: true, force: true });
});

async function openBatch(file: string, warnings: string[] = []): Promise<BatchRun> {
  const batch = await BatchRun.open({
    file: join(folder, file),
    machines: await findMachines(['./away.yaml'], { cwd: folder }),
    defaults: {
      request: { ...DEFAULT_REQUEST, gpus: 0, memoryMiB: 1, cpuCores: 0.1 },
      copyForwards: [],
      shareForwards: [],
      copyBackwards: [],
    },
    cwd: folder,
    tuning: { ssh: { configFile: '/dev/null', keepaliveIntervalMs: 200 } },
  });
  batch.events.on('machine:warned', ({ message }) => warnings.push(message));
  await batch.connect();
  return batch;
}

test('what runs on a machine that is away is named, noted, and ended when the machine is reached again', async () => {
  const host = hosts.get('away');
  await writeFile(join(folder, 'long.sh'), 'sleep 4321 & sleep 4322\n');
  const sleepers = async () =>
    (await host.processes()).filter(({ commandLine }) => /sleep 432[12]/.test(commandLine));
  const batch = await openBatch('long.sh');
  const running = batch.run();
  await until(async () => (await sleepers()).length === 2, { describe: 'both processes run' });

  await host.cut();
  const stranded = await batch.cancelAll('ended by the test');
  expect(stranded.map(({ machine }) => machine)).toEqual(['away.yaml']);
  expect(stranded[0]?.job).toMatch(/long\.sh\.1$/);
  await running;
  await batch.close();
  await host.heal();
  expect((await sleepers()).length).toBe(2); // nobody could tell the machine

  await writeFile(join(folder, 'next.sh'), 'true\n');
  const warnings: string[] = [];
  const next = await openBatch('next.sh', warnings);
  expect(await sleepers()).toEqual([]);
  expect(warnings.join()).toContain('long.sh.1');
  await next.run();
  await next.close();

  const again: string[] = [];
  await (await openBatch('next.sh', again)).close();
  expect(again).toEqual([]); // carried out once
});
