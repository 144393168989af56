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
import { withTimeLimit } from '../util/time-limit.ts';
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
  /** The attempt counts from now on, though a later one had been made. */
  readonly onTakenBack: (job: Job, attempt: Attempt, machine: PoolMachine) => Promise<void>;
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

const FIND_WITHIN_MS = 10_000;

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
  #known: ReadonlySet<JobId> = new Set();
  /** Attempts that go on although another had begun to write its job's output. */
  readonly #returned = new Set<string>();

  constructor(options: EarlierAttemptsOptions) {
    this.#options = options;
  }

  /**
   * Looks at the machines that have joined. Returns those that do not answer this question in time (their disk hangs): they
   * are to be treated as joining late.
   */
  async find(withinMs = FIND_WITHIN_MS): Promise<readonly PoolMachine[]> {
    const { pool, jobs, toRun, histories } = this.#options;
    const late: PoolMachine[] = [];
    const looks = pool.machines.map(async (machine) => {
      const looking = Promise.all([machine.runner?.discover(), machine.runner?.runsFolder()]);
      looking.catch(() => {}); // it may fail after the time limit, too
      try {
        const [found = [], runs = ''] = await withTimeLimit(looking, withinMs, () => new Error('too long'));
        return [{ machine, found, runs }];
      } catch {
        late.push(machine);
        return [];
      }
    });
    const looked = (await Promise.all(looks)).flat();
    const sorted = sortFound(
      looked.flatMap(({ found }) => found),
      jobs,
      toRun,
      histories,
    );
    for (const found of sorted.toDiscard) pool.discard(found);
    for (const found of sorted.toEnd) pool.end(found);
    const known = new Set([...sorted.toAdopt.map(({ job }) => job.id)]);
    const unwanted = [...sorted.toDiscard, ...sorted.toEnd, ...sorted.strange];
    const settled = new Set(unwanted.map(({ attempt }) => key(attempt)));
    const toAdopt: AdoptedJob[] = [...sorted.toAdopt];
    const byKey = new Map(looked.map((one) => [machineKey(one.machine.snapshot.identity), one]));
    const lateKeys = new Set(late.map(({ snapshot }) => machineKey(snapshot.identity)));
    for (const job of toRun) {
      const open = historyOf(histories, job)?.open;
      if (open === undefined || known.has(job.id)) continue;
      const attempt: Attempt = { job: job.id, number: open.number };
      if (settled.has(key(attempt))) continue;
      const there = byKey.get(open.machineKey);
      if (there !== undefined && there.runs === open.runs)
        toAdopt.push({ job, found: traceless(job, attempt, there.machine.name) });
      else if (there === undefined && (pool.isExpected(open.machine) || lateKeys.has(open.machineKey)))
        this.#toAwait.push([job, open]);
      else this.#absent.push([job, open]);
    }
    this.#sorted = { ...sorted, toAdopt };
    const awaited = [...this.#toAwait, ...this.#absent].map(([{ id }]) => id);
    this.#known = new Set([...toAdopt.map(({ job }) => job.id), ...awaited]);
    return late;
  }

  /**
   * Jobs to run whose command an earlier run has under another name: their lines have moved, and would run twice. A
   * command that several lines have tells nothing.
   */
  moved(): readonly { readonly job: Job; readonly found: FoundAttempt }[] {
    const lines = new Map<string, Job[]>();
    for (const job of this.#options.jobs) lines.set(job.command, [...(lines.get(job.command) ?? []), job]);
    const left = new Set(this.#options.toRun.map(({ id }) => id));
    return this.#sorted.strange.flatMap((found) => {
      const [job, other] = lines.get(found.command) ?? [];
      if (job === undefined || other !== undefined || !left.has(job.id) || this.isKnown(job.id)) return [];
      return [{ job, found }];
    });
  }

  /** Whether anything of earlier runs goes on. */
  get hasAny(): boolean {
    return this.#sorted.toAdopt.length + this.#toAwait.length > 0;
  }

  /** Has jobs on machines that were not named count, too, since all that runs is to be ended; and those of no line. */
  endAll(): void {
    this.#isEndingAll = true;
    for (const found of this.#sorted.strange) this.#options.pool.end(found);
  }
  #isEndingAll = false;

  /** Whether an earlier attempt of the job may be somewhere. */
  isKnown(job: JobId): boolean {
    return this.#known.has(job);
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

  /** Whether this attempt's command was heard to begin. */
  hasBegun(attempt: Attempt): boolean {
    const open = this.#options.histories.get(attempt.job)?.open;
    return open?.number === attempt.number && open.hasBegun;
  }

  /** All attempts that nobody has seen the end of, where no machine could be asked. */
  all(): readonly { readonly machine: MachineName; readonly job: Job; readonly number: number }[] {
    const { toRun, histories } = this.#options;
    return toRun.flatMap((job) => {
      const open = historyOf(histories, job)?.open;
      return open === undefined ? [] : [{ machine: open.machine, job, number: open.number }];
    });
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
      awaited: this.#toAwait.length,
      orphaned: strange.length,
    };
  }

  /** Jobs on machines that nobody named: they are not run, and nobody waits for them. */
  #letGoOfAbsent(): void {
    const byMachine = new Map<MachineName, Job[]>();
    for (const [job, { machine }] of this.#absent)
      byMachine.set(machine, [...(byMachine.get(machine) ?? []), job]);
    for (const [machine, jobs] of byMachine)
      this.#letGo(
        machine,
        jobs,
        'is not among the machines of this run, or has another account or folder now',
      );
  }

  #letGo(machine: MachineName, jobs: readonly Job[], why: string): void {
    const { warn, engine, pool, givesUp } = this.#options;
    if (this.#isEndingAll) return;
    if (givesUp) {
      // A name that answers is never away, so the clock that gives machines up would wait for ever.
      if (pool.isUp(machine))
        for (const { id } of jobs) this.#awaited.get(id)?.followed.giveUp(`${machine} ${why}`);
      return;
    }
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
    const all = (await machine.runner?.discover()) ?? [];
    const runs = await machine.runner?.runsFolder();
    const givenUp = new Map(pool.takeGivenUp(machine.name).map((one) => [key(one.attempt), one]));
    for (const { job } of givenUp.values()) this.#awaited.delete(job.id);
    const found = all.filter(({ attempt }) => !givenUp.has(key(attempt)));
    for (const one of all) {
      const run = givenUp.get(key(one.attempt));
      if (run !== undefined) await this.#takeBack(run.job, one);
    }
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
      if (expected.machineKey !== here || expected.runs !== runs) {
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
    if (replaced.length > 0)
      this.#letGo(
        machine.name,
        replaced,
        'is another machine than it was then, or has another account or folder now',
      );
    for (const { job, found: one } of best.values()) await this.#takeBack(job, one);
  }

  /** A machine that was given up is back, and an attempt of ours may be on it. */
  takeReturned(job: Job, attempt: Attempt, machine: MachineName): void {
    void this.#lookFor(attempt, machine).then(
      async (found) => {
        if (found !== undefined) await this.#takeBack(job, found);
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
  async #takeBack(job: Job, found: FoundAttempt): Promise<void> {
    const { pool, store, onTakenBack } = this.#options;
    if (found.state === 'unstarted' || found.state === 'cancelled') return pool.discard(found);
    const outcome = store.outcomeOf(job.id);
    const machine = pool.machines.find(({ name }) => name === found.machine);
    if (machine === undefined || (outcome !== undefined && outcome.type !== 'lost')) return pool.end(found);
    this.#returned.add(key(found.attempt));
    // Told first: a controller that dies now must find this one to be the job's.
    await onTakenBack(job, found.attempt, machine);
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
