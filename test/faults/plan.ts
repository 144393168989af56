/** What happens in one seeded run: which jobs there are and which faults strike when. The same seed gives the same plan. */

/** What can go wrong. */
export type FaultKind =
  /** A host's network is silent for a while. */
  | 'cut'
  /** A host's connections are broken off at once; new ones may follow. */
  | 'reset'
  /** A host loses its power, and boots again after a while. */
  | 'power-off'
  /** A host's disk is full for a while. */
  | 'full-disk'
  /** The disk of the results folder is full for a while. */
  | 'full-results-disk'
  /** The disk of a service's data folder is full for a while. */
  | 'full-data-disk'
  | ControllerFaultKind;

/** What befalls the process that has the jobs: the controller of a batch, or the queue service. */
export type ControllerFaultKind =
  /** kill -9; the same command follows after a while. */
  | 'kill'
  /** Ctrl-C once; the same command follows a while after the end. */
  | 'interrupt'
  /** A closed terminal (SIGHUP); likewise. */
  | 'hang-up'
  /** SIGTERM; likewise. */
  | 'terminate';

/** What befalls a batch. */
export const BATCH_KINDS: readonly FaultKind[] = [
  ...(['cut', 'reset', 'power-off', 'full-disk'] as const),
  ...(['full-results-disk', 'kill', 'interrupt', 'hang-up'] as const),
];
/** What befalls a queue service. */
export const QUEUE_KINDS: readonly FaultKind[] = [...BATCH_KINDS, 'terminate', 'full-data-disk'];

/** One fault. */
export interface Fault {
  readonly kind: FaultKind;
  /** When it strikes, in milliseconds since the first controller's start. */
  readonly atMs: number;
  /** How long the host or the disk stays that way, or how long the batch goes without a controller. */
  readonly forMs: number;
  /** Index of the host; absent where it strikes none. */
  readonly host?: number;
}

/** What one job does. */
export interface PlannedJob {
  readonly sleepMs: number;
  /** How many lines it prints. */
  readonly lines: number;
}

/** A whole run. */
export interface FaultPlan {
  readonly seed: number;
  readonly jobs: readonly PlannedJob[];
  readonly faults: readonly Fault[];
}

/** How large a run is. */
export interface PlanSize {
  readonly jobs: number;
  readonly longestJobMs: number;
  readonly faults: number;
  /** Average time between two faults. */
  readonly faultEveryMs: number;
  readonly longestFaultMs: number;
}

/** About a minute on two busy cores, its hosts' start included. */
export const SHORT: PlanSize = {
  jobs: 60,
  longestJobMs: 3000,
  faults: 12,
  faultEveryMs: 1600,
  longestFaultMs: 4000,
};
/** For a test among many: half a minute. */
export const SHORTEST: PlanSize = {
  jobs: 36,
  longestJobMs: 2000,
  faults: 8,
  faultEveryMs: 1400,
  longestFaultMs: 3000,
};
/** Some minutes. */
export const LONG: PlanSize = {
  jobs: 200,
  longestJobMs: 4000,
  faults: 45,
  faultEveryMs: 2400,
  longestFaultMs: 12_000,
};

export const HOSTS = 4;

const ON_DISK: ReadonlySet<FaultKind> = new Set(['full-results-disk', 'full-data-disk']);
const ON_HOST: ReadonlySet<FaultKind> = new Set(['cut', 'reset', 'power-off', 'full-disk']);

/** Makes the plan of a seed. `kinds` are what can be done on this machine; each comes before any comes again. */
export function planOf(seed: number, size: PlanSize, kinds: readonly FaultKind[]): FaultPlan {
  const random = randomFrom(seed);
  const upTo = (limit: number) => Math.floor(random() * limit);
  const jobs = Array.from({ length: size.jobs }, () => ({
    sleepMs: upTo(size.longestJobMs),
    // Most print little; some more than fits one piece of what is fetched at a time from a pipe.
    lines: random() < 0.2 ? 100 + upTo(400) : 2 + upTo(20),
  }));
  const faults: Fault[] = [];
  const hosts = Array.from({ length: HOSTS }, (_, index) => index);
  const freeAtMs = new Map<number | string, number>();
  let bag: FaultKind[] = [];
  let atMs = 500;
  while (faults.length < size.faults && kinds.length > 0) {
    atMs += Math.floor(size.faultEveryMs * (0.2 + 1.6 * random()));
    if (bag.length === 0) bag = [...kinds];
    const [kind] = bag.splice(upTo(bag.length), 1);
    if (kind === undefined) break;
    // Half of all faults are short, so that some pass before anybody has noticed.
    const forMs = 100 + upTo(random() < 0.5 ? size.longestFaultMs / 4 : size.longestFaultMs);
    // One at a time for each host, and for the controller, which needs a moment to come back.
    const places = ON_HOST.has(kind) ? hosts : [ON_DISK.has(kind) ? kind : 'controller'];
    const free = places.filter((place) => (freeAtMs.get(place) ?? 0) <= atMs);
    const place = free[upTo(free.length)];
    if (place === undefined) continue;
    freeAtMs.set(place, atMs + forMs + 1000);
    faults.push({ kind, atMs, forMs, ...(typeof place === 'number' && { host: place }) });
  }
  return { seed, jobs, faults };
}

/** A fault as a line of the plan. */
export function faultText({ kind, atMs, forMs, host }: Fault): string {
  const where = host === undefined ? '' : ` host${host}`;
  return `${(atMs / 1000).toFixed(1)} s: ${kind}${where} for ${(forMs / 1000).toFixed(1)} s`;
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
