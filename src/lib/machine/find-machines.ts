/**
 * Turns the names behind `--machines`, and lists of hosts, into machines: machine files, the built-in `local`, ssh
 * destinations, ranges, groups. It reads files and asks no machine anything.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { MissingExclusion } from './host-exclusion.ts';
import { ExcludableHosts } from './host-exclusion.ts';
import { refuseTooMany } from './host-list.ts';
import { mistypedExclusion, notAmongHosts, notToBePicked } from './host-mistakes.ts';
import type { ReadHosts } from './host-nodes.ts';
import { HostResolver } from './host-resolver.ts';
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
  /**
   * Lists of hosts to leave out. A bare host (no user, no port) leaves out every ssh destination with that host.
   * @default none
   */
  readonly exclude?: readonly string[];
  /**
   * Lists of hosts to take: names and ranges of those that the names stand for, all of which must be there; groups and
   * files `^path` bring what they hold. Nothing but exclusions means all but these. @default all
   */
  readonly only?: readonly string[];
  /**
   * What to do about an exclusion (in `exclude`, or by `!`) of a name, or of a range, of which nothing is there. To
   * refuse it is for commands that do harm where they must not run: it may be mistyped. Of groups and files, and of some
   * names of a range, is only warned. @default 'warn'
   */
  readonly missingExclusion?: 'warn' | 'refuse';
}

/**
 * Finds the machines that names stand for, in the order as written. Each name is a list of hosts with commas: machine
 * files, names of machines in them, `local`, ssh destinations, ranges (`gpu[01-12,15]`), groups (`@name`), files that
 * hold lists (`^path`), and with `!` before it any of these to leave out. docs/machine-file.md has the rules. A machine
 * that lists name again is there once; where all names are plain ones, which need no list, that is an error.
 * @throws UsageError for what names no machine, a mistake in a list, no names, no machines, more than 10,000, two
 * machines of one name, and what `only` and `missingExclusion` refuse.
 * @throws MachineConfigError for a mistake in a machine file.
 */
export async function findMachines(
  names: readonly string[],
  options: FindMachinesOptions = {},
): Promise<FoundMachines> {
  const {
    cwd = process.cwd(),
    home = homedir(),
    exclude = [],
    only = [],
    missingExclusion = 'warn',
  } = options;
  const configFolder = options.configFolder ?? join(home, '.config', 'ssh-scheduler');
  if (names.length === 0) {
    throw new UsageError('found no machine, expected machine files, `local` or user@host behind --machines');
  }
  const files = new MachineFileStore(home);
  const resolver = new HostResolver({ files, cwd, configFolder });
  // All are read before any is resolved: a name means first a machine of a file that one of them names.
  const hosts = await resolver.read(names);
  const picked = await resolver.read(only, { mayOnlyExclude: true });
  const excluded = await resolver.read(exclude);
  const all = await (hosts.isPlain ? resolver.machinesOfPlain(hosts) : resolver.machinesOf(hosts));
  refuseSameNames(all);
  refuseTooMany(all.length);
  const isAllBut = picked.isAllExcluded;
  const taken = only.length === 0 || isAllBut ? all : await pick(resolver, { picked, all, lists: names });
  const there = new ExcludableHosts([...all, ...taken]);
  const exclusions = [await resolver.exclusionOf(excluded)];
  const missing: (readonly [by: string, items: readonly MissingExclusion[]])[] = [
    ['-x', await resolver.missingOf(excluded, there)],
  ];
  if (isAllBut) {
    exclusions.push(await resolver.exclusionOf(picked));
    missing.push(['!', await resolver.missingOf(picked, there)]);
  }
  missing.unshift(...resolver.missing.map((items) => ['!', items] as const));
  if (missingExclusion === 'refuse') {
    const mistake = mistypedExclusion(
      missing.flatMap(([, items]) => items),
      there,
    );
    if (mistake !== undefined) throw mistake;
  }
  const machines = taken.filter((machine) => !exclusions.some((exclusion) => exclusion.has(machine)));
  if (machines.length === 0) {
    const count = taken.length || (await resolver.countBeforeExclusion(only.length === 0 ? hosts : picked));
    const [group] = all.length === 0 ? resolver.groupsOfCall : [];
    const hint = group === undefined ? '' : `, such as those of a group, @${group}`;
    const why = count === 0 ? 'the names stand for none' : `all ${count} are excluded`;
    throw new UsageError(`no host is left: ${why}, expected at least one${hint}`);
  }
  const warnings = [...files.warnings];
  for (const [by, items] of missing) {
    if (items.length === 0) continue;
    const place = items.find((item) => item.place !== undefined)?.place;
    const where = place === undefined ? '' : ` (${place})`;
    warnings.push(`${by} names ${notAmongHosts(items.map(({ text }) => text))}${where}`);
  }
  return { machines, warnings, sensitivePaths: files.sensitivePaths };
}

interface Pick {
  readonly picked: ReadHosts;
  /** The machines to pick from, and the lists that they come from. */
  readonly all: readonly MachineEntry[];
  readonly lists: readonly string[];
}

/** The machines to take, in the order in which they are picked. */
async function pick(resolver: HostResolver, { picked, all, lists }: Pick): Promise<readonly MachineEntry[]> {
  const wanted = await resolver.machinesOf(picked, all);
  const brought = new Set(await resolver.machinesOfGroups(picked));
  const byName = new Map<string, MachineEntry>(all.map((machine) => [machine.config.name, machine]));
  const missing = wanted.filter((machine) => !byName.has(machine.config.name) && !brought.has(machine));
  if (missing.length > 0) {
    const texts = missing.map(({ config }) => config.name);
    throw notToBePicked(texts, lists, [...byName.keys()], resolver.groupsOfCall);
  }
  const taken = wanted.map((machine) =>
    brought.has(machine) ? machine : (byName.get(machine.config.name) ?? machine),
  );
  refuseSameNames([...new Set([...all, ...taken])]);
  return [...new Set(taken)];
}
