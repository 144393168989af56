/**
 * What an earlier life of the service left under way, and what becomes of it. The store knows which attempts were given to
 * which machine; only the machine knows what became of them.
 *
 *     its result is whole here                  it ended so
 *     its machine has joined, and knows it      adopted: followed to its end, or its result is brought home
 *     its machine has joined without a trace    it was never begun, and never will be: its job waits again
 *     its machine has not joined                it counts as running until the machine joins, or is removed
 */
import type { FollowedRun } from '../allocator/followed-run.ts';
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import type { Attempt, Job } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { FoundAttempt, RunningAttempt } from '../domain/ports.ts';
import type { QueueJobId } from '../domain/queue.ts';
import type { Engine } from '../engine/engine.ts';
import { machineKey } from '../runner/job-folder.ts';
import { publishedOutcome } from '../runner/published-result.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import type { ClaimedAttempt } from '../stores/queue-store-options.ts';
import type { HereRuns } from './here-runs.ts';

/** What it works with. */
export interface EarlierClaimsOptions {
  readonly serviceId: string;
  readonly store: QueueStore;
  readonly pool: MachinePool;
  readonly here: HereRuns;
  readonly engine: Engine;
  /** An attempt that also outlasts trouble on this computer. */
  readonly patient: (job: Job, running: RunningAttempt) => RunningAttempt;
  readonly onAdopted: (adopted: Adopted) => void;
  /** The name of a machine stands for another one now: nobody can tell what became of these jobs. */
  readonly onReplaced: (machine: MachineName, jobs: readonly QueueJobId[]) => void;
}

/** What was found of an earlier life of the service. */
export interface Adopted {
  /** Absent for jobs that run here. */
  readonly machine?: MachineName;
  /** Jobs that are followed on. */
  readonly running: number;
  /** Jobs that have ended meanwhile: their results are brought home. */
  readonly ended: number;
  /** Jobs that had not been begun: they wait again. */
  readonly unstarted: number;
}

interface Awaited {
  readonly claim: ClaimedAttempt;
  readonly followed: FollowedRun;
}

/** The attempts of an earlier life. */
export class EarlierClaims {
  readonly #options: EarlierClaimsOptions;
  readonly #awaited = new Map<string, Awaited>();
  readonly #begun = new Set<string>();
  readonly #claimed = new Set<string>();

  constructor(options: EarlierClaimsOptions) {
    this.#options = options;
  }

  /** Takes up all that the store has under way. Returns how many there are for machines that have to join first. */
  async takeUp(): Promise<number> {
    const { store, pool, engine, patient } = this.#options;
    const here: ClaimedAttempt[] = [];
    for (const claim of store.claimed()) {
      const { attempt, job, machine, wanted } = claim;
      const spec = store.get(Number(attempt.job))?.spec;
      if (spec === undefined || engine.find(attempt.job) !== undefined) continue;
      const hasFolder = job.copyBackwards.length > 0;
      const published = publishedOutcome(
        spec.results,
        { name: job.name, hasFolder },
        { batch: this.#options.serviceId, attempt: attempt.number },
      );
      if (published !== undefined) await store.finish(attempt, published, machine);
      else if (machine === undefined) await store.unclaim(attempt);
      else {
        this.#claimed.add(keyOf(attempt));
        if (claim.startedAt !== undefined) this.#begun.add(keyOf(attempt));
        if (job.runHere === true) {
          here.push(claim);
          continue;
        }
        const followed = pool.awaitMachine(job, attempt, machine);
        this.#awaited.set(keyOf(attempt), { claim, followed });
        engine.adopt(job, patient(job, followed));
        if (wanted !== undefined) followed.cancel(reasonFor(claim));
      }
    }
    await this.#takeUpHere(here);
    return this.#awaited.size;
  }

  async #takeUpHere(claims: readonly ClaimedAttempt[]): Promise<void> {
    const { here, store, engine, patient, onAdopted } = this.#options;
    const found = new Map((await here.discover()).map((one) => [keyOf(one.attempt), one]));
    const counts = { running: 0, ended: 0, unstarted: 0 };
    for (const claim of claims) {
      const { attempt, job, machine, wanted } = claim;
      const one = found.get(keyOf(attempt));
      found.delete(keyOf(attempt));
      counts[countedAs(one)] += 1;
      const running = here.adopt(job, {
        ...(one ?? traceless(job, attempt)),
        machine: machine as MachineName,
      });
      engine.adopt(job, patient(job, running));
      if (wanted !== undefined) running.cancel(reasonFor(claim));
    }
    for (const one of found.values()) {
      if (store.isCurrent(one.attempt)) continue; // of this very life
      if (one.state === 'running' || one.state === 'ending') here.end(one);
      else here.discard(one);
    }
    if (claims.length > 0) onAdopted(counts);
  }

  /** Whether what has been written of a job's output is this attempt's. */
  ownsOutput(attempt: Attempt): boolean {
    return this.#claimed.has(keyOf(attempt));
  }

  /** Whether this attempt's command was heard to begin. */
  hasBegun(attempt: Attempt): boolean {
    return this.#begun.has(keyOf(attempt));
  }

  /** A machine has joined: goes on with what is there, and ends what nobody wants. */
  async onJoined(machine: PoolMachine): Promise<void> {
    const { store, pool, engine, onAdopted } = this.#options;
    const all = (await machine.runner?.discover()) ?? [];
    const found = new Map(all.map((one) => [keyOf(one.attempt), one]));
    const key = machineKey(machine.snapshot.identity);
    const counts = { running: 0, ended: 0, unstarted: 0 };
    const replaced: QueueJobId[] = [];
    for (const [id, { claim, followed }] of [...this.#awaited]) {
      const isHere =
        claim.machineKey === undefined ? claim.machine === machine.name : claim.machineKey === key;
      if (!isHere) {
        if (claim.machine === machine.name) replaced.push(Number(claim.attempt.job));
        continue;
      }
      this.#awaited.delete(id);
      if (followed.isGivenUp) continue;
      const one = found.get(id);
      found.delete(id);
      counts[countedAs(one)] += 1;
      if (one?.state === 'unstarted') {
        pool.discard(one);
        followed.neverStarted('the service ended before it was begun');
        continue;
      }
      pool.followAwaited(followed, {
        ...(one ?? traceless(claim.job, claim.attempt)),
        machine: machine.name,
      });
      if (one?.state === 'ending') followed.cancel('its end had been asked for before');
    }
    for (const one of found.values()) {
      // Of this very life: the machine was removed and is here again.
      if (store.isCurrent(one.attempt) && engine.find(one.attempt.job) !== undefined) continue;
      if (one.state === 'running' || one.state === 'ending') pool.end(one);
      else pool.discard(one);
    }
    if (replaced.length > 0) this.#options.onReplaced(machine.name, replaced);
    if (counts.running + counts.ended + counts.unstarted > 0) onAdopted({ machine: machine.name, ...counts });
  }

  /** A machine that was given up is back, with an attempt whose job has gone on without it: it is ended there. */
  async onReturned(attempt: Attempt, machine: MachineName): Promise<void> {
    const { pool, store } = this.#options;
    const there = pool.machines.find(({ name }) => name === machine);
    const found = (await there?.runner?.discover()) ?? [];
    const one = found.find((each) => keyOf(each.attempt) === keyOf(attempt));
    if (one === undefined || store.isCurrent(attempt)) return;
    if (one.state === 'running' || one.state === 'ending') pool.end(one);
    else pool.discard(one);
  }
}

function keyOf({ job, number }: Attempt): string {
  return `${job}/${number}`;
}

function countedAs(found: FoundAttempt | undefined): 'running' | 'ended' | 'unstarted' {
  if (found === undefined || found.state === 'unstarted') return 'unstarted';
  return found.state === 'ended' || found.state === 'cancelled' ? 'ended' : 'running';
}

function reasonFor({ wanted, reason }: ClaimedAttempt): string {
  return reason ?? (wanted === 'killed' ? 'it was killed' : 'its machine is to be free of it');
}

/** An attempt of which its machine has no trace: adopting it finds that out, and keeps it from ever beginning. */
function traceless(job: Job, attempt: Attempt): Omit<FoundAttempt, 'machine'> {
  return { attempt, command: job.command, tree: '', gpus: [], state: 'running' };
}
