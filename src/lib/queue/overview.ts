/**
 * What one who watches a service sees. It costs next to nothing however many jobs wait: no more of them are looked at than
 * are told, or than a filter may look through; and those who ask at the same time get the same answer.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Overview, OverviewJobs, OverviewRequest } from '../domain/overview.ts';
import { FINAL_STATES, type QueueJob, type QueueJobId, type QueueState } from '../domain/queue.ts';
import { LastLines } from '../util/last-line.ts';
import type { JobOutputs } from './job-output.ts';
import { firstOf, hasText, namedId } from './overview-filter.ts';
import { overviewJob, RunningGpus } from './overview-jobs.ts';
import { explainedMachines, overviewMachine, runsHereOf } from './overview-machines.ts';
import { type ReasonFacts, type Waiting, WaitReasons } from './overview-reasons.ts';
import type { MachineLook } from './queue-machines.ts';
import type { ServiceParts } from './service-parts.ts';

/** What an overview is made of. */
export type OverviewParts = Pick<
  ServiceParts,
  'store' | 'pool' | 'order' | 'keptFree' | 'barOf' | 'troubleIn' | 'outputsOf'
> & { readonly machines: Pick<ServiceParts['machines'], 'looks' | 'noteWatched' | 'canEver'> };

/** What the verb answers. */
export interface OverviewAnswer extends Overview {
  /** The number of the newest event then: who asks for events after it misses none. */
  readonly lastEvent: number;
}

/** How it is made. */
export interface OverviewOptions {
  /** For so long an answer is given to all who ask the same. @default 250 */
  readonly sharedForMs?: number;
  /** How many waiting jobs a filter looks through. @default 5000 */
  readonly mostWaiting?: number;
  /** How many ended jobs a filter looks through. @default 500 */
  readonly mostEnded?: number;
  /** A clock that does not jump, milliseconds. @default performance.now */
  readonly now?: () => number;
}

/** A filter looks through so many in one go: a millisecond. */
const PAGE_JOBS = 500;

/** A request, with the job that its filter names by its id, wherever that is. */
interface Look extends OverviewRequest {
  readonly named: QueueJob | undefined;
}

const WAITING_STATES: readonly QueueState[] = ['queued', 'holding', 'user-hold'];

interface Shared {
  readonly overview: Promise<OverviewAnswer>;
  /** When it was there; undefined until then. */
  madeAt: number | undefined;
}

/** Makes overviews of one service. */
export class Overviews {
  readonly #parts: OverviewParts;
  readonly #options: OverviewOptions;
  readonly #now: () => number;
  readonly #shared = new Map<string, Shared>();
  readonly #gpus = new RunningGpus();
  readonly #lines = new LastLines();
  readonly #reasons = new WaitReasons();
  #ended: { readonly key: string; readonly jobs: readonly QueueJob[] } = { key: '', jobs: [] };

  constructor(parts: OverviewParts, options: OverviewOptions = {}) {
    this.#parts = parts;
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    parts.store.onEvents((events) => this.#gpus.hear(events));
  }

  /** What is to be seen now, or was a moment ago. Has machines measured for whoever watches. */
  of(request: OverviewRequest): Promise<OverviewAnswer> {
    this.#parts.machines.noteWatched();
    const { sharedForMs = 250 } = this.#options;
    const now = this.#now();
    for (const [key, { madeAt = now }] of this.#shared)
      if (now - madeAt >= sharedForMs) this.#shared.delete(key);
    const key = JSON.stringify([request.limit, request.filter ?? '']);
    let shared = this.#shared.get(key);
    if (shared === undefined) {
      const made: Shared = { overview: this.#make(request), madeAt: undefined };
      made.overview.then(
        () => {
          made.madeAt = this.#now();
        },
        () => this.#shared.delete(key),
      );
      this.#shared.set(key, made);
      shared = made;
    }
    return shared.overview;
  }

  async #make(request: OverviewRequest): Promise<OverviewAnswer> {
    const { store, machines } = this.#parts;
    const at = Date.now();
    const running = store.running();
    const looks = machines.looks();
    const counts = store.counts();
    const jobsOn = countsByMachine(running);
    const facts = this.#reasonFacts(looks, running, at);
    const look: Look = { ...request, named: this.#named(request) };
    const ended = this.#endedJobs(look, counts);
    const { lastEvent } = store;
    const [runningJobs, waiting] = await Promise.all([
      this.#runningJobs(running, look),
      this.#waitingJobs(look, counts, facts),
    ]);
    return {
      ...{ at, counts, lastEvent },
      machines: looks.map((look) => overviewMachine(look, jobsOn.get(look.name) ?? 0)),
      running: runningJobs,
      ...{ waiting, ended },
    };
  }

  #named({ filter = '' }: OverviewRequest): QueueJob | undefined {
    const id = namedId(filter);
    const job = id === undefined ? undefined : this.#parts.store.get(id);
    return job !== undefined && hasText(filter)(job) ? job : undefined;
  }

  async #runningJobs(running: readonly QueueJob[], { filter, limit, named }: Look): Promise<OverviewJobs> {
    const found = running.filter(hasText(filter));
    const startOf = ({ startedAt = Infinity }: QueueJob) => startedAt;
    found.sort((a, b) => (startOf(a) === startOf(b) ? a.id - b.id : startOf(a) - startOf(b)));
    const isNamed = found.find(({ id }) => id === named?.id);
    const told = firstOf(found, isNamed, limit).map(async (job) => {
      const gpus = this.#gpus.of(job.id);
      // Until it has begun, the files may be an earlier attempt's.
      const line =
        job.startedAt === undefined
          ? undefined
          : await this.#lines.of(pathsOf(this.#parts.outputsOf(job.spec, job.id)));
      return overviewJob(job, {
        ...(gpus === undefined ? {} : { gpus }),
        ...(line === undefined ? {} : { lastLine: line }),
      });
    });
    return { jobs: await Promise.all(told), count: found.length };
  }

  async #waitingJobs(look: Look, counts: Overview['counts'], facts: ReasonFacts): Promise<OverviewJobs> {
    const { filter = '', limit } = look;
    const { found, count, isCut } =
      filter === ''
        ? { found: this.#firstWaiting(limit), count: waitingOf(counts), isCut: false }
        : await this.#foundWaiting(look);
    const jobs = found.map((waiting) =>
      overviewJob(waiting.job, { reason: this.#reasons.reasonOf(waiting, facts) }),
    );
    return { jobs, count, ...(isCut ? { isCut } : {}) };
  }

  #firstWaiting(limit: number): readonly Waiting[] {
    const found: Waiting[] = [];
    if (limit === 0) return found;
    for (const waiting of this.#parts.store.waiting()) if (found.push(waiting) >= limit) break;
    return found;
  }

  async #foundWaiting({ filter, limit, named }: Look) {
    const { mostWaiting = 5000 } = this.#options;
    const matches = hasText(filter);
    // By id: between two pages a job may have moved on to where it is looked at once more.
    const found = new Map<QueueJobId, Waiting>();
    let looked = 0;
    let isCut = false;
    for (const waiting of this.#parts.store.waiting()) {
      if (looked >= mostWaiting) {
        isCut = true;
        break;
      }
      looked += 1;
      if (matches(waiting.job)) found.set(waiting.job.id, waiting);
      if (looked % PAGE_JOBS === 0) await nextTurn(); // others have questions, too
    }
    if (named !== undefined && WAITING_STATES.includes(named.state) && !found.has(named.id))
      found.set(named.id, { job: named, beyond: looked });
    const told = firstOf([...found.values()], named && found.get(named.id), limit);
    return { found: told, count: found.size, isCut };
  }

  #endedJobs({ filter = '', limit, named }: Look, counts: Overview['counts']): OverviewJobs {
    const total = sumOf(counts, FINAL_STATES);
    if (filter === '') return { jobs: this.#lastEnded(limit).map((job) => overviewJob(job)), count: total };
    const { mostEnded = 500 } = this.#options;
    const looked = this.#lastEnded(mostEnded);
    const found = looked.filter(hasText(filter));
    let isNamed = found.find(({ id }) => id === named?.id);
    if (isNamed === undefined && named !== undefined && FINAL_STATES.includes(named.state)) {
      isNamed = named;
      found.push(named);
    }
    const jobs = firstOf(found, isNamed, limit).map((job) => overviewJob(job));
    return { jobs, count: found.length, ...(looked.length < total ? { isCut: true } : {}) };
  }

  /** Read again when something has happened. */
  #lastEnded(limit: number): readonly QueueJob[] {
    const { store } = this.#parts;
    const key = `${store.lastEvent} ${limit}`;
    if (limit > 0 && key !== this.#ended.key) this.#ended = { key, jobs: store.lastEnded(limit) };
    return limit > 0 ? this.#ended.jobs : [];
  }

  #reasonFacts(looks: readonly MachineLook[], running: readonly QueueJob[], now: number): ReasonFacts {
    const { store, pool, machines, order, keptFree } = this.#parts;
    const states = looks.map(({ name, state, reason, facts }) => {
      const { maxJobs, snapshot } = facts;
      return [name, state, reason, maxJobs, snapshot?.takenAt];
    });
    return {
      ...{ store, order, now },
      ...(keptFree === undefined ? {} : { keptFree }),
      machines: explainedMachines(looks, pool, machines, runsHereOf(running)),
      barOf: (spec) => this.#parts.barOf(spec),
      troubleIn: (results) => this.#parts.troubleIn(results),
      version: JSON.stringify([store.lastEvent, keptFree, states]),
    };
  }
}

function waitingOf(counts: Overview['counts']): number {
  return sumOf(counts, WAITING_STATES);
}

function sumOf(counts: Overview['counts'], states: readonly QueueState[]): number {
  return states.reduce((sum, state) => sum + counts[state], 0);
}

/** How many jobs run on each machine; those that run here for one are not there. */
function countsByMachine(running: readonly QueueJob[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { machine, spec } of running)
    if (machine !== undefined && spec.runHere !== true) counts.set(machine, (counts.get(machine) ?? 0) + 1);
  return counts;
}

function pathsOf({ out, err }: JobOutputs): readonly string[] {
  return err === undefined ? [out] : [out, err];
}
