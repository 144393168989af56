/**
 * The line of jobs that may start now: by priority, then by id. Beside it stand those whose begin time has not come, and
 * those of arrays that may not have more jobs running at once.
 */
import type { QueueJobId } from '../domain/queue.ts';
import { OrderedList } from './queue-order.ts';

/** What the line has to know of a job. Nothing of it may change while the job is in line, its priority neither. */
export interface InLine {
  readonly id: QueueJobId;
  readonly priority: number;
  /** Its placement key. */
  readonly kind: string;
  readonly spec: {
    readonly beginAt?: number;
    readonly array?: { readonly first: QueueJobId; readonly atOnce?: number };
  };
}

/** The jobs of an array with a limit. All that are open come before all that rest. */
interface ArrayLine<T extends InLine> {
  readonly atOnce: number;
  running: number;
  readonly open: OrderedList<T>;
  readonly rest: OrderedList<T>;
}

/** The first in line, and since when it has been: epoch milliseconds, less the time that it was first before. */
export interface LineHead {
  readonly job: QueueJobId;
  readonly since: number;
}

/** Jobs that wait for a machine. */
export class QueueLine<T extends InLine> {
  readonly #now: () => number;
  readonly #open = new OrderedList<T>(({ priority }) => -priority);
  readonly #later = new OrderedList<T>(({ spec }) => spec.beginAt ?? 0);
  readonly #arrays = new Map<QueueJobId, ArrayLine<T>>();
  /** The open ones by placement key. */
  readonly #kinds = new Map<string, OrderedList<T>>();
  #head: LineHead | undefined;
  /** How long those were first that are not now, milliseconds. */
  readonly #wasFirstMs = new Map<QueueJobId, number>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Those that may start now, in order. */
  [Symbol.iterator](): Generator<T, void, undefined> {
    return this.#open[Symbol.iterator]();
  }

  /** Those that stand beside the line: by begin time, then array by array. */
  *beside(): Generator<T, void, undefined> {
    yield* this.#later;
    for (const { rest } of this.#arrays.values()) yield* rest;
  }

  /**
   * Those that may start now, in order, without those of the kinds in `skipped`, which may grow meanwhile. What is skipped
   * costs one look at its kind, however many jobs that has. Kinds that come in meanwhile are passed by.
   */
  *without(skipped: ReadonlySet<string>): Generator<T, void, undefined> {
    // The first of each kind, the very first at the end: a merge of the kinds, each in its own order.
    const heads: Head<T>[] = [];
    for (const [kind, list] of this.#kinds) {
      const first = skipped.has(kind) ? undefined : list.first;
      if (first !== undefined) heads.push({ kind, list, entry: first });
    }
    heads.sort((a, b) => (isBefore(a.entry, b.entry) ? 1 : -1));
    for (let head = heads.pop(); head !== undefined; head = heads.pop()) {
      const { kind, list, entry } = head;
      if (skipped.has(kind)) continue;
      if (!this.#open.has(entry)) {
        // It left the line while others were looked at.
        insertHead(heads, kind, list, list.after(entry));
        continue;
      }
      // Its place is remembered, which it may leave meanwhile.
      const place = { ...entry };
      yield entry;
      if (!skipped.has(kind)) insertHead(heads, kind, list, list.after(place));
    }
  }

  /** How many may start now. */
  get size(): number {
    return this.#open.size;
  }

  /** How many different placement keys those have. */
  get kinds(): number {
    return this.#kinds.size;
  }

  get head(): LineHead | undefined {
    return this.#head;
  }

  /** The earliest begin time that has not come, epoch milliseconds. */
  get nextBeginAt(): number | undefined {
    return this.#later.first?.spec.beginAt;
  }

  /** Whether this job may start now. */
  has(entry: T): boolean {
    return this.#open.has(entry);
  }

  add(entry: T): void {
    if ((entry.spec.beginAt ?? 0) > this.#now()) this.#later.add(entry);
    else this.#admit(entry);
  }

  delete(entry: T): void {
    if (this.#later.delete(entry)) return;
    const array = this.#arrayOf(entry);
    if (array?.rest.delete(entry) === true) {
      this.#balance(entry, array);
      return;
    }
    this.#shut(entry);
    this.#wasFirstMs.delete(entry.id);
    if (array === undefined) return;
    array.open.delete(entry);
    this.#balance(entry, array);
  }

  /** Moves those whose begin time has come into the line. False when there are none. */
  admitDue(): boolean {
    let isAny = false;
    for (let first = this.#later.first; first !== undefined; first = this.#later.first) {
      if ((first.spec.beginAt ?? 0) > this.#now()) break;
      this.#later.delete(first);
      this.#admit(first);
      isAny = true;
    }
    return isAny;
  }

  /** This job, which is not in line, runs: it counts against its array's limit. */
  noteRunning(entry: T): void {
    this.#changeRunning(entry, 1);
  }

  /** This job runs no more. */
  noteStopped(entry: T): void {
    this.#changeRunning(entry, -1);
  }

  #changeRunning(entry: T, by: number): void {
    const array = this.#arrayOf(entry);
    if (array === undefined) return;
    array.running += by;
    this.#balance(entry, array);
  }

  #admit(entry: T): void {
    this.#enter(entry);
    const array = this.#arrayOf(entry);
    if (array === undefined) return;
    array.open.add(entry);
    this.#balance(entry, array);
  }

  #arrayOf({ spec }: T): ArrayLine<T> | undefined {
    if (spec.array?.atOnce === undefined) return undefined;
    const { first, atOnce } = spec.array;
    let array = this.#arrays.get(first);
    if (array === undefined) {
      const list = () => new OrderedList<T>(({ priority }) => -priority);
      array = { atOnce, running: 0, open: list(), rest: list() };
      this.#arrays.set(first, array);
    }
    return array;
  }

  /** As many of an array are in the line as may start beside those that run. */
  #balance({ spec }: T, array: ArrayLine<T>): void {
    const room = Math.max(0, array.atOnce - array.running);
    for (let last = array.open.last; last !== undefined && array.open.size > room; last = array.open.last) {
      array.open.delete(last);
      array.rest.add(last);
      this.#shut(last);
    }
    for (
      let first = array.rest.first;
      first !== undefined && array.open.size < room;
      first = array.rest.first
    ) {
      array.rest.delete(first);
      array.open.add(first);
      this.#enter(first);
    }
    const isEmpty = array.running === 0 && array.open.size === 0 && array.rest.size === 0;
    if (isEmpty && spec.array !== undefined) this.#arrays.delete(spec.array.first);
  }

  #enter(entry: T): void {
    this.#open.add(entry);
    let ofKind = this.#kinds.get(entry.kind);
    if (ofKind === undefined) {
      ofKind = new OrderedList<T>(({ priority }) => -priority);
      this.#kinds.set(entry.kind, ofKind);
    }
    ofKind.add(entry);
    this.#noteHead();
  }

  #shut(entry: T): void {
    if (!this.#open.delete(entry)) return;
    const ofKind = this.#kinds.get(entry.kind);
    ofKind?.delete(entry);
    if (ofKind?.size === 0) this.#kinds.delete(entry.kind);
    this.#noteHead();
  }

  #noteHead(): void {
    const first = this.#open.first?.id;
    const head = this.#head;
    if (first === head?.job) return;
    const now = this.#now();
    if (head !== undefined && now > head.since) this.#wasFirstMs.set(head.job, now - head.since);
    // Time at the head adds up: one that others overtake now and then must not begin anew each time.
    this.#head =
      first === undefined ? undefined : { job: first, since: now - (this.#wasFirstMs.get(first) ?? 0) };
  }
}

function isBefore(one: InLine, other: InLine): boolean {
  return one.priority > other.priority || (one.priority === other.priority && one.id < other.id);
}

interface Head<T extends InLine> {
  readonly kind: string;
  readonly list: OrderedList<T>;
  readonly entry: T;
}

/** Puts the next of a kind in its place among the others, the very first at the end. */
function insertHead<T extends InLine>(
  heads: Head<T>[],
  kind: string,
  list: OrderedList<T>,
  entry: T | undefined,
): void {
  if (entry === undefined) return;
  let [low, high] = [0, heads.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = heads[middle];
    if (other !== undefined && isBefore(entry, other.entry)) low = middle + 1;
    else high = middle;
  }
  heads.splice(low, 0, { kind, list, entry });
}
