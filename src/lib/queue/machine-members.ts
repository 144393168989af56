/** What a service knows of each machine of its list, and how those get into the pool. */
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import { type JoinOptions, joinMachine } from '../allocator/open-pool.ts';
import { UsageError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import { findAgain } from './machine-finder.ts';
import type { ListedMachine, MachineList } from './machine-list.ts';
import { Measuring, type MeasuringOptions } from './machine-measuring.ts';
import type { RowFacts } from './machine-row.ts';

/** What machines of the list are used with. */
export interface MachineMembersOptions {
  readonly pool: MachinePool;
  readonly poolOptions: Omit<JoinOptions, 'signal' | 'onLateJoin' | 'envOf'>;
  readonly list: MachineList;
  readonly measuring: Omit<MeasuringOptions, 'pool' | 'events' | 'query' | 'gpusAllowed'>;
  /** Whether a machine may get jobs. */
  readonly isOpen: (machine: MachineName) => boolean;
  /** A machine has joined; it gets jobs once this has settled. */
  readonly onJoined: (machine: PoolMachine) => Promise<void>;
  readonly home: string | undefined;
}

interface Member {
  /** Absent when what the list says of it cannot be read. */
  entry: MachineEntry | undefined;
  /** Why it cannot be reached. */
  reason: string | undefined;
  isUnusable: boolean;
  /** Ends the tries to reach it. */
  readonly tries: AbortController;
}

const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** The machines of the list, each on its way into the pool or in it. */
export class MachineMembers {
  readonly measuring: Measuring;
  readonly #options: MachineMembersOptions;
  readonly #pool: MachinePool;
  readonly #members = new Map<string, Member>();
  readonly #stopHearing: readonly (() => void)[];

  constructor(options: MachineMembersOptions) {
    this.#options = options;
    const { pool, poolOptions } = options;
    const { events, query } = poolOptions;
    this.#pool = pool;
    this.measuring = new Measuring({
      ...options.measuring,
      pool,
      events,
      gpusAllowed: (name) => this.#gpusOf(name),
      ...(query === undefined ? {} : { query }),
    });
    this.#stopHearing = [
      events.on('machine:unreachable', ({ machine, reason, isTriedAgain }) =>
        this.#note(machine, reason, !isTriedAgain),
      ),
      events.on('machine:away', ({ machine, reason }) => this.#note(machine, reason)),
      events.on('machine:queried', ({ machine }) => this.#note(machine, undefined)),
      events.on('machine:back', ({ machine }) => this.#note(machine, undefined)),
    ];
  }

  /** Begins to use machines of the list, as they are written there and in their files now. Returns warnings, one line each. */
  async takeUp(machines: readonly ListedMachine[]): Promise<readonly string[]> {
    const { entries, warnings } = await findAgain(machines, this.#options.home);
    const problem = 'it was not looked for';
    return [...warnings, ...machines.flatMap(({ name }) => this.use(name, entries.get(name) ?? { problem }))];
  }

  /** Has a machine of the list join, or gives one that has joined its settings. Returns warnings, one line each. */
  use(name: MachineName, found: MachineEntry | { readonly problem: string }): readonly string[] {
    const before = this.#members.get(name);
    if (this.#pool.machineOf(name) !== undefined && before?.entry !== undefined) {
      this.#pool.liftQuarantine(name);
      this.limit(name);
      if ('problem' in found) return [`${name}: ${found.problem}`];
      const { config } = before.entry;
      before.entry = { ...before.entry, config: { ...config, env: found.config.env } };
      const later = `${name}: what else has changed in its machine file counts once it was removed and added again`;
      return isSameWay(before.entry, found) ? [] : [later];
    }
    before?.tries.abort();
    const tries = new AbortController();
    if ('problem' in found) {
      this.#members.set(name, { entry: undefined, reason: found.problem, isUnusable: true, tries });
      this.#pool.expect(name, false);
      return [`${name}: ${found.problem}`];
    }
    this.#members.set(name, { entry: found, reason: undefined, isUnusable: false, tries });
    void joinMachine(this.#pool, found, {
      ...this.#options.poolOptions,
      signal: tries.signal,
      envOf: () => this.envOf(name),
      onLateJoin: (machine) => this.#takeIn(machine),
    });
    return [];
  }

  /** Has the pool give a machine as many jobs as it may have now. */
  limit(name: MachineName): void {
    if (this.#pool.machineOf(name) === undefined) return;
    this.#pool.setMaxJobs(name, this.#options.isOpen(name) ? (this.maxJobsOf(name) ?? NO_LIMIT) : 0);
  }

  /** Takes a machine, on which nothing of ours runs, from the list and the pool. */
  async drop(name: MachineName): Promise<void> {
    const { list } = this.#options;
    if (list.get(name) === undefined) return;
    list.delete(name);
    this.#members.get(name)?.tries.abort();
    this.#members.delete(name);
    const machine = this.#pool.remove(name);
    if (machine === undefined) return;
    this.measuring.forget(machine);
    await machine.runner?.close();
  }

  /** Of a machine in use the way to it cannot change, or its jobs would be looked for elsewhere. @throws UsageError */
  refuseOtherSource(name: MachineName, from: string): void {
    const listed = this.#options.list.get(name);
    if (listed === undefined || listed.from === from || this.#pool.machineOf(name) === undefined) return;
    throw new UsageError(
      `found ${name} in ${from}, and it is in use as the one in ${listed.from}: remove that first, or give this another name`,
    );
  }

  /** What is known of a machine before the first contact, with the variables of its jobs. */
  entryOf(name: string): MachineEntry | undefined {
    const entry = this.#members.get(name)?.entry;
    return entry && { ...entry, config: { ...entry.config, env: this.envOf(name) } };
  }

  /** The variables of its jobs: those of the list over those of its machine file. */
  envOf(name: string): Readonly<Record<string, string>> {
    return { ...this.#members.get(name)?.entry?.config.env, ...this.#options.list.get(name)?.env };
  }

  /** The most jobs of ours at once: what was configured, else what its machine file says; null for no limit. */
  maxJobsOf(name: string): number | null {
    return this.#options.list.get(name)?.maxJobs ?? this.#members.get(name)?.entry?.config.maxJobs ?? null;
  }

  factsOf(name: MachineName): RowFacts {
    const member = this.#members.get(name);
    const machine = this.#pool.machineOf(name);
    return {
      isLeaving: this.#options.list.get(name)?.isLeaving === true,
      maxJobs: this.maxJobsOf(name),
      isUnusable: member?.isUnusable === true,
      reason: member?.reason,
      machine,
      snapshot: machine && this.measuring.snapshotOf(machine),
      whole: machine && this.measuring.wholeOf(machine),
      gpusAllowed: this.#gpusOf(name),
    };
  }

  /** Ends all tries. Machines that have joined stay in the pool. */
  close(): void {
    for (const stop of this.#stopHearing) stop();
    for (const { tries } of this.#members.values()) tries.abort();
    this.measuring.close();
  }

  async #takeIn(machine: PoolMachine): Promise<void> {
    this.measuring.joined(machine);
    this.limit(machine.name);
    try {
      await this.#options.onJoined(machine);
    } catch (error) {
      this.#note(machine.name, (error as Error).message);
      throw error;
    }
  }

  #note(name: MachineName, reason: string | undefined, isUnusable = false): void {
    const member = this.#members.get(name);
    if (member === undefined) return;
    member.reason = reason;
    member.isUnusable = isUnusable;
  }

  #gpusOf(name: string): readonly number[] | undefined {
    return this.#members.get(name)?.entry?.config.gpus;
  }
}

/** Whether a machine is reached and used alike, its variables apart. */
function isSameWay(one: MachineEntry, other: MachineEntry): boolean {
  const textOf = ({ config }: MachineEntry) => JSON.stringify({ ...config, env: {}, source: undefined });
  return textOf(one) === textOf(other);
}
