/** Ends a service that has had no jobs to run for a while. */
import type { Job } from '../../domain/job.ts';
import type { QueueStore } from '../../stores/queue-store.ts';

/** When, and how. */
export interface AutoshutdownOptions {
  readonly store: Pick<QueueStore, 'counts' | 'onEvents' | 'inLine' | 'firstInLine'>;
  readonly waitTimeMs: number;
  /** Whether a job that is in line could ever run. */
  readonly canRun: (job: Job) => boolean;
  /** Whether nobody else needs the service. Asked when the time is over. */
  readonly isUnneeded: () => boolean;
  readonly stop: () => void;
}

/**
 * Watches the queue until `close`. Jobs that somebody holds, those that wait for these, and those that can never run here do
 * not count: they would keep the service for ever, and are on the disk.
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
    if (this.#hasJobs()) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else this.#timer ??= this.#wait();
  }

  #hasJobs(): boolean {
    const { store, canRun } = this.#options;
    const { running, queued } = store.counts();
    // Those that are not in line yet wait for their time, or for others of their array.
    return running > 0 || queued > store.inLine || (queued > 0 && store.firstInLine(canRun) !== undefined);
  }

  #wait(): NodeJS.Timeout {
    const { waitTimeMs, isUnneeded, stop } = this.#options;
    const timer = setTimeout(() => {
      this.#timer = undefined;
      // What can run changes with the machines, of which no event of a job tells.
      if (isUnneeded() && !this.#hasJobs()) stop();
      else this.#look();
    }, waitTimeMs);
    return timer.unref();
  }
}
