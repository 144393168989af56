/** How far a batch is, kept up to date from its events: what the footer shows. */
import type { BatchStarted, JobEnded, JobStarted, SchedulerEvent } from '../../lib/domain/events.ts';
import { isSuccess, type JobId } from '../../lib/domain/job.ts';
import type { MachineName } from '../../lib/domain/machine.ts';

interface RunningJob {
  readonly name: string;
  readonly attempt: number;
  readonly startedAt: number;
}

interface MachineProgress {
  readonly running: Map<JobId, RunningJob>;
  /** Epoch milliseconds since when it cannot be reached, although it is tried again; undefined while it can. */
  awaySince: number | undefined;
}

/** A machine that is worth a line. */
export interface ShownMachine {
  readonly name: MachineName;
  readonly awaySince: number | undefined;
  /** Names of the jobs that run there, or ran when it was last heard of. */
  readonly jobs: readonly string[];
}

/** The state of a batch between two events. */
export class Progress {
  #batch: BatchStarted | undefined;
  #mostAtOnce = 0;
  #endedCount = 0;
  #endedTotalMs = 0;
  /** How jobs ended that are over. */
  readonly #over = new Map<JobId, 'done' | 'failed'>();
  /** Where each running job's current attempt runs. */
  readonly #places = new Map<JobId, MachineName>();
  /** Jobs that will not be started at all. */
  readonly #neverFit = new Set<JobId>();
  readonly #machines = new Map<MachineName, MachineProgress>();

  /** Takes every event. */
  report(event: SchedulerEvent): void {
    switch (event.type) {
      case 'batch:started':
        this.#batch = event;
        break;
      case 'job:started':
        this.#jobStarted(event);
        break;
      case 'job:ended':
        this.#jobEnded(event);
        break;
      case 'job:never-fits':
        this.#neverFit.add(event.job);
        break;
      case 'machine:away':
        this.#machine(event.machine).awaySince ??= event.at;
        break;
      case 'machine:unreachable':
        if (event.isTriedAgain) this.#machine(event.machine).awaySince ??= event.at;
        break;
      case 'machine:back':
      case 'machine:queried':
        this.#machine(event.machine).awaySince = undefined;
        break;
      default:
    }
  }

  /** Epoch milliseconds of the batch's start; undefined before it. */
  get startedAt(): number | undefined {
    return this.#batch?.at;
  }

  /** Jobs by state; skipped ones and those that fit nowhere are in none of them. */
  counts(): {
    readonly done: number;
    readonly failed: number;
    readonly running: number;
    readonly waiting: number;
  } {
    const over = [...this.#over.values()];
    const done = over.filter((end) => end === 'done').length;
    const failed = over.length - done;
    const running = this.#places.size;
    const all = (this.#batch?.jobs ?? 0) - (this.#batch?.skipped ?? 0);
    const waiting = Math.max(0, all - over.length - this.#neverFit.size - running);
    return { done, failed, running, waiting };
  }

  /** The machines on which jobs run, or that are awaited, in the order in which they were first heard of. */
  shownMachines(): readonly ShownMachine[] {
    return [...this.#machines]
      .filter(([, { running, awaySince }]) => running.size > 0 || awaySince !== undefined)
      .map(([name, { awaySince, running }]) => ({
        name,
        awaySince,
        jobs: [...running.values()].map((job) => job.name),
      }));
  }

  /**
   * Milliseconds until the batch ends if the jobs to come take as long as the mean of those that ended and as many run
   * at once as did so far; undefined before the first end, and once every running job has outlived the mean.
   */
  estimatedLeftMs(now: number): number | undefined {
    if (this.#endedCount === 0 || this.#mostAtOnce === 0) return undefined;
    const mean = this.#endedTotalMs / this.#endedCount;
    let workMs = this.counts().waiting * mean;
    let longestMs = 0;
    for (const { running } of this.#machines.values()) {
      for (const { startedAt } of running.values()) {
        const restMs = Math.max(0, mean - (now - startedAt));
        workMs += restMs;
        longestMs = Math.max(longestMs, restMs);
      }
    }
    return Math.max(workMs / this.#mostAtOnce, longestMs) || undefined;
  }

  #jobStarted(event: JobStarted): void {
    this.#over.delete(event.job);
    // It may still stand on a machine that was given up.
    this.#leavePlace(event.job);
    const machine = this.#machine(event.machine);
    machine.awaySince = undefined;
    const { name, attempt } = event;
    machine.running.set(event.job, {
      name,
      attempt,
      startedAt: event.isAdopted ? event.startedAt : event.at,
    });
    this.#places.set(event.job, event.machine);
    this.#mostAtOnce = Math.max(this.#mostAtOnce, this.#places.size);
  }

  #jobEnded(event: JobEnded): void {
    const place = this.#places.get(event.job);
    const current = place === undefined ? undefined : this.#machine(place).running.get(event.job);
    // An attempt that is over although another one of the job runs by now changes nothing.
    if (current !== undefined && current.attempt !== event.attempt) return;
    if (current !== undefined) {
      this.#leavePlace(event.job);
      // From start to results at home, not the command's own time: that is how long it kept its place.
      this.#endedCount++;
      this.#endedTotalMs += Math.max(0, event.at - current.startedAt);
    }
    if (event.willRetry) return;
    if (event.outcome.type === 'never-fits') this.#neverFit.add(event.job);
    else this.#over.set(event.job, isSuccess(event.outcome) ? 'done' : 'failed');
  }

  #leavePlace(job: JobId): void {
    const place = this.#places.get(job);
    if (place === undefined) return;
    this.#places.delete(job);
    this.#machine(place).running.delete(job);
  }

  #machine(name: MachineName): MachineProgress {
    let machine = this.#machines.get(name);
    if (!machine) {
      machine = { running: new Map(), awaySince: undefined };
      this.#machines.set(name, machine);
    }
    return machine;
  }
}
