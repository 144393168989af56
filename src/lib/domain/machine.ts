/** What a machine is and what it reported. */

/** The name a machine goes by in messages and results: its `name:`, else its file's name, else its ssh destination. */
export type MachineName = string & { readonly __brand: 'MachineName' };

export function machineName(text: string): MachineName {
  return text as MachineName; // the one place that makes one
}

/** One GPU as `nvidia-smi` reported it. */
export interface GpuSnapshot {
  readonly index: number;
  readonly uuid: string;
  readonly name: string;
  readonly memoryTotalMiB: number;
  readonly memoryFreeMiB: number;
  /** 0 to 1; 0 where the driver does not say. */
  readonly utilization: number;
  readonly mig: boolean;
  /** Why no job can be placed on this GPU, e.g. `memory not reported`; absent when one can. */
  readonly unplaceable?: string;
}

/** What a machine reported at one moment. */
export interface MachineSnapshot {
  /** Epoch milliseconds on the controller's clock. */
  readonly takenAt: number;
  /** Who the machine is: two entries with the same identity are the same machine. */
  readonly identity: string;
  readonly hostname: string;
  /** The kernel's random id of this boot; empty where the machine has none. */
  readonly bootId: string;
  /** Cores usable: hardware threads, or the cgroup's limit where lower. May be fractional. */
  readonly cpuCores: number;
  /** Cores busy over the probe's short interval. */
  readonly cpuCoresInUse: number;
  readonly memoryTotalMiB: number;
  /** What new programs can have without swapping (`available` of free(1)), or the cgroup's rest where lower. */
  readonly memoryFreeMiB: number;
  readonly gpus: readonly GpuSnapshot[];
  /** What of it is given to jobs, whatever it has and whoever uses it; absent where that is for the figures to say. */
  readonly managed?: ManagedResources;
  /** What the processes of this batch's own jobs use of all that; absent when it was not asked for. */
  readonly ownUse?: OwnUse;
  /** Things a person should know, e.g. a driver failure or `KillUserProcesses`. One line each. */
  readonly warnings: readonly string[];
}

/** A fixed amount that is given to jobs. */
export interface ManagedResources {
  readonly cpuCores: number;
  /** Absent where what is free counts, as everywhere. */
  readonly memoryMiB?: number;
}

/** What some processes use of a machine. */
export interface OwnUse {
  /** Cores that they kept busy over the probe's short interval. */
  readonly cpuCores: number;
  readonly memoryMiB: number;
  /** `isAlone`: no other process was seen on that GPU, so its utilization is theirs. */
  readonly gpus: readonly { readonly index: number; readonly memoryMiB: number; readonly isAlone: boolean }[];
}
