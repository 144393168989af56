/**
 * What earlier runs of a batch left on the machines, and what becomes of it: an attempt that runs or has ended goes on
 * for its job, wherever its machine is; nothing is started a second time because nobody could ask.
 *
 *     found on a machine that has joined       adopted
 *     in the journal, machine expected         awaited, adopted when the machine joins
 *     in the journal, machine not named        its job is not run: only there can be told what became of it
 *     in the journal, machine joined, no trace it never began, and never will: its job waits again
 */

import type { FollowedRun } from '../allocator/followed-run.ts';
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import type { Attempt, Job, JobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { FoundAttempt } from '../domain/ports.ts';
import type { Engine } from '../engine/engine.ts';
import { machineKey } from '../runner/job-folder.ts';
import { historyOf, type JobHistory } from '../stores/journal.ts';
import type { MemoryStore } from '../stores/memory.ts';
import { type AdoptedJob, type SortedAttempts, sortFound } from './found-attempts.ts';

/** What the batch is made of. */
export interface EarlierAttemptsOptions {
  readonly pool: MachinePool;
  readonly store: MemoryStore;
  readonly engine: Engine;
  readonly jobs: readonly Job[];
  /** Jobs without a result. */
  readonly toRun: readonly Job[];
  /** What the journal told when it was opened. */
  readonly histories: ReadonlyMap<JobId, JobHistory>;
  /** Whether machines that stay away are given up: then those that nobody named are, too. */
  readonly givesUp: boolean;
  readonly warn: (message: string) => void;
}

type Open = NonNullable<JobHistory['open']>;

/** How many jobs go on in which way. */
export interface GoneOn {
  readonly running: number;
  readonly ended: number;
  readonly awaited: number;
  readonly orphaned: number;
}

const NOTHING: SortedAttempts = { toAdopt: [], noted: [], toDiscard: [], toEnd: [], strange: [] };

/** The attempts of earlier runs of one batch. */
export class EarlierAttempts {
  readonly #options: EarlierAttemptsOptions;
  #sorted = NOTHING;
  /** Jobs whose attempt is on a machine that has not joined. */
  readonly #awaited = new Map<JobId, { readonly open: Open; readonly followed: FollowedRun }>();
  /** The same, before they are followed; and those whose machine is not named. */
  #toAwait: (readonly [Job, Open])[] = [];
  #absent: (readonly [Job, Open])[] = [];
  /** Attempts that go on although another had begun to write its job's output. */
  readonly #returned = new Set<string>();

  constructor(options: EarlierAttemptsOptions) {
    this.#options = options;
  }

  /** Looks at the machines that have joined. */
  async find(): Promise<void> {
    const { pool, jobs, toRun, histories } = this.#options;
    const sorted = sortFound(await pool.discover(), jobs, toRun, histories);
    for (const found of sorted.toDiscard) pool.discard(found);
    for (const found of sorted.toEnd) pool.end(found);
    const known = new Set([...sorted.toAdopt.map(({ job }) => job.id)]);
    const unwanted = [...sorted.toDiscard, ...sorted.toEnd, ...sorted.strange];
    const settled = new Set(unwanted.map(({ attempt }) => key(attempt)));
    const toAdopt: AdoptedJob[] = [...sorted.toAdopt];
    const byKey = new Map(pool.machines.map((machine) => [machineKey(machine.snapshot.identity), machine]));
    for (const job of toRun) {
      const open = historyOf(histories, job)?.open;
      if (open === undefined || known.has(job.id)) continue;
      const attempt: Attempt = { job: job.id, number: open.number };
      if (settled.has(key(attempt))) continue;
      const machine = byKey.get(open.machineKey);
      if (machine !== undefined) toAdopt.push({ job, found: traceless(job, attempt, machine.name) });
      else if (pool.isExpected(open.machine)) this.#toAwait.push([job, open]);
      else this.#absent.push([job, open]);
    }
    this.#sorted = { ...sorted, toAdopt };
  }

  /** Whether an earlier attempt of the job may be somewhere. */
  isKnown(job: JobId): boolean {
    return (
      this.#sorted.toAdopt.some((one) => one.job.id === job) ||
      this.#toAwait.some(([{ id }]) => id === job) ||
      this.#absent.some(([{ id }]) => id === job)
    );
  }

  /** Whether the job's attempt is on a machine that has not joined. */
  isAwaited(job: JobId): boolean {
    return this.#awaited.has(job);
  }

  /** Machines that hold attempts and are not among those that were named. */
  get absentMachines(): readonly MachineName[] {
    return [...new Set(this.#absent.map(([, { machine }]) => machine))];
  }

  /** Whether what has been written of a job's output is this attempt's. */
  ownsOutput(attempt: Attempt): boolean {
    const { histories } = this.#options;
    return histories.get(attempt.job)?.open?.number === attempt.number && !this.#returned.has(key(attempt));
  }

  /** Has the engine follow what was found. */
  goOn(): GoneOn {
    const { store, pool, engine } = this.#options;
    for (const attempt of this.#sorted.noted) store.noteAttempt(attempt);
    for (const { job, found } of this.#sorted.toAdopt) this.#adopt(job, found);
    for (const [job, open] of [...this.#toAwait, ...this.#absent]) {
      const attempt = { job: job.id, number: open.number };
      if (!store.resume(attempt)) continue;
      const followed = pool.awaitMachine(job, attempt, open.machine);
      this.#awaited.set(job.id, { open, followed });
      engine.adopt(job, followed);
    }
    this.#letGoOfAbsent();
    const { toAdopt, strange } = this.#sorted;
    const ended = toAdopt.filter(({ found }) => found.state === 'ended').length;
    return {
      running: toAdopt.length - ended,
      ended,
      awaited: this.#awaited.size,
      orphaned: strange.length,
    };
  }

  /** Jobs on machines that nobody named: they are not run, and nobody waits for them. */
  #letGoOfAbsent(): void {
    const byMachine = new Map<MachineName, Job[]>();
    for (const [job, { machine }] of this.#absent)
      byMachine.set(machine, [...(byMachine.get(machine) ?? []), job]);
    for (const [machine, jobs] of byMachine)
      this.#letGo(machine, jobs, 'is not among the machines of this run');
  }

  #letGo(machine: MachineName, jobs: readonly Job[], why: string): void {
    const { warn, engine, givesUp } = this.#options;
    if (givesUp) return;
    const count = jobs.length === 1 ? '1 job' : `${jobs.length} jobs`;
    warn(
      `${count} of an earlier run may still run on ${machine}, which ${why}: name it to bring them home, ` +
        'or give --machine-lost-after 0 to run them again',
    );
    for (const { id } of jobs) engine.forget(id);
  }

  #adopt(job: Job, found: FoundAttempt): void {
    const { store, pool, engine } = this.#options;
    if (!store.resume(found.attempt)) {
      pool.end(found); // its job has a result by now
      return;
    }
    const running = pool.adopt(store.job(job.id) ?? job, found);
    engine.adopt(job, running);
    if (found.state === 'ending') running.cancel('an earlier run had asked for its end');
  }

  /** A machine has joined late: goes on with what is there. */
  async takeLate(machine: PoolMachine): Promise<void> {
    const { pool, store, jobs, toRun, histories, warn } = this.#options;
    const found = (await machine.runner?.discover()) ?? [];
    const open = toRun.filter(({ id }) => store.outcomeOf(id) === undefined);
    const { toAdopt, noted, toDiscard, toEnd, strange } = sortFound(found, jobs, open, histories);
    for (const attempt of noted) store.noteAttempt(attempt);
    for (const one of toDiscard) pool.discard(one);
    for (const one of toEnd) pool.end(one);
    if (strange.length > 0)
      warn(`${machine.name}: ${strange.length} attempts belong to no line as it is now (see --orphans)`);
    const best = new Map(toAdopt.map((one) => [one.job.id, one]));
    const here = machineKey(machine.snapshot.identity);
    const replaced: Job[] = [];
    for (const [id, { open: expected, followed }] of [...this.#awaited]) {
      if (expected.machineKey !== here) {
        if (expected.machine === machine.name) replaced.push(followed.job);
        continue;
      }
      this.#awaited.delete(id);
      const one = best.get(id);
      if (one !== undefined) {
        best.delete(id);
        pool.followAwaited(followed, one.found);
      } else if (toDiscard.some(({ attempt }) => key(attempt) === key(followed.attempt))) {
        followed.neverStarted('it was never begun, or cancelled');
      } else {
        pool.followAwaited(followed, traceless(followed.job, followed.attempt, machine.name));
      }
    }
    if (replaced.length > 0) this.#letGo(machine.name, replaced, 'is another machine than it was then');
    for (const { job, found: one } of best.values()) this.#takeBack(job, one);
  }

  /** A machine that was given up is back, and an attempt of ours may be on it. */
  takeReturned(job: Job, attempt: Attempt, machine: MachineName): void {
    const { pool } = this.#options;
    void this.#lookFor(attempt, machine).then(
      (found) => {
        if (found === undefined) return;
        if (found.state === 'unstarted' || found.state === 'cancelled') pool.discard(found);
        else this.#takeBack(job, found);
      },
      () => {}, // away again: the next run of the batch finds it
    );
  }

  async #lookFor(attempt: Attempt, machine: MachineName): Promise<FoundAttempt | undefined> {
    const there = this.#options.pool.machines.find(({ name }) => name === machine);
    const found = (await there?.runner?.discover()) ?? [];
    return found.find((one) => key(one.attempt) === key(attempt));
  }

  /** An attempt turned up after its job had gone on without it: it counts again, unless the job has a result. */
  #takeBack(job: Job, found: FoundAttempt): void {
    this.#returned.add(key(found.attempt));
    this.#adopt(job, found);
  }
}

function key({ job, number }: Attempt): string {
  return `${job}/${number}`;
}

/** An attempt of which its machine has no trace yet: adopting it finds that out, and keeps it from ever beginning. */
function traceless(job: Job, attempt: Attempt, machine: MachineName): FoundAttempt {
  return { attempt, machine, command: job.command, tree: '', gpus: [], state: 'running' };
}
