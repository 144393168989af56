import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { DataFolder, defaultDataFolder, serviceOf } from '../../src/lib/queue/data-folder.ts';
import { until } from '../rig/until.ts';
import { scratch, startService } from './programs.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
let path: string;
beforeEach(async () => {
  folder = await scratch();
  path = join(folder.path, 'deep', 'queue');
});
afterEach(() => folder[Symbol.asyncDispose]());

const modeOf = (of: string) => statSync(of).mode & 0o777;

test('is below XDG_DATA_HOME where that is absolute, else in the home folder', () => {
  expect(defaultDataFolder({ HOME: '/h' })).toBe('/h/.local/share/ssh-scheduler/queue');
  expect(defaultDataFolder({ HOME: '/h', XDG_DATA_HOME: 'x' })).toBe('/h/.local/share/ssh-scheduler/queue');
  expect(defaultDataFolder({ HOME: '/h', XDG_DATA_HOME: '/x' })).toBe('/x/ssh-scheduler/queue');
});

test('is made for its owner alone, also where it stood open', () => {
  DataFolder.take(path).release();
  expect(modeOf(path)).toBe(0o700);
  chmodSync(path, 0o775);
  const data = DataFolder.take(path);
  expect(modeOf(path)).toBe(0o700);
  expect(modeOf(join(path, 'lock'))).toBe(0o600);
  data.release();
});

test('a second service is refused with host and process of the first, also over a link', () => {
  const data = DataFolder.take(path);
  expect(data.isTakenOver).toBe(false);
  symlinkSync(path, join(folder.path, 'link'));
  const message = `a service already runs on ${path}: process ${process.pid} on ${hostname()} (job_queue stop ends it)`;
  for (const name of [path, join(folder.path, 'link')]) expect(() => DataFolder.take(name)).toThrow(message);
  expect(() => DataFolder.take(path)).toThrow(UsageError);
  expect(serviceOf(path)).toEqual({ host: hostname(), pid: process.pid });
  data.release();
  data.release();
  expect(serviceOf(path)).toBeUndefined();
  DataFolder.take(path).release();
});

test('the lock of a service that was killed is taken over, by one of many that want it', async () => {
  const first = await startService(path);
  expect(first.said).toContain('ready new');
  await first.kill();
  expect(existsSync(join(path, 'lock'))).toBe(true);
  const services = await Promise.all([1, 2, 3, 4].map(() => startService(path)));
  try {
    const said = services.map((service) => service.said);
    expect(said.filter((text) => text.startsWith('ready taken over'))).toHaveLength(1);
    expect(said.filter((text) => text.includes('a service already runs on'))).toHaveLength(3);
  } finally {
    for (const service of services) await service.kill();
  }
});

test('a lock of another host is never taken over', () => {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'lock'), JSON.stringify({ host: 'elsewhere', pid: 1, processStart: '1' }));
  expect(() => DataFolder.take(path)).toThrow(
    `process 1 on elsewhere (job_queue --host elsewhere reaches it; if it is no more, remove ${path}/lock)`,
  );
});

test('what is no folder, or cannot be one, is told', () => {
  writeFileSync(join(folder.path, 'file'), '');
  expect(() => DataFolder.take(join(folder.path, 'file'))).toThrow(/as the data folder: it is no folder/);
  expect(() => DataFolder.take(join(folder.path, 'file', 'x'))).toThrow(UsageError);
});

test('a service that has ended has no lock, also while its parent does not ask about it', async () => {
  // The shell starts the service and becomes a program that never asks.
  const program = fileURLToPath(new URL('door-program.ts', import.meta.url));
  const line = `"$0" --import "$1" "$2" "$3" & exec sleep 600`;
  const args = ['-c', line, process.execPath, import.meta.resolve('tsx'), program, path];
  const parent = spawn('/bin/sh', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(parent.stdout, 'data');
    const pid = serviceOf(path)?.pid ?? 0;
    expect(pid).toBeGreaterThan(1);
    process.kill(pid, 'SIGKILL');
    await until(() => serviceOf(path) === undefined, { deadlineMs: 20_000 });
    expect(process.kill(pid, 0)).toBe(true);
    const data = DataFolder.take(path);
    expect(data.isTakenOver).toBe(true);
    data.release();
  } finally {
    parent.kill('SIGKILL');
  }
});
