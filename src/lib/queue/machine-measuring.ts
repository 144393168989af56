/**
 * Measures the machines of a queue service again: while jobs wait, each at least every 30 s, and while somebody watches,
 * every 10 s. When jobs come to a service
 * that was idle, or a machine comes back that was away, a machine whose figures are older gets no jobs until it was measured.
 */
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import { availableOn } from '../allocator/open-pool.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { MachineName, MachineSnapshot } from '../domain/machine.ts';
import { withoutOwnUse } from '../machine/own-use.ts';
import type { QueryOptions } from '../remote/query.ts';
import type { EventStream } from '../util/event-stream.ts';
import { withTimeLimit } from '../util/time-limit.ts';

/** How machines are measured. */
export interface MeasuringOptions {
  readonly pool: MachinePool;
  readonly events: EventStream<SchedulerEvent>;
  /** Whether jobs wait for a machine. */
  readonly isWaiting: () => boolean;
  /** Indexes of the GPUs that jobs may have there; undefined for all. */
  readonly gpusAllowed?: (machine: MachineName) => readonly number[] | undefined;
  /** While jobs wait, machines are measured so often. @default 25000 */
  readonly intervalMs?: number;
  /** Older figures are not placed by. @default 30000 */
  readonly freshForMs?: number;
  /** While somebody watches, machines are measured so often, a tenth sooner at most. @default 10000 */
  readonly watchEveryMs?: number;
  /** For how long somebody watches who has asked once. @default 15000 */
  readonly watchedForMs?: number;
  /** A machine may take so long to answer; then what was known counts. @default 10000 */
  readonly limitMs?: number;
  readonly query?: QueryOptions;
  /** A clock that does not jump, milliseconds. @default performance.now */
  readonly now?: () => number;
}

interface Measured {
  /** Our own jobs' use taken off. */
  snapshot: MachineSnapshot;
  /** As the machine said it. */
  whole: MachineSnapshot;
  /** When it was measured last, or that was tried; by a clock that does not jump. */
  triedAt: number;
  isUnderWay: boolean;
  /** It went away while it was measured. */
  wentAway: boolean;
  /** That it could not be measured was told. */
  isFailureTold: boolean;
}

const INTERVAL_MS = 25_000;
const FRESH_FOR_MS = 30_000;
const WATCH_EVERY_MS = 10_000;
const WATCHED_FOR_MS = 15_000;
const LIMIT_MS = 10_000;
const LOOKS_PER_INTERVAL = 10;

/** Keeps the figures of a pool's machines fresh, until `close`. */
export class Measuring {
  readonly #options: MeasuringOptions;
  readonly #now: () => number;
  readonly #measured = new Map<PoolMachine, Measured>();
  readonly #timer: NodeJS.Timeout;
  readonly #stopHearing: readonly (() => void)[];
  /** Runs while somebody watches. */
  #watchTimer: NodeJS.Timeout | undefined;
  #watchedAt = -Infinity;
  #isClosed = false;

  constructor(options: MeasuringOptions) {
    const { events, intervalMs = INTERVAL_MS, now = () => performance.now() } = options;
    this.#options = options;
    this.#now = now;
    this.#timer = setInterval(() => this.#look(), intervalMs / LOOKS_PER_INTERVAL).unref();
    this.#stopHearing = [
      // When it is back, jobs are placed before anybody hears of it: so it is closed to them while it is away.
      events.on('machine:away', ({ machine: name }) => {
        options.pool.setMeasuring(name, true);
        for (const [machine, measured] of this.#measured) if (machine.name === name) measured.wentAway = true;
      }),
      events.on('machine:back', ({ machine: name }) => {
        for (const machine of this.#measured.keys()) if (machine.name === name) this.#open(machine);
      }),
    ];
  }

  /** A machine has joined, with fresh figures. */
  joined(machine: PoolMachine): void {
    this.#measured.set(machine, {
      snapshot: machine.snapshot,
      whole: machine.snapshot,
      triedAt: this.#now(),
      isUnderWay: false,
      wentAway: false,
      isFailureTold: false,
    });
  }

  /** A machine has left. */
  forget(machine: PoolMachine): void {
    this.#measured.delete(machine);
  }

  /** What a machine said last, our own jobs' use taken off; undefined when it is not known. */
  snapshotOf(machine: PoolMachine): MachineSnapshot | undefined {
    return this.#measured.get(machine)?.snapshot;
  }

  /** The same with our own jobs' use; that of the first figures is not known, and not in them. */
  wholeOf(machine: PoolMachine): MachineSnapshot | undefined {
    return this.#measured.get(machine)?.whole;
  }

  /** Somebody watches: machines are measured from now on whether jobs wait or not. */
  noteWatched(): void {
    if (this.#isClosed) return;
    this.#watchedAt = this.#now();
    if (this.#watchTimer !== undefined) return;
    const { watchEveryMs = WATCH_EVERY_MS } = this.#options;
    this.#watchTimer = setInterval(() => this.#look(), watchEveryMs / LOOKS_PER_INTERVAL).unref();
    this.#look();
  }

  /** Jobs have come. To be called before they are placed: machines whose figures are too old get none until they were measured. */
  noteWaiting(): void {
    const { pool, freshForMs = FRESH_FOR_MS } = this.#options;
    for (const machine of pool.machines) {
      const measured = this.#measured.get(machine);
      if (measured === undefined || !pool.isUp(machine.name)) continue;
      if (this.#now() - measured.triedAt <= freshForMs) continue;
      pool.setMeasuring(machine.name, true);
      this.#open(machine);
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#measured.clear();
    clearInterval(this.#timer);
    clearInterval(this.#watchTimer);
    for (const stop of this.#stopHearing) stop();
  }

  /** Opens a machine to jobs, at once where its figures are fresh. */
  #open(machine: PoolMachine): void {
    const measured = this.#measured.get(machine);
    if (measured === undefined || measured.isUnderWay) return; // it is opened when that has ended
    if (this.#now() - measured.triedAt <= (this.#options.freshForMs ?? FRESH_FOR_MS))
      this.#options.pool.setMeasuring(machine.name, false);
    else void this.#measure(machine, measured);
  }

  #look(): void {
    const { pool } = this.#options;
    const everyMs = this.#everyMs();
    if (everyMs === undefined) return;
    for (const machine of pool.machines) {
      const measured = this.#measured.get(machine);
      if (measured === undefined || measured.isUnderWay || !pool.isUp(machine.name)) continue;
      if (this.#now() - measured.triedAt >= everyMs * (1 - 1 / LOOKS_PER_INTERVAL))
        void this.#measure(machine, measured);
    }
  }

  /** How often machines are measured now; undefined when nobody needs that. */
  #everyMs(): number | undefined {
    const { isWaiting, intervalMs = INTERVAL_MS } = this.#options;
    const { watchEveryMs = WATCH_EVERY_MS, watchedForMs = WATCHED_FOR_MS } = this.#options;
    const isWatched = this.#now() - this.#watchedAt < watchedForMs;
    if (!isWatched) {
      clearInterval(this.#watchTimer);
      this.#watchTimer = undefined;
    }
    if (!isWaiting()) return isWatched ? watchEveryMs : undefined;
    return isWatched ? Math.min(intervalMs, watchEveryMs) : intervalMs;
  }

  /** Never rejects. */
  async #measure(machine: PoolMachine, measured: Measured): Promise<void> {
    const { pool, limitMs = LIMIT_MS } = this.#options;
    measured.isUnderWay = true;
    measured.wentAway = false;
    try {
      const whole = await this.#ask(machine, limitMs);
      const { managed } = measured.snapshot;
      // What is managed is a setting of ours, which no machine tells.
      const snapshot = withoutOwnUse(managed === undefined ? whole : { ...whole, managed });
      if (this.#measured.get(machine) !== measured) return; // it has left
      const { gpusAllowed = () => undefined } = this.#options;
      pool.measure(machine.name, availableOn(snapshot, gpusAllowed(machine.name)));
      for (const message of changesBetween(measured.snapshot, snapshot)) this.#warn(machine, message);
      measured.snapshot = snapshot;
      measured.whole = whole;
      measured.triedAt = this.#now();
      measured.isFailureTold = false;
    } catch (error) {
      if (measured.wentAway) return; // that is told by others; it is tried again when it is back
      measured.triedAt = this.#now(); // else a machine that does not answer would be closed most of the time
      if (!measured.isFailureTold && this.#measured.get(machine) === measured)
        this.#warn(machine, `not measured again, what it said before counts: ${(error as Error).message}`);
      measured.isFailureTold = true;
    } finally {
      measured.isUnderWay = false;
      // One that is away stays closed until it is back.
      if (this.#measured.get(machine) === measured && pool.isUp(machine.name)) this.#open(machine);
    }
  }

  /** What everybody uses there, our own jobs named apart. */
  async #ask({ runner }: PoolMachine, limitMs: number): Promise<MachineSnapshot> {
    if (runner === undefined) throw new Error('it is only planned with');
    const asking = runner.query({ timeoutMs: limitMs, ...this.#options.query });
    asking.catch(() => {}); // it may come to nothing after nobody waits any more
    const limit = () => new Error(`no answer within ${limitMs / 1000} s`);
    return await withTimeLimit(asking, limitMs, limit);
  }

  #warn({ name: machine }: PoolMachine, message: string): void {
    this.#options.events.publish({ type: 'machine:warned', at: Date.now(), machine, message });
  }
}

/** What a person should know that was not so before. */
function changesBetween(before: MachineSnapshot, now: MachineSnapshot): readonly string[] {
  const gpus = gpusText(now);
  const gpusBefore = gpusText(before);
  const change = gpus === gpusBefore ? [] : [`its GPUs have changed: now ${gpus}; before ${gpusBefore}`];
  return [...change, ...now.warnings.filter((warning) => !before.warnings.includes(warning))];
}

function gpusText({ gpus }: MachineSnapshot): string {
  if (gpus.length === 0) return 'none';
  return gpus
    .map(({ index, name, memoryTotalMiB, unplaceable }) => {
      const problem = unplaceable === undefined ? '' : `, ${unplaceable}`;
      return `${index} (${name}, ${memoryTotalMiB} MiB${problem})`;
    })
    .join(', ');
}
