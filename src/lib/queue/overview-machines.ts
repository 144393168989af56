/** A service's machines, as one who watches sees them and as the reasons of waiting jobs go by them. */
import type { MachinePool } from '../allocator/machine-pool.ts';
import { capacityOf } from '../allocator/open-pool.ts';
import type { GpuSnapshot } from '../domain/machine.ts';
import type { OverviewAmount, OverviewMachine } from '../domain/overview.ts';
import type { QueueJob, QueueJobId } from '../domain/queue.ts';
import type { AvailableGpu, ResourceRequest } from '../domain/resources.ts';
import type { ExplainedMachine } from './explain.ts';
import type { MachineLook, QueueMachines } from './queue-machines.ts';

/** A machine with `jobs` jobs of ours. */
export function overviewMachine(look: MachineLook, jobs: number): OverviewMachine {
  const { name, state, reason } = look;
  return { name, state, ...(reason === undefined ? {} : { reason }), jobs, ...figuresOf(look) };
}

type Figures = Pick<OverviewMachine, 'measuredAt' | 'cpuCores' | 'memoryMiB' | 'gpus'>;

function figuresOf({ facts }: MachineLook): Figures {
  const { machine, whole, snapshot, gpusAllowed } = facts;
  if (machine === undefined || whole === undefined) return {};
  const { available } = machine.resources;
  const managed = snapshot?.managed;
  const usable = new Set(capacityOf(whole, gpusAllowed).gpus.map(({ index }) => index));
  return {
    measuredAt: whole.takenAt,
    cpuCores: amount(
      managed?.cpuCores ?? whole.cpuCores,
      available.cpuCoresInUse,
      managed === undefined ? whole.cpuCoresInUse : undefined,
    ),
    memoryMiB: memoryAmount(
      managed?.memoryMiB ?? whole.memoryTotalMiB,
      available,
      managed?.memoryMiB === undefined ? whole : undefined,
    ),
    gpus: whole.gpus
      .filter(({ index }) => usable.has(index))
      .map((gpu) => gpuFigures(gpu, gpuOf(available.gpus, gpu))),
  };
}

function gpuOf(gpus: readonly AvailableGpu[], { index }: GpuSnapshot): AvailableGpu {
  return gpus.find((gpu) => gpu.index === index) ?? { index, memoryFreeMiB: 0, utilizationInUse: 0 };
}

function gpuFigures(gpu: GpuSnapshot, free: AvailableGpu) {
  const { index, name, memoryTotalMiB, utilization } = gpu;
  return {
    ...{ index, name },
    memoryMiB: memoryAmount(memoryTotalMiB, free, gpu),
    utilization: amount(1, free.utilizationInUse, utilization),
  };
}

/** `free`: by the ledger. */
function memoryAmount(
  total: number,
  free: { readonly memoryFreeMiB: number },
  measured: { readonly memoryTotalMiB: number; readonly memoryFreeMiB: number } | undefined,
): OverviewAmount {
  const used = measured && measured.memoryTotalMiB - measured.memoryFreeMiB;
  return amount(total, total - free.memoryFreeMiB, used);
}

/** Of what is managed it does not count what is measured: used is what was asked for. */
function amount(total: number, taken: number, used = taken): OverviewAmount {
  // The ledger counts in ten thousandths, and is below 0 where jobs hold more than there is.
  const rounded = (value: number) => Math.max(0, Math.round(value * 1000) / 1000);
  return { total: rounded(total), used: rounded(used), taken: rounded(taken) };
}

/** The job that runs on the service's machine for another one, by that one's name. */
export function runsHereOf(running: readonly QueueJob[]): ReadonlyMap<string, QueueJobId> {
  return new Map(
    running.flatMap(({ id, spec, machine }) =>
      spec.runHere === true && machine !== undefined ? [[machine, id] as const] : [],
    ),
  );
}

/** Machines as an explanation goes by them. `runsHere`: the job that runs on the service's machine for one of them. */
export function explainedMachines(
  looks: readonly MachineLook[],
  pool: MachinePool,
  machines: Pick<QueueMachines, 'canEver'>,
  runsHere: ReadonlyMap<string, QueueJobId>,
): readonly ExplainedMachine[] {
  return looks.map(({ name, state, reason }) => {
    const resources = pool.machineOf(name)?.resources;
    const here = runsHere.get(name);
    return {
      ...{ name, state },
      ...(reason === undefined ? {} : { reason }),
      ...(here === undefined ? {} : { runsHere: here }),
      ...(resources === undefined
        ? {}
        : {
            explain: (request: ResourceRequest) => resources.explain(request),
            explainEver: (request: ResourceRequest) =>
              machines.canEver(request, name).shortfalls.flatMap(({ shortfalls }) => shortfalls),
          }),
    };
  });
}
