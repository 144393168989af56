/**
 * Where the queue service's jobs are remembered: a `JobStore` for the engine, on a SQLite file, and the verbs of the
 * service. What a promise of it says is on the disk when it settles. Reads show what is in memory, which may be ahead of
 * the disk by one turn.
 */
import { UsageError } from '../domain/errors.ts';
import type { Attempt, Job, JobId, JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { JobStore } from '../domain/ports.ts';
import type { QueueJob, QueueJobId, QueueJobSpec, QueueState } from '../domain/queue.ts';
import { QueueBase, SYSTEM_CLOCK } from './queue-base.ts';
import { openQueueDatabase } from './queue-database.ts';
import { AttemptEnds, type QueueRetryPolicy } from './queue-end.ts';
import type { QueueEvent } from './queue-event.ts';
import { attemptOf, engineJobOf, exportOf, isFinal, type KeptJob, newJob, recordOf } from './queue-kept.ts';
import type { LineHead } from './queue-line.ts';
import { type QueueStateFile, readStateFile, STATE_FORMAT, STATE_VERSION } from './queue-state-file.ts';
import {
  ALL_STATES,
  type ClaimedAttempt,
  type QueueFilter,
  type QueueStoreOptions,
} from './queue-store-options.ts';
import { QueueVerbs, type VerbAnswer } from './queue-verbs.ts';

const NO_KINDS: ReadonlySet<string> = new Set();
const LOSSES_ALONE: QueueRetryPolicy = {
  isWorth: () => false,
  canRunElsewhere: () => false,
  canRun: () => true,
};

/** The jobs of a queue. Made by `open`; the folder must be this process's alone. */
export class QueueStore implements JobStore {
  readonly #base: QueueBase;
  readonly #verbs: QueueVerbs;
  readonly #ends: AttemptEnds;
  readonly #machineKeyOf: (machine: MachineName) => string | undefined;
  /** Which journal the file has; `delete` is slower and works on network file systems. */
  readonly journal: 'wal' | 'delete';

  private constructor(base: QueueBase, journal: 'wal' | 'delete', options: QueueStoreOptions) {
    this.#base = base;
    this.journal = journal;
    this.#verbs = new QueueVerbs(base);
    this.#ends = new AttemptEnds(options.policy ?? LOSSES_ALONE);
    this.#machineKeyOf = options.machineKeyOf ?? (() => undefined);
  }

  /**
   * Opens the queue in this data folder, or begins one.
   * @throws SchedulerError when its file is damaged, foreign, held by another program or written by a newer version.
   */
  static async open(folder: string, options: QueueStoreOptions = {}): Promise<QueueStore> {
    const database = await openQueueDatabase(folder);
    const { clock = SYSTEM_CLOCK, keptEvents = 100_000, onProblem = () => {} } = options;
    try {
      const base = new QueueBase(database, { clock, keptEvents, onProblem });
      return new QueueStore(base, database.journal, options);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  // What the engine asks.

  *pending(refused: ReadonlySet<string> = NO_KINDS): Generator<Job, void, undefined> {
    for (const kept of this.#base.memory.line.without(refused)) yield engineJobOf(kept);
  }

  get waitingKinds(): number {
    return this.#base.memory.line.kinds;
  }

  /** With `machine`, it is noted where the attempt goes, so that it can be looked for there after a crash. */
  async claim(id: JobId, machine?: MachineName): Promise<Attempt | undefined> {
    const kept = this.#kept(id);
    if (kept?.state !== 'queued' || !this.#base.memory.line.has(kept)) return undefined;
    kept.attempt += 1;
    kept.startedAt = undefined;
    kept.endedAt = undefined;
    kept.outcome = undefined;
    kept.machine = machine;
    kept.machineKey = machine === undefined ? undefined : this.#machineKeyOf(machine);
    const attempt = attemptOf(kept);
    this.#base.memory.move(kept, 'running');
    await this.#base.committed();
    return attempt;
  }

  /** Puts back what no machine has begun, or ends it where somebody wanted that. */
  async unclaim(attempt: Attempt): Promise<void> {
    const kept = this.#current(attempt);
    if (kept === undefined) return;
    kept.machine = undefined;
    kept.machineKey = undefined;
    kept.startedAt = undefined;
    if (kept.wanted === 'killed') this.#base.memory.move(kept, 'killed', kept.reason);
    else this.#base.memory.move(kept, kept.isHeld ? 'user-hold' : 'queued');
    await this.#base.committed();
  }

  /**
   * Whether an attempt that ended so is its job's last; true for one that counts no more. Changes nothing, and `finish`
   * goes by the same answer.
   */
  isLast(attempt: Attempt, outcome: JobOutcome, machine?: MachineName): boolean {
    const kept = this.#current(attempt);
    return kept === undefined || this.#ends.of(kept, outcome, machine).state !== 'queued';
  }

  async finish(attempt: Attempt, outcome: JobOutcome, machine?: MachineName): Promise<void> {
    const kept = this.#current(attempt);
    if (kept === undefined) return;
    if (machine !== undefined) kept.machine = machine;
    const { state, reason, changes } = this.#ends.of(kept, outcome, machine);
    Object.assign(kept, changes);
    this.#base.memory.move(kept, state === 'queued' && kept.isHeld ? 'user-hold' : state, reason);
    await this.#base.committed();
  }

  onPending(listener: () => void): () => void {
    return this.#base.onPending(listener);
  }

  /** A job as it is tried now or next; undefined when it has ended or is not known. */
  job(id: JobId): Job | undefined {
    const kept = this.#kept(id);
    return kept === undefined ? undefined : engineJobOf(kept);
  }

  /** What somebody asked for; of a job in any state. Undefined when it is not known. */
  spec(id: JobId | QueueJobId): QueueJobSpec | undefined {
    return this.#base.find(Number(id))?.spec;
  }

  /** Whether this is the attempt that counts, and it is not over. */
  isCurrent(attempt: Attempt): boolean {
    return this.#current(attempt) !== undefined;
  }

  /** This attempt goes to that machine, or has begun there: with `startedAt`, epoch milliseconds. */
  async noteStarted(
    attempt: Attempt,
    machine: MachineName,
    machineKey: string,
    startedAt?: number,
  ): Promise<void> {
    const kept = this.#current(attempt);
    if (kept === undefined) return;
    kept.machine = machine;
    kept.machineKey = machineKey;
    if (startedAt !== undefined) kept.startedAt = startedAt;
    this.#base.noteChange(kept, {
      ...{ type: 'queue:state', job: kept.id, from: 'running', state: 'running' },
      ...{ attempt: kept.attempt, machine },
    });
    await this.#base.committed();
  }

  /** Attempts that were claimed and are not over. After a start: those to look for on the machines. */
  claimed(): ClaimedAttempt[] {
    return [...this.#base.memory.running()].map((kept) => ({
      ...{ attempt: attemptOf(kept), job: engineJobOf(kept) },
      ...(kept.machine === undefined ? {} : { machine: kept.machine }),
      ...(kept.machineKey === undefined ? {} : { machineKey: kept.machineKey }),
      ...(kept.startedAt === undefined ? {} : { startedAt: kept.startedAt }),
      ...(kept.wanted === undefined ? {} : { wanted: kept.wanted }),
      ...(kept.reason === undefined ? {} : { reason: kept.reason }),
    }));
  }

  // What people ask.

  /** The id that the next job gets: those of one `add` follow each other. */
  get nextId(): QueueJobId {
    return this.#base.nextId;
  }

  /**
   * Adds jobs, all or none. They may depend on jobs that are known and on earlier ones of the same call.
   * @throws UsageError for dependencies that are not known or not earlier; SchedulerError while the disk takes no writes.
   */
  async add(specs: readonly QueueJobSpec[], { hold = false } = {}): Promise<QueueJobId[]> {
    this.#base.checkWritable();
    this.#base.checkIds(specs.length);
    this.#checkSpecs(specs);
    const ids = specs.map((spec) => {
      const kept = newJob(this.#base.takeId(), spec, this.#base.clock.now(), hold);
      this.#base.add(kept);
      return kept.id;
    });
    await this.#base.committed();
    return ids;
  }

  #checkSpecs(specs: readonly QueueJobSpec[]): void {
    const first = this.nextId;
    specs.forEach(({ name, dependsOn, array }, index) => {
      const id = first + index;
      for (const parent of dependsOn) {
        if (parent >= id)
          throw new UsageError(
            `job ${id} (${name}) cannot depend on job ${parent}: a job may depend on earlier ones only`,
          );
        if (parent < first && this.#base.stateOf(parent) === undefined)
          throw new UsageError(`job ${id} (${name}) depends on job ${parent}, which is not known`);
      }
      if (array !== undefined && (array.first < first || array.first > id))
        throw new UsageError(
          `job ${id} (${name}) is of an array that begins with job ${array.first}, which was not added with it`,
        );
    });
  }

  /** Keeps jobs from starting until they are released. Those that run are not touched. */
  hold(ids: readonly QueueJobId[]): Promise<VerbAnswer[]> {
    return this.#verbs.hold(ids);
  }

  release(ids: readonly QueueJobId[]): Promise<VerbAnswer[]> {
    return this.#verbs.release(ids);
  }

  /** Ends jobs: those that wait at once; of those that run it is noted, and the caller ends them. */
  kill(ids: readonly QueueJobId[], reason: string): Promise<VerbAnswer[]> {
    return this.#verbs.kill(ids, reason);
  }

  /** Has jobs that run wait again, once the caller has ended them. */
  requeue(ids: readonly QueueJobId[], reason: string): Promise<VerbAnswer[]> {
    return this.#verbs.requeue(ids, reason);
  }

  /** Has jobs that ended run again, with all their retries. */
  rerun(ids: readonly QueueJobId[]): Promise<VerbAnswer[]> {
    return this.#verbs.rerun(ids);
  }

  setPriority(ids: readonly QueueJobId[], priority: number): Promise<VerbAnswer[]> {
    return this.#verbs.setPriority(ids, priority);
  }

  /** Forgets jobs that ended at least so long ago, unless others wait for them. Returns their ids. */
  clean(olderThanMs: number, states?: readonly QueueState[]): Promise<QueueJobId[]> {
    return this.#verbs.clean(olderThanMs, states);
  }

  get(id: QueueJobId): QueueJob | undefined {
    const kept = this.#base.find(id);
    return kept === undefined ? undefined : recordOf(kept);
  }

  /** Jobs by id. @throws when ended ones are asked for and what has changed cannot be written. */
  list({ states = ALL_STATES, from = 1, limit = Number.MAX_SAFE_INTEGER }: QueueFilter = {}): QueueJob[] {
    return this.#base.list(states, from, limit);
  }

  /** The ids of jobs in these states, ascending; cheaper than `list` by far. @throws as `list` does */
  ids(states: readonly QueueState[]): QueueJobId[] {
    return this.#base.ids(states);
  }

  /** Ids of jobs that run on a machine, or may; those that run here for it are not among them. */
  runningOn(machine: MachineName): readonly QueueJobId[] {
    const ids: QueueJobId[] = [];
    for (const kept of this.#base.memory.running())
      if (kept.machine === machine && kept.spec.runHere !== true) ids.push(kept.id);
    return ids;
  }

  /**
   * Jobs that wait, as far as is read: first those that may start now, in order, with how many come `ahead` of each; then
   * those whose begin time or array has them wait; then those that wait for others; those that are held last.
   */
  *waiting(): Generator<{ readonly job: QueueJob; readonly ahead?: number }, void, undefined> {
    for (const { kept, ...place } of this.#base.memory.waiting()) yield { job: recordOf(kept), ...place };
  }

  /** The jobs that were the last to end, those first. */
  lastEnded(limit: number): QueueJob[] {
    return this.#base.lastEnded(limit);
  }

  /** Jobs that run, without a look at those that wait. */
  running(): QueueJob[] {
    return [...this.#base.memory.running()].map(recordOf);
  }

  /** How many jobs may start now, as far as they are concerned: no begin time, and no limit of an array, holds them up. */
  get inLine(): number {
    return this.#base.memory.line.size;
  }

  /**
   * How many jobs come before this one among those that may start now; undefined when it is not among them: it does not
   * wait, its begin time has not come, or its array may have no more jobs running.
   */
  aheadInLine(id: QueueJobId): number | undefined {
    const { line } = this.#base.memory;
    const kept = this.#base.memory.get(id);
    if (kept?.state !== 'queued' || !line.has(kept)) return undefined;
    let ahead = 0;
    for (const other of line) {
      if (other === kept) break;
      ahead += 1;
    }
    return ahead;
  }

  /** Jobs that have not begun and wait for one machine and no other, by machine. */
  waitingByMachine(): ReadonlyMap<MachineName, readonly QueueJobId[]> {
    return this.#base.memory.waitingByMachine();
  }

  /** The first of those that may start now that is of a kind for which this holds. Asked once for each kind. */
  firstInLine(isHelpable: (job: Job) => boolean): Job | undefined {
    const others = new Set<string>();
    for (const kept of this.#base.memory.line.without(others)) {
      const job = engineJobOf(kept);
      if (isHelpable(job)) return job;
      others.add(kept.kind);
    }
    return undefined;
  }

  /** What a job that is `holding` still waits for. */
  waitsFor(id: QueueJobId): QueueJobId[] {
    return this.#base.memory.waitsFor(id);
  }

  /** How many jobs are in each state. */
  counts(): Record<QueueState, number> {
    return Object.fromEntries(ALL_STATES.map((state) => [state, this.#base.count(state)])) as Record<
      QueueState,
      number
    >;
  }

  /** The first of those that may start now, and since when; time that it was first before counts. Begins anew with the process. */
  headSince(): LineHead | undefined {
    return this.#base.memory.line.head;
  }

  // Events.

  /** Those on the disk after this number, oldest first. Older ones than `oldestEvent` are gone. */
  eventsAfter(sequence: number, limit = 1000): QueueEvent[] {
    return this.#base.events.after(sequence, limit);
  }

  /** The number of the oldest event that is kept. */
  get oldestEvent(): number | undefined {
    return this.#base.events.oldest;
  }

  /** The number of the newest event; 0 before the first. */
  get lastEvent(): number {
    return this.#base.events.last;
  }

  /** Tells of events once they are on the disk. Returns the way to stop hearing. */
  onEvents(listener: (events: readonly QueueEvent[]) => void): () => void {
    return this.#base.events.onEvents(listener);
  }

  /** Puts what others tell (JSON) into the row of events. */
  tell(event: unknown): void {
    this.#base.events.append({ type: 'told', event });
    this.#base.touch();
  }

  // The whole state.

  exportState(): QueueStateFile {
    return {
      format: STATE_FORMAT,
      version: STATE_VERSION,
      nextId: this.nextId,
      jobs: [...this.exportJobs()],
    };
  }

  /** The jobs of `exportState` one by one, by id. To be read in one go: nothing can be written in between. */
  *exportJobs(): Generator<QueueStateFile['jobs'][number], void, undefined> {
    this.#base.flush();
    for (const kept of this.#base.tables.jobs(ALL_STATES)) yield exportOf(kept);
  }

  /**
   * Puts an exported state in the place of all jobs. Ids that were given before are not given again. Jobs that the state
   * calls `running` are in `claimed()` then.
   * @throws UsageError that names the place of a mistake, or when jobs run here; nothing has changed then.
   */
  async importState(json: unknown): Promise<number> {
    this.#base.checkWritable();
    const running = this.#base.count('running');
    if (running > 0) throw new UsageError(`nothing can be imported while jobs run: ${running} do`);
    const { nextId, jobs } = readStateFile(json);
    this.#base.replaceAll(jobs, nextId);
    await this.#base.committed();
    void this.#base.shrink();
    return jobs.length;
  }

  /** Brings all to the disk and closes the file. @throws when that fails. */
  close(): void {
    this.#base.close();
  }

  #kept(id: JobId): KeptJob | undefined {
    return this.#base.memory.get(Number(id));
  }

  #current({ job, number }: Attempt): KeptJob | undefined {
    const kept = this.#kept(job);
    return kept?.state === 'running' && kept.attempt === number && !isFinal(kept.state) ? kept : undefined;
  }
}
