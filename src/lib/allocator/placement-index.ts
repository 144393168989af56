/**
 * Finds the machine where a request fits best without looking at every machine.
 *
 * Scores depend on the request, so there is one tournament per distinct request. It is built when the request is
 * first asked for, and brought up to date when it is asked for again, from a log of the machines that changed since;
 * one that has fallen behind by as many changes as there are machines is scored anew. The tournaments used least
 * recently are given up, so memory is bounded; with more distinct requests than that, each question costs about as
 * much as a scan, and is answered as rightly.
 */
import { SchedulerError } from '../domain/errors.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import { demandOf } from './demand.ts';
import { Tournament } from './tournament.ts';
import type { VirtualResources } from './virtual-resources.ts';

export interface PlacementIndexOptions {
  /** The most tournaments kept; each takes 16 bytes per machine. @default as many as 16 MiB hold, at least 8 */
  readonly maxTournaments?: number;
}

const SMALLEST_SIZE = 16;
/** Entries in all tournaments together, of 16 bytes each. */
const ENTRY_BUDGET = 2 ** 20;
const FEWEST_TOURNAMENTS = 8;

/** One machine's place, in the order in which they were added. */
interface Entry<M> {
  readonly machine: M;
  readonly resources: VirtualResources;
  isEnabled: boolean;
}

/** A tournament and how much of the log it has seen. */
interface View {
  readonly tournament: Tournament;
  seen: number;
}

export class PlacementIndex<M> {
  readonly #options: PlacementIndexOptions;
  /** By number; a machine that was removed leaves a hole until the next growth. */
  #entries: (Entry<M> | undefined)[] = [];
  readonly #numbers = new Map<M, number>();
  /** Least recently used first. */
  readonly #views = new Map<string, View>();
  /** Its length, a power of two, is how many numbers there are room for. */
  #tieBreaks = new Float64Array(SMALLEST_SIZE);
  /** The numbers of the machines that changed last: a ring as long as `#tieBreaks`. */
  #log = new Int32Array(SMALLEST_SIZE);
  #changes = 0;

  constructor(options: PlacementIndexOptions = {}) {
    this.#options = options;
  }

  /** Machines in the index, disabled ones included. */
  get size(): number {
    return this.#numbers.size;
  }

  /** A machine joins, after those that are in; from now on every change of `resources` must be told by `changed`. @throws SchedulerError when it is in already. */
  add(machine: M, resources: VirtualResources): void {
    if (this.#numbers.has(machine)) {
      throw new SchedulerError(`machine ${String(machine)} is in the index already, expected each once`);
    }
    if (this.#entries.length === this.#tieBreaks.length) this.#grow();
    this.#numbers.set(machine, this.#entries.length);
    this.#entries.push({ machine, resources, isEnabled: true });
    this.changed(machine);
  }

  /** A machine leaves for good. @throws SchedulerError when it is not in. */
  remove(machine: M): void {
    const number = this.#numberOf(machine);
    this.#entries[number] = undefined;
    this.#numbers.delete(machine);
    this.#note(number);
  }

  /** A machine that is disabled is never the best; its resources may change meanwhile. @throws SchedulerError when it is not in. */
  setEnabled(machine: M, isEnabled: boolean): void {
    const number = this.#numberOf(machine);
    const entry = this.#entries[number];
    if (entry !== undefined) entry.isEnabled = isEnabled;
    this.#note(number);
  }

  /** Something was allocated or released on a machine. @throws SchedulerError when it is not in. */
  changed(machine: M): void {
    const number = this.#numberOf(machine);
    const resources = this.#entries[number]?.resources;
    if (resources !== undefined) this.#tieBreaks[number] = tieBreak(resources);
    this.#note(number);
  }

  /**
   * The machine with the highest score; of equals the one with most memory free (pack: least), then the first;
   * undefined when the request fits on none now. @throws SchedulerError when the request is wrong.
   */
  best(request: ResourceRequest): M | undefined {
    const number = this.#upToDate(request).best;
    return number === undefined ? undefined : this.#entries[number]?.machine;
  }

  #upToDate(request: ResourceRequest): Tournament {
    const { key } = demandOf(request);
    let view = this.#views.get(key);
    if (view === undefined) {
      view = { tournament: this.#unusedTournament(), seen: -Infinity };
    } else {
      this.#views.delete(key); // to come back as the most recently used
    }
    this.#views.set(key, view);
    const { tournament } = view;
    const missed = this.#changes - view.seen;
    if (missed >= this.#entries.length) {
      tournament.setAll(this.#entries.length, (number) => this.#score(number, request));
    } else {
      for (let change = view.seen; change < this.#changes; change++) {
        const number = this.#logged(change);
        // The machine that a job just left is often the best for the next: one look is enough for both changes.
        if (change + 1 < this.#changes && this.#logged(change + 1) === number) continue;
        tournament.set(number, this.#score(number, request));
      }
    }
    view.seen = this.#changes;
    return tournament;
  }

  /** The least recently used tournament when there are enough of them, else a new one. */
  #unusedTournament(): Tournament {
    const most =
      this.#options.maxTournaments ?? Math.max(FEWEST_TOURNAMENTS, ENTRY_BUDGET / this.#tieBreaks.length);
    if (this.#views.size >= most) {
      for (const [key, view] of this.#views) {
        this.#views.delete(key);
        return view.tournament;
      }
    }
    return new Tournament(this.#tieBreaks);
  }

  #score(number: number, request: ResourceRequest): number {
    const entry = this.#entries[number];
    return entry?.isEnabled ? entry.resources.score(request) : -Infinity;
  }

  #logged(change: number): number {
    return this.#log[change & (this.#log.length - 1)] ?? 0; // the length is a power of two
  }

  #note(number: number): void {
    this.#log[this.#changes & (this.#log.length - 1)] = number;
    this.#changes++;
  }

  #numberOf(machine: M): number {
    const number = this.#numbers.get(machine);
    if (number === undefined) throw new SchedulerError(`machine ${String(machine)} is not in the index`);
    return number;
  }

  /** Closes the holes and makes room for as many machines again. The tournaments are of the old size: all are given up. */
  #grow(): void {
    this.#entries = this.#entries.filter((entry) => entry !== undefined);
    let size = SMALLEST_SIZE;
    while (size < 2 * this.#entries.length) size *= 2;
    this.#tieBreaks = new Float64Array(size);
    this.#log = new Int32Array(size);
    this.#changes = 0;
    this.#views.clear();
    for (const [number, entry] of this.#entries.entries()) {
      if (entry === undefined) continue;
      this.#numbers.set(entry.machine, number);
      this.#tieBreaks[number] = tieBreak(entry.resources);
    }
  }
}

/** Spreading prefers the emptier of two equal machines, packing the fuller. */
function tieBreak(resources: VirtualResources): number {
  return resources.placement === 'pack' ? -resources.memoryFreeMiB : resources.memoryFreeMiB;
}
