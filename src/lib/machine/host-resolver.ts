/**
 * Finds the machines that lists of hosts mean. There are two steps, since a name means first a machine of a machine
 * file of the same call, wherever the file stands: `read` every list of the call, then ask for `machinesOf` each.
 */
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { GroupFinder } from './group-finder.ts';
import {
  type HostItem,
  isPlainName,
  readHostList,
  refuseTooMany,
  refuseTooManyItems,
  textOfItem,
} from './host-list.ts';
import { inPlace, readHostListFile, type WrittenList } from './host-list-file.ts';
import { foldNames } from './host-range.ts';
import { type MachineEntry, machineWithoutFile } from './machine-entry.ts';
import {
  absolutePath,
  isFileName,
  type LoadedMachineFile,
  type MachineFileStore,
  noSuchFile,
} from './machine-file-store.ts';

/** Lists of hosts that are one list together: what one of them excludes is excluded from all. */
export interface ReadHosts {
  readonly nodes: readonly Node[];
  readonly context: Context;
  /** Every list is one name as it stands: nothing is asked for that needs lists. */
  readonly isPlain: boolean;
}

/** Where lists are written: it decides what their names mean. */
interface Context {
  /** The folder that paths are seen from. */
  readonly here: string;
  /** The machine file whose group it is; undefined for the lists of the call and of the files that these name by `^`. */
  readonly own: LoadedMachineFile | undefined;
  /** Files named by `^` that were read, by real path. */
  readonly lists: Map<string, ReadHosts>;
}

interface Node extends HostItem {
  /** The machine file that the item is. */
  readonly file?: LoadedMachineFile;
  /** What the file named by `^` holds. */
  readonly list?: ReadHosts;
  /** For messages, where it is not in the call itself. */
  readonly place: string | undefined;
}

/** A group or a file of hosts that is being looked into. */
interface Step {
  readonly key: string;
  readonly shown: string;
}

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
  /** What is excluded without being there, one line each. */
  readonly warnings: string[] = [];

  constructor({ files, cwd, configFolder }: HostResolverOptions) {
    this.#files = files;
    this.#groups = new GroupFinder(files, join(configFolder, 'groups.yaml'));
    this.#call = { here: cwd, own: undefined, lists: new Map() };
  }

  /**
   * Reads lists of the call, with the machine files that they name and the files that they name by `^`.
   * @throws UsageError, MachineConfigError for a mistake in a list or file.
   */
  async read(lists: readonly string[]): Promise<ReadHosts> {
    const hosts = await this.#read(
      lists.map((text) => ({ text })),
      this.#call,
      [],
    );
    await this.#loadNamed(hosts, new Set());
    return hosts;
  }

  /** The machines that lists mean, in the order as written and each once. */
  async machinesOf(hosts: ReadHosts): Promise<readonly MachineEntry[]> {
    await this.#refuseTwice(hosts);
    return await this.#machinesOf(hosts, []);
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

  /** What lists name that is not among the machines. A group or file is named only when it has none of them. */
  async missingOf(hosts: ReadHosts, machines: readonly MachineEntry[]): Promise<readonly string[]> {
    const names = new Set(machines.map(({ config }) => config.name));
    const included = hosts.nodes.filter(({ isExcluded }) => !isExcluded);
    return await this.#missing(included, hosts.context, names, []);
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
          const key = `${item.isExcluded} ${textOfItem(item)}`;
          if (!item.isLiteral && seen.has(key)) continue; // ranges that overlap
          seen.add(key);
          nodes.push(await this.#nodeOf(item, place, context, way));
        }
        refuseTooManyItems(nodes);
      });
    }
    if (nodes.length > 0 && nodes.every(({ isExcluded }) => isExcluded)) {
      const text = cutToWidth(visibleText(nodes.map((node) => `!${textOfItem(node)}`).join(',')), 80);
      throw new UsageError(`found only what is excluded (${text}), expected hosts to exclude it from`);
    }
    return { nodes, context, isPlain };
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
    refuseCircle(way, step);
    const earlier = context.lists.get(real);
    if (earlier !== undefined) return earlier;
    const lists = await readHostListFile(real, shown);
    const hosts = await this.#read(lists, context, [...way, step]);
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

  async #machinesOf(hosts: ReadHosts, way: readonly Step[]): Promise<readonly MachineEntry[]> {
    const earlier = this.#found.get(hosts);
    if (earlier !== undefined) return earlier;
    const { nodes, context } = hosts;
    const machines = new Set<MachineEntry>();
    for (const node of nodes.filter(({ isExcluded }) => !isExcluded)) {
      for (const machine of await this.#meant(node, context, way)) machines.add(machine);
      refuseTooMany(machines.size);
    }
    const excluded = nodes.filter(({ isExcluded }) => isExcluded);
    const names = new Set([...machines].map(({ config }) => config.name));
    const missing = await this.#missing(excluded, context, names, way);
    if (missing.length > 0) this.warnings.push(`! names ${notAmongHosts(missing)}`);
    for (const node of excluded)
      for (const { config } of await this.#meant(node, context, way)) names.delete(config.name);
    const left = [...machines].filter(({ config }) => names.has(config.name));
    this.#found.set(hosts, left);
    return left;
  }

  async #missing(
    nodes: readonly Node[],
    context: Context,
    names: ReadonlySet<string>,
    way: readonly Step[],
  ): Promise<readonly string[]> {
    const missing: string[] = [];
    for (const node of nodes) {
      const meant = await this.#meant(node, context, way);
      if (!meant.some(({ config }) => names.has(config.name))) missing.push(textOfItem(node));
    }
    return missing;
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
    if (isFileName(text)) throw noSuchFile(searched);
    const earlier = this.#withoutFile.get(text);
    if (earlier !== undefined) return [earlier];
    const machine = machineWithoutFile(text, searched);
    this.#withoutFile.set(text, machine);
    return [machine];
  }

  async #membersOf(name: string, context: Context, way: readonly Step[]): Promise<readonly MachineEntry[]> {
    const { file, group } = await this.#groups.find(name, context.own, [...this.#callFiles]);
    const step = { key: `@${name} ${file.path}`, shown: `@${name}` };
    refuseCircle(way, step);
    const earlier = this.#members.get(step.key);
    if (earlier !== undefined) return earlier;
    const own = this.#contexts.get(file) ?? { here: dirname(file.path), own: file, lists: new Map() };
    this.#contexts.set(file, own);
    const place = `in @${name}, ${visibleText(file.path)}:${group.line}`;
    const lists = group.lists.map((text) => ({ text, place }));
    const hosts = await inPlace(place, () => this.#read(lists, own, []));
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

/** Texts of which none is among the hosts: `gpu[07-09], which are not among the hosts`. */
export function notAmongHosts(texts: readonly string[]): string {
  const shown = cutToWidth(visibleText(foldNames(texts)), 200);
  return `${shown}, which ${texts.length === 1 ? 'is' : 'are'} not among the hosts`;
}

function refuseCircle(way: readonly Step[], step: Step): void {
  const start = way.findIndex(({ key }) => key === step.key);
  if (start < 0) return;
  const circle = [...way.slice(start), step].map(({ shown }) => shown).join(' -> ');
  throw new UsageError(
    `found a circle, ${visibleText(circle)}, expected groups and lists that lead to hosts`,
  );
}
