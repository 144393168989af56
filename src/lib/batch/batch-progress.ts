/** What has become of a batch's jobs, told at once however many there are: kept up to date from what happens to them. */
import type { JobEnded, JobStarted, SchedulerEvent } from '../domain/events.ts';
import type { Job, JobId, JobOutcome } from '../domain/job.ts';
import type { OverviewJob } from '../domain/overview.ts';
import type { QueueState } from '../domain/queue.ts';
import type { SkippedJob } from '../stores/result-folder.ts';
import type { EventStream } from '../util/event-stream.ts';
import { visibleText } from '../util/terminal-text.ts';

/** The last of those that ended are kept; more than a screen shows is of use to nobody. */
const ENDED_KEPT = 200;

/** An attempt whose command runs. */
export type BegunAttempt = Pick<JobStarted, 'attempt' | 'startedAt' | 'gpus'>;

/** A job that is over. `attempt`: its last, 0 where none is known. */
export interface JobEnd {
  readonly state: 'success' | 'fail' | 'killed' | 'error';
  readonly attempt: number;
  readonly outcome?: JobOutcome;
}

/** Knows of each job whether its command runs, and how it ended. */
export class BatchProgress {
  readonly #begun = new Map<JobId, BegunAttempt>();
  readonly #ends = new Map<JobId, JobEnd>();
  /** Why jobs that ran before wait again. */
  readonly #again = new Map<JobId, string>();
  /** What was told of ends that the store has not heard of yet. */
  readonly #told = new Map<JobId, JobEnded>();
  readonly #counts = { success: 0, fail: 0, killed: 0, error: 0 };
  /** Those that ended lately, the last one last. */
  #lately: OverviewJob[] = [];

  /** `skipped`: those with a result of an earlier run. */
  constructor(events: EventStream<SchedulerEvent>, skipped: readonly SkippedJob[]) {
    for (const { isGood } of skipped) this.#counts[isGood ? 'success' : 'fail'] += 1;
    events.on('job:started', (event) => {
      this.#forgetEnd(event.job); // one that was given up is back
      this.#again.delete(event.job);
      this.#begun.set(event.job, event);
    });
    events.on('job:ended', (event) => {
      const begun = this.#begun.get(event.job);
      if (begun !== undefined && begun.attempt !== event.attempt) return; // another one runs by now
      this.#begun.delete(event.job);
      this.#told.set(event.job, event);
    });
  }

  /** An attempt of a job is over. `isOver`: so is the job. */
  attemptEnded(job: Job, outcome: JobOutcome, isOver: boolean): void {
    const { id, name, command } = job;
    const told = this.#told.get(id);
    const attempt = told?.attempt ?? this.#begun.get(id)?.attempt ?? 0;
    this.#told.delete(id);
    this.#begun.delete(id);
    if (!isOver) {
      const where = told === undefined ? '' : ` on ${told.machine}`;
      this.#again.set(id, visibleText(`tried again after attempt ${attempt}${where}: ${whyText(outcome)}`));
      return;
    }
    const state = stateOf(outcome);
    this.#forgetEnd(id);
    this.#ends.set(id, { state, attempt, outcome });
    this.#counts[state] += 1;
    const startedAt = told?.startedAt;
    this.#lately.push({
      ...{ id, name, command, state, outcome },
      endedAt: told?.at ?? Date.now(),
      ...(told === undefined ? {} : { machine: told.machine }),
      ...(startedAt === undefined ? {} : { startedAt }),
      ...reasonOf(state, outcome),
    });
    if (this.#lately.length > ENDED_KEPT) this.#lately.shift();
  }

  #forgetEnd(id: JobId): void {
    const end = this.#ends.get(id);
    if (end === undefined) return;
    this.#ends.delete(id);
    this.#counts[end.state] -= 1;
    this.#lately = this.#lately.filter((one) => one.id !== id);
  }

  /** How many are over, those with a result of an earlier run among them. */
  get counts(): Readonly<Record<JobEnd['state'], number>> {
    return this.#counts;
  }

  /** How many came to their end in this run. */
  get endedCount(): number {
    return this.#ends.size;
  }

  /** The attempt of a job whose command runs; undefined while it is only on its way to a machine. */
  begun(id: JobId): BegunAttempt | undefined {
    return this.#begun.get(id);
  }

  /** How a job of this run ended; undefined while it waits or runs. */
  endOf(id: JobId): JobEnd | undefined {
    return this.#ends.get(id);
  }

  /** Why a job waits again that ran before. */
  againReason(id: JobId): string | undefined {
    return this.#again.get(id);
  }

  /** A job of this run that has ended, as far as that is still known; undefined while it waits or runs. */
  ended({ id, name, command }: Job): OverviewJob | undefined {
    const end = this.#ends.get(id);
    if (end === undefined) return undefined;
    const { state, outcome } = end;
    const told = this.#lately.find((one) => one.id === id);
    return told ?? { id, name, command, state, ...(outcome && { outcome, ...reasonOf(state, outcome) }) };
  }

  /** Those that ended lately, the last to end first. */
  endedLately(): readonly OverviewJob[] {
    return [...this.#lately].reverse();
  }
}

function stateOf(outcome: JobOutcome): JobEnd['state'] & QueueState {
  switch (outcome.type) {
    case 'exited':
      return outcome.exitCode === 0 ? 'success' : 'fail';
    case 'cancelled':
      return 'killed';
    case 'never-fits':
      return 'error';
    case 'transfer-failed':
      // Without an exit code the command never ran.
      return outcome.exitCode === undefined ? 'error' : 'fail';
    default:
      return 'fail';
  }
}

function reasonOf(state: JobEnd['state'], outcome: JobOutcome): Pick<OverviewJob, 'reason'> {
  return state === 'success' ? {} : { reason: visibleText(whyText(outcome)) };
}

function whyText(outcome: JobOutcome): string {
  if (outcome.type === 'exited') return `exit code ${outcome.exitCode}`;
  if (outcome.type === 'timed-out') return `it ran for longer than ${outcome.timeoutMs / 1000} s`;
  return outcome.reason;
}
