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
}

const WAITS: Refusal = { type: 'refused', everFits: true, shortfalls: [] };

/** The pool and what runs here, as one. */
export class ServiceBackend implements ExecutionBackend {
  readonly #options: ServiceBackendOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stopHearing: readonly (() => void)[];
  readonly #reservedHere = new WeakSet<Reservation>();

  constructor(options: ServiceBackendOptions) {
    this.#options = options;
    const tell = () => this.tellCapacity();
    this.#stopHearing = [options.pool.onCapacity(tell), options.here.onCapacity(tell)];
  }

  reserve(job: Job): Reservation | Refusal {
    const { here, pool, trouble } = this.#options;
    if (trouble.isActive) return WAITS;
    const isHere = job.runHere === true;
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
    for (const stop of this.#stopHearing) stop();
    const { here, pool } = this.#options;
    await Promise.all([here.close(), pool.close()]);
  }

  /** An attempt that also outlasts trouble on this computer: what is not home then is fetched when the trouble is over. */
  patient(job: Job, running: RunningAttempt): RunningAttempt {
    return new PatientRun(running, this.#options.trouble, (found) => this.#sideOf(job).adopt(job, found));
  }

  #sideOf(job: Job): ExecutionBackend {
    return job.runHere === true ? this.#options.here : this.#options.pool;
  }
}

class PatientRun implements RunningAttempt {
  readonly ended: Promise<JobOutcome>;
  #current: RunningAttempt;

  constructor(first: RunningAttempt, trouble: LocalTrouble, adopt: (found: FoundAttempt) => RunningAttempt) {
    this.#current = first;
    this.ended = this.#live(trouble, adopt);
  }

  get attempt(): Attempt {
    return this.#current.attempt;
  }

  get machine(): RunningAttempt['machine'] {
    return this.#current.machine;
  }

  cancel(reason: string): void {
    this.#current.cancel(reason);
  }

  expire(timeoutMs: number): void {
    this.#current.expire(timeoutMs);
  }

  abandon(reason: string): void {
    this.#current.abandon(reason);
  }

  async #live(trouble: LocalTrouble, adopt: (found: FoundAttempt) => RunningAttempt): Promise<JobOutcome> {
    for (;;) {
      const outcome = await this.#current.ended;
      if (outcome.type !== 'transfer-failed' || !trouble.isActive) return outcome;
      const { reason, exitCode } = outcome;
      await trouble.over();
      if (exitCode === undefined) return { type: 'lost', reason, neverStarted: true };
      const { attempt, machine } = this.#current;
      this.#current = adopt({ attempt, machine, command: '', tree: '', gpus: [], state: 'ended' });
    }
  }
}
