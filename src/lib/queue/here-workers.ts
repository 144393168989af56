/** Which worker a script that runs here is for: one script per worker at a time. */
import type { Job, JobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';

/** A machine of the list, for which scripts may run here. */
export interface Worker {
  readonly name: MachineName;
  /** It gets new jobs: it is neither drained nor leaving. */
  readonly isOpen: boolean;
}

/** Who holds which worker. They are known by their names: that one leaves the list and comes back frees it of nothing. */
export class HereWorkers {
  readonly #list: () => readonly Worker[];
  /** After a restart with an edited state a worker may have several. */
  readonly #holders = new Map<MachineName, JobId[]>();
  /** Grows with each use of a worker. */
  readonly #usedAt = new Map<MachineName, number>();
  #uses = 0;

  /** `list`: the workers there are at the moment. */
  constructor(list: () => readonly Worker[]) {
    this.#list = list;
  }

  /** The job's own worker, or of the open ones that which was idle for longest; undefined when none is idle. */
  idleFor({ only, avoid = [] }: Job): MachineName | undefined {
    const open = this.#list().filter(({ name, isOpen }) => isOpen && (only ?? name) === name);
    const others = open.filter(({ name }) => !avoid.includes(name));
    // It goes back to where it failed only when there is no other, busy ones included.
    const idle = (others.length > 0 ? others : open).filter(({ name }) => !this.#holders.has(name));
    const usedAt = (name: MachineName) => this.#usedAt.get(name) ?? 0;
    return idle.reduce<MachineName | undefined>(
      (best, { name }) => (best === undefined || usedAt(name) < usedAt(best) ? name : best),
      undefined,
    );
  }

  /** The jobs that hold a worker. */
  jobsOf(worker: MachineName): readonly JobId[] {
    return this.#holders.get(worker) ?? [];
  }

  take(worker: MachineName, job: JobId): void {
    this.#holders.set(worker, [...this.jobsOf(worker), job]);
    this.#usedAt.set(worker, ++this.#uses);
  }

  giveBack(worker: MachineName, job: JobId): void {
    const holders = [...this.jobsOf(worker)];
    const at = holders.indexOf(job);
    if (at >= 0) holders.splice(at, 1);
    if (holders.length > 0) this.#holders.set(worker, holders);
    else this.#holders.delete(worker);
    this.#usedAt.set(worker, ++this.#uses);
  }
}
