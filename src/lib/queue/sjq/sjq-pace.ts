/** How fast bytes go, from a client or to it, and who is let go when others wait for somebody too slow. */

/** From when on something is too slow for others to wait for it. */
export interface SjqPaceLimits {
  /** When not one byte has gone for so long. */
  readonly graceMs: number;
  /** When fewer bytes than this went within `leastMs`. */
  readonly leastBytes: number;
  readonly leastMs: number;
}

/** The pace of one client's bytes. Times are of the process's clock, `performance.now`. */
export class SjqPace {
  readonly #limits: SjqPaceLimits;
  #movedAt = performance.now();
  #paidAt = this.#movedAt;
  #bytes = 0;
  #hasPaid = false;

  constructor(limits: SjqPaceLimits) {
    this.#limits = limits;
  }

  /** As if it began now. */
  restart(): void {
    this.#movedAt = this.#paidAt = performance.now();
    this.#bytes = 0;
    this.#hasPaid = false;
  }

  /** So many bytes have gone. */
  moved(bytes: number): void {
    this.#movedAt = performance.now();
    this.#bytes += bytes;
    this.#hasPaid = this.#bytes >= this.#limits.leastBytes;
    if (!this.#hasPaid) return;
    this.#paidAt = this.#movedAt;
    this.#bytes = 0;
  }

  /** Whether the last bytes completed `leastBytes`. */
  get hasPaid(): boolean {
    return this.#hasPaid;
  }

  /** When it becomes too slow, if nothing more goes. */
  get overdueAt(): number {
    return Math.min(this.#movedAt + this.#limits.graceMs, this.#paidAt + this.#limits.leastMs);
  }
}

/** Whoever has a pace, and can be let go. */
export interface SjqMover {
  readonly pace: SjqPace;
  /** Leaves at once the movers that are watched. */
  letGo(): void;
}

/** Lets go of those who are too slow, the slowest first, for as long as others wait for them. */
export class SjqSlowWatch {
  readonly #movers: () => readonly SjqMover[];
  #timer: NodeJS.Timeout | undefined;

  /** @param movers who may be let go now; nobody when nobody waits */
  constructor(movers: () => readonly SjqMover[]) {
    this.#movers = movers;
  }

  /** To be called when somebody begins to wait. */
  start(): void {
    if (this.#timer !== undefined) return; // whoever comes later is not overdue before it looks again
    const slowest = this.#slowest();
    if (slowest === undefined) return;
    const ms = Math.max(0, slowest.pace.overdueAt - performance.now()) + 1;
    // After a busy time timers come before the bytes that have come meanwhile: those are heard first.
    this.#timer = setTimeout(() => setImmediate(() => this.#look()), ms).unref();
  }

  #look(): void {
    this.#timer = undefined;
    for (;;) {
      const slowest = this.#slowest();
      if (slowest === undefined || slowest.pace.overdueAt > performance.now()) break;
      slowest.letGo();
    }
    this.start();
  }

  #slowest(): SjqMover | undefined {
    let found: SjqMover | undefined;
    for (const one of this.#movers())
      if (found === undefined || one.pace.overdueAt < found.pace.overdueAt) found = one;
    return found;
  }
}
