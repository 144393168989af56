/**
 * The machines of a batch as somebody sees them who watches. Their use is measured for the eye alone: what is placed by
 * stays as it is.
 */
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { GpuSnapshot, MachineName, MachineSnapshot } from '../domain/machine.ts';
import type { MachineState, OverviewAmount, OverviewMachine } from '../domain/overview.ts';
import type { AvailableGpu } from '../domain/resources.ts';
import type { EventStream } from '../util/event-stream.ts';
import { withTimeLimit } from '../util/time-limit.ts';

/** What is shown, and how often it is measured. */
export interface BatchMachinesOptions {
  readonly pool: MachinePool;
  readonly events: EventStream<SchedulerEvent>;
  /** All that were named. */
  readonly names: readonly MachineName[];
  /** Figures younger than this are not measured again. @default 10000 */
  readonly freshForMs?: number | undefined;
}

interface Measured {
  snapshot: MachineSnapshot;
  /** Epoch milliseconds of the last try. */
  triedAt: number;
  isUnderWay: boolean;
}

const FRESH_FOR_MS = 10_000;
const LIMIT_MS = 10_000;

/** The machines of one batch. */
export class BatchMachines {
  readonly #options: BatchMachinesOptions;
  readonly #measured = new WeakMap<PoolMachine, Measured>();
  /** Why machines cannot be reached. */
  readonly #reasons = new Map<MachineName, string>();

  constructor(options: BatchMachinesOptions) {
    this.#options = options;
    options.events.subscribe((event) => {
      if (event.type === 'machine:unreachable' || event.type === 'machine:away')
        this.#reasons.set(event.machine, event.reason);
      if (event.type === 'machine:queried' || event.type === 'machine:back')
        this.#reasons.delete(event.machine);
    });
  }

  /** Somebody watches: measures what was not measured lately, each machine by itself, and waits for none. */
  refresh(): void {
    const { pool, freshForMs = FRESH_FOR_MS } = this.#options;
    const now = Date.now();
    for (const machine of pool.machines) {
      const measured = this.#measuredOf(machine);
      if (measured.isUnderWay || now - measured.triedAt < freshForMs || !pool.isUp(machine.name)) continue;
      void this.#measure(machine, measured);
    }
  }

  #measuredOf(machine: PoolMachine): Measured {
    let measured = this.#measured.get(machine);
    if (measured === undefined) {
      const { snapshot } = machine;
      measured = { snapshot, triedAt: snapshot.takenAt, isUnderWay: false };
      this.#measured.set(machine, measured);
    }
    return measured;
  }

  /** Never rejects: what cannot be measured keeps its last figures, and their age tells. */
  async #measure({ runner }: PoolMachine, measured: Measured): Promise<void> {
    if (runner === undefined) return;
    measured.isUnderWay = true;
    measured.triedAt = Date.now();
    // Where nobody waits any more it is still under way: a second one would only add to what keeps the machine busy.
    const asking = runner.query({ timeoutMs: LIMIT_MS }).finally(() => {
      measured.isUnderWay = false;
    });
    try {
      measured.snapshot = await withTimeLimit(asking, LIMIT_MS, () => new Error('too late'));
    } catch {
      asking.catch(() => {});
    }
  }

  /** All that were named, in that order. `jobs`: how many run on each. */
  rows(jobs: ReadonlyMap<MachineName, number>): OverviewMachine[] {
    const { pool, names } = this.#options;
    return names.map((name) => {
      const machine = pool.machineOf(name);
      const about = { name, ...this.#stateOf(name), jobs: jobs.get(name) ?? 0 };
      if (machine === undefined) return about;
      return { ...about, ...figuresOf(machine, this.#measuredOf(machine).snapshot) };
    });
  }

  #stateOf(name: MachineName): { readonly state: MachineState; readonly reason?: string } {
    const { pool } = this.#options;
    const known = this.#reasons.get(name);
    const reason = known === undefined ? {} : { reason: known };
    if (pool.machineOf(name) === undefined)
      return { state: pool.isExpected(name) || known === undefined ? 'connecting' : 'unusable', ...reason };
    if (!pool.isUp(name)) return { state: 'away', ...reason };
    const quarantine = pool.quarantineOf(name);
    if (quarantine !== undefined) return { state: 'quarantined', reason: quarantine };
    if (!pool.isReady(name))
      return { state: 'connecting', reason: 'what was left there before is looked at' };
    return { state: 'ready' };
  }
}

function figuresOf(
  { resources: { available } }: PoolMachine,
  { takenAt, cpuCores, cpuCoresInUse, memoryTotalMiB, memoryFreeMiB, gpus }: MachineSnapshot,
): Pick<OverviewMachine, 'measuredAt' | 'cpuCores' | 'memoryMiB' | 'gpus'> {
  return {
    measuredAt: takenAt,
    cpuCores: amount(cpuCores, cpuCoresInUse, available.cpuCores - available.cpuCoresInUse),
    memoryMiB: amount(memoryTotalMiB, memoryTotalMiB - memoryFreeMiB, available.memoryFreeMiB),
    gpus: available.gpus.flatMap((free) => {
      const gpu = gpus.find(({ index }) => index === free.index);
      return gpu === undefined ? [] : [{ index: gpu.index, name: gpu.name, ...gpuAmounts(gpu, free) }];
    }),
  };
}

function gpuAmounts({ memoryTotalMiB, memoryFreeMiB, utilization }: GpuSnapshot, free: AvailableGpu) {
  return {
    memoryMiB: amount(memoryTotalMiB, memoryTotalMiB - memoryFreeMiB, free.memoryFreeMiB),
    utilization: amount(1, utilization, 1 - free.utilizationInUse),
  };
}

/** `free`: what the ledger has for further jobs, which counts in 1/10000 and rounds what others use. */
function amount(total: number, used: number, free: number): OverviewAmount {
  return { total, used, taken: Math.max(0, Math.round((total - free) * 1000) / 1000) };
}
