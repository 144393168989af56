/**
 * How many jobs a second the allocator places: 100,000 jobs on 1,000 and on 10,000 machines of 8 GPUs, with one kind
 * of request and with a mix of 16. When a job fits nowhere the oldest ones end until it does, so every job is placed.
 * Goals: 100,000/s on 1,000 machines, half of that on 10,000.
 */
import { pathToFileURL } from 'node:url';
import { PlacementIndex } from '../src/lib/allocator/placement-index.ts';
import { VirtualResources } from '../src/lib/allocator/virtual-resources.ts';
import type { Allocation, ResourceRequest } from '../src/lib/domain/resources.ts';

/** What one round of the bench found. */
export interface PlacementFigure {
  readonly machines: number;
  /** Distinct requests among the jobs. */
  readonly kinds: number;
  readonly jobs: number;
  readonly placementsPerSecond: number;
  readonly goalPerSecond: number;
}

const JOBS = 100_000;
const ROUNDS = 3;

const oneKind: readonly ResourceRequest[] = [
  {
    memoryMiB: 7000,
    cpuCores: 1,
    gpus: 1,
    gpuMemoryMiB: 1000,
    gpuUtilization: 0.75,
    reserveGpu: true,
    reserveMachine: false,
  },
];

/** From no GPU to four, shared and reserved, small and large. */
const sixteenKinds: readonly ResourceRequest[] = Array.from({ length: 16 }, (_, kind) => ({
  memoryMiB: 1000 + 500 * kind,
  cpuCores: 0.5 + (kind % 4),
  gpus: [0, 1, 1, 1, 1, 1, 2, 4][kind % 8] ?? 1,
  gpuMemoryMiB: 1000 + 1000 * (kind % 5),
  gpuUtilization: 0.1 + 0.05 * kind,
  reserveGpu: kind % 3 === 0,
  reserveMachine: false,
}));

function machine(): VirtualResources {
  return new VirtualResources({
    cpuCores: 64,
    cpuCoresInUse: 0.5,
    memoryFreeMiB: 500_000,
    gpus: Array.from({ length: 8 }, (_, index) => ({ index, memoryFreeMiB: 40_000, utilizationInUse: 0 })),
  });
}

/** Seconds to place the jobs; building the machines is not counted, the index's first look at them is. */
function place(machines: number, requests: readonly ResourceRequest[], jobs: number): number {
  const ledgers = Array.from({ length: machines }, machine);
  const index = new PlacementIndex<VirtualResources>();
  for (const ledger of ledgers) index.add(ledger, ledger);
  const running: { readonly on: VirtualResources; readonly ticket: Allocation }[] = [];
  let ended = 0;
  const start = performance.now();
  for (let job = 0; job < jobs; job++) {
    const request = requests[job % requests.length];
    if (request === undefined) break;
    let on = index.best(request);
    while (on === undefined) {
      const oldest = running[ended++];
      if (oldest === undefined) throw new Error('Internal error: a job fits on no empty machine');
      oldest.on.release(oldest.ticket);
      index.changed(oldest.on);
      on = index.best(request);
    }
    running.push({ on, ticket: on.allocate(request) });
    index.changed(on);
  }
  return (performance.now() - start) / 1000;
}

/** Runs the bench; each figure is the median of three rounds after one that warms up. */
export async function placementBench(): Promise<readonly PlacementFigure[]> {
  const figures: PlacementFigure[] = [];
  for (const [machines, goalPerSecond] of [
    [1000, 100_000],
    [10_000, 50_000],
  ] as const) {
    for (const requests of [oneKind, sixteenKinds]) {
      const seconds: number[] = [];
      place(machines, requests, JOBS / 4);
      for (let round = 0; round < ROUNDS; round++) {
        seconds.push(place(machines, requests, JOBS));
        await new Promise((resolve) => setImmediate(resolve)); // whoever runs several benches stays reachable
      }
      const median = seconds.sort((a, b) => a - b)[ROUNDS >> 1] ?? Number.NaN;
      const placementsPerSecond = Math.round(JOBS / median);
      figures.push({ machines, kinds: requests.length, jobs: JOBS, placementsPerSecond, goalPerSecond });
    }
  }
  return figures;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const figure of await placementBench()) {
    const { machines, kinds, jobs, placementsPerSecond, goalPerSecond } = figure;
    const ratio = (placementsPerSecond / goalPerSecond).toFixed(2);
    console.log(
      `${jobs} jobs, ${machines} machines of 8 GPUs, ${kinds} kinds: ` +
        `${placementsPerSecond}/s (goal ${goalPerSecond}/s, ratio ${ratio})`,
    );
  }
}
