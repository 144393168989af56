/** How far a batch is, kept up to date from its events: what the footer shows. */
import type { BatchStarted, JobEnded, JobStarted, SchedulerEvent } from '../../lib/domain/events.ts';
import { isSuccess, type JobId } from '../../lib/domain/job.ts';
import type { MachineName } from '../../lib/domain/machine.ts';

interface RunningJob {
  readonly name: string;
  readonly startedAt: number;
}

interface MachineProgress {
  readonly running: Map<JobId, RunningJob>;
  /** The connection is gone and nothing was heard of the machine since. */
  away: boolean;
}

/** The state of a batch between two events. */
export class Progress {
  #batch: BatchStarted | undefined;
  #done = 0;
  #running = 0;
  #mostAtOnce = 0;
  #endedCount = 0;
  #endedTotalMs = 0;
  /** Jobs whose last attempt failed. */
  readonly #failed = new Set<JobId>();
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
        this.#machine(event.machine).away = true;
        break;
      case 'machine:back':
        this.#machine(event.machine).away = false;
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
    const failed = this.#failed.size;
    const all = (this.#batch?.jobs ?? 0) - (this.#batch?.skipped ?? 0);
    const waiting = Math.max(0, all - this.#done - failed - this.#neverFit.size - this.#running);
    return { done: this.#done, failed, running: this.#running, waiting };
  }

  /** The machines on which jobs run, in the order in which they first had one. */
  busyMachines(): { readonly name: MachineName; readonly away: boolean; readonly jobs: readonly string[] }[] {
    return [...this.#machines]
      .filter(([, machine]) => machine.running.size > 0)
      .map(([name, { away, running }]) => ({
        name,
        away,
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
    this.#failed.delete(event.job);
    const machine = this.#machine(event.machine);
    machine.away = false;
    if (!machine.running.has(event.job)) this.#running++;
    machine.running.set(event.job, { name: event.name, startedAt: event.at });
    this.#mostAtOnce = Math.max(this.#mostAtOnce, this.#running);
  }

  #jobEnded(event: JobEnded): void {
    const machine = this.#machine(event.machine);
    machine.away = false;
    const job = machine.running.get(event.job);
    if (job) {
      machine.running.delete(event.job);
      this.#running--;
      // From start to results at home, not the command's own time: that is how long it kept its place.
      this.#endedCount++;
      this.#endedTotalMs += Math.max(0, event.at - job.startedAt);
    }
    if (isSuccess(event.outcome)) this.#done++;
    else if (event.outcome.type === 'never-fits') this.#neverFit.add(event.job);
    else this.#failed.add(event.job);
  }

  #machine(name: MachineName): MachineProgress {
    let machine = this.#machines.get(name);
    if (!machine) {
      machine = { running: new Map(), away: false };
      this.#machines.set(name, machine);
    }
    return machine;
  }
}
