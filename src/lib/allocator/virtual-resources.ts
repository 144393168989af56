/**
 * What one machine has for our jobs and which of them hold what: a ledger in integers. It knows nothing of
 * connections or time; the pool asks it where a job fits and tells it when one has ended.
 *
 * Amounts are MiB and 1/10000 of a core or of a GPU's time. Requests and what others use are rounded up, what is
 * free is rounded down, so rounding never overbooks.
 */
import { InsufficientResourcesError, SchedulerError } from '../domain/errors.ts';
import type { Allocation, AvailableResources, ResourceRequest, Shortfall } from '../domain/resources.ts';
import { fromUnits, unitsDown, unitsUp, wholeDown } from '../util/amount.ts';
import { coresAreWithinLimit, cpuLoad, gpuLoad } from './cost.ts';
import { checkCores, checkCount, checkMemory, type Demand, demandOf } from './demand.ts';
import { fitsGpu, type GpuLedger, shortfallsOfGpu, toGpuLedgers } from './gpu-ledger.ts';
import * as shortfall from './shortfall.ts';

/** `spread` prefers what is least used, `pack` what is fullest and still fits. */
export type Placement = 'spread' | 'pack';

export interface VirtualResourcesOptions {
  /** The most jobs of ours at once. @default no limit */
  readonly maxJobs?: number;
  /** @default 'spread' */
  readonly placement?: Placement;
}

/** `countFits` counts no further than this: a request for nothing would fit for ever. */
export const COUNT_LIMIT = 100_000;

const NO_GPUS: readonly GpuLedger[] = [];

/** A machine's ledger of our jobs. */
export class VirtualResources {
  readonly placement: Placement;
  #maxJobs = Number.MAX_SAFE_INTEGER;
  #start: AvailableResources;
  #cpuCores: number;
  /** Ascending by index, so that the first of equals is the lowest. */
  #gpus: readonly GpuLedger[];
  /** Each ticket with the GPUs whose amounts it takes (fewer than the ticket names when the machine is reserved). */
  readonly #held = new Map<Allocation, readonly GpuLedger[]>();
  #cpuInUse: number;
  #memoryFreeMiB: number;
  /** Jobs of ours that have the machine alone: more than one only when they were adopted. */
  #machineReservations = 0;
  #jobs = 0;
  #choice = 0;
  #nextId = 1;

  /** @throws SchedulerError when an amount is negative or not a number, or two GPUs have the same index. */
  constructor(available: AvailableResources, options: VirtualResourcesOptions = {}) {
    checkAvailable(available);
    if (options.maxJobs !== undefined) this.setMaxJobs(options.maxJobs);
    this.placement = options.placement ?? 'spread';
    this.#start = available;
    this.#cpuCores = unitsDown(available.cpuCores);
    this.#cpuInUse = unitsUp(available.cpuCoresInUse);
    this.#memoryFreeMiB = wholeDown(available.memoryFreeMiB);
    this.#gpus = toGpuLedgers(available.gpus);
  }

  /** How many jobs of ours there may be at once from now on; those that are there stay. @throws SchedulerError */
  setMaxJobs(maxJobs: number): void {
    checkCount('maxJobs', maxJobs, Number.MAX_SAFE_INTEGER);
    this.#maxJobs = maxJobs;
  }

  /**
   * The machine was measured again: this is what it has without our jobs. What tickets hold stays held, whatever is free
   * now; of GPUs that are gone, nothing is held any more.
   * @throws SchedulerError as the constructor does; then nothing has changed.
   */
  measure(available: AvailableResources): void {
    checkAvailable(available);
    const gpus = toGpuLedgers(available.gpus);
    this.#start = available;
    this.#cpuCores = unitsDown(available.cpuCores);
    this.#cpuInUse = unitsUp(available.cpuCoresInUse);
    this.#memoryFreeMiB = wholeDown(available.memoryFreeMiB);
    this.#gpus = gpus;
    this.#machineReservations = 0;
    this.#jobs = 0;
    for (const [ticket, charged] of this.#held) {
      const indexes = new Set(charged.map(({ index }) => index));
      const now = gpus.filter(({ index }) => indexes.has(index));
      this.#held.set(ticket, now);
      this.#charge(demandOf(ticket.request), now);
    }
  }

  /** What the machine had without our jobs when it was measured last. */
  get measured(): AvailableResources {
    return this.#start;
  }

  /** Jobs of ours that hold a ticket. */
  get jobs(): number {
    return this.#jobs;
  }

  /** Main memory that no ticket holds; below 0 when adopted jobs hold more than there was. */
  get memoryFreeMiB(): number {
    return this.#memoryFreeMiB;
  }

  /**
   * What is free now; `cpuCoresInUse` and `utilizationInUse` are others' use and what our jobs hold. Free amounts are below
   * 0 when adopted jobs hold more than there was.
   */
  get available(): AvailableResources {
    return {
      cpuCores: fromUnits(this.#cpuCores),
      cpuCoresInUse: fromUnits(this.#cpuInUse),
      memoryFreeMiB: this.#memoryFreeMiB,
      gpus: this.#gpus.map((gpu) => ({
        index: gpu.index,
        memoryFreeMiB: gpu.memoryFreeMiB,
        utilizationInUse: fromUnits(gpu.utilization),
      })),
    };
  }

  /**
   * How well a request would fit now: higher is better, -Infinity when it does not fit. Spread: minus the load after;
   * pack: the load after. Makes no objects: it is called for every change of a machine.
   * @throws SchedulerError when the request itself is wrong.
   */
  score(request: ResourceRequest): number {
    return this.#choose(demandOf(request));
  }

  /** Takes what a request needs. @throws InsufficientResourcesError when it does not fit, SchedulerError when it is wrong. */
  allocate(request: ResourceRequest): Allocation {
    const demand = demandOf(request);
    if (this.#choose(demand) === -Infinity) {
      throw new InsufficientResourcesError(request, this.explain(request));
    }
    const charged = this.#chargeChosen(demand);
    return this.#ticket(request, demand.reserveMachine ? this.#gpus : charged, charged);
  }

  /**
   * Takes what a job holds that runs here already, whatever is free, on the GPUs with these indexes. Indexes that this
   * machine does not have are left out.
   * @throws SchedulerError when the request itself is wrong.
   */
  adopt(request: ResourceRequest, gpuIndexes: readonly number[]): Allocation {
    const charged = this.#gpus.filter(({ index }) => gpuIndexes.includes(index));
    this.#charge(demandOf(request), charged);
    return this.#ticket(request, charged, charged);
  }

  /** Gives back all that a ticket holds, in any order. @throws SchedulerError when it is not held here (any more). */
  release(allocation: Allocation): void {
    const charged = this.#held.get(allocation);
    if (charged === undefined) {
      throw new SchedulerError(
        `allocation ${allocation.id} is not held on this machine: it was released before or belongs to another`,
      );
    }
    this.#held.delete(allocation);
    this.#discharge(demandOf(allocation.request), charged);
  }

  /** All that is short for a request now; empty when it fits. @throws SchedulerError when the request is wrong. */
  explain(request: ResourceRequest): Shortfall[] {
    const demand = demandOf(request);
    const short: Shortfall[] = [];
    if (this.#jobs >= this.#maxJobs) short.push(shortfall.ofJobs(this.#maxJobs));
    if (this.#machineReservations > 0) short.push(shortfall.ofReservedMachine());
    else if (demand.reserveMachine && this.#jobs > 0) short.push(shortfall.ofEmptyMachine(this.#jobs));
    if (demand.memoryMiB > 0 && demand.memoryMiB > this.#memoryFreeMiB) {
      short.push(shortfall.ofMemory(demand.memoryMiB, Math.max(0, this.#memoryFreeMiB)));
    }
    if (!coresAreWithinLimit(this.#cpuInUse + demand.cpu, this.#cpuCores, this.#start.refusesOverload)) {
      short.push(shortfall.ofCores(demand.cpu, this.#cpuInUse, this.#cpuCores, this.#start.refusesOverload));
    }
    if (this.#gpus.length < demand.gpus) short.push(shortfall.ofGpus(demand.gpus, this.#gpus.length));
    const fitting = this.#gpus.filter((gpu) => fitsGpu(gpu, demand)).length;
    if (fitting < demand.gpus) {
      for (const gpu of this.#gpus) short.push(...shortfallsOfGpu(gpu, demand));
    }
    return short;
  }

  /** Whether a request fits when none of our jobs is on the machine. @throws SchedulerError when the request is wrong. */
  canEverFit(request: ResourceRequest): boolean {
    return this.#withoutOurJobs().score(request) !== -Infinity;
  }

  /** What is short even when none of our jobs is on the machine; empty when it can fit. @throws SchedulerError */
  explainEver(request: ResourceRequest): Shortfall[] {
    return this.#withoutOurJobs().explain(request);
  }

  /**
   * How many such jobs would be placed at once from now on (at most COUNT_LIMIT). They are placed as `allocate` would,
   * and taken back: integers come back exactly.
   */
  countFits(request: ResourceRequest): number {
    const demand = demandOf(request);
    const placed: (readonly GpuLedger[])[] = [];
    while (placed.length < COUNT_LIMIT && this.#choose(demand) !== -Infinity)
      placed.push(this.#chargeChosen(demand));
    for (const charged of placed) this.#discharge(demand, charged);
    return placed.length;
  }

  #withoutOurJobs(): VirtualResources {
    if (this.#jobs === 0) return this;
    return new VirtualResources(this.#start, { maxJobs: this.#maxJobs, placement: this.placement });
  }

  /** The score; when it is finite, the GPUs chosen are those whose `pickedIn` is `#choice`. */
  #choose(demand: Demand): number {
    this.#choice++;
    const cpuInUse = this.#cpuInUse + demand.cpu;
    if (
      this.#machineReservations > 0 ||
      // What asks for none is let in also where adopted jobs hold more than there is.
      (demand.memoryMiB > 0 && demand.memoryMiB > this.#memoryFreeMiB) ||
      this.#jobs >= this.#maxJobs ||
      (demand.reserveMachine && this.#jobs > 0) ||
      !coresAreWithinLimit(cpuInUse, this.#cpuCores, this.#start.refusesOverload)
    ) {
      return -Infinity;
    }
    let load = 0;
    for (let picked = 0; picked < demand.gpus; picked++) {
      const gpu = this.#bestGpu(demand);
      if (gpu === undefined) return -Infinity;
      gpu.pickedIn = this.#choice;
      load += gpuLoad(gpu.utilization + demand.gpuUtilization);
    }
    if (demand.gpus > 1) load /= demand.gpus;
    load += cpuLoad(cpuInUse, this.#cpuCores);
    return this.placement === 'pack' ? load : 0 - load; // 0 - 0 is 0, not -0
  }

  /** Spread: the least used GPU that fits, then the one with most memory free, then the first. Pack: the reverse. */
  #bestGpu(demand: Demand): GpuLedger | undefined {
    const sign = this.placement === 'pack' ? -1 : 1;
    let best: GpuLedger | undefined;
    for (const gpu of this.#gpus) {
      if (gpu.pickedIn === this.#choice || !fitsGpu(gpu, demand)) continue;
      if (best !== undefined) {
        const lessUsed = (best.utilization - gpu.utilization) * sign;
        if (lessUsed < 0 || (lessUsed === 0 && (gpu.memoryFreeMiB - best.memoryFreeMiB) * sign <= 0))
          continue;
      }
      best = gpu;
    }
    return best;
  }

  #ticket(request: ResourceRequest, named: readonly GpuLedger[], charged: readonly GpuLedger[]): Allocation {
    const ticket: Allocation = { id: this.#nextId++, request, gpus: named.map((gpu) => gpu.index) };
    this.#held.set(ticket, charged);
    return ticket;
  }

  /** Books the demand on the GPUs that `#choose` has just picked, and returns them, ascending. */
  #chargeChosen(demand: Demand): readonly GpuLedger[] {
    const chosen = demand.gpus === 0 ? NO_GPUS : this.#gpus.filter((gpu) => gpu.pickedIn === this.#choice);
    this.#charge(demand, chosen);
    return chosen;
  }

  #charge(demand: Demand, gpus: readonly GpuLedger[]): void {
    for (const gpu of gpus) {
      gpu.memoryFreeMiB -= demand.gpuMemoryMiB;
      gpu.utilization += demand.gpuUtilization;
      gpu.jobs++;
      if (demand.reserveGpu) gpu.reservations++;
    }
    this.#memoryFreeMiB -= demand.memoryMiB;
    this.#cpuInUse += demand.cpu;
    if (demand.reserveMachine) this.#machineReservations++;
    this.#jobs++;
  }

  #discharge(demand: Demand, charged: readonly GpuLedger[]): void {
    for (const gpu of charged) {
      gpu.memoryFreeMiB += demand.gpuMemoryMiB;
      gpu.utilization -= demand.gpuUtilization;
      gpu.jobs--;
      if (demand.reserveGpu) gpu.reservations--;
    }
    this.#memoryFreeMiB += demand.memoryMiB;
    this.#cpuInUse -= demand.cpu;
    if (demand.reserveMachine) this.#machineReservations--;
    this.#jobs--;
  }
}

function checkAvailable({ cpuCores, cpuCoresInUse, memoryFreeMiB }: AvailableResources): void {
  checkCores('available cpuCores', cpuCores);
  checkCores('available cpuCoresInUse', cpuCoresInUse);
  checkMemory('available memoryFreeMiB', memoryFreeMiB);
}
