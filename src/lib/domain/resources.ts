/** What a job asks for and what a machine has free. Amounts are decimal; the allocator turns them into integers. */

/** What one job needs, all on one machine. */
export interface ResourceRequest {
  /** Main memory, MiB. Never placed beyond what is free. */
  readonly memoryMiB: number;
  /** CPU cores, fractions allowed. */
  readonly cpuCores: number;
  /** How many GPUs; 0 for none. The other GPU fields have no effect then. */
  readonly gpus: number;
  /** Memory on each of the GPUs, MiB. */
  readonly gpuMemoryMiB: number;
  /** Share of each GPU's time, 0 to 1. */
  readonly gpuUtilization: number;
  /** No other job of ours on the chosen GPUs while this one holds them. */
  readonly reserveGpu: boolean;
  /** No other job of ours on the machine while this one holds it. */
  readonly reserveMachine: boolean;
}

/** One GPU as the allocator sees it. */
export interface AvailableGpu {
  /** The number that `nvidia-smi` prints (PCI bus order). */
  readonly index: number;
  readonly memoryFreeMiB: number;
  /** Share of the GPU's time that others use, 0 to 1. */
  readonly utilizationInUse: number;
}

/** What a machine has for our jobs. */
export interface AvailableResources {
  /** Cores we may count on: hardware threads, or the cgroup's limit where that is lower. */
  readonly cpuCores: number;
  /** Cores that others keep busy. */
  readonly cpuCoresInUse: number;
  /** No more cores than there are may be in use; else somewhat more, since systems run well with a small overload. @default false */
  readonly refusesOverload?: boolean;
  readonly memoryFreeMiB: number;
  readonly gpus: readonly AvailableGpu[];
}

/** One resource that is short: what was asked, what could be had, in the resource's unit. */
export interface Shortfall {
  readonly resource:
    | 'memoryMiB'
    | 'cpuCores'
    | 'gpus'
    | 'gpuMemoryMiB'
    | 'gpuUtilization'
    | 'machineReserved'
    | 'gpuReserved'
    | 'maxJobs';
  readonly requested: number;
  readonly available: number;
  /** One line for people, e.g. `GPU 1 has 3000 MiB free, 8000 MiB was requested`. */
  readonly message: string;
}

/** The ticket for what one job holds on one machine. Given back whole, in any order. */
export interface Allocation {
  readonly id: number;
  readonly request: ResourceRequest;
  /** Indexes of the GPUs held, ascending. All of the machine's GPUs when the machine is reserved. */
  readonly gpus: readonly number[];
}

/** Two requests with the same key are the same request. */
export function requestKey(request: ResourceRequest): string {
  const { memoryMiB, cpuCores, gpus, gpuMemoryMiB, gpuUtilization, reserveGpu, reserveMachine } = request;
  // What is asked of GPUs has no effect where none is.
  const perGpu = gpus === 0 ? '' : `${gpuMemoryMiB}|${gpuUtilization}|${reserveGpu ? 1 : 0}`;
  return `${memoryMiB}|${cpuCores}|${gpus}|${perGpu}|${reserveMachine ? 1 : 0}`;
}
