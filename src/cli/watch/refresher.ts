/** Keeps the last overview of a source: asks when something happens, now and then otherwise, and never twice at once. */
import type { Overview } from '../../lib/domain/overview.ts';
import type { WatchSource } from './source.ts';

/** More than the largest terminals show. */
export const JOBS_ASKED = 200;

/** How a source is asked. */
export interface RefresherOptions {
  readonly source: WatchSource;
  /** What jobs have to have. @default '', for all */
  readonly filter?: string;
  /** There is another overview, or it is known why there is none. */
  readonly onChange: () => void;
  /** From an answer to the next question, when something has happened. @default 500 */
  readonly busyMs?: number | undefined;
  /** The same, when nothing has. @default 2000 */
  readonly idleMs?: number | undefined;
}

/** Asks from its making until `close()`. */
export class Refresher {
  /** The last answer. */
  overview: Overview | undefined;
  /** When that came. Epoch milliseconds. */
  heardAt: number | undefined;
  /** Why the last question was not answered. */
  trouble: string | undefined;
  readonly #options: RefresherOptions;
  #filter: string;
  /** When the question was put that has no answer yet, by the clock that never jumps. */
  #askedAt: number | undefined;
  /** Something has happened since the last question. */
  #isWanted = false;
  /** Another question was put meanwhile. */
  #isUrgent = false;
  #answeredAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: RefresherOptions) {
    this.#options = options;
    this.#filter = options.filter ?? '';
    void this.#ask();
  }

  /** Something has happened: asks soon. */
  want(): void {
    this.#isWanted = true;
    this.#arm();
  }

  /** Asks with another filter, as soon as the source is free. */
  refilter(filter: string): void {
    this.#filter = filter;
    this.#isUrgent = true;
    this.#arm();
  }

  /** For how long a question has been without an answer; undefined when there is none such. */
  get unansweredMs(): number | undefined {
    return this.#askedAt === undefined ? undefined : performance.now() - this.#askedAt;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #arm(): void {
    if (this.#askedAt !== undefined || this.#isClosed) return;
    clearTimeout(this.#timer);
    const { busyMs = 500, idleMs = 2000 } = this.#options;
    const gapMs = this.#isUrgent ? 0 : this.#isWanted ? busyMs : idleMs;
    const delayMs = Math.max(0, this.#answeredAt + gapMs - performance.now());
    this.#timer = setTimeout(() => void this.#ask(), delayMs);
  }

  async #ask(): Promise<void> {
    this.#askedAt = performance.now();
    this.#isWanted = false;
    this.#isUrgent = false;
    const { source, onChange } = this.#options;
    try {
      const request = { limit: JOBS_ASKED, ...(this.#filter !== '' && { filter: this.#filter }) };
      this.overview = await source.overview(request);
      this.heardAt = Date.now();
      this.trouble = undefined;
    } catch (error) {
      this.trouble = (error as Error).message;
    }
    this.#askedAt = undefined;
    this.#answeredAt = performance.now();
    if (this.#isClosed) return;
    this.#arm();
    onChange();
  }
}
