/** What is told of a service's machines, and what they can ever hold. */
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import { capacityOf } from '../allocator/open-pool.ts';
import { VirtualResources } from '../allocator/virtual-resources.ts';
import type { MachineName, MachineSnapshot } from '../domain/machine.ts';
import type { ResourceRequest, Shortfall } from '../domain/resources.ts';
import type { MachineRow, MachineState } from './requests.ts';

/** What a row needs to know of a machine besides what the pool knows. */
export interface RowFacts {
  readonly isLeaving: boolean;
  readonly maxJobs: number | null;
  readonly isUnusable: boolean;
  /** Why it cannot be reached. */
  readonly reason: string | undefined;
  /** Absent before it joined. */
  readonly machine: PoolMachine | undefined;
  /** What it said last, our own jobs' use taken off. */
  readonly snapshot: MachineSnapshot | undefined;
  /** The same with their use. */
  readonly whole: MachineSnapshot | undefined;
  readonly gpusAllowed: readonly number[] | undefined;
}

/** A machine's state, with the reason where there is one. */
export function stateOf(
  name: MachineName,
  facts: RowFacts,
  pool: MachinePool,
): { readonly state: MachineState; readonly reason?: string } {
  const { isLeaving, maxJobs, isUnusable, machine } = facts;
  const isAway = machine !== undefined && !pool.isUp(name);
  const reason = facts.reason === undefined ? {} : { reason: facts.reason };
  if (isLeaving) return { state: 'leaving', ...reason };
  if (machine === undefined) return { state: isUnusable ? 'unusable' : 'connecting', ...reason };
  if (isAway) return { state: 'away', ...reason };
  const quarantine = pool.quarantineOf(name);
  if (quarantine !== undefined) return { state: 'quarantined', reason: quarantine };
  if (maxJobs === 0) return { state: 'draining' };
  if (!pool.isReady(name))
    return { state: 'connecting', reason: facts.reason ?? 'what was left there before is looked at' };
  return { state: 'ready' };
}

/** The parts of a row that its machine has told. */
export function figuresOf({
  machine,
  snapshot,
  gpusAllowed,
}: RowFacts): Pick<MachineRow, 'capacity' | 'free' | 'measuredAt'> {
  if (machine === undefined || snapshot === undefined) return {};
  const { managed } = snapshot;
  const usable = new Set(capacityOf(snapshot, gpusAllowed).gpus.map(({ index }) => index));
  const gpus = snapshot.gpus
    .filter(({ index }) => usable.has(index))
    .map(({ index, name, memoryTotalMiB }) => ({ index, name, memoryMiB: memoryTotalMiB }));
  return {
    capacity: {
      cpuCores: managed?.cpuCores ?? snapshot.cpuCores,
      memoryMiB: managed?.memoryMiB ?? snapshot.memoryTotalMiB,
      gpus,
    },
    free: machine.resources.available,
    measuredAt: snapshot.takenAt,
  };
}

/** What machines could hold if nothing ran there at all, ours or others'. */
export class MachineCapacities {
  /** The ledger of each machine's last figures. */
  readonly #ledgers = new WeakMap<PoolMachine, { snapshot: MachineSnapshot; ledger: VirtualResources }>();

  /** What is short on a machine for a request, however long it waits; empty when it can hold it. */
  shortfalls(
    machine: PoolMachine,
    snapshot: MachineSnapshot,
    gpusAllowed: readonly number[] | undefined,
    request: ResourceRequest,
  ): readonly Shortfall[] {
    let known = this.#ledgers.get(machine);
    if (known?.snapshot !== snapshot) {
      known = { snapshot, ledger: new VirtualResources(capacityOf(snapshot, gpusAllowed)) };
      this.#ledgers.set(machine, known);
    }
    const { cpuCores } = known.ledger.measured;
    return known.ledger.explain(request).map((short) => ({ ...short, message: everText(short, cpuCores) }));
  }
}

/** What a machine has is to be told here, not what is free of it. */
function everText({ resource, requested, available, message }: Shortfall, cpuCores: number): string {
  if (resource === 'memoryMiB') return `it has ${available} MiB of memory, ${requested} MiB requested`;
  if (resource === 'cpuCores')
    return `it has ${cpuCores} ${cpuCores === 1 ? 'core' : 'cores'}, ${requested} requested`;
  return resource === 'gpuMemoryMiB' ? message.replace(' MiB free,', ' MiB,') : message;
}
