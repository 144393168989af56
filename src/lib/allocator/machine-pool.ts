/**
 * The pool of machines reached by ssh (and this one): places jobs by their requests and runs them.
 *
 *     expected -> joined -> in use <-> away -> given up -> in use
 *                              \
 *                               `-> quarantined
 *
 * A machine may join late: what runs there is known from a journal by then, and followed from the moment it joins.
 */
import { type Attempt, type Job, type JobOutcome, placementKey } from '../domain/job.ts';
import type { MachineName, MachineSnapshot } from '../domain/machine.ts';
import type {
  ExecutionBackend,
  FoundAttempt,
  Refusal,
  Reservation,
  RunningAttempt,
} from '../domain/ports.ts';
import {
  type Allocation,
  type AvailableResources,
  type ResourceRequest,
  requestKey,
} from '../domain/resources.ts';
import type { MachineRunner } from '../runner/machine-runner.ts';
import { FollowedRun } from './followed-run.ts';
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

/** What a pool tells of its machines, besides capacity. */
export interface PoolListener {
  /** Jobs failed there at once, one after the other, for that reason of the machine: it gets no more. */
  onQuarantined?(machine: MachineName, reason: string): void;
  /** A machine that was given up is back, and with it an attempt that was given up. */
  onReturned?(job: Job, attempt: Attempt, machine: MachineName): void;
}

interface Held {
  readonly machine: PoolMachine;
  readonly allocation: Allocation;
}

interface Standing {
  isReady: boolean;
  isAway: boolean;
  /** Why it gets no jobs, since those that it had failed at once. */
  quarantine: string | undefined;
  /** It gets no new jobs; those that run there run on. */
  isDraining: boolean;
  /** What others use there is asked now: what is known of it is too old to place by. */
  isMeasuring: boolean;
  /** Jobs in a row that failed at once for reasons of the machine. */
  faults: number;
}

const FAULTS_UNTIL_QUARANTINE = 3;

/** Places jobs on machines and has the machines' runners run them. */
export class MachinePool implements ExecutionBackend {
  readonly #machines = new Map<MachineName, PoolMachine>();
  readonly #standing = new Map<MachineName, Standing>();
  /** Machines that have not joined yet, and may. */
  readonly #expected = new Set<MachineName>();
  readonly #listener: PoolListener;
  readonly #keepsBadMachines: boolean;
  readonly #index = new PlacementIndex<PoolMachine>();
  readonly #held = new WeakMap<Reservation, Held>();
  readonly #listeners = new Set<() => void>();
  readonly #everFits = new Map<string, boolean>();
  readonly #followed = new Set<FollowedRun>();
  /** Attempts on machines that stayed away. */
  readonly #givenUp: FollowedRun[] = [];
  /** The machine that only this job may have, and others of its kind: whoever asks takes one refused for all of its kind. */
  #keptFree: { readonly job: Job; readonly kind: string; readonly machine: PoolMachine } | undefined;

  constructor(
    machines: readonly PoolMachine[] = [],
    listener: PoolListener = {},
    options: { readonly keepsBadMachines?: boolean } = {},
  ) {
    this.#listener = listener;
    this.#keepsBadMachines = options.keepsBadMachines ?? false;
    for (const machine of machines) {
      this.join(machine);
      this.setReady(machine.name);
    }
  }

  /** The machines that have joined. */
  get machines(): readonly PoolMachine[] {
    return [...this.#machines.values()];
  }

  /** The machine of that name; undefined when it has not joined. */
  machineOf(name: MachineName): PoolMachine | undefined {
    return this.#machines.get(name);
  }

  /** A machine may join later, or will not any more. */
  expect(name: MachineName, isExpected = true): void {
    if (isExpected) this.#expected.add(name);
    else this.#expected.delete(name);
  }

  /** Whether a machine may still join. */
  isExpected(name: MachineName): boolean {
    return this.#expected.has(name);
  }

  /** A machine joins; it gets jobs from `setReady` on. */
  join(machine: PoolMachine): void {
    this.#expected.delete(machine.name);
    this.#machines.set(machine.name, machine);
    const isAway = machine.runner?.isUp === false;
    this.#standing.set(machine.name, {
      isReady: false,
      isAway,
      quarantine: undefined,
      isDraining: false,
      isMeasuring: false,
      faults: 0,
    });
    this.#index.add(machine, machine.resources);
    this.#index.setEnabled(machine, false);
    this.#everFits.clear();
  }

  /** What earlier controllers left on a machine has been looked at: it gets jobs now. */
  setReady(name: MachineName): void {
    this.#change(name, (standing) => {
      standing.isReady = true;
    });
  }

  /** A machine that is away gets no new jobs until it is back. */
  setAway(name: MachineName, isAway: boolean): void {
    this.#change(name, (standing) => {
      standing.isAway = isAway;
    });
    if (!isAway) this.#tellReturned(name);
  }

  /**
   * How many jobs a machine may have at once from now on. 0 drains it: jobs that run there run on, and those that only it
   * can hold wait.
   */
  setMaxJobs(name: MachineName, maxJobs: number): void {
    const machine = this.#machines.get(name);
    if (machine === undefined) throw new Error(`Internal error: ${name} is not in this pool`);
    if (maxJobs > 0) machine.resources.setMaxJobs(maxJobs);
    this.#index.changed(machine);
    this.#change(name, (standing) => {
      standing.isDraining = maxJobs === 0;
    });
  }

  /** A machine was measured again; `available` is what it has without our jobs. */
  measure(name: MachineName, available: AvailableResources): void {
    const machine = this.#machines.get(name);
    if (machine === undefined) return; // removed meanwhile
    machine.resources.measure(available);
    this.#index.changed(machine);
    this.#everFits.clear();
    this.#tellCapacity();
  }

  /** A machine gets no new jobs while it is measured, where what was measured last is too old to place by. */
  setMeasuring(name: MachineName, isMeasuring: boolean): void {
    this.#change(name, (standing) => {
      standing.isMeasuring = isMeasuring;
    });
  }

  /** Whether what earlier controllers left on a machine has been looked at, so that it gets jobs. */
  isReady(name: MachineName): boolean {
    return this.#standing.get(name)?.isReady === true;
  }

  /** Why a machine is in quarantine; undefined when it is not. */
  quarantineOf(name: MachineName): string | undefined {
    return this.#standing.get(name)?.quarantine;
  }

  /** A machine in quarantine gets jobs again: somebody has looked at it. */
  liftQuarantine(name: MachineName): void {
    this.#change(name, (standing) => {
      standing.quarantine = undefined;
      standing.faults = 0;
    });
  }

  /**
   * Keeps one machine free for a job that has waited for too long: of those that can hold it with nothing of ours there, the
   * one with the fewest jobs of ours. No job of another kind (`placementKey`) gets that machine until this one was reserved,
   * wherever that is, or another job or none is named. To be called again while the job waits: when the machine cannot hold
   * it any more, another is chosen. Returns the machine that is kept free, if there is one.
   */
  keepFreeFor(job: Job | undefined): MachineName | undefined {
    const before = this.#keptFree?.machine;
    const machine = job === undefined ? undefined : this.#machineToKeepFree(job);
    this.#keptFree =
      job === undefined || machine === undefined ? undefined : { job, kind: placementKey(job), machine };
    if (before !== machine) for (const one of [before, machine]) if (one !== undefined) this.#enable(one);
    return machine?.name;
  }

  /** Whether some machine that gets jobs now could hold this one with nothing of ours on it. */
  couldHold(job: Job): boolean {
    return this.#machineToKeepFree(job) !== undefined;
  }

  #machineToKeepFree(job: Job): PoolMachine | undefined {
    const able = this.#wantedBy(job).filter(
      ({ name, resources }) =>
        this.#isInUse(name) &&
        (job.only === undefined || job.only === name) &&
        resources.canEverFit(job.request),
    );
    // To change from one to another would throw away the time that it was kept free.
    const kept = this.#keptFree;
    if (kept?.job.id === job.id && able.includes(kept.machine)) return kept.machine;
    return able.reduce<PoolMachine | undefined>(
      (best, one) => (best === undefined || one.resources.jobs < best.resources.jobs ? one : best),
      undefined,
    );
  }

  /** The attempts on a machine that are not over. */
  attemptsOn(name: MachineName): readonly RunningAttempt[] {
    return [...this.#followed].filter(({ machine }) => machine === name);
  }

  /**
   * A machine leaves. What was to wait for it waits for others, or is impossible now. Returns the machine, for whoever
   * lets go of it.
   * @throws Error when jobs of ours hold something there.
   */
  remove(name: MachineName): PoolMachine | undefined {
    this.#expected.delete(name);
    const machine = this.#machines.get(name);
    if (machine === undefined) return undefined;
    if (machine.resources.jobs > 0) throw new Error(`Internal error: ${name} has jobs and cannot leave`);
    if (this.#keptFree?.machine === machine) this.#keptFree = undefined;
    this.#machines.delete(name);
    this.#standing.delete(name);
    this.#index.remove(machine);
    this.#everFits.clear();
    this.#tellCapacity();
    return machine;
  }

  /** Whether a machine can be reached now. */
  isUp(name: MachineName): boolean {
    return this.#standing.get(name)?.isAway === false;
  }

  #change(name: MachineName, change: (standing: Standing) => void): void {
    const machine = this.#machines.get(name);
    const standing = this.#standing.get(name);
    if (machine === undefined || standing === undefined) return;
    change(standing);
    this.#everFits.clear();
    this.#enable(machine);
  }

  /** Has the index offer a machine to every job, or to none. */
  #enable(machine: PoolMachine): void {
    if (!this.#standing.has(machine.name)) return; // it has left
    const isOpen = this.#isOpen(machine.name);
    this.#index.setEnabled(machine, isOpen && this.#keptFree?.machine !== machine);
    if (isOpen) this.#tellCapacity();
  }

  /** Whether a machine gets jobs now. */
  #isOpen(name: MachineName): boolean {
    return this.#isInUse(name) && this.#standing.get(name)?.isMeasuring === false;
  }

  /** The same, also while it is measured. */
  #isInUse(name: MachineName): boolean {
    const standing = this.#standing.get(name);
    if (standing === undefined) return false;
    const { isReady, isAway, quarantine, isDraining } = standing;
    return isReady && !isAway && quarantine === undefined && !isDraining;
  }

  reserve(job: Job): Reservation | Refusal {
    const machine = this.#bestMachine(job);
    if (machine === undefined) {
      const everFits =
        job.only === undefined
          ? this.#expected.size > 0 || this.canEverFit(job.request)
          : this.#expected.has(job.only) || this.#canEverFitOn(job.only, job.request);
      const shortfalls = everFits ? [] : this.explainEver(job.request);
      const named = shortfalls.filter(({ machine: name }) => job.only === undefined || name === job.only);
      return { type: 'refused', everFits, shortfalls: named };
    }
    const allocation = machine.resources.allocate(job.request);
    this.#index.changed(machine);
    const reservation: Reservation = { type: 'reserved', machine: machine.name, gpus: allocation.gpus };
    this.#held.set(reservation, { machine, allocation });
    if (this.#keptFree?.job.id === job.id) this.keepFreeFor(undefined);
    return reservation;
  }

  #bestMachine(job: Job): PoolMachine | undefined {
    if (job.only !== undefined) {
      const machine = this.#machines.get(job.only);
      return machine !== undefined && this.#scoreOn(machine, job) > -Infinity ? machine : undefined;
    }
    // The index knows what all jobs may have; few avoid anything or have a machine kept free for them, so a scan does.
    const isLikeAll = job.avoid === undefined && !this.#isKeptFor(job);
    return isLikeAll ? this.#index.best(job.request) : this.#bestOf(this.#wantedBy(job), job);
  }

  /** Those that a job does not avoid; all, when none of those can ever hold it. */
  #wantedBy({ request, avoid = [] }: Job): readonly PoolMachine[] {
    const usable = this.#usable();
    const others = usable.filter(({ name }) => !avoid.includes(name));
    return others.some(({ resources }) => resources.canEverFit(request)) ? others : usable;
  }

  #canEverFitOn(name: MachineName, request: ResourceRequest): boolean {
    return this.#usable().some((one) => one.name === name && one.resources.canEverFit(request));
  }

  /** -Infinity for a machine that gets no jobs now, or not this one. */
  #scoreOn(machine: PoolMachine, job: Job): number {
    const isKept = this.#keptFree?.machine === machine && !this.#isKeptFor(job);
    return this.#isOpen(machine.name) && !isKept ? machine.resources.score(job.request) : -Infinity;
  }

  /** Whether a machine is kept free for jobs of this kind. */
  #isKeptFor(job: Job): boolean {
    return this.#keptFree !== undefined && this.#keptFree.kind === placementKey(job);
  }

  #bestOf(machines: readonly PoolMachine[], job: Job): PoolMachine | undefined {
    let best: PoolMachine | undefined;
    let bestScore = -Infinity;
    for (const machine of machines) {
      const score = this.#scoreOn(machine, job);
      if (score > bestScore) {
        best = machine;
        bestScore = score;
      }
    }
    return best;
  }

  /** Machines that get jobs, now or when they are back. */
  #usable(): PoolMachine[] {
    return this.machines.filter(({ name }) => this.#standing.get(name)?.quarantine === undefined);
  }

  /** Whether some machine that gets jobs could hold this one, those that it avoids not counted. */
  canRunElsewhere({ request, avoid = [], only }: Job): boolean {
    if (only !== undefined) return false;
    return this.#usable().some(
      ({ name, resources }) => !avoid.includes(name) && resources.canEverFit(request),
    );
  }

  release(reservation: Reservation): void {
    const held = this.#take(reservation);
    held.machine.resources.release(held.allocation);
    this.#index.changed(held.machine);
    this.#tellCapacity();
  }

  start(job: Job, attempt: Attempt, reservation: Reservation): RunningAttempt {
    const { machine, allocation } = this.#take(reservation);
    const followed = this.#follow(job, attempt, machine.name);
    followed.attach(runnerOf(machine).queueUp(job, attempt, allocation));
    this.#giveBackWhenFreed(followed, { machine, allocation });
    return followed;
  }

  /** What is short on each machine for a request that none can ever hold. */
  explainEver(request: ResourceRequest): Refusal['shortfalls'] {
    return this.#usable().map(({ name, resources }) => ({
      machine: name,
      shortfalls: resources.explainEver(request),
    }));
  }

  async discover(): Promise<readonly FoundAttempt[]> {
    const found = await Promise.all(this.machines.map((machine) => runnerOf(machine).discover()));
    return found.flat();
  }

  adopt(job: Job, found: FoundAttempt): RunningAttempt {
    const followed = this.#follow(job, found.attempt, found.machine);
    const machine = this.#machines.get(found.machine);
    if (machine === undefined) throw new Error(`Internal error: ${found.machine} is not in this pool`);
    this.#adoptOn(machine, followed, job, found);
    return followed;
  }

  /**
   * Follows an attempt on a machine that has not joined yet: `followAwaited` goes on with it. Until then nobody knows
   * what became of it.
   */
  awaitMachine(job: Job, attempt: Attempt, machine: MachineName): FollowedRun {
    return this.#follow(job, attempt, machine);
  }

  /** The machine of an awaited attempt has joined. */
  followAwaited(followed: FollowedRun, found: FoundAttempt): void {
    const machine = this.#machines.get(found.machine);
    if (machine === undefined) throw new Error(`Internal error: ${found.machine} has not joined`);
    this.#adoptOn(machine, followed, followed.job, found);
  }

  #adoptOn(machine: PoolMachine, followed: FollowedRun, job: Job, found: FoundAttempt): void {
    // It holds what it was given, whatever is free: others get what is left.
    const allocation = machine.resources.adopt(job.request, found.gpus);
    this.#index.changed(machine);
    followed.attach(runnerOf(machine).adopt(job, found, allocation));
    this.#giveBackWhenFreed(followed, { machine, allocation });
  }

  discard(found: FoundAttempt): void {
    this.#machines.get(found.machine)?.runner?.discard(found);
  }

  /** Ends an attempt that nobody wants, and throws away what it left. */
  end(found: FoundAttempt): void {
    this.#machines.get(found.machine)?.runner?.end(found);
  }

  onCapacity(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Attempts that nobody can say of whether they run: their machines cannot be reached now. */
  stranded(): readonly FollowedRun[] {
    return [...this.#followed].filter(({ machine, isAttached }) => !isAttached || !this.isUp(machine));
  }

  /**
   * A machine has stayed away for too long: what ran there settles as lost, and is told by `onReturned` when the
   * machine is back. Returns how many attempts that are.
   */
  giveUp(name: MachineName, reason: string): number {
    const there = [...this.#followed].filter((one) => one.machine === name && !one.isGivenUp);
    for (const one of there) {
      this.#givenUp.push(one);
      one.giveUp(reason);
    }
    return there.length;
  }

  #tellReturned(name: MachineName): void {
    for (const { job, attempt } of this.takeGivenUp(name)) this.#listener.onReturned?.(job, attempt, name);
  }

  /** What was given up of a machine that is reached now. Told once. */
  takeGivenUp(name: MachineName): readonly FollowedRun[] {
    const there = this.#givenUp.filter(({ machine }) => machine === name);
    for (const one of there) this.#givenUp.splice(this.#givenUp.indexOf(one), 1);
    return there;
  }

  /** Lets go of the machines. Resolves to whether nothing of ours is left on any that was named. */
  async close(): Promise<boolean> {
    const isComplete = this.#expected.size === 0;
    this.#expected.clear();
    const clean = await Promise.all(this.machines.map(async ({ runner }) => (await runner?.close()) ?? true));
    return isComplete && clean.every((one) => one);
  }

  #follow(job: Job, attempt: Attempt, machine: MachineName): FollowedRun {
    const followed = new FollowedRun(job, attempt, machine);
    this.#followed.add(followed);
    void followed.ended.then((outcome) => {
      this.#followed.delete(followed);
      this.#judge(machine, outcome);
    });
    return followed;
  }

  /** Several jobs in a row that fail at once for the same kind of reason tell of the machine, not of the jobs. */
  #judge(name: MachineName, outcome: JobOutcome): void {
    const standing = this.#standing.get(name);
    if (standing === undefined || this.#keepsBadMachines) return;
    const fault = 'machineFault' in outcome ? outcome.machineFault : undefined;
    if (fault === undefined) {
      if (outcome.type === 'exited') standing.faults = 0;
      return;
    }
    standing.faults += 1;
    // The last machine stays: a job that fails everywhere alike is told by its own error.
    const isLast = this.#usable().every((one) => one.name === name);
    if (standing.faults < FAULTS_UNTIL_QUARANTINE || standing.quarantine !== undefined || isLast) return;
    this.#change(name, (one) => {
      one.quarantine = fault;
    });
    this.#listener.onQuarantined?.(name, fault);
    this.#tellCapacity(); // jobs that waited for this machine may be impossible now
  }

  #giveBackWhenFreed(followed: FollowedRun, held: Held): void {
    void followed.freed
      .then(async () => {
        if (followed.job.request.reserveGpu && !followed.isGivenUp) await this.#waitForGpus(held);
      })
      .catch(() => {}) // `ended` tells
      .finally(() => {
        held.machine.resources.release(held.allocation);
        this.#index.changed(held.machine);
        this.#tellCapacity();
      });
  }

  async #waitForGpus({ machine, allocation }: Held): Promise<void> {
    const { gpus: measured } = machine.resources.measured;
    const gpus = allocation.gpus.flatMap((index) => {
      const gpu = measured.find((one) => one.index === index);
      return gpu === undefined ? [] : [{ gpu: index, freeMiBBefore: gpu.memoryFreeMiB }];
    });
    await machine.runner?.waitForGpuMemory(gpus);
  }

  /** Whether some machine that gets jobs could hold the request with nothing of ours on it. */
  canEverFit(request: ResourceRequest): boolean {
    const key = requestKey(request);
    const known = this.#everFits.get(key);
    if (known !== undefined) return known;
    const fits = this.#usable().some(({ resources }) => resources.canEverFit(request));
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
