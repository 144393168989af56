/** The pool of machines reached by ssh (and this one): places jobs by their requests and runs them. */
import { InsufficientResourcesError } from '../domain/errors.ts';
import type { Attempt, Job, JobOutcome } from '../domain/job.ts';
import type { MachineName, MachineSnapshot } from '../domain/machine.ts';
import type {
  ExecutionBackend,
  FoundAttempt,
  Refusal,
  Reservation,
  RunningAttempt,
} from '../domain/ports.ts';
import { type Allocation, type ResourceRequest, requestKey } from '../domain/resources.ts';
import type { JobRun } from '../runner/job-run.ts';
import type { MachineRunner } from '../runner/machine-runner.ts';
import type { AttemptPlace } from '../runner/supervisor.ts';
import { PlacementIndex } from './placement-index.ts';
import type { VirtualResources } from './virtual-resources.ts';

/** One machine of a pool. */
export interface PoolMachine {
  readonly name: MachineName;
  readonly snapshot: MachineSnapshot;
  readonly resources: VirtualResources;
  /** Absent in a pool that only plans. */
  readonly runner?: MachineRunner;
}

interface Held {
  readonly machine: PoolMachine;
  readonly allocation: Allocation;
}

/** Places jobs on machines and has the machines' runners run them. */
export class MachinePool implements ExecutionBackend {
  readonly machines: readonly PoolMachine[];
  readonly #index = new PlacementIndex<PoolMachine>();
  readonly #held = new WeakMap<Reservation, Held>();
  readonly #listeners = new Set<() => void>();
  readonly #everFits = new Map<string, boolean>();

  constructor(machines: readonly PoolMachine[]) {
    this.machines = machines;
    for (const machine of machines) this.#index.add(machine, machine.resources);
  }

  reserve(job: Job): Reservation | Refusal {
    const machine = this.#index.best(job.request);
    if (machine === undefined) {
      const everFits = this.canEverFit(job.request);
      return { type: 'refused', everFits, shortfalls: everFits ? [] : this.explainEver(job.request) };
    }
    const allocation = machine.resources.allocate(job.request);
    this.#index.changed(machine);
    const reservation: Reservation = { type: 'reserved', machine: machine.name, gpus: allocation.gpus };
    this.#held.set(reservation, { machine, allocation });
    return reservation;
  }

  release(reservation: Reservation): void {
    const held = this.#take(reservation);
    held.machine.resources.release(held.allocation);
    this.#index.changed(held.machine);
    this.#tellCapacity();
  }

  start(job: Job, attempt: Attempt, reservation: Reservation): RunningAttempt {
    const { machine, allocation } = this.#take(reservation);
    const run = runnerOf(machine).queueUp(job, attempt, allocation);
    return this.#watch(job, attempt, { machine, allocation }, run);
  }

  /** What is short on each machine for a request that none can ever hold. */
  explainEver(request: ResourceRequest): Refusal['shortfalls'] {
    return this.machines.map(({ name, resources }) => ({
      machine: name,
      shortfalls: resources.explainEver(request),
    }));
  }

  async discover(): Promise<readonly FoundAttempt[]> {
    const found = await Promise.all(this.machines.map((machine) => runnerOf(machine).discover()));
    return found.flat();
  }

  adopt(job: Job, found: FoundAttempt): RunningAttempt {
    const machine = this.machines.find(({ name }) => name === found.machine);
    if (machine === undefined) throw new Error(`Internal error: ${found.machine} is not in this pool`);
    const held = this.#allocateIfFits(machine, job.request);
    const gpus = held?.allocation.gpus ?? [];
    const run = runnerOf(machine).adopt(
      job,
      found,
      held?.allocation ?? { id: -1, request: job.request, gpus },
    );
    return this.#watch(job, found.attempt, held, run);
  }

  discard(found: FoundAttempt): void {
    this.machines.find(({ name }) => name === found.machine)?.runner?.discard(found);
  }

  onCapacity(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A machine that is away gets no new jobs until it is back. */
  setAway(name: MachineName, isAway: boolean): void {
    const machine = this.machines.find((one) => one.name === name);
    if (machine === undefined) return;
    this.#index.setEnabled(machine, !isAway);
    if (!isAway) this.#tellCapacity();
  }

  /** Attempts on machines that cannot be reached now: nobody can say whether they run. */
  stranded(): readonly {
    readonly machine: MachineName;
    readonly job: string;
    readonly place: AttemptPlace;
  }[] {
    return this.machines.flatMap(({ name, runner }) =>
      runner === undefined || runner.isUp ? [] : runner.underWay().map((one) => ({ machine: name, ...one })),
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.machines.map(async ({ runner }) => runner?.close()));
  }

  #watch(job: Job, attempt: Attempt, held: Held | undefined, starting: Promise<JobRun>): RunningAttempt {
    let cancelReason: string | undefined;
    let run: JobRun | undefined;
    void starting
      .then(async (started) => {
        run = started;
        if (cancelReason !== undefined) started.cancel(cancelReason);
        await started.freed;
        if (held !== undefined && job.request.reserveGpu) await this.#waitForGpus(held);
      })
      .catch(() => {}) // `ended` below tells
      .finally(() => {
        if (held === undefined) return;
        held.machine.resources.release(held.allocation);
        this.#index.changed(held.machine);
        this.#tellCapacity();
      });
    const ended = starting
      .then((started) => started.ended)
      .catch((error: unknown): JobOutcome => ({ type: 'transfer-failed', reason: (error as Error).message }));
    return {
      attempt,
      ended,
      cancel: (reason) => {
        cancelReason ??= reason;
        run?.cancel(reason);
      },
    };
  }

  async #waitForGpus({ machine, allocation }: Held): Promise<void> {
    const gpus = allocation.gpus.flatMap((index) => {
      const gpu = machine.snapshot.gpus.find((one) => one.index === index);
      return gpu === undefined ? [] : [{ gpu: index, freeMiBBefore: gpu.memoryFreeMiB }];
    });
    await machine.runner?.waitForGpuMemory(gpus);
  }

  #allocateIfFits(machine: PoolMachine, request: ResourceRequest): Held | undefined {
    try {
      const allocation = machine.resources.allocate(request);
      this.#index.changed(machine);
      return { machine, allocation };
    } catch (error) {
      // It runs already, whatever else does: without a ticket the machine is merely fuller than it looks.
      if (error instanceof InsufficientResourcesError) return undefined;
      throw error;
    }
  }

  /** Whether some machine could hold the request with nothing of ours on it. */
  canEverFit(request: ResourceRequest): boolean {
    const key = requestKey(request);
    const known = this.#everFits.get(key);
    if (known !== undefined) return known;
    const fits = this.machines.some(({ resources }) => resources.canEverFit(request));
    this.#everFits.set(key, fits);
    return fits;
  }

  #take(reservation: Reservation): Held {
    const held = this.#held.get(reservation);
    if (held === undefined)
      throw new Error('Internal error: a reservation is given to start or release, once');
    this.#held.delete(reservation);
    return held;
  }

  #tellCapacity(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

function runnerOf(machine: PoolMachine): MachineRunner {
  if (machine.runner === undefined) throw new Error(`Internal error: ${machine.name} is only planned with`);
  return machine.runner;
}
