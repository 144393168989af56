/**
 * A store in memory: jobs wait in order, and wait again when an attempt was lost through no fault of theirs or is worth
 * another try. What must outlive the process stands in the journal.
 */
import { type Attempt, type Job, type JobId, type JobOutcome, placementKey } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { JobStore } from '../domain/ports.ts';
import { historyOf, type JobHistory, type Journal } from './journal.ts';
import { type Decision, decide, LOSSES_ONLY, type RetryPolicy } from './retry-policy.ts';

interface Remembered {
  /** As it is tried next. */
  job: Job;
  /** Number of the attempt that counts, 0 before the first. */
  current: number;
  /** The highest number that any attempt has had. */
  highest: number;
  losses: number;
  failures: number;
  /** What was decided about the current attempt, which may be asked for before it is finished. */
  decision: Decision | undefined;
  outcome: JobOutcome | undefined;
}

/** What a store goes by. */
export interface MemoryStoreOptions {
  /** @default only losses are made good */
  readonly policy?: RetryPolicy;
  readonly journal?: Journal;
  /** The journal cannot be written (disk full). What it lacks, the machines tell. */
  readonly onProblem?: (error: Error) => void;
}

/** Remembers jobs for as long as the process lives. */
export class MemoryStore implements JobStore {
  readonly #policy: RetryPolicy;
  readonly #journal: Journal | undefined;
  readonly #onProblem: (error: Error) => void;
  readonly #jobs = new Map<JobId, Remembered>();
  /** Waiting jobs in order: a Map keeps the order of insertion and removes in O(1). */
  readonly #waiting = new Map<JobId, Job>();
  readonly #kinds = new Map<string, number>();
  readonly #listeners = new Set<() => void>();

  constructor(jobs: readonly Job[] = [], options: MemoryStoreOptions = {}) {
    const { policy = LOSSES_ONLY, journal, onProblem = () => {} } = options;
    this.#policy = policy;
    this.#journal = journal;
    this.#onProblem = onProblem;
    for (const job of jobs) this.add(job, journal && historyOf(journal.histories, job));
  }

  /** Adds a job behind those that wait. `history`: what earlier controllers tried. */
  add(job: Job, history?: JobHistory): void {
    const asked =
      history === undefined
        ? job
        : {
            ...job,
            ...(Object.keys(history.grown).length === 0
              ? {}
              : { request: { ...job.request, ...history.grown } }),
            ...(history.avoid.length === 0 ? {} : { avoid: [...history.avoid].sort() }),
          };
    this.#jobs.set(job.id, {
      job: asked,
      current: 0,
      highest: history?.highest ?? 0,
      losses: history?.losses ?? 0,
      failures: history?.failures ?? 0,
      decision: undefined,
      outcome: undefined,
    });
    this.#enqueue(asked);
  }

  pending(): Iterable<Job> {
    return this.#waiting.values();
  }

  get waitingKinds(): number {
    return this.#kinds.size;
  }

  /** How many jobs wait. */
  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** Takes note of attempts that an earlier controller made: later ones get higher numbers. */
  noteAttempt({ job, number }: Attempt): void {
    const remembered = this.#jobs.get(job);
    if (remembered !== undefined) remembered.highest = Math.max(remembered.highest, number);
  }

  /**
   * This attempt, which was made before, goes on and counts from now on: its job does not wait any more, and what
   * becomes of another attempt does not matter. False when the job is over, unless it was given up as lost.
   */
  resume(attempt: Attempt): boolean {
    const remembered = this.#jobs.get(attempt.job);
    if (remembered === undefined) return false;
    if (remembered.outcome !== undefined && remembered.outcome.type !== 'lost') return false;
    remembered.outcome = undefined;
    this.#take(attempt.job);
    this.noteAttempt(attempt);
    remembered.current = attempt.number;
    remembered.decision = undefined;
    return true;
  }

  /** Whether this is the attempt that counts. */
  isCurrent({ job, number }: Attempt): boolean {
    return this.#jobs.get(job)?.current === number;
  }

  /** A job as it is tried now or next. */
  job(id: JobId): Job | undefined {
    return this.#jobs.get(id)?.job;
  }

  async claim(id: JobId): Promise<Attempt | undefined> {
    const remembered = this.#take(id);
    if (remembered === undefined) return undefined;
    remembered.highest += 1;
    remembered.current = remembered.highest;
    remembered.decision = undefined;
    return { job: id, number: remembered.current };
  }

  /** Takes a job out of those that wait. */
  #take(id: JobId): Remembered | undefined {
    const job = this.#waiting.get(id);
    const remembered = this.#jobs.get(id);
    if (job === undefined || remembered === undefined) return undefined;
    this.#waiting.delete(id);
    const key = placementKey(job);
    const left = (this.#kinds.get(key) ?? 1) - 1;
    if (left === 0) this.#kinds.delete(key);
    else this.#kinds.set(key, left);
    return remembered;
  }

  async unclaim(attempt: Attempt): Promise<void> {
    const remembered = this.#jobs.get(attempt.job);
    if (remembered !== undefined) this.#enqueue(remembered.job);
  }

  /** Whether an attempt that ended so is its job's last. Asked again, it says the same. */
  isLast(attempt: Attempt, outcome: JobOutcome, machine?: MachineName): boolean {
    const remembered = this.#jobs.get(attempt.job);
    if (remembered === undefined || remembered.current !== attempt.number) return true;
    return this.#decide(remembered, outcome, machine).type === 'over';
  }

  #decide(remembered: Remembered, outcome: JobOutcome, machine: MachineName | undefined): Decision {
    remembered.decision ??= decide(remembered.job, outcome, machine, remembered, this.#policy);
    return remembered.decision;
  }

  async finish(attempt: Attempt, outcome: JobOutcome, machine?: MachineName): Promise<void> {
    const remembered = this.#jobs.get(attempt.job);
    if (remembered === undefined || remembered.current !== attempt.number) return;
    // A loss may follow upon a failure that was decided about: its files could not be brought home any more.
    if (outcome.type === 'lost') remembered.decision = undefined;
    const decision = this.#decide(remembered, outcome, machine);
    if (decision.type === 'over') {
      remembered.outcome = outcome;
      // What has ended and could not be brought home is still on its machine: the next controller looks there.
      if (outcome.type !== 'transfer-failed' || outcome.exitCode === undefined)
        this.#note((journal) => journal.over(attempt));
      return;
    }
    const { reason, next, grown } = decision;
    if (reason === 'lost') remembered.losses += 1;
    if (reason === 'failed') remembered.failures += 1;
    remembered.job = next;
    this.#note((journal) => journal.again(attempt, reason, machine, grown));
    this.#enqueue(next);
  }

  #note(write: (journal: Journal) => void): void {
    try {
      if (this.#journal !== undefined) write(this.#journal);
    } catch (error) {
      this.#onProblem(error as Error);
    }
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
    const key = placementKey(job);
    this.#kinds.set(key, (this.#kinds.get(key) ?? 0) + 1);
    for (const listener of [...this.#listeners]) listener();
  }
}
