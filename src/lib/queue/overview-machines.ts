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
  const { measured, available } = machine.resources;
  const managed = snapshot?.managed;
  const usable = new Set(capacityOf(whole, gpusAllowed).gpus.map(({ index }) => index));
  return {
    measuredAt: whole.takenAt,
    cpuCores: amount(
      managed?.cpuCores ?? whole.cpuCores,
      whole.cpuCoresInUse,
      available.cpuCoresInUse - measured.cpuCoresInUse,
    ),
    memoryMiB: amount(
      managed?.memoryMiB ?? whole.memoryTotalMiB,
      whole.memoryTotalMiB - whole.memoryFreeMiB,
      Math.floor(measured.memoryFreeMiB) - available.memoryFreeMiB,
    ),
    gpus: whole.gpus
      .filter(({ index }) => usable.has(index))
      .map((gpu) => gpuFigures(gpu, gpuOf(measured.gpus, gpu), gpuOf(available.gpus, gpu))),
  };
}

function gpuOf(gpus: readonly AvailableGpu[], { index }: GpuSnapshot): AvailableGpu {
  return gpus.find((gpu) => gpu.index === index) ?? { index, memoryFreeMiB: 0, utilizationInUse: 0 };
}

/** `before` and `now`: what is free of it without our jobs, and with what they ask for. */
function gpuFigures(gpu: GpuSnapshot, before: AvailableGpu, now: AvailableGpu) {
  const { index, name, memoryTotalMiB, memoryFreeMiB, utilization } = gpu;
  return {
    ...{ index, name },
    memoryMiB: amount(
      memoryTotalMiB,
      memoryTotalMiB - memoryFreeMiB,
      Math.floor(before.memoryFreeMiB) - now.memoryFreeMiB,
    ),
    utilization: amount(1, utilization, now.utilizationInUse - before.utilizationInUse),
  };
}

/** The ledger rounds to ten thousandths: what it makes of a difference is no claim. */
function amount(total: number, used: number, claimed: number): OverviewAmount {
  const rounded = (value: number) => Math.max(0, Math.round(value * 1000) / 1000);
  return { total: rounded(total), used: rounded(used), claimed: rounded(claimed) };
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
