/**
 * Keeps one machine free for a job that has been passed over at the head of the line for too long. The head is the first job
 * that a free machine would help: those that no machine in use can hold, and scripts that wait for their worker, hold
 * up nobody.
 */
import type { MachinePool } from '../allocator/machine-pool.ts';
import type { Job, JobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import { type QueueClock, SYSTEM_CLOCK } from '../stores/queue-base.ts';
import type { QueueStore } from '../stores/queue-store.ts';

/** What it works with. */
export interface StarvationOptions {
  readonly pool: Pick<MachinePool, 'keepFreeFor' | 'couldHold'>;
  readonly store: Pick<QueueStore, 'firstInLine'>;
  /** Whether a job has to wait, whatever is free. */
  readonly isBarred: (job: Job) => boolean;
  /** For how long a job may be first in line before. */
  readonly limitMs: number;
  readonly clock?: QueueClock;
}

const LONGEST_LOOK_MS = 5_000;
/** Jobs whose time at the head is remembered while others are before them. */
const REMEMBERED = 1000;

/** Looks at the head of the line again and again. */
export class Starvation {
  readonly #options: StarvationOptions;
  readonly #clock: QueueClock;
  /** How long jobs were first that are not now: time at the head adds up, or overtaking would begin it anew each time. */
  readonly #wasFirstMs = new Map<JobId, number>();
  #head: { readonly job: JobId; readonly since: number } | undefined;
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
    this.look();
    const delayMs = Math.min(LONGEST_LOOK_MS, Math.max(20, limitMs / 4));
    this.#stopTimer = this.#clock.after(delayMs, () => this.start());
  }

  stop(): void {
    this.#stopTimer?.();
  }

  /** Looks once. */
  look(): void {
    const { pool, store, limitMs, isBarred } = this.#options;
    const head = store.firstInLine((job) => job.runHere !== true && pool.couldHold(job) && !isBarred(job));
    this.#noteHead(head);
    const isStarved = this.#head !== undefined && this.#clock.now() - this.#head.since >= limitMs;
    const machine = pool.keepFreeFor(isStarved ? head : undefined);
    this.#kept = head === undefined || machine === undefined ? undefined : { job: Number(head.id), machine };
  }

  #noteHead(job: Job | undefined): void {
    const before = this.#head;
    if (before?.job === job?.id) return;
    const now = this.#clock.now();
    if (before !== undefined) {
      this.#wasFirstMs.set(before.job, now - before.since);
      const [oldest] = this.#wasFirstMs.keys();
      if (this.#wasFirstMs.size > REMEMBERED && oldest !== undefined) this.#wasFirstMs.delete(oldest);
    }
    this.#head =
      job === undefined ? undefined : { job: job.id, since: now - (this.#wasFirstMs.get(job.id) ?? 0) };
  }
}
