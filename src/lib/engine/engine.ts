/**
 * The engine: matches waiting jobs with free capacity. It knows the two ports and nothing else.
 *
 * One round: each waiting job in order is reserved (capacity is taken, or it has to wait), claimed in the store (another
 * engine may have been first: the capacity goes back), and started. Jobs need not fit in order: one that has to wait
 * holds up none behind it, unless the order is strict. The claims of a round are under way together, so that a store on a
 * disk can write them at once. A round runs when jobs come, when capacity comes, and at the start.
 */
import { type Job, type JobId, type JobOutcome, placementKey } from '../domain/job.ts';
import type { ExecutionBackend, JobStore, Refusal, Reservation, RunningAttempt } from '../domain/ports.ts';

/** How an engine goes about it, and what it tells. */
export interface EngineOptions {
  /** Goes on when nothing waits and nothing runs, until it is stopped. @default false */
  readonly isEndless?: boolean;
  /** A job that has to wait holds up all behind it. @default false */
  readonly isStrict?: boolean;
  /** A job can never be placed; it ends as `never-fits`. */
  readonly onNeverFits?: (job: Job, refusal: Refusal) => void;
  /** An attempt is over, as the store has it now. */
  readonly onEnded?: (job: Job, outcome: JobOutcome) => void;
}

/** Runs the jobs of a store on a backend. */
export class Engine {
  readonly #store: JobStore;
  readonly #backend: ExecutionBackend;
  readonly #options: EngineOptions;
  readonly #running = new Map<JobId, RunningAttempt>();
  #isStopped = false;
  #round: Promise<void> | undefined;
  #again = false;
  #settle: () => void = () => {};

  constructor(store: JobStore, backend: ExecutionBackend, options: EngineOptions = {}) {
    this.#store = store;
    this.#backend = backend;
    this.#options = options;
  }

  /**
   * Follows an attempt that is under way already and that the store counts as its job's. Another attempt of the job that
   * was followed until now is given up.
   */
  adopt(job: Job, running: RunningAttempt): void {
    this.#running.get(job.id)?.abandon('an earlier attempt goes on');
    this.#watch(job, running);
  }

  /** Follows an attempt no more: nobody can tell what becomes of it. */
  forget(job: JobId): void {
    this.#running.delete(job);
    this.#settleIfOver();
  }

  /** What is under way. */
  running(): Iterable<RunningAttempt> {
    return this.#running.values();
  }

  /** The attempt of a job that is under way. */
  find(job: JobId): RunningAttempt | undefined {
    return this.#running.get(job);
  }

  /** Runs until no job waits and none runs (unless it is endless), or, once stopped, until none runs. */
  async run(): Promise<void> {
    const stopHearing = [
      this.#store.onPending(() => this.#look()),
      this.#backend.onCapacity(() => this.#look()),
    ];
    const over = new Promise<void>((resolve) => {
      this.#settle = resolve;
    });
    this.#look();
    await over;
    for (const stop of stopHearing) stop();
  }

  /** Starts what fits now, and nothing more. */
  async placeOnce(): Promise<void> {
    await this.#place();
    this.#isStopped = true;
  }

  /** How many attempts are under way. */
  get runningCount(): number {
    return this.#running.size;
  }

  /** Starts nothing more. */
  stop(): void {
    this.#isStopped = true;
    this.#settleIfOver();
  }

  /** Starts nothing more and ends what runs. */
  cancelAll(reason: string): void {
    this.#isStopped = true;
    for (const attempt of this.#running.values()) attempt.cancel(reason);
    this.#settleIfOver();
  }

  /** Lets `run` return while attempts are under way; they run on where they are. */
  leave(): void {
    this.#isStopped = true;
    this.#settle();
  }

  #look(): void {
    if (this.#round !== undefined) {
      this.#again = true;
      return;
    }
    this.#round = this.#place().finally(() => {
      this.#round = undefined;
      if (this.#again) {
        this.#again = false;
        this.#look();
      } else {
        this.#settleIfOver();
      }
    });
  }

  async #place(): Promise<void> {
    const refused = new Set<string>();
    const claims: Promise<void>[] = [];
    for (const job of this.#store.pending(refused)) {
      if (this.#isStopped || refused.size >= this.#store.waitingKinds) break;
      const kind = placementKey(job);
      if (refused.has(kind)) continue;
      const placed = this.#backend.reserve(job);
      if (placed.type === 'reserved') {
        claims.push(this.#claim(job, placed));
      } else if (placed.everFits) {
        if (this.#options.isStrict === true) break;
        if (placed.isOwn !== true) refused.add(kind);
      } else {
        claims.push(this.#giveUp(job, placed));
      }
    }
    await Promise.all(claims);
  }

  async #claim(job: Job, reservation: Reservation): Promise<void> {
    const attempt = await this.#store.claim(job.id, reservation.machine);
    if (attempt === undefined) {
      this.#backend.release(reservation);
    } else if (this.#isStopped) {
      this.#backend.release(reservation);
      await this.#store.unclaim(attempt);
    } else {
      this.#watch(job, this.#backend.start(job, attempt, reservation));
    }
  }

  #watch(job: Job, running: RunningAttempt): void {
    this.#running.set(job.id, running);
    void running.ended.then(async (outcome) => {
      if (this.#running.get(job.id) === running) this.#running.delete(job.id);
      await this.#store.finish(running.attempt, outcome, running.machine);
      this.#options.onEnded?.(job, outcome);
      this.#look();
    });
  }

  async #giveUp(job: Job, refusal: Refusal): Promise<void> {
    const attempt = await this.#store.claim(job.id);
    if (attempt === undefined) return;
    const reason = 'no machine that is left can ever hold it';
    await this.#store.finish(attempt, { type: 'never-fits', reason });
    this.#options.onNeverFits?.(job, refusal);
  }

  #settleIfOver(): void {
    if (this.#round !== undefined || this.#running.size > 0) return;
    const isDone = this.#options.isEndless !== true && this.#store.waitingKinds === 0;
    if (this.#isStopped || isDone) this.#settle();
  }
}
