/** What a batch does when jobs fail or take too long: told of every event, it asks for what is to be done. */
import type { JobEnded, SchedulerEvent } from '../domain/events.ts';
import { isSuccess } from '../domain/job.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import type { HaltRule } from './survival-options.ts';

const FEWEST_FAILURES_FOR_PERCENT = 3;

/** Calls `onHalt` once, when a rule's failures have come together. Attempts that are tried again are no failures. */
export function watchHalt(
  rule: HaltRule,
  onHalt: (rule: HaltRule, failed: number) => void,
): (event: SchedulerEvent) => void {
  let failed = 0;
  let ended = 0;
  let isHalted = false;
  return (event) => {
    if (event.type !== 'job:ended' || event.willRetry || event.outcome.type === 'cancelled') return;
    ended += 1;
    if (isSuccess(event.outcome)) return;
    failed += 1;
    const { failures } = rule;
    const isDue =
      failures.type === 'count'
        ? failed >= failures.count
        : failed >= FEWEST_FAILURES_FOR_PERCENT && (failed / ended) * 100 >= failures.percent;
    if (!isDue || isHalted) return;
    isHalted = true;
    onHalt(rule, failed);
  };
}

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
    if (event.type === 'job:started') this.#startedAt.set(event.job, event.startedAt);
    if (event.type === 'job:ended') {
      this.#startedAt.delete(event.job);
      if (isSuccess(event.outcome)) this.#note(event);
    }
  }

  #note({ durationMs }: JobEnded): void {
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

  /** Looks at what runs from now on, until `stop`. */
  watch(running: () => Iterable<RunningAttempt>): void {
    this.#timer = setInterval(() => {
      const limitMs = this.limitMs;
      if (limitMs === undefined) return;
      for (const one of running()) {
        const { job, number } = one.attempt;
        const startedAt = this.#startedAt.get(job);
        if (startedAt === undefined || this.#now() - startedAt <= limitMs) continue;
        if (this.#expired.get(job) === number) continue;
        this.#expired.set(job, number);
        one.expire(Math.round(limitMs));
      }
    }, this.#lookMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
