/** Time limits that follow from the other jobs of a submit: `--timeout 300%`. */
import type { SchedulerEvent } from '../domain/events.ts';
import { type JobId, jobId } from '../domain/job.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import type { QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import { MedianTimeout } from '../engine/median-timeout.ts';
import type { QueueStore } from '../stores/queue-store.ts';

/** What the limits go by. */
export interface SubmissionTimeoutsOptions {
  readonly store: Pick<QueueStore, 'spec' | 'list' | 'running'>;
  /** How often what runs is looked at. @default 1000 */
  readonly lookMs?: number;
  /** Epoch milliseconds. @default the computer's clock */
  readonly now?: () => number;
  /** How many submits are remembered; one that is forgotten is looked up in the store again. @default 1000 */
  readonly most?: number;
}

/** Good jobs of an earlier service that are looked up: enough for a median. */
const LOOKED_UP = 1000;

/** The limits of all submits that have one. */
export class SubmissionTimeouts {
  readonly #store: SubmissionTimeoutsOptions['store'];
  readonly #lookMs: number;
  readonly #now: () => number;
  readonly #most: number;
  /** By the first job of the submit, the one used last at the end. */
  readonly #timeouts = new Map<QueueJobId, MedianTimeout>();
  #timer: NodeJS.Timeout | undefined;

  constructor({ store, lookMs = 1000, now = Date.now, most = 1000 }: SubmissionTimeoutsOptions) {
    this.#store = store;
    this.#lookMs = lookMs;
    this.#now = now;
    this.#most = most;
  }

  /** Takes every event. */
  hear(event: SchedulerEvent): void {
    if (event.type === 'job:started' || event.type === 'job:ended') this.#of(event.job)?.hear(event);
  }

  /** Looks at what runs from now on, until `stop`. */
  watch(running: () => Iterable<RunningAttempt>): void {
    this.#timer = setInterval(() => {
      if (this.#timeouts.size > 0) this.look(running());
    }, this.#lookMs);
    this.#timer.unref();
  }

  /** Expires those of these attempts whose time is over. */
  look(running: Iterable<RunningAttempt>): void {
    for (const one of running) this.#of(one.attempt.job)?.look([one]);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #of(job: JobId): MedianTimeout | undefined {
    const spec = this.#store.spec(job);
    const { timeoutPercent: percent, submitted } = spec ?? {};
    if (percent === undefined || submitted === undefined) return undefined;
    const known = this.#timeouts.get(submitted);
    const timeout = known ?? this.#lookUp(submitted, percent);
    this.#timeouts.delete(submitted);
    this.#timeouts.set(submitted, timeout);
    const [oldest] = this.#timeouts.keys();
    if (this.#timeouts.size > this.#most && oldest !== undefined) this.#timeouts.delete(oldest);
    return timeout;
  }

  /** What the store knows of good jobs. Their times count bringing home results as well: the nearest that is kept. */
  #lookUp(submitted: QueueJobId, percent: number): MedianTimeout {
    const timeout = new MedianTimeout(percent, { now: this.#now });
    for (const job of this.#store.list({ states: ['success'], from: submitted, limit: LOOKED_UP })) {
      if (!isOf(job.spec, submitted)) break; // the jobs of a submit follow each other
      if (job.startedAt !== undefined && job.endedAt !== undefined)
        timeout.note(Math.max(0, job.endedAt - job.startedAt));
    }
    for (const job of this.#store.running())
      if (isOf(job.spec, submitted) && job.startedAt !== undefined)
        timeout.noteStart(jobId(String(job.id)), job.startedAt);
    return timeout;
  }
}

function isOf(spec: QueueJobSpec, submitted: QueueJobId): boolean {
  return spec.submitted === submitted;
}
