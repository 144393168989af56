/**
 * The machines of a queue service: the list that people change while it runs, and the pool that follows it.
 *
 *     listed -> tried, again and again -> joined, in use -> leaving -> gone
 *                     \
 *                      `-> unusable, until it is added again
 */
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import type { JoinOptions } from '../allocator/open-pool.ts';
import { UsageError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { Refusal } from '../domain/ports.ts';
import type { QueueJobId } from '../domain/queue.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import { findMachines, type MachineEntry } from '../machine/find-machines.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { visibleText } from '../util/terminal-text.ts';
import { checkAdd, checkConfigure, checkLogins, checkRemove, refuseUnfitNames } from './machine-check.ts';
import { MachineDepartures, unlessAborted } from './machine-departures.ts';
import { checkMachines, type ListedMachine, MachineList, sourceOf } from './machine-list.ts';
import type { MeasuringOptions } from './machine-measuring.ts';
import { MachineMembers } from './machine-members.ts';
import { figuresOf, MachineCapacities, type RowFacts, stateOf } from './machine-row.ts';
import type {
  AddMachineAnswer,
  AddMachineRequest,
  ConfigureAnswer,
  ConfigureRequest,
  MachineRow,
  RemoveMachineAnswer,
  RemoveMachineRequest,
} from './requests.ts';

/** What the machines need of the service. */
export interface QueueMachinesOptions
  extends Pick<
    MeasuringOptions,
    'isWaiting' | 'freshForMs' | 'limitMs' | 'now' | 'watchEveryMs' | 'watchedForMs'
  > {
  /** The data folder. */
  readonly folder: string;
  readonly pool: MachinePool;
  readonly poolOptions: Omit<JoinOptions, 'signal' | 'onLateJoin' | 'envOf'>;
  /** A machine has joined; it gets jobs once this has settled. */
  readonly onJoined: (machine: PoolMachine) => Promise<void>;
  /** Jobs that run on a machine, or may. */
  readonly runningOn: (machine: MachineName) => readonly QueueJobId[];
  /** Jobs that run on the service's own machine for this one. */
  readonly runsHere: (machine: MachineName) => readonly QueueJobId[];
  /** Jobs that wait for this machine and no other. */
  readonly waitingFor: (machine: MachineName) => readonly QueueJobId[];
  /** Has all end that runs on a machine or for it; need not wait until it has. Returns those that cannot hear of it. */
  readonly end: (machine: MachineName, how: { readonly drop: boolean }) => Promise<readonly QueueJobId[]>;
  /** Machines may get jobs that could not before, also those that are not in the pool. */
  readonly onOpened?: () => void;
  /** While jobs wait, machines are measured so often. @default 25000 */
  readonly measureEveryMs?: number;
  /** How often is looked whether a machine that leaves is idle. @default 250 */
  readonly leaveLookMs?: number;
  /** Where `~` and the user's machine files are. @default the user's home folder */
  readonly home?: string;
}

/** A machine as it stands. */
export interface MachineLook {
  readonly name: MachineName;
  readonly state: MachineRow['state'];
  /** Why it is in that state, where there is more to say. */
  readonly reason?: string;
  readonly facts: RowFacts;
}

/** The answer to whether machines can ever hold a request. */
export interface CanEver {
  readonly fits: boolean;
  readonly shortfalls: Refusal['shortfalls'];
  readonly unknown: readonly MachineName[];
}

const ROW_WAITING_IDS = 1000;
const BUSY_IDS = 20;

/** The machines that a service has, and may have. */
export class QueueMachines {
  readonly #options: QueueMachinesOptions;
  readonly #pool: MachinePool;
  readonly #list: MachineList;
  readonly #members: MachineMembers;
  readonly #departures: MachineDepartures;
  readonly #capacities = new MachineCapacities();

  /** @throws UsageError when the list of machines in the data folder is damaged */
  constructor(options: QueueMachinesOptions) {
    const { folder, pool, poolOptions, onJoined, isWaiting, home } = options;
    const { measureEveryMs: intervalMs, freshForMs, limitMs, now, leaveLookMs: lookMs } = options;
    const { watchEveryMs, watchedForMs } = options;
    this.#options = options;
    this.#pool = pool;
    this.#list = MachineList.open(folder);
    this.#members = new MachineMembers({
      pool,
      poolOptions,
      list: this.#list,
      measuring: {
        isWaiting,
        ...present({ intervalMs, freshForMs, limitMs, watchEveryMs, watchedForMs, now }),
      },
      isOpen: (name) => this.isOpen(name),
      onJoined,
      home,
    });
    this.#departures = new MachineDepartures({
      isThere: (name) => this.#list.get(name) !== undefined,
      isLeaving: (name) => this.#list.get(name)?.isLeaving === true,
      isIdle: (name) => this.#isIdle(name),
      giveUp: (name) => {
        if (!pool.isUp(name)) pool.giveUp(name, `${name} was removed with --kill, and could not be reached`);
      },
      drop: (name) => this.#members.drop(name),
      ...present({ lookMs }),
    });
  }

  /**
   * Begins to reach the machines of the list, and those that these names stand for, which are added; `local` where there
   * are none. Returns warnings, one line each; does not wait for any machine.
   * @throws UsageError or MachineConfigError when a name stands for no machine
   */
  async start(names: readonly string[], cwd: string = process.cwd()): Promise<readonly string[]> {
    const warnings: string[] = [];
    const isDefault = names.length === 0 && this.#list.machines.length === 0;
    const wanted = isDefault ? ['local'] : names;
    if (wanted.length > 0) {
      const found = await findMachines(wanted, this.#where(cwd));
      refuseUnfitNames(found.machines);
      warnings.push(...found.warnings);
      for (const one of isDefault ? [] : this.#list.machines)
        if (one.isDefault === true && this.#isIdle(one.name)) this.#list.delete(one.name);
      this.#list.set(
        found.machines.map((entry) => {
          const from = sourceOf(entry);
          const known: ListedMachine = this.#list.get(entry.config.name) ?? { name: entry.config.name, from };
          const { isLeaving: _, isDefault: __, ...listed } = known;
          return { ...listed, from, ...(isDefault ? { isDefault } : {}) };
        }),
      );
    }
    warnings.push(...(await this.#members.takeUp(this.#list.machines)));
    for (const { name, isLeaving } of this.#list.machines) if (isLeaving) void this.#departures.depart(name);
    return [...new Set(warnings)];
  }

  /**
   * Adds machines, or gives those that are there already these settings: all, or none. Resolves when they are on the disk;
   * they join in the background. `tell` hears of each machine that was checked.
   * @throws UsageError or MachineConfigError saying what cannot be added, and why
   */
  async add(request: AddMachineRequest, tell: (line: string) => void = () => {}): Promise<AddMachineAnswer> {
    checkAdd(request);
    const { names, env, skipCheck = false, cwd = process.cwd() } = request;
    const { machines: entries, warnings } = await findMachines(names, this.#where(cwd));
    const refuse = () => {
      for (const entry of entries) this.#members.refuseOtherSource(entry.config.name, sourceOf(entry));
    };
    refuseUnfitNames(entries);
    refuse();
    if (!skipCheck) {
      const { ssh, query } = this.#options.poolOptions;
      const unreached = entries.filter(({ config }) => !this.#pool.isUp(config.name));
      await checkLogins(unreached, { joined: this.#pool.machines, login: present({ ssh, query }), tell });
      refuse(); // somebody else may have added one meanwhile
    }
    const before = entries.map(({ config }) => this.#list.get(config.name));
    this.#list.set(
      entries.map((entry, at) => ({
        name: entry.config.name,
        from: sourceOf(entry),
        ...present({ env, maxJobs: before[at]?.maxJobs, skipCheck: skipCheck || undefined }),
      })),
    );
    const notes = entries.flatMap((entry) => this.#members.use(entry.config.name, entry));
    this.#options.onOpened?.();
    const namesOf = (isKnown: boolean) =>
      entries.flatMap(({ config }, at) => ((before[at] !== undefined) === isKnown ? [config.name] : []));
    return { added: namesOf(false), updated: namesOf(true), warnings: [...warnings, ...notes] };
  }

  /**
   * Removes a machine; settles when it is gone. When the signal aborts, it goes on leaving.
   * @throws UsageError when it is not there, or jobs run there and it is to go only without
   */
  async remove(request: RemoveMachineRequest, signal?: AbortSignal): Promise<RemoveMachineAnswer> {
    checkRemove(request);
    const { how, drop = false } = request;
    const listed = this.#listedOf(request.name);
    const { name } = listed;
    if (how === 'refuse') {
      const refuse = () => this.#refuseBusy(name);
      refuse();
      await this.#departures.ifIdle(name, { onChange: () => this.#members.limit(name), refuse });
    } else {
      this.#list.set([{ ...listed, isLeaving: true }]);
      this.#members.limit(name);
      // First it is noted what becomes of the jobs: those that cannot hear of it are given up then.
      const givenUp = how === 'kill' ? await this.#options.end(name, { drop }) : [];
      await unlessAborted(this.#departures.depart(name, { isKilled: how === 'kill' }), signal);
      const waiting = this.#options.waitingFor(name).length;
      return { waiting, ...(givenUp.length === 0 ? {} : { givenUp }) };
    }
    return { waiting: this.#options.waitingFor(name).length };
  }

  /** Sets how many jobs of ours machines may have at once: one, or `all`. @throws UsageError */
  configure(request: ConfigureRequest): readonly ConfigureAnswer[] {
    checkConfigure(request);
    const { machine, maxJobs } = request;
    const listed = machine === 'all' ? this.#list.machines : [this.#listedOf(machine)];
    const answers = listed.map(({ name }) => ({
      machine: name,
      oldMaxJobs: this.#members.maxJobsOf(name),
      newMaxJobs: maxJobs,
    }));
    this.#list.set(listed.map((one) => ({ ...one, maxJobs })));
    for (const { name } of listed) {
      if (this.#pool.quarantineOf(name) !== undefined) this.#pool.liftQuarantine(name);
      this.#members.limit(name);
    }
    this.#options.onOpened?.();
    return answers;
  }

  /** All machines of the list, in their order. */
  names(): readonly MachineName[] {
    return this.#list.machines.map(({ name }) => name);
  }

  /** Whether a machine may get jobs, also such as run here for it: it is neither drained nor leaving. */
  isOpen(name: string): boolean {
    const listed = this.#list.get(name);
    if (listed === undefined || listed.isLeaving === true || listed.maxJobs === 0) return false;
    return !this.#departures.isTried(listed.name);
  }

  /** What is known of a machine before the first contact, with its jobs' variables; undefined when nothing is. */
  entryOf(name: string): MachineEntry | undefined {
    return this.#members.entryOf(name);
  }

  /** All machines to which the service knows the way: their files and keys are never to be sent anywhere. */
  entries(): readonly MachineEntry[] {
    return this.names().flatMap((name) => this.entryOf(name) ?? []);
  }

  rows(): readonly MachineRow[] {
    const { runningOn, runsHere, waitingFor } = this.#options;
    return this.names().map((name): MachineRow => {
      const facts = this.#members.factsOf(name);
      return {
        name,
        ...stateOf(name, facts, this.#pool),
        running: runningOn(name),
        runningHere: runsHere(name),
        maxJobs: facts.maxJobs,
        waiting: waitingFor(name).slice(0, ROW_WAITING_IDS),
        ...figuresOf(facts),
      };
    });
  }

  /** Their states, and what they said: a row without its jobs, which cost more to look up where many wait. */
  looks(): readonly MachineLook[] {
    return this.names().map((name) => {
      const facts = this.#members.factsOf(name);
      return { name, ...stateOf(name, facts, this.#pool), facts };
    });
  }

  /** Somebody watches: machines are measured for that, too. */
  noteWatched(): void {
    this.#members.measuring.noteWatched();
  }

  /**
   * Whether a machine, or this one, can ever hold a request, by all that it has. `shortfalls`: of those that cannot;
   * `unknown`: those that were not reached yet. Machines that leave do not count.
   */
  canEver(request: ResourceRequest, only?: string): CanEver {
    const unknown: MachineName[] = [];
    const shortfalls: Refusal['shortfalls'][number][] = [];
    let fits = false;
    for (const { name, isLeaving } of this.#list.machines) {
      if (isLeaving === true || (only !== undefined && only !== name)) continue;
      const { machine, snapshot, gpusAllowed } = this.#members.factsOf(name);
      if (machine === undefined || snapshot === undefined) {
        unknown.push(name);
        continue;
      }
      const short = this.#capacities.shortfalls(machine, snapshot, gpusAllowed, request);
      if (short.length === 0) fits = true;
      else shortfalls.push({ machine: name, shortfalls: short });
    }
    return { fits, shortfalls, unknown };
  }

  /** Jobs have come: to be called before they are placed, so that nothing is placed by figures that are too old. */
  noteWaiting(): void {
    this.#members.measuring.noteWaiting();
  }

  /** The list, for an export. */
  listed(): readonly ListedMachine[] {
    return this.#list.toJSON();
  }

  /** Whether a list could be put in the place of this one, and how many machines it has. @throws UsageError */
  check(json: unknown): number {
    const machines = checkMachines(json, 'machines');
    for (const { name, from } of machines) this.#members.refuseOtherSource(name, from);
    return machines.length;
  }

  /**
   * Puts a list in the place of this one; nobody looks whether its machines can be reached. Those that are not in it leave
   * when their jobs have ended. Returns warnings, one line each.
   * @throws UsageError as `check` does
   */
  async import(machines: readonly ListedMachine[]): Promise<readonly string[]> {
    this.check(machines);
    const names = new Set(machines.map(({ name }) => name));
    const going = this.#list.machines.filter(({ name }) => !names.has(name));
    this.#list.set([...going.map((one) => ({ ...one, isLeaving: true })), ...machines]);
    const warnings = await this.#members.takeUp(machines);
    for (const { name } of going) this.#members.limit(name);
    for (const { name, isLeaving } of this.#list.machines) if (isLeaving) void this.#departures.depart(name);
    this.#options.onOpened?.();
    return warnings;
  }

  /** Ends all tries and looks. Machines stay as they are: to let go of them is for the pool. */
  async close(): Promise<void> {
    this.#members.close();
    this.#departures.close();
  }

  #isIdle(name: MachineName): boolean {
    const { runningOn, runsHere } = this.#options;
    return (
      runningOn(name).length === 0 &&
      runsHere(name).length === 0 &&
      this.#pool.attemptsOn(name).length === 0 &&
      (this.#pool.machineOf(name)?.resources.jobs ?? 0) === 0
    );
  }

  #refuseBusy(name: MachineName): void {
    const ids = [...this.#options.runningOn(name), ...this.#options.runsHere(name)];
    if (ids.length === 0) return;
    const more = ids.length > BUSY_IDS ? ` and ${ids.length - BUSY_IDS} more` : '';
    const jobs = `${ids.length === 1 ? 'job' : 'jobs'} ${ids.slice(0, BUSY_IDS).join(', ')}${more}`;
    throw new UsageError(
      `${name} runs ${jobs}: --wait removes it when nothing runs there, --kill ends what does`,
    );
  }

  #listedOf(name: string): ListedMachine {
    const listed = this.#list.get(name);
    if (listed !== undefined) return listed;
    const names = this.names();
    const near = nearestWord(name, names);
    const all = names.length === 0 ? 'there is none' : `there are ${names.join(', ')}`;
    throw new UsageError(
      `found no machine "${visibleText(name)}", ${near === undefined ? all : `did you mean ${near}?`}`,
    );
  }

  #where(cwd: string): { readonly cwd: string; readonly home?: string } {
    return { cwd, ...present({ home: this.#options.home }) };
  }
}

/** Without what is undefined. */
function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> }; // just filtered
}
