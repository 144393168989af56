/** Keeps bounded what requests that are not complete hold together: above the limit all wait but the oldest. */
import { type SjqMover, type SjqPaceLimits, SjqSlowWatch } from './sjq-pace.ts';

/** Who sends a request. */
export interface SjqSender extends SjqMover {
  /** It may be read again. */
  resume(): void;
}

/**
 * Above the limit, whoever has sent another `leastBytes` is not read again before it is the oldest, or there is room. The oldest
 * goes on, and frees what it holds when it is complete. Whoever is read and does not go on is let go, and
 * the oldest when it takes too long. So all together hold
 * `maxBytes`, twice `leastBytes` or so of each that is connected, and one request.
 */
export class SjqIntake {
  readonly #maxBytes: number;
  readonly #leastBytes: number;
  readonly #oldestMs: number;
  /** The oldest request first. */
  readonly #senders = new Set<SjqSender>();
  readonly #waiting = new Set<SjqSender>();
  readonly #watch = new SjqSlowWatch(() =>
    this.#waiting.size === 0 ? [] : [...this.#senders].filter((one) => !this.#waiting.has(one)),
  );
  #heldBytes = 0;
  /** Who is the oldest while others wait, and since when. */
  #holdsUp: { readonly sender: SjqSender; readonly since: number } | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `oldestMs`: how long the oldest may take to become complete while others wait for it. */
  constructor(maxBytes: number, { leastBytes, leastMs }: SjqPaceLimits, oldestMs = leastMs) {
    this.#maxBytes = maxBytes;
    this.#oldestMs = oldestMs;
    this.#leastBytes = leastBytes;
  }

  /** What lines and SUBMITs that are not complete hold, and those that the queue has. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Whether it waits to be read again. */
  isWaiting(sender: SjqSender): boolean {
    return this.#waiting.has(sender);
  }

  /** More is held than before, or less. */
  count(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0) this.#goOn();
  }

  /** Whether more of a request that is not complete may be read; if not, `resume` is called when it may. */
  mayRead(sender: SjqSender): boolean {
    this.#senders.add(sender);
    if (this.#heldBytes <= this.#maxBytes || !sender.pace.hasPaid || sender === this.#oldest) return true;
    this.#waiting.add(sender);
    this.#watch.start();
    this.#limitOldest();
    return false;
  }

  /** However it goes on: one who sends just enough would hold up all others for hours. */
  #limitOldest(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const oldest = this.#oldest;
      if (this.#waiting.size === 0 || oldest === undefined) {
        this.#holdsUp = undefined;
        return;
      }
      const now = performance.now();
      if (this.#holdsUp?.sender !== oldest) this.#holdsUp = { sender: oldest, since: now };
      else if (now - this.#holdsUp.since > this.#oldestMs) oldest.letGo();
      this.#limitOldest();
    }, this.#oldestMs / 10).unref();
  }

  /** Its request is complete, or it has gone. */
  leave(sender: SjqSender): void {
    if (!this.#senders.delete(sender)) return;
    this.#waiting.delete(sender);
    this.#goOn();
  }

  get #oldest(): SjqSender | undefined {
    const [oldest] = this.#senders;
    return oldest;
  }

  #goOn(): void {
    if (this.#waiting.size === 0) return;
    let room = this.#maxBytes - this.#heldBytes;
    const oldest = this.#oldest;
    for (const sender of this.#senders) {
      if (sender !== oldest && room <= 0) return;
      if (!this.#waiting.delete(sender)) continue;
      room -= this.#leastBytes;
      sender.pace.restart();
      sender.resume();
    }
  }
}
