/** A store in memory: jobs wait in order, and wait again when an attempt was lost through no fault of theirs. */
import type { Attempt, Job, JobId, JobOutcome } from '../domain/job.ts';
import type { JobStore } from '../domain/ports.ts';
import { requestKey } from '../domain/resources.ts';

/** How often a job may be lost to its machines before it is given up. */
const LOSSES_ALLOWED = 3;

interface Remembered {
  readonly job: Job;
  /** Number of the attempt that counts, 0 before the first. */
  current: number;
  /** The highest number that any attempt has had. */
  highest: number;
  losses: number;
  outcome: JobOutcome | undefined;
}

/** Remembers jobs for as long as the process lives. */
export class MemoryStore implements JobStore {
  readonly #jobs = new Map<JobId, Remembered>();
  /** Waiting jobs in order: a Map keeps the order of insertion and removes in O(1). */
  readonly #waiting = new Map<JobId, Job>();
  readonly #kinds = new Map<string, number>();
  readonly #listeners = new Set<() => void>();

  constructor(jobs: readonly Job[] = []) {
    for (const job of jobs) this.add(job);
  }

  /** Adds a job behind those that wait. */
  add(job: Job): void {
    this.#jobs.set(job.id, { job, current: 0, highest: 0, losses: 0, outcome: undefined });
    this.#enqueue(job);
  }

  pending(): Iterable<Job> {
    return this.#waiting.values();
  }

  get waitingKinds(): number {
    return this.#kinds.size;
  }

  /** Takes note of attempts that an earlier controller made: later ones get higher numbers. */
  noteAttempt({ job, number }: Attempt): void {
    const remembered = this.#jobs.get(job);
    if (remembered !== undefined) remembered.highest = Math.max(remembered.highest, number);
  }

  /** Takes a waiting job out because this attempt of it, which an earlier controller made, goes on. */
  resume(attempt: Attempt): void {
    const remembered = this.#take(attempt.job);
    if (remembered === undefined) throw new Error(`Internal error: ${attempt.job} does not wait`);
    this.noteAttempt(attempt);
    remembered.current = attempt.number;
  }

  async claim(id: JobId): Promise<Attempt | undefined> {
    const remembered = this.#take(id);
    if (remembered === undefined) return undefined;
    remembered.highest += 1;
    remembered.current = remembered.highest;
    return { job: id, number: remembered.current };
  }

  /** Takes a job out of those that wait. */
  #take(id: JobId): Remembered | undefined {
    const job = this.#waiting.get(id);
    const remembered = this.#jobs.get(id);
    if (job === undefined || remembered === undefined) return undefined;
    this.#waiting.delete(id);
    const key = requestKey(job.request);
    const left = (this.#kinds.get(key) ?? 1) - 1;
    if (left === 0) this.#kinds.delete(key);
    else this.#kinds.set(key, left);
    return remembered;
  }

  async unclaim(attempt: Attempt): Promise<void> {
    const remembered = this.#jobs.get(attempt.job);
    if (remembered !== undefined) this.#enqueue(remembered.job);
  }

  async finish(attempt: Attempt, outcome: JobOutcome): Promise<void> {
    const remembered = this.#jobs.get(attempt.job);
    if (remembered === undefined || remembered.current !== attempt.number) return;
    if (outcome.type === 'lost') {
      remembered.losses += 1;
      if (remembered.losses < LOSSES_ALLOWED) return this.#enqueue(remembered.job);
    }
    remembered.outcome = outcome;
  }

  onPending(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** How a job ended; undefined while it waits or runs. */
  outcomeOf(id: JobId): JobOutcome | undefined {
    return this.#jobs.get(id)?.outcome;
  }

  #enqueue(job: Job): void {
    this.#waiting.set(job.id, job);
    const key = requestKey(job.request);
    this.#kinds.set(key, (this.#kinds.get(key) ?? 0) + 1);
    for (const listener of [...this.#listeners]) listener();
  }
}
