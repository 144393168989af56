/**
 * Opens the pool for a set of machines: connects to all at once, asks each what it has free, leaves out those that do
 * not answer and says why.
 */
import { RemoteError, UsageError } from '../domain/errors.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { MachineName, MachineSnapshot } from '../domain/machine.ts';
import type { AvailableResources, ResourceRequest } from '../domain/resources.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import { type ConnectOptions, connectMachine } from '../remote/connect.ts';
import { type QueryOptions, queryMachine } from '../remote/query.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { endLeftovers } from '../runner/end-leftovers.ts';
import { machineKey } from '../runner/job-folder.ts';
import { MachineLink } from '../runner/machine-link.ts';
import { MachineRunner, type RunnerOptions } from '../runner/machine-runner.ts';
import type { EventStream } from '../util/event-stream.ts';
import { MachinePool, type PoolMachine } from './machine-pool.ts';
import { type Placement, VirtualResources } from './virtual-resources.ts';

/** How a pool is opened. */
export interface OpenPoolOptions extends ConnectOptions {
  readonly machines: readonly MachineEntry[];
  readonly events: EventStream<SchedulerEvent>;
  /** What the machines' `jobsAtOnce` is reckoned for. */
  readonly typicalRequest: ResourceRequest;
  readonly placement?: Placement;
  readonly query?: QueryOptions;
  /** What the runners need; absent for a pool that only plans. */
  readonly runner:
    | Omit<RunnerOptions, 'events' | 'startSpacingMs' | 'setup' | 'env' | 'cacheLimitBytes'>
    | undefined;
}

interface Reached {
  readonly entry: MachineEntry;
  readonly host: RemoteHost;
  readonly snapshot: MachineSnapshot;
  /** Absent in a pool that only plans. */
  readonly link: MachineLink | undefined;
}

/**
 * Opens a pool of the machines that answer.
 * @throws UsageError when two entries are the same machine, RemoteError when no machine is left.
 */
export async function openPool(options: OpenPoolOptions): Promise<MachinePool> {
  const { events } = options;
  const tellUnreachable = (machine: MachineName, error: unknown) =>
    events.publish({
      type: 'machine:unreachable',
      at: Date.now(),
      machine,
      reason: (error as Error).message,
    });
  let pool: MachinePool | undefined;
  const setAway = (name: MachineName, isAway: boolean) => pool?.setAway(name, isAway);
  const reached = (
    await Promise.all(
      options.machines.map((entry) =>
        reach(entry, options, setAway).catch((error: unknown) => {
          tellUnreachable(entry.config.name, error);
          return undefined;
        }),
      ),
    )
  ).filter((one) => one !== undefined);
  try {
    refuseSameMachineTwice(reached);
    const [first] = options.machines;
    if (reached.length === 0 && first !== undefined) {
      throw new RemoteError(first.config.name, 'connect', 'no machine can be used');
    }
    await Promise.all(reached.map((one) => endOldLeftovers(one, options)));
  } catch (error) {
    await Promise.all(reached.map(({ link, host }) => (link ?? host).close()));
    throw error;
  }
  pool = new MachinePool(reached.map((one) => poolMachine(one, options)));
  for (const { name, runner } of pool.machines) if (runner?.isUp === false) pool.setAway(name, true);
  for (const { name, snapshot, resources } of pool.machines) {
    events.publish({
      type: 'machine:queried',
      at: Date.now(),
      machine: name,
      snapshot,
      jobsAtOnce: resources.countFits(options.typicalRequest),
      gpuChoices: resources.available.gpus.map((gpu) => gpu.index),
    });
  }
  return pool;
}

/** Connects, and then asks the machine what it has while the session is opened: they need not wait for each other. */
async function reach(
  entry: MachineEntry,
  options: OpenPoolOptions,
  setAway: (name: MachineName, isAway: boolean) => void,
): Promise<Reached> {
  const host = await connectMachine(entry, options);
  try {
    const asking = snapshotOf(entry, host, options.query);
    const opening = options.runner && openLink(entry, host, asking, options, setAway);
    opening?.catch(() => {}); // when both fail, what the query says is the reason
    const snapshot = await asking;
    const link = await opening;
    if (link === undefined) await host.close();
    return { entry, host, snapshot, link };
  } catch (error) {
    await host.close();
    throw error;
  }
}

async function snapshotOf(
  entry: MachineEntry,
  host: RemoteHost,
  query: QueryOptions = {},
): Promise<MachineSnapshot> {
  if (entry.kind === 'ssh' || process.platform === 'linux') return await queryMachine(host, query);
  const { queryLocalMachine } = await import('../remote/local-query.ts');
  return await queryLocalMachine();
}

function refuseSameMachineTwice(reached: readonly Reached[]): void {
  const seen = new Map<string, MachineName>();
  for (const { entry, snapshot } of reached) {
    const other = seen.get(snapshot.identity);
    if (other !== undefined) {
      throw new UsageError(
        `${other} and ${entry.config.name} are the same machine (${snapshot.hostname}): name it once, or its resources would be given out twice`,
      );
    }
    seen.set(snapshot.identity, entry.config.name);
  }
}

function openLink(
  entry: MachineEntry,
  host: RemoteHost,
  asking: Promise<MachineSnapshot>,
  options: OpenPoolOptions,
  setAway: (name: MachineName, isAway: boolean) => void,
): Promise<MachineLink> {
  const { events, runner } = options;
  const { name, remoteDir } = entry.config;
  const key = asking.then(({ identity }) => machineKey(identity));
  key.catch(() => {}); // whoever asked hears
  return MachineLink.open(name, host, {
    connect: () => connectMachine(entry, options),
    remoteDir,
    machineKey: key,
    batch: runner?.batch.id ?? '',
    loginEnvironment: entry.kind === 'ssh',
    onAway: (reason) => {
      setAway(name, true);
      events.publish({ type: 'machine:away', at: Date.now(), machine: name, reason });
    },
    onBack: () => {
      setAway(name, false);
      events.publish({ type: 'machine:back', at: Date.now(), machine: name });
    },
    onWarning: (message) => warn(options, name, message),
  });
}

function warn({ events }: OpenPoolOptions, machine: MachineName, message: string): void {
  events.publish({ type: 'machine:warned', at: Date.now(), machine, message });
}

/** Ends what an earlier run could not end since the machine was away. */
async function endOldLeftovers({ entry, host, snapshot }: Reached, options: OpenPoolOptions): Promise<void> {
  if (options.runner?.resultsFolder === undefined) return;
  const { name, remoteDir } = entry.config;
  const place = { remoteDir, machineKey: machineKey(snapshot.identity) };
  try {
    const ended = await endLeftovers(host, options.runner.resultsFolder, place);
    if (ended.length > 0) {
      warn(options, name, `ended what an earlier run had left here to be ended: ${ended.join(', ')}`);
    }
  } catch (error) {
    warn(options, name, `what an earlier run had left here could not be ended: ${(error as Error).message}`);
  }
}

function poolMachine({ entry, snapshot, link }: Reached, options: OpenPoolOptions): PoolMachine {
  const { name, gpus, maxJobs, startSpacingMs, setup, env, cacheLimitMiB } = entry.config;
  const { events, placement, runner } = options;
  const resources = new VirtualResources(availableOn(snapshot, gpus), {
    ...(maxJobs === undefined ? {} : { maxJobs }),
    ...(placement === undefined ? {} : { placement }),
  });
  if (runner === undefined || link === undefined) return { name, snapshot, resources };
  const ours = new MachineRunner(link, {
    ...runner,
    events,
    startSpacingMs,
    setup,
    env,
    ...(cacheLimitMiB === undefined ? {} : { cacheLimitBytes: cacheLimitMiB * 1024 * 1024 }),
  });
  return { name, snapshot, resources, runner: ours };
}

/** What of a snapshot our jobs may have: GPUs that cannot be placed on, or that we may not use, are left out. */
export function availableOn(
  snapshot: MachineSnapshot,
  gpusAllowed: readonly number[] | undefined,
): AvailableResources {
  return {
    cpuCores: snapshot.cpuCores,
    cpuCoresInUse: snapshot.cpuCoresInUse,
    memoryFreeMiB: snapshot.memoryFreeMiB,
    gpus: snapshot.gpus
      .filter((gpu) => gpu.unplaceable === undefined && (gpusAllowed?.includes(gpu.index) ?? true))
      .map(({ index, memoryFreeMiB, utilization }) => ({
        index,
        memoryFreeMiB,
        utilizationInUse: utilization,
      })),
  };
}
