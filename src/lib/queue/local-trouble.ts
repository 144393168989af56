/**
 * Results cannot be kept in some folder of this computer for the moment (its disk is full): what would leave results there is
 * not started, and what has ended there is fetched later. Other folders may be on other disks.
 */

/** How long nothing is started before it is tried again. */
const PAUSE_MS = 30_000;

interface Trouble {
  readonly error: Error;
  readonly timer: NodeJS.Timeout;
  readonly waiting: Set<() => void>;
}

/** Which results folders cannot be written now, as far as anybody knows. */
export class LocalTrouble {
  readonly #pauseMs: number;
  readonly #onChange: (folder: string, error: Error | undefined) => void;
  readonly #byFolder = new Map<string, Trouble>();

  /** `onChange` hears of trouble, and with undefined that it is tried again. */
  constructor(onChange: (folder: string, error: Error | undefined) => void, pauseMs = PAUSE_MS) {
    this.#onChange = onChange;
    this.#pauseMs = pauseMs;
  }

  /** Why nothing can be kept in this folder now; undefined when it can, or is worth a try. */
  in(folder: string): Error | undefined {
    return this.#byFolder.get(folder)?.error;
  }

  /** How often something could not be kept in this folder so far. */
  countOf(folder: string): number {
    return this.#counts.get(folder) ?? 0;
  }
  readonly #counts = new Map<string, number>();

  /** It has just failed. */
  note(folder: string, error: Error): void {
    this.#counts.set(folder, this.countOf(folder) + 1);
    if (this.#byFolder.has(folder)) return;
    const waiting = new Set<() => void>();
    const timer = setTimeout(() => {
      this.#byFolder.delete(folder);
      this.#onChange(folder, undefined);
      for (const wake of waiting) wake();
    }, this.#pauseMs);
    this.#byFolder.set(folder, { error, timer, waiting });
    this.#onChange(folder, error);
  }

  /** Settles when it is worth another try, or somebody does not want to wait any more. */
  async over(folder: string, unless: Promise<unknown>): Promise<void> {
    const trouble = this.#byFolder.get(folder);
    if (trouble === undefined) return;
    let wake: () => void = () => {};
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    trouble.waiting.add(wake);
    await Promise.race([woken, unless]);
    trouble.waiting.delete(wake);
  }

  close(): void {
    for (const { timer } of this.#byFolder.values()) clearTimeout(timer);
    this.#byFolder.clear();
  }
}
