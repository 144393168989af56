/** Finds the machines of a list again: what their files and destinations say now. */
import { homedir } from 'node:os';
import { isAbsolute } from 'node:path';
import type { MachineName } from '../domain/machine.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import { machineWithoutFile } from '../machine/machine-entry.ts';
import { MachineFileStore } from '../machine/machine-file-store.ts';
import type { ListedMachine } from './machine-list.ts';

/** What became of a list. */
export interface FoundAgain {
  /** Per machine its entry, or why there is none. */
  readonly entries: ReadonlyMap<MachineName, MachineEntry | { readonly problem: string }>;
  /** One line each. */
  readonly warnings: readonly string[];
}

/** Reads each machine file once. A mistake in one is told of its machines, and of no others. */
export async function findAgain(
  machines: readonly ListedMachine[],
  home: string = homedir(),
): Promise<FoundAgain> {
  const files = new MachineFileStore(home);
  const entries = new Map<MachineName, MachineEntry | { readonly problem: string }>();
  for (const { name, from } of machines) {
    try {
      entries.set(name, await entryOf(name, from, files));
    } catch (error) {
      entries.set(name, { problem: (error as Error).message });
    }
  }
  return { entries, warnings: files.warnings };
}

async function entryOf(
  name: MachineName,
  from: string,
  files: MachineFileStore,
): Promise<MachineEntry | { readonly problem: string }> {
  // Not looked for among machine files: a file that came later must not change what a destination means.
  if (!isAbsolute(from)) return machineWithoutFile(from, []);
  const { byName } = await files.load(from);
  const names = [...byName.keys()].join(', ');
  return byName.get(name) ?? { problem: `${from} has no machine ${name} any more, only ${names}` };
}
