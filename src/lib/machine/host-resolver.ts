/**
 * Finds the machines that lists of hosts mean. There are two steps, since a name means first a machine of a machine
 * file of the same call, wherever the file stands: `read` every list of the call, then ask for `machinesOf` each.
 */
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { GroupFinder } from './group-finder.ts';
import { ExcludableHosts, Exclusion, type MissingExclusion } from './host-exclusion.ts';
import {
  type HostItem,
  isPlainName,
  readHostList,
  refuseTooMany,
  refuseTooManyItems,
  textOfItem,
} from './host-list.ts';
import { inPlace, readHostListFile, type WrittenList } from './host-list-file.ts';
import { type Context, type Node, nameOf, type ReadHosts, refuseOnlyExcluded, turned } from './host-nodes.ts';
import { refuseEndlessWay, type Step } from './host-way.ts';
import { type MachineEntry, machineWithoutFile } from './machine-entry.ts';
import {
  absolutePath,
  isFileName,
  type LoadedMachineFile,
  type MachineFileStore,
  noSuchFile,
} from './machine-file-store.ts';

/** Where to look. */
export interface HostResolverOptions {
  readonly files: MachineFileStore;
  readonly cwd: string;
  /** The folder of `groups.yaml`. */
  readonly configFolder: string;
}

/** The lists of one call. */
export class HostResolver {
  readonly #files: MachineFileStore;
  readonly #groups: GroupFinder;
  readonly #call: Context;
  readonly #contexts = new Map<LoadedMachineFile, Context>();
  /** The machine files of the call in their order, and the machines in them by name. */
  readonly #callFiles = new Set<LoadedMachineFile>();
  readonly #callMachines = new Map<string, MachineEntry>();
  readonly #withoutFile = new Map<string, MachineEntry>();
  readonly #found = new Map<ReadHosts, readonly MachineEntry[]>();
  readonly #members = new Map<string, readonly MachineEntry[]>();
  /** What the lists leave out by `!` without having it, list by list. */
  readonly missing: (readonly MissingExclusion[])[] = [];

  constructor({ files, cwd, configFolder }: HostResolverOptions) {
    this.#files = files;
    this.#groups = new GroupFinder(files, join(configFolder, 'groups.yaml'));
    this.#call = { here: cwd, own: undefined, lists: new Map() };
  }

  /**
   * Reads lists of the call, with the machine files that they name and the files that they name by `^`.
   * `mayOnlyExclude`: they may be nothing but exclusions.
   * @throws UsageError, MachineConfigError for a mistake in a list or file.
   */
  async read(lists: readonly string[], { mayOnlyExclude = false } = {}): Promise<ReadHosts> {
    const hosts = await this.#read(
      lists.map((text) => ({ text })),
      this.#call,
      [],
    );
    if (!mayOnlyExclude) refuseOnlyExcluded(hosts);
    await this.#loadNamed(hosts, new Set());
    return hosts;
  }

  /**
   * The machines that lists mean, in the order as written and each once. What they exclude is not missing when it is
   * among the machines `beside`.
   */
  async machinesOf(hosts: ReadHosts, beside: readonly MachineEntry[] = []): Promise<readonly MachineEntry[]> {
    await this.#refuseTwice(hosts);
    return await this.#machinesOf(hosts, [], beside);
  }

  /** The machines that the groups and files among the lists bring, before any is excluded. */
  async machinesOfGroups(hosts: ReadHosts): Promise<readonly MachineEntry[]> {
    const nodes = hosts.nodes.filter(({ type, isExcluded }) => type !== 'name' && !isExcluded);
    return await this.#machinesOf({ ...hosts, nodes }, []);
  }

  /** How many machines lists mean when what they exclude is counted as well. */
  async countBeforeExclusion(hosts: ReadHosts): Promise<number> {
    const nodes = hosts.nodes.filter(({ isExcluded }) => !isExcluded);
    return (await this.#machinesOf({ ...hosts, nodes }, [])).length;
  }

  /** Names of the groups in the machine files of the call. */
  get groupsOfCall(): ReadonlySet<string> {
    return new Set([...this.#callFiles].flatMap(({ groups }) => [...groups.keys()]));
  }

  /**
   * The machines of plain names: a name is a file or a machine by itself, never one of another file, so that two things
   * of one name stay two.
   */
  async machinesOfPlain(hosts: ReadHosts): Promise<readonly MachineEntry[]> {
    await this.#refuseTwice(hosts);
    const machines: MachineEntry[] = [];
    for (const node of hosts.nodes) machines.push(...(await this.#byItself(node, hosts.context)));
    return machines;
  }

  /** What is left out by lists that are to be excluded, or by the `!` items of lists that are nothing else. */
  async exclusionOf(hosts: ReadHosts): Promise<Exclusion> {
    const toExclude = hosts.isAllExcluded ? turned(hosts) : hosts;
    const machines = await this.machinesOf(toExclude);
    const { nodes } = toExclude;
    const kept = new Set(nodes.filter(({ isExcluded }) => isExcluded).map(textOfItem));
    const names = nodes.flatMap((node) => (kept.has(textOfItem(node)) ? [] : nameOf(node)));
    return new Exclusion([...names, ...machines.map(({ config }) => config.name)]);
  }

  /** What is to be excluded and is not there. A group or file counts only when nothing of it is there. */
  async missingOf(hosts: ReadHosts, there: ExcludableHosts): Promise<readonly MissingExclusion[]> {
    const { nodes, context } = hosts.isAllExcluded ? turned(hosts) : hosts;
    const included = nodes.filter(({ isExcluded }) => !isExcluded);
    return await this.#missing(included, context, there, []);
  }

  async #read(lists: readonly WrittenList[], context: Context, way: readonly Step[]): Promise<ReadHosts> {
    const nodes: Node[] = [];
    const seen = new Set<string>();
    let isPlain = true;
    for (const { text, place } of lists) {
      await inPlace(place, async () => {
        const items = readHostList(text, (name) => this.#files.find(name, context.here).path !== undefined);
        isPlain &&= isPlainName(items);
        for (const item of items) {
          const key = `${item.isExcluded ? `!${item.written} ` : ''}${textOfItem(item)}`;
          if (!item.isLiteral && seen.has(key)) continue; // ranges that overlap
          seen.add(key);
          nodes.push(await this.#nodeOf(item, place, context, way));
        }
        refuseTooManyItems(nodes);
      });
    }
    const isAllExcluded = nodes.length > 0 && nodes.every(({ isExcluded }) => isExcluded);
    return { nodes, context, isPlain, isAllExcluded };
  }

  async #nodeOf(
    item: HostItem,
    place: string | undefined,
    context: Context,
    way: readonly Step[],
  ): Promise<Node> {
    if (item.type === 'group') return { ...item, place };
    if (item.type === 'list') return { ...item, place, list: await this.#readFile(item.text, context, way) };
    const path = isFileName(item.text) ? this.#files.find(item.text, context.here).path : undefined;
    return path === undefined
      ? { ...item, place }
      : { ...item, place, file: await this.#load(path, context) };
  }

  /** The lists in a file that `^path` names. They mean what they would mean in its place. */
  async #readFile(name: string, context: Context, way: readonly Step[]): Promise<ReadHosts> {
    const path = absolutePath(name, context.here, this.#files.home);
    const real = await realpath(path).catch(() => path); // a pipe (`^<(command)` of bash) has no other path
    const shown = visibleText(path);
    if (name === '' || !existsSync(path))
      throw new UsageError(
        `found no file ${shown}, expected the list of hosts that ^${visibleText(name)} names`,
      );
    const step = { key: `^${real}`, shown: `^${name}` };
    refuseEndlessWay(way, step);
    const earlier = context.lists.get(real);
    if (earlier !== undefined) return earlier;
    const lists = await readHostListFile(real, shown);
    const hosts = await this.#read(lists, context, [...way, step]);
    refuseOnlyExcluded(hosts);
    context.lists.set(real, hosts);
    return hosts;
  }

  async #load(path: string, context: Context): Promise<LoadedMachineFile> {
    const file = await this.#files.load(path);
    if (context === this.#call && !this.#callFiles.has(file)) {
      this.#callFiles.add(file);
      for (const machine of file.machines) {
        if (!this.#callMachines.has(machine.config.name))
          this.#callMachines.set(machine.config.name, machine);
      }
    }
    return file;
  }

  /** Loads the files that other names mean, such as `lab` for `lab.yaml`: their machines can be named as well. */
  async #loadNamed(hosts: ReadHosts, done: Set<ReadHosts>): Promise<void> {
    if (done.has(hosts)) return;
    done.add(hosts);
    for (const { type, text, file, list } of hosts.nodes) {
      if (list !== undefined) await this.#loadNamed(list, done);
      if (type !== 'name' || file !== undefined || this.#callMachines.has(text)) continue;
      const { path } = this.#files.find(text, hosts.context.here);
      if (path !== undefined) await this.#load(path, hosts.context);
    }
  }

  async #machinesOf(
    hosts: ReadHosts,
    way: readonly Step[],
    beside: readonly MachineEntry[] = [],
  ): Promise<readonly MachineEntry[]> {
    const earlier = this.#found.get(hosts);
    if (earlier !== undefined) return earlier;
    const { nodes, context } = hosts;
    const machines = new Set<MachineEntry>();
    for (const node of nodes.filter(({ isExcluded }) => !isExcluded)) {
      for (const machine of await this.#meant(node, context, way)) machines.add(machine);
      refuseTooMany(machines.size);
    }
    const excluded = nodes.filter(({ isExcluded }) => isExcluded);
    if (excluded.length === 0) {
      const all = [...machines];
      this.#found.set(hosts, all);
      return all;
    }
    const there = new ExcludableHosts([...machines, ...beside]);
    const missing = await this.#missing(excluded, context, there, way);
    if (missing.length > 0) this.missing.push(missing);
    const names: string[] = [];
    for (const node of excluded) names.push(...(await this.#namesOf(node, context, way)));
    const exclusion = new Exclusion(names);
    const left = [...machines].filter((machine) => !exclusion.has(machine));
    this.#found.set(hosts, left);
    return left;
  }

  async #missing(
    nodes: readonly Node[],
    context: Context,
    there: ExcludableHosts,
    way: readonly Step[],
  ): Promise<readonly MissingExclusion[]> {
    const missing: Node[] = [];
    const found = new Set<string>();
    for (const node of nodes) {
      if (there.hasAny(await this.#namesOf(node, context, way))) found.add(`${node.type} ${node.written}`);
      else missing.push(node);
    }
    return missing.map((node) => ({
      text: textOfItem(node),
      isPerhapsMistyped:
        node.type === 'name' && node.file === undefined && !found.has(`${node.type} ${node.written}`),
      place: node.place,
    }));
  }

  /** The names that an item leaves out when it is excluded. */
  async #namesOf(node: Node, context: Context, way: readonly Step[]): Promise<readonly string[]> {
    const meant = await this.#meant(node, context, way);
    return [...nameOf(node), ...meant.map(({ config }) => config.name)];
  }

  async #meant(node: Node, context: Context, way: readonly Step[]): Promise<readonly MachineEntry[]> {
    return await inPlace(node.place, async () => {
      const { type, text, file, list } = node;
      if (list !== undefined) return await this.#machinesOf(list, way);
      if (type === 'group') return await this.#membersOf(text, context, way);
      const known = context.own?.byName.get(text) ?? this.#callMachines.get(text);
      return file === undefined && known !== undefined ? [known] : await this.#byItself(node, context);
    });
  }

  /** What a name means when it is no machine of a machine file of the call. */
  async #byItself({ text, file }: Node, context: Context): Promise<readonly MachineEntry[]> {
    if (file !== undefined) return file.machines;
    const { path, searched } = this.#files.find(text, context.here);
    if (path !== undefined) return (await this.#load(path, context)).machines;
    if (isFileName(text)) throw noSuchFile(text, searched);
    const earlier = this.#withoutFile.get(text);
    if (earlier !== undefined) return [earlier];
    const machine = machineWithoutFile(text, searched);
    this.#withoutFile.set(text, machine);
    return [machine];
  }

  async #membersOf(name: string, context: Context, way: readonly Step[]): Promise<readonly MachineEntry[]> {
    const { file, group } = await this.#groups.find(name, context.own, [...this.#callFiles]);
    const step = { key: `@${name} ${file.path}`, shown: `@${name}` };
    refuseEndlessWay(way, step);
    const earlier = this.#members.get(step.key);
    if (earlier !== undefined) return earlier;
    const own = this.#contexts.get(file) ?? { here: dirname(file.path), own: file, lists: new Map() };
    this.#contexts.set(file, own);
    const place = `in @${name}, ${visibleText(file.path)}:${group.line}`;
    const lists = group.lists.map((text) => ({ text, place }));
    const hosts = await inPlace(place, async () => {
      const read = await this.#read(lists, own, []);
      refuseOnlyExcluded(read);
      return read;
    });
    const members = await this.#machinesOf(hosts, [...way, step]);
    this.#members.set(step.key, members);
    return members;
  }

  /** A file that is named twice is a mistake, but not by groups, ranges and names, which may overlap. */
  async #refuseTwice({ nodes, context, isPlain }: ReadHosts): Promise<void> {
    const named = new Map<LoadedMachineFile, string>();
    for (const { text, file, isExcluded, isLiteral } of nodes) {
      if (isExcluded || !isLiteral || (file === undefined && !isPlain)) continue;
      const { path } = this.#files.find(text, context.here);
      if (path === undefined) continue;
      const loaded = await this.#load(path, context);
      const twin = named.get(loaded);
      if (twin !== undefined)
        throw new UsageError(`found the machine file ${path} twice, as ${twin} and as ${text}`);
      named.set(loaded, text);
    }
  }
}
