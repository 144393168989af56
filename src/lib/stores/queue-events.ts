/** The events of a queue: numbered, kept for readers who come back, and told once they are on the disk. */
import type { QueueChange, QueueEvent } from './queue-event.ts';
import type { QueueTables } from './queue-tables.ts';

/** Numbers events and keeps the last ones. */
export class QueueEvents {
  readonly #tables: QueueTables;
  readonly #now: () => number;
  readonly #kept: number;
  readonly #listeners = new Set<(events: readonly QueueEvent[]) => void>();
  #nextSequence: number;
  #prunedAt: number;
  #fresh: QueueEvent[] = [];

  /** `kept`: how many are kept at least; a tenth more at most. */
  constructor(tables: QueueTables, now: () => number, kept: number) {
    this.#tables = tables;
    this.#now = now;
    this.#kept = kept;
    this.#nextSequence = tables.counter('nextSequence');
    this.#prunedAt = (tables.oldestSequence() ?? this.#nextSequence) + kept - 1;
  }

  /** The number of the last one, 0 before the first. */
  get last(): number {
    return this.#nextSequence - 1;
  }

  append(change: QueueChange): void {
    this.#fresh.push({ sequence: this.#nextSequence, at: this.#now(), ...change });
    this.#nextSequence += 1;
  }

  /** Within a transaction: writes what is new. */
  write(): void {
    if (this.#fresh.length === 0) return;
    // Those that would be pruned at once need not be written.
    for (const event of this.#fresh.slice(-this.#kept)) this.#tables.putEvent(event);
    this.#tables.putCounter('nextSequence', this.#nextSequence);
    if (this.last - this.#prunedAt >= this.#kept / 10) this.#tables.removeEventsUntil(this.last - this.#kept);
  }

  /** What `write` wrote is on the disk: listeners hear. */
  written(): void {
    if (this.last - this.#prunedAt >= this.#kept / 10) this.#prunedAt = this.last;
    const fresh = this.#fresh;
    this.#fresh = [];
    if (fresh.length > 0) for (const listener of [...this.#listeners]) listener(fresh);
  }

  /** Those on the disk after this number, oldest first. */
  after(sequence: number, limit: number): QueueEvent[] {
    return this.#tables.eventsAfter(sequence, limit);
  }

  /** The number of the oldest that is kept: readers from before it have missed some. */
  get oldest(): number | undefined {
    return this.#tables.oldestSequence();
  }

  onEvents(listener: (events: readonly QueueEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
