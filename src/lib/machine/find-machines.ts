/**
 * Turns the names behind `--machines`, and lists of hosts, into machines: machine files, the built-in `local`, ssh
 * destinations, ranges, groups. It reads files and asks no machine anything.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { refuseTooMany } from './host-list.ts';
import { HostResolver, notAmongHosts } from './host-resolver.ts';
import { type MachineEntry, refuseSameNames } from './machine-entry.ts';
import { MachineFileStore } from './machine-file-store.ts';

export type { MachineEntry } from './machine-entry.ts';

/** What the names stand for. */
export interface FoundMachines {
  readonly machines: readonly MachineEntry[];
  /** One line each. */
  readonly warnings: readonly string[];
  /**
   * Absolute paths of the machine files that were read and of the keys they name (links resolved as well): never to
   * be sent to a machine.
   */
  readonly sensitivePaths: readonly string[];
}

/** Where to look, and which of the machines to take. */
export interface FindMachinesOptions {
  /** @default the working directory */
  readonly cwd?: string;
  /** @default the user's home folder */
  readonly home?: string;
  /** The folder of `groups.yaml`, the user's own groups. @default `.config/ssh-scheduler` in the home folder */
  readonly configFolder?: string;
  /** Lists of hosts to leave out. What is not among the hosts is warned about. @default none */
  readonly exclude?: readonly string[];
  /** Lists of hosts to take, of those that the names stand for; all of them must be there. @default all */
  readonly only?: readonly string[];
}

/**
 * Finds the machines that names stand for, in the order as written. Each name is a list of hosts with commas: machine
 * files, names of machines in them, `local`, ssh destinations, ranges (`gpu[01-12,15]`), groups (`@name`), files that
 * hold lists (`^path`), and with `!` before it any of these to leave out. docs/machine-file.md has the rules. A machine
 * that lists name again is there once; where all names are plain ones, which need no list, that is an error.
 * @throws UsageError for what names no machine, a mistake in a list, no names, no machines, more than 10,000, and two
 * machines of one name.
 * @throws MachineConfigError for a mistake in a machine file.
 */
export async function findMachines(
  names: readonly string[],
  options: FindMachinesOptions = {},
): Promise<FoundMachines> {
  const { cwd = process.cwd(), home = homedir(), exclude = [], only = [] } = options;
  const configFolder = options.configFolder ?? join(home, '.config', 'ssh-scheduler');
  if (names.length === 0) {
    throw new UsageError('found no machine, expected machine files, `local` or user@host behind --machines');
  }
  const files = new MachineFileStore(home);
  const resolver = new HostResolver({ files, cwd, configFolder });
  // All are read before any is resolved: a name means first a machine of a file that one of them names.
  const hosts = await resolver.read(names);
  const picked = await resolver.read(only);
  const excluded = await resolver.read(exclude);
  const all = await (hosts.isPlain ? resolver.machinesOfPlain(hosts) : resolver.machinesOf(hosts));
  refuseSameNames(all);
  refuseTooMany(all.length);
  const taken = only.length === 0 ? all : pick(all, await resolver.machinesOf(picked));
  const without = namesOf(await resolver.machinesOf(excluded));
  const machines = taken.filter(({ config }) => !without.has(config.name));
  const missing = await resolver.missingOf(excluded, all);
  if (machines.length === 0) {
    const why = taken.length === 0 ? 'the names stand for none' : `all ${taken.length} are excluded`;
    throw new UsageError(`no host is left: ${why}, expected at least one`);
  }
  const warnings = [...files.warnings, ...resolver.warnings];
  if (missing.length > 0) warnings.push(`-x names ${notAmongHosts(missing)}`);
  return { machines, warnings, sensitivePaths: files.sensitivePaths };
}

function namesOf(machines: readonly MachineEntry[]): ReadonlySet<string> {
  return new Set(machines.map(({ config }) => config.name));
}

function pick(all: readonly MachineEntry[], wanted: readonly MachineEntry[]): readonly MachineEntry[] {
  const there = namesOf(all);
  const names = namesOf(wanted);
  for (const name of names) {
    if (there.has(name)) continue;
    const nearest = nearestWord(name, there);
    const expected = nearest === undefined ? 'one of them' : `${nearest}, if that is what is meant`;
    throw new UsageError(`found ${notAmongHosts([name])}, to be picked from them, expected ${expected}`);
  }
  const byName = new Map(all.map((machine) => [String(machine.config.name), machine]));
  return [...names].flatMap((name) => byName.get(name) ?? []); // in the order in which they were picked
}
