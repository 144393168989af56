/**
 * Where the service's jobs run: on the pool's machines, or here for one of them. A service gives up nothing by itself:
 * what fits nowhere waits, since machines come and go, and what cannot be kept on this computer is tried again.
 */
import type { Attempt, Job, JobOutcome } from '../domain/job.ts';
import type {
  ExecutionBackend,
  FoundAttempt,
  Refusal,
  Reservation,
  RunningAttempt,
} from '../domain/ports.ts';
import type { LocalTrouble } from './local-trouble.ts';

/** What the backend is made of. */
export interface ServiceBackendOptions {
  readonly pool: ExecutionBackend;
  /** Runs jobs on this computer, for a machine. */
  readonly here: ExecutionBackend;
  readonly trouble: LocalTrouble;
  /** Whether it has to wait, whatever is free. */
  readonly isBarred: (job: Job) => boolean;
  /** The results folder of a job. */
  readonly resultsOf: (job: Job) => string;
  /** Pauses before what an ended job left is fetched once more. @default 10 s, 1 min, 5 min */
  readonly refetchPausesMs?: readonly number[] | undefined;
}

const REFETCH_PAUSES_MS = [10_000, 60_000, 300_000];

const WAITS: Refusal = { type: 'refused', everFits: true, shortfalls: [] };
/** Others that ask for the same may fit. */
const WAITS_ALONE: Refusal = { ...WAITS, isOwn: true };

/** The pool and what runs here, as one. */
export class ServiceBackend implements ExecutionBackend {
  readonly #options: ServiceBackendOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stopHearing: readonly (() => void)[];
  readonly #reservedHere = new WeakSet<Reservation>();
  #isClosed = false;

  constructor(options: ServiceBackendOptions) {
    this.#options = options;
    const tell = () => this.tellCapacity();
    this.#stopHearing = [options.pool.onCapacity(tell), options.here.onCapacity(tell)];
  }

  reserve(job: Job): Reservation | Refusal {
    const { here, pool, trouble, resultsOf, isBarred } = this.#options;
    const isHere = job.runHere === true;
    if (isBarred(job)) return WAITS; // and so are all of its kind
    if (!isHere && trouble.in(resultsOf(job)) !== undefined) return WAITS_ALONE;
    const placed = (isHere ? here : pool).reserve(job);
    if (placed.type === 'refused') return WAITS;
    if (isHere) this.#reservedHere.add(placed);
    return placed;
  }

  release(reservation: Reservation): void {
    (this.#reservedHere.has(reservation) ? this.#options.here : this.#options.pool).release(reservation);
  }

  start(job: Job, attempt: Attempt, reservation: Reservation): RunningAttempt {
    const side = this.#reservedHere.has(reservation) ? this.#options.here : this.#options.pool;
    return this.patient(job, side.start(job, attempt, reservation));
  }

  /** Of the pool's machines alone: what runs here is asked by itself. */
  discover(): Promise<readonly FoundAttempt[]> {
    return this.#options.pool.discover();
  }

  adopt(job: Job, found: FoundAttempt): RunningAttempt {
    return this.patient(job, this.#sideOf(job).adopt(job, found));
  }

  discard(found: FoundAttempt): void {
    this.#options.pool.discard(found);
  }

  onCapacity(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Jobs that had to wait may fit now. */
  tellCapacity(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const stop of this.#stopHearing) stop();
    const { here, pool } = this.#options;
    await Promise.all([here.close(), pool.close()]);
  }

  /** An attempt that also outlasts trouble on this computer, or a full disk over there: what is not home then is fetched later. */
  patient(job: Job, running: RunningAttempt): RunningAttempt {
    if (job.runHere === true) return running; // it leaves no results
    const { trouble, resultsOf, refetchPausesMs = REFETCH_PAUSES_MS } = this.#options;
    return new PatientRun(running, {
      ...{ trouble, refetchPausesMs },
      folder: resultsOf(job),
      isClosed: () => this.#isClosed,
      adopt: (found) => this.#sideOf(job).adopt(job, found),
    });
  }

  #sideOf(job: Job): ExecutionBackend {
    return job.runHere === true ? this.#options.here : this.#options.pool;
  }
}

interface PatientRunOptions {
  readonly trouble: LocalTrouble;
  /** Where its results go. */
  readonly folder: string;
  /** Whether the machines were let go of: the next service fetches what is not home. */
  readonly isClosed: () => boolean;
  readonly refetchPausesMs: readonly number[];
  readonly adopt: (found: FoundAttempt) => RunningAttempt;
}

/** What is wrong with the folder itself, and stays so until somebody mends it: no reason to try a job's start again. */
const LASTING = new Set(['EACCES', 'EROFS']);

class PatientRun implements RunningAttempt {
  readonly ended: Promise<JobOutcome>;
  #current: RunningAttempt;
  #cancelReason: string | undefined;
  #wake: () => void = () => {};
  readonly #cancelled = new Promise<void>((resolve) => {
    this.#wake = resolve;
  });

  constructor(first: RunningAttempt, options: PatientRunOptions) {
    this.#current = first;
    this.ended = this.#live(options);
  }

  get attempt(): Attempt {
    return this.#current.attempt;
  }

  get machine(): RunningAttempt['machine'] {
    return this.#current.machine;
  }

  cancel(reason: string): void {
    this.#cancelReason ??= reason;
    this.#wake();
    this.#current.cancel(reason);
  }

  expire(timeoutMs: number): void {
    this.#current.expire(timeoutMs);
  }

  abandon(reason: string): void {
    this.#current.abandon(reason);
  }

  async #live({ trouble, folder, isClosed, adopt, refetchPausesMs }: PatientRunOptions): Promise<JobOutcome> {
    const pausesMs = [...refetchPausesMs];
    for (;;) {
      const before = trouble.countOf(folder);
      const outcome = await this.#current.ended;
      if (outcome.type !== 'transfer-failed') return outcome;
      const { reason, exitCode } = outcome;
      const error = trouble.in(folder);
      if (exitCode === undefined) {
        const isLasting = error !== undefined && 'code' in error && LASTING.has(String(error.code));
        if (error === undefined || isLasting) return outcome;
        await trouble.over(folder, this.#cancelled);
      } else if (trouble.countOf(folder) !== before) {
        // What could not be written while the command ran fails its end, however long ago that was.
        await trouble.over(folder, this.#cancelled);
      } else {
        // It has ended, and its files are on its machine, whose disk may have been full.
        const pauseMs = pausesMs.shift();
        if (pauseMs === undefined) return outcome;
        await this.#pause(pauseMs);
      }
      if (isClosed()) return outcome;
      // Its processes are gone. What it left stays on its machine, for nobody wants to wait for it.
      if (this.#cancelReason !== undefined) return { type: 'cancelled', reason: this.#cancelReason };
      if (exitCode === undefined) return { type: 'lost', reason, neverStarted: true };
      const { attempt, machine } = this.#current;
      this.#current = adopt({ attempt, machine, command: '', tree: '', gpus: [], state: 'ended' });
    }
  }

  async #pause(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms).unref();
    });
    await Promise.race([over, this.#cancelled]);
    clearTimeout(timer);
  }
}
