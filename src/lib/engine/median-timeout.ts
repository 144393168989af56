/** A time limit that follows from how long other jobs took. */
import type { SchedulerEvent } from '../domain/events.ts';
import { isSuccess, type JobId } from '../domain/job.ts';
import type { RunningAttempt } from '../domain/ports.ts';

const GOOD_JOBS_FOR_MEDIAN = 3;

/** Expires attempts that have run for longer than a percentage of the median run time of the good jobs so far. */
export class MedianTimeout {
  readonly #percent: number;
  readonly #lookMs: number;
  readonly #now: () => number;
  /** Ascending. */
  readonly #durations: number[] = [];
  /** Epoch milliseconds of the starts of what runs, by job. */
  readonly #startedAt = new Map<string, number>();
  /** The attempts that were expired, by job: one takes its time to end, and is not to be told again and again. */
  readonly #expired = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(percent: number, { lookMs = 1000, now = Date.now } = {}) {
    this.#percent = percent;
    this.#lookMs = lookMs;
    this.#now = now;
  }

  /** Takes every event. */
  hear(event: SchedulerEvent): void {
    if (event.type === 'job:started') this.noteStart(event.job, event.startedAt);
    if (event.type === 'job:ended') {
      this.#startedAt.delete(event.job);
      this.#expired.delete(event.job);
      if (isSuccess(event.outcome)) this.note(event.durationMs);
    }
  }

  /** A job began then, epoch milliseconds. */
  noteStart(job: JobId, startedAt: number): void {
    this.#startedAt.set(job, startedAt);
  }

  /** A good job took so long. */
  note(durationMs: number): void {
    let at = this.#durations.length;
    while (at > 0 && (this.#durations[at - 1] ?? 0) > durationMs) at -= 1;
    this.#durations.splice(at, 0, durationMs);
  }

  /** Milliseconds that a job may run; undefined as long as too few good ones have ended. */
  get limitMs(): number | undefined {
    const count = this.#durations.length;
    if (count < GOOD_JOBS_FOR_MEDIAN) return undefined;
    const upper = this.#durations[Math.floor(count / 2)] ?? 0;
    const lower = this.#durations[Math.floor((count - 1) / 2)] ?? 0;
    return (((lower + upper) / 2) * this.#percent) / 100;
  }

  /** Expires those of these attempts whose time is over. */
  look(running: Iterable<RunningAttempt>): void {
    const limitMs = this.limitMs;
    if (limitMs === undefined) return;
    for (const one of running) {
      const { job, number } = one.attempt;
      const startedAt = this.#startedAt.get(job);
      if (startedAt === undefined || this.#now() - startedAt <= limitMs) continue;
      if (this.#expired.get(job) === number) continue;
      this.#expired.set(job, number);
      one.expire(Math.round(limitMs));
    }
  }

  /** Looks at what runs from now on, until `stop`. */
  watch(running: () => Iterable<RunningAttempt>): void {
    this.#timer = setInterval(() => this.look(running()), this.#lookMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
