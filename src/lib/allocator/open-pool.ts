/**
 * Opens the pool for a set of machines: connects to all at once and asks each what it has free. Those that do not answer
 * are told and tried again, and join when they do.
 */
import { RemoteError, UsageError } from '../domain/errors.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { Attempt, Job } from '../domain/job.ts';
import type { MachineName, MachineSnapshot, ManagedResources } from '../domain/machine.ts';
import type { AvailableResources, ResourceRequest } from '../domain/resources.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import { withoutOwnUse } from '../machine/own-use.ts';
import { type ConnectOptions, connectMachine } from '../remote/connect.ts';
import { type QueryOptions, queryMachine } from '../remote/query.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { endLeftovers, type Leftover } from '../runner/end-leftovers.ts';
import { machineKey } from '../runner/job-folder.ts';
import { type LinkOptions, MachineLink } from '../runner/machine-link.ts';
import { MachineRunner, type RunnerOptions } from '../runner/machine-runner.ts';
import type { SessionOptions } from '../runner/machine-session.ts';
import type { EventStream } from '../util/event-stream.ts';
import type { MachinePool, PoolMachine } from './machine-pool.ts';
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
    | Omit<
        RunnerOptions,
        'events' | 'startSpacingMs' | 'setup' | 'env' | 'managed' | 'cacheLimitBytes' | 'beforeStart'
      >
    | undefined;
  /** The batch has run before, and some of its jobs may still run: what they use is theirs, not others'. @default false */
  readonly isResumed?: boolean;
  /** Where the batch comes from, for whoever finds it on a machine. */
  readonly origin?: SessionOptions['origin'];
  /** Hears of each attempt just before its machine does. */
  readonly onGiven?: (
    job: Job,
    attempt: Attempt,
    place: { readonly machine: MachineName; readonly machineKey: string; readonly runs: string },
  ) => void;
  /** What an earlier run could not end since its machine was away is ended now. */
  readonly onLeftoversEnded?: (ended: readonly Leftover[]) => void;
  /** A machine has joined that had not answered at first. It gets jobs once this has settled. */
  readonly onLateJoin?: (machine: PoolMachine) => Promise<void>;
  readonly lateJoin?: LateJoinOptions;
  /** What of a machine is given to jobs, where that is fixed. @default what it has */
  readonly managedOf?: (machine: MachineName) => ManagedResources | undefined;
  /** Variables that every job on a machine gets over those of its entry, asked at each start. @default none */
  readonly envOf?: (machine: MachineName) => Readonly<Record<string, string>>;
  /** Pauses between two tries to reach a machine again whose connection went. */
  readonly backoff?: LinkOptions['backoff'];
}

/** How long machines are waited for, and how often those that do not answer are tried again. */
export interface LateJoinOptions {
  /** Once one has answered, the others get so long before the batch starts without them. @default 5000 */
  readonly patienceMs?: number;
  /** First and longest pause between two tries. @default { firstMs: 5000, longestMs: 60000 } */
  readonly pauses?: { readonly firstMs: number; readonly longestMs: number };
}

interface Reached {
  readonly entry: MachineEntry;
  readonly host: RemoteHost;
  readonly snapshot: MachineSnapshot;
  /** Absent in a pool that only plans. */
  readonly link: MachineLink | undefined;
}

const PATIENCE_MS = 5000;
const PAUSES = { firstMs: 5000, longestMs: 60_000 };

/** What is tried again: a key that is refused would be refused again, and servers count such tries. */
const WORTH_ANOTHER_TRY: ReadonlySet<string> = new Set(['resolve', 'connect', 'query', 'run']);

/**
 * Has the machines that answer join the pool. Machines that do not answer in time are told, tried again until the pool
 * is closed, and join late. Those that have joined at first are not ready yet: that is for the caller to say.
 * Resolves to a promise that settles when each machine has joined or has been told.
 * @throws UsageError when two entries are the same machine, RemoteError when no machine has answered.
 */
export async function openPool(
  pool: MachinePool,
  options: OpenPoolOptions,
): Promise<{ readonly allTried: Promise<unknown> }> {
  const { lateJoin: { patienceMs = PATIENCE_MS } = {}, runner } = options;
  for (const { config } of options.machines) pool.expect(config.name);
  let isStarted = false;
  const late = (entry: MachineEntry, pauseMs: number) => {
    if (runner === undefined) pool.expect(entry.config.name, false);
    else void joinLate(pool, entry, options, pauseMs);
  };
  const { pauses = PAUSES } = options.lateJoin ?? {};
  const tries = options.machines.map(async (entry): Promise<Reached | undefined> => {
    const { name } = entry.config;
    try {
      const one = await reach(pool, entry, options);
      if (!isStarted) return one;
      await joinReached(pool, one, options);
    } catch (error) {
      const isTriedAgain = runner !== undefined && isWorthAnotherTry(error);
      if (isTriedAgain) late(entry, pauses.firstMs);
      else pool.expect(name, false);
      tellUnreachable(options, name, (error as Error).message, isTriedAgain);
    }
    return undefined;
  });
  const reached = await withPatience(tries, patienceMs, runner === undefined);
  isStarted = true;
  for (const [at, one] of reached.entries()) {
    const name = options.machines[at]?.config.name;
    if (one === 'slow' && name !== undefined)
      tellUnreachable(options, name, 'it has not answered yet; the others start without it', true);
  }
  const here = reached.filter((one) => one !== undefined && one !== 'slow');
  try {
    refuseSameMachineTwice(here);
    const [first] = options.machines;
    if (here.length === 0 && first !== undefined) {
      throw new RemoteError(first.config.name, 'connect', 'no machine can be used');
    }
    await Promise.all(here.map((one) => endOldLeftovers(one, options)));
  } catch (error) {
    for (const { config } of options.machines) pool.expect(config.name, false);
    await Promise.all(here.map(({ link, host }) => (link ?? host).close()));
    throw error;
  }
  for (const one of here) join(pool, one, options);
  return { allTried: Promise.all(tries) };
}

/**
 * Waits for all, but not for long once one has come. In a plan all count.
 */
async function withPatience<T>(
  tries: readonly Promise<T | undefined>[],
  patienceMs: number,
  waitsForAll: boolean,
): Promise<(T | undefined | 'slow')[]> {
  if (waitsForAll) return await Promise.all(tries);
  const results = new Array<T | undefined | 'slow'>(tries.length).fill('slow');
  let isPatient = true;
  await new Promise<void>((resolve) => {
    let left = tries.length;
    if (left === 0) resolve();
    for (const [at, one] of tries.entries()) {
      void one.then((result) => {
        results[at] = result;
        left -= 1;
        if (left === 0) return resolve();
        if (result === undefined || !isPatient) return;
        isPatient = false;
        setTimeout(resolve, patienceMs).unref();
      });
    }
  });
  return [...results];
}

/**
 * Has one more machine join a pool that is in use: tries at once, and where that is worth it again and again, until it has
 * joined, is not expected any more, or the signal aborts. What cannot be reached is told. Settles when there is nothing
 * left to try; never rejects.
 */
export async function joinMachine(
  pool: MachinePool,
  entry: MachineEntry,
  options: JoinOptions,
): Promise<void> {
  const { name } = entry.config;
  const { signal, lateJoin: { pauses = PAUSES } = {} } = options;
  pool.expect(name);
  try {
    await joinReached(pool, await reach(pool, entry, options), options, { isBack: false });
  } catch (error) {
    if (signal?.aborted === true || !pool.isExpected(name)) return;
    const isTriedAgain = isWorthAnotherTry(error);
    if (!isTriedAgain) pool.expect(name, false);
    tellUnreachable(options, name, (error as Error).message, isTriedAgain);
    if (isTriedAgain) await joinLate(pool, entry, options, pauses.firstMs);
  }
}

/** How one machine joins. */
export interface JoinOptions extends Omit<OpenPoolOptions, 'machines'> {
  /** Ends the tries: the machine has left, or is tried in another way. */
  readonly signal?: AbortSignal;
}

/**
 * Logs in to a machine, asks it once what it has, and leaves.
 * @throws RemoteError saying why that is not possible; the message does not name the machine
 */
export async function checkLogin(
  entry: MachineEntry,
  options: ConnectOptions & { readonly query?: QueryOptions } = {},
): Promise<MachineSnapshot> {
  const host = await connectMachine(entry, options);
  try {
    return await snapshotOf(entry, host, options.query);
  } finally {
    await host.close();
  }
}

function isWorthAnotherTry(error: unknown): boolean {
  return error instanceof RemoteError && WORTH_ANOTHER_TRY.has(error.stage);
}

function tellUnreachable(
  { events }: JoinOptions,
  machine: MachineName,
  reason: string,
  isTriedAgain: boolean,
): void {
  events.publish({ type: 'machine:unreachable', at: Date.now(), machine, reason, isTriedAgain });
}

/** Tries a machine again and again, until it has joined or is not expected any more. */
async function joinLate(
  pool: MachinePool,
  entry: MachineEntry,
  options: JoinOptions,
  firstMs: number,
): Promise<void> {
  const { name } = entry.config;
  const { longestMs } = options.lateJoin?.pauses ?? PAUSES;
  for (let pauseMs = firstMs; ; pauseMs = Math.min(pauseMs * 2, longestMs)) {
    // Jitter: the controllers of a whole lab must not knock at one gateway in step.
    await pause(pauseMs * (0.5 + Math.random() / 2), options.signal);
    if (!isWanted(pool, name, options)) return;
    try {
      await joinReached(pool, await reach(pool, entry, options), options);
      return;
    } catch (error) {
      if (isWorthAnotherTry(error)) continue; // still away
      if (!isWanted(pool, name, options)) return;
      pool.expect(name, false);
      tellUnreachable(options, name, (error as Error).message, false);
      return;
    }
  }
}

/** Whether this way to join is still to be taken: the name may be expected again, by another way. */
function isWanted(pool: MachinePool, name: MachineName, { signal }: JoinOptions): boolean {
  return signal?.aborted !== true && pool.isExpected(name);
}

/** Ends early when the signal aborts. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, ms).unref();
    if (signal?.aborted === true) over();
    else signal?.addEventListener('abort', over, { once: true });
  });
}

/** A machine joins while the pool is in use. */
async function joinReached(
  pool: MachinePool,
  reached: Reached,
  options: JoinOptions,
  { isBack }: { readonly isBack: boolean } = { isBack: true },
): Promise<void> {
  const { entry, snapshot, link, host } = reached;
  const { name } = entry.config;
  const twinNow = () => pool.machines.find((one) => one.snapshot.identity === snapshot.identity);
  if (twinNow() === undefined && isWanted(pool, name, options)) await endOldLeftovers(reached, options);
  // Asked after the last pause, since another may have joined meanwhile.
  const twin = twinNow();
  const isStillWanted = isWanted(pool, name, options);
  if (twin !== undefined || !isStillWanted) {
    await (link ?? host).close();
    if (twin === undefined || !isStillWanted) return; // the machine has left, or the pool was closed
    pool.expect(name, false);
    tellUnreachable(options, name, `it is the same machine as ${twin.name}`, false);
    return;
  }
  const machine = join(pool, reached, options);
  // Only what was told to be unreachable can be back.
  if (isBack) options.events.publish({ type: 'machine:back', at: Date.now(), machine: name });
  void takeIn(pool, machine, options);
}

async function takeIn(pool: MachinePool, machine: PoolMachine, options: JoinOptions): Promise<void> {
  try {
    await options.onLateJoin?.(machine);
    if (pool.machines.includes(machine)) pool.setReady(machine.name); // else another may have its name
  } catch (error) {
    warn(options, machine.name, `it gets no jobs: ${(error as Error).message}`);
  }
}

function join(pool: MachinePool, reached: Reached, options: JoinOptions): PoolMachine {
  const machine = poolMachine(reached, options);
  pool.join(machine);
  options.events.publish({
    type: 'machine:queried',
    at: Date.now(),
    machine: machine.name,
    snapshot: machine.snapshot,
    jobsAtOnce: machine.resources.countFits(options.typicalRequest),
    gpuChoices: machine.resources.available.gpus.map((gpu) => gpu.index),
  });
  return machine;
}

/** Connects, and then asks the machine what it has while the session is opened: they need not wait for each other. */
async function reach(pool: MachinePool, entry: MachineEntry, options: JoinOptions): Promise<Reached> {
  const host = await connectMachine(entry, options);
  try {
    const ownBatch = options.isResumed === true ? options.runner?.batch.id : undefined;
    const asking = snapshotOf(entry, host, {
      ...options.query,
      ...(ownBatch === undefined ? {} : { ownBatch }),
    });
    const opening = options.runner && openLink(pool, entry, host, asking, options);
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
  pool: MachinePool,
  entry: MachineEntry,
  host: RemoteHost,
  asking: Promise<MachineSnapshot>,
  options: JoinOptions,
): Promise<MachineLink> {
  const { events, runner, origin, backoff } = options;
  const { name, remoteDir } = entry.config;
  const key = asking.then(({ identity }) => machineKey(identity));
  key.catch(() => {}); // whoever asked hears
  return MachineLink.open(name, host, {
    connect: () => connectMachine(entry, options),
    remoteDir,
    machineKey: key,
    batch: runner?.batch.id ?? '',
    loginEnvironment: entry.kind === 'ssh',
    ...(origin === undefined ? {} : { origin }),
    ...(backoff === undefined ? {} : { backoff }),
    onAway: (reason) => {
      pool.setAway(name, true);
      events.publish({ type: 'machine:away', at: Date.now(), machine: name, reason });
    },
    onBack: () => {
      pool.setAway(name, false);
      events.publish({ type: 'machine:back', at: Date.now(), machine: name });
    },
    onWarning: (message) => warn(options, name, message),
  });
}

function warn({ events }: JoinOptions, machine: MachineName, message: string): void {
  events.publish({ type: 'machine:warned', at: Date.now(), machine, message });
}

/** Ends what an earlier run could not end since the machine was away. */
async function endOldLeftovers({ entry, host, snapshot }: Reached, options: JoinOptions): Promise<void> {
  if (options.runner?.resultsFolder === undefined) return;
  const { name, remoteDir } = entry.config;
  const place = { remoteDir, machineKey: machineKey(snapshot.identity) };
  try {
    const ended = await endLeftovers(host, options.runner.resultsFolder, place);
    if (ended.length > 0) {
      const jobs = ended.map(({ job }) => job).join(', ');
      warn(options, name, `ended what an earlier run had left here to be ended: ${jobs}`);
      options.onLeftoversEnded?.(ended);
    }
  } catch (error) {
    warn(options, name, `what an earlier run had left here could not be ended: ${(error as Error).message}`);
  }
}

function poolMachine({ entry, snapshot: measured, link }: Reached, options: JoinOptions): PoolMachine {
  const { name, gpus, maxJobs, startSpacingMs, setup, env, cacheLimitMiB } = entry.config;
  const { events, placement, runner, onGiven, envOf, managedOf } = options;
  const managed = managedOf?.(name);
  const snapshot = withoutOwnUse(managed === undefined ? measured : { ...measured, managed });
  const resources = new VirtualResources(availableOn(snapshot, gpus), {
    ...(maxJobs === undefined ? {} : { maxJobs }),
    ...(placement === undefined ? {} : { placement }),
  });
  if (runner === undefined || link === undefined) return { name, snapshot, resources };
  const ours = new MachineRunner(link, {
    ...runner,
    managed,
    beforeStart: (job, attempt, runs) =>
      onGiven?.(job, attempt, { machine: name, machineKey: machineKey(snapshot.identity), runs }),
    events,
    startSpacingMs,
    setup,
    get env() {
      return envOf === undefined ? env : { ...env, ...envOf(name) };
    },
    ...(cacheLimitMiB === undefined ? {} : { cacheLimitBytes: cacheLimitMiB * 1024 * 1024 }),
  });
  return { name, snapshot, resources, runner: ours };
}

/**
 * What of a snapshot our jobs may have: GPUs that cannot be placed on, or that we may not use, are left out. Of what is
 * managed nobody else takes anything.
 */
export function availableOn(
  snapshot: MachineSnapshot,
  gpusAllowed: readonly number[] | undefined,
): AvailableResources {
  const { managed } = snapshot;
  return {
    cpuCores: managed?.cpuCores ?? snapshot.cpuCores,
    cpuCoresInUse: managed === undefined ? snapshot.cpuCoresInUse : 0,
    ...(managed === undefined ? {} : { refusesOverload: true }),
    memoryFreeMiB: managed?.memoryMiB ?? snapshot.memoryFreeMiB,
    gpus: snapshot.gpus
      .filter((gpu) => gpu.unplaceable === undefined && (gpusAllowed?.includes(gpu.index) ?? true))
      .map(({ index, memoryFreeMiB, utilization }) => ({
        index,
        memoryFreeMiB,
        utilizationInUse: utilization,
      })),
  };
}

/** The same with nothing running there at all: all memory, all cores, all of each GPU. */
export function capacityOf(
  snapshot: MachineSnapshot,
  gpusAllowed: readonly number[] | undefined,
): AvailableResources {
  const isIdle = {
    cpuCoresInUse: 0,
    memoryFreeMiB: snapshot.memoryTotalMiB,
    gpus: snapshot.gpus.map((gpu) => ({ ...gpu, memoryFreeMiB: gpu.memoryTotalMiB, utilization: 0 })),
  };
  return availableOn({ ...snapshot, ...isIdle }, gpusAllowed);
}
