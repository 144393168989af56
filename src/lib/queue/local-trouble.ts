/** Results cannot be kept on this computer for the moment (its disk is full): nothing is started meanwhile. */

/** How long nothing is started before it is tried again. */
const PAUSE_MS = 30_000;

/** Tells whether this computer can keep results now, as far as anybody knows. */
export class LocalTrouble {
  readonly #pauseMs: number;
  readonly #onChange: (error: Error | undefined) => void;
  #timer: NodeJS.Timeout | undefined;

  /** `onChange` hears of trouble, and with undefined that it is tried again. */
  constructor(onChange: (error: Error | undefined) => void, pauseMs = PAUSE_MS) {
    this.#onChange = onChange;
    this.#pauseMs = pauseMs;
  }

  get isActive(): boolean {
    return this.#timer !== undefined;
  }

  /** It has just failed. */
  note(error: Error): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onChange(undefined);
      for (const wake of this.#waiting.splice(0)) wake();
    }, this.#pauseMs);
    this.#onChange(error);
  }

  /** Settles when it is worth another try. */
  async over(): Promise<void> {
    if (this.isActive) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
  readonly #waiting: (() => void)[] = [];

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
