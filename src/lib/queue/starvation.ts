/** Keeps one machine free for a job that has been passed over at the head of the line for too long. */
import type { MachinePool } from '../allocator/machine-pool.ts';
import { jobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import { type QueueClock, SYSTEM_CLOCK } from '../stores/queue-base.ts';
import type { QueueStore } from '../stores/queue-store.ts';

/** What it works with. */
export interface StarvationOptions {
  readonly pool: Pick<MachinePool, 'keepFreeFor'>;
  readonly store: Pick<QueueStore, 'headSince' | 'job'>;
  /** For how long a job may be first in line before. */
  readonly limitMs: number;
  readonly clock?: QueueClock;
}

const LONGEST_LOOK_MS = 5_000;

/** Looks at the head of the line again and again. */
export class Starvation {
  readonly #options: StarvationOptions;
  readonly #clock: QueueClock;
  #stopTimer: (() => void) | undefined;
  #kept: { readonly job: number; readonly machine: MachineName } | undefined;

  constructor(options: StarvationOptions) {
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** The job that a machine is kept free for. */
  get kept(): { readonly job: number; readonly machine: MachineName } | undefined {
    return this.#kept;
  }

  start(): void {
    const { limitMs } = this.#options;
    this.#look();
    const delayMs = Math.min(LONGEST_LOOK_MS, Math.max(20, limitMs / 4));
    this.#stopTimer = this.#clock.after(delayMs, () => this.start());
  }

  stop(): void {
    this.#stopTimer?.();
  }

  #look(): void {
    const { pool, store, limitMs } = this.#options;
    const head = store.headSince();
    const isStarved = head !== undefined && this.#clock.now() - head.since >= limitMs;
    const job = isStarved ? store.job(jobId(String(head.job))) : undefined;
    // A job that runs here waits for its worker, and no machine has to be free.
    const machine = pool.keepFreeFor(job?.runHere === true ? undefined : job);
    this.#kept = head === undefined || machine === undefined ? undefined : { job: head.job, machine };
  }
}
