/** Wakes one who waits; a ring while nobody does is not lost. */
export class Bell {
  #isRung = false;
  #wake: () => void = () => {};

  /** Rings as well when the signal aborts. */
  constructor(signal: AbortSignal) {
    signal.addEventListener('abort', () => this.ring(), { once: true });
    if (signal.aborted) this.ring();
  }

  ring(): void {
    this.#isRung = true;
    this.#wake();
  }

  /** Settles when it rings, or has rung since the last time. */
  async rung(): Promise<void> {
    if (!this.#isRung) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#isRung = false;
  }
}
