/** Reads a Linux /proc folder: the one of this machine, or a host's as seen from outside. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostProcess } from './test-host.ts';

/** All processes alive in a /proc folder (zombies are not). `accept` sees each one's environment first. */
export async function readProcesses(
  procFolder: string,
  accept?: (environment: string) => boolean,
): Promise<HostProcess[]> {
  const pids = (await readdir(procFolder)).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map((pid) => readProcess(join(procFolder, pid), accept)));
  return found.filter((one) => one !== undefined);
}

async function readProcess(
  folder: string,
  accept: ((environment: string) => boolean) | undefined,
): Promise<HostProcess | undefined> {
  try {
    if (accept && !accept(await readFile(join(folder, 'environ'), 'utf8'))) return undefined;
    // `PID (name) STATE PARENT ...`, where the name may hold anything: see proc(5).
    const [, pid, name, state, parent] =
      /^(\d+) \((.*)\) (\S) (\d+) /s.exec(await readFile(join(folder, 'stat'), 'utf8')) ?? [];
    if (state === undefined || state === 'Z' || state === 'X') return undefined;
    const args = (await readFile(join(folder, 'cmdline'), 'utf8')).replaceAll('\0', ' ').trimEnd();
    return { pid: Number(pid), parentPid: Number(parent), commandLine: args || `[${name}]` };
  } catch {
    return undefined; // ended while we looked, or not ours
  }
}
