/** Ends a service that has had no jobs to run for a while. */
import type { QueueStore } from '../../stores/queue-store.ts';

/** When, and how. */
export interface AutoshutdownOptions {
  readonly store: Pick<QueueStore, 'counts' | 'onEvents'>;
  readonly waitTimeMs: number;
  /** Whether nobody else needs the service. Asked when the time is over. */
  readonly isAlone: () => boolean;
  readonly stop: () => void;
}

/**
 * Watches the queue until `close`. Jobs that somebody holds, and those that wait for these, do not count: they would keep
 * the service for ever, and are on the disk.
 */
export class Autoshutdown {
  readonly #options: AutoshutdownOptions;
  readonly #stopHearing: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: AutoshutdownOptions) {
    this.#options = options;
    this.#stopHearing = options.store.onEvents(() => this.#look());
    this.#look();
  }

  close(): void {
    this.#stopHearing();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    const { running, queued } = this.#options.store.counts();
    if (running + queued > 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else this.#timer ??= this.#wait();
  }

  #wait(): NodeJS.Timeout {
    const { waitTimeMs, isAlone, stop } = this.#options;
    const timer = setTimeout(() => {
      this.#timer = undefined;
      if (isAlone()) stop();
      else this.#look(); // machines may go
    }, waitTimeMs);
    return timer.unref();
  }
}
