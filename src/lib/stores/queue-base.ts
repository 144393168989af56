/**
 * What the verbs of a queue stand on: its jobs in memory, its file, and the way from one to the other. Every change is
 * made in memory at once and reaches the disk with the turn's commit; who asked hears when it is there.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SchedulerError, UsageError } from '../domain/errors.ts';
import type { QueueJobId, QueueState } from '../domain/queue.ts';
import { GroupCommit } from './queue-commits.ts';
import type { QueueDatabase } from './queue-database.ts';
import type { QueueChange } from './queue-event.ts';
import { QueueEvents } from './queue-events.ts';
import { isFinal, type KeptJob, recordOf } from './queue-kept.ts';
import { QueueMemory } from './queue-memory.ts';
import { MAX_ID } from './queue-spec-check.ts';
import { QueueTables } from './queue-tables.ts';

/** Time, which a test may make. */
export interface QueueClock {
  /** Epoch milliseconds. */
  now(): number;
  /** Calls back once, after so many milliseconds. Returns the way to call it off. */
  after(delayMs: number, callback: () => void): () => void;
}

/** What the base goes by. */
export interface QueueBaseOptions {
  readonly clock: QueueClock;
  readonly keptEvents: number;
  readonly onProblem: (error: Error) => void;
}

/** A clock may be set, and a computer may sleep: begin times are looked at this often at least. */
const LONGEST_TIMER_MS = 60_000;

/** Pages that are given back in one go: some milliseconds. */
const SHRINK_PAGES = 500;

const LIVE_STATES: readonly QueueState[] = ['queued', 'holding', 'user-hold', 'running'];

/** The clock of this computer. Its timers keep no process alive. */
export const SYSTEM_CLOCK: QueueClock = {
  now: Date.now,
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs).unref();
    return () => clearTimeout(timer);
  },
};

/** The jobs of a queue, in memory and on the disk. */
export class QueueBase {
  readonly tables: QueueTables;
  readonly events: QueueEvents;
  readonly clock: QueueClock;
  readonly #database: QueueDatabase;
  readonly #commits: GroupCommit;
  readonly #listeners = new Set<() => void>();
  /** What the disk does not have yet. */
  readonly #dirty = new Map<QueueJobId, KeptJob>();
  readonly #removed = new Set<QueueJobId>();
  /** Those of them that the disk has never had. */
  #fresh: KeptJob[] = [];
  #isClosed = false;
  /** The free pages are being given back. */
  #shrinking: Promise<void> | undefined;
  #memory: QueueMemory;
  #counts = new Map<QueueState, number>();
  #nextId: QueueJobId;
  #storedNextId: QueueJobId;
  /** The new job whose first move comes next. */
  #adding: KeptJob | undefined;
  #hasGrown = false;
  #stopTimer: (() => void) | undefined;

  constructor(database: QueueDatabase, { clock, keptEvents, onProblem }: QueueBaseOptions) {
    this.#database = database;
    this.clock = clock;
    this.tables = new QueueTables(database);
    this.events = new QueueEvents(this.tables, () => clock.now(), keptEvents);
    this.#nextId = this.tables.counter('nextId');
    this.#storedNextId = this.#nextId;
    this.#commits = new GroupCommit({
      commit: () => this.#commit(),
      onCommitted: () => this.#tell(),
      onProblem,
    });
    this.#memory = this.#load();
  }

  get memory(): QueueMemory {
    return this.#memory;
  }

  get nextId(): QueueJobId {
    return this.#nextId;
  }

  /** How many jobs are in this state. */
  count(state: QueueState): number {
    return this.#counts.get(state) ?? 0;
  }

  /** A job in any state. One that has ended is read from the disk. */
  find(id: QueueJobId): KeptJob | undefined {
    const here = this.#memory.get(id) ?? this.#dirty.get(id);
    return here ?? (this.#removed.has(id) ? undefined : this.tables.job(id));
  }

  stateOf(id: QueueJobId): QueueState | undefined {
    const here = this.#memory.get(id) ?? this.#dirty.get(id);
    return here?.state ?? (this.#removed.has(id) ? undefined : this.tables.stateOf(id));
  }

  /** @throws SchedulerError while the disk takes no writes: what people ask for is refused then, and not put off. */
  checkWritable(): void {
    if (this.#isClosed) throw new SchedulerError('the queue was closed');
    const { trouble } = this.#commits;
    if (trouble !== undefined)
      throw new SchedulerError(`the queue cannot be written: ${trouble.message}`, { cause: trouble });
  }

  /** @throws UsageError where so many jobs cannot get ids any more */
  checkIds(count: number): void {
    if (this.#nextId + count - 1 > MAX_ID)
      throw new UsageError(
        `there are no ids for ${count} more jobs: the next one is ${this.#nextId}, and ${MAX_ID} is the highest; ` +
          'begin another queue in a data folder of its own',
      );
  }

  /** Takes the next id for a job. @throws UsageError when there is none */
  takeId(): QueueJobId {
    this.checkIds(1);
    this.#nextId += 1;
    return this.#nextId - 1;
  }

  /** Takes in a new job. */
  add(kept: KeptJob): void {
    this.#adding = kept;
    this.#fresh.push(kept);
    this.#memory.place(kept);
  }

  /** A job has changed other than by a move. */
  noteChange(kept: KeptJob, change?: QueueChange): void {
    this.#dirty.set(kept.id, kept);
    if (change !== undefined) this.events.append(change);
    this.touch();
  }

  /** Forgets a job that has ended. */
  remove(id: QueueJobId, state: QueueState): void {
    this.#dirty.delete(id);
    this.#removed.add(id);
    this.#counts.set(state, this.count(state) - 1);
    this.events.append({ type: 'queue:removed', job: id });
    this.touch();
  }

  touch(): void {
    this.#commits.touch();
  }

  /** Settles when all that was done until now is on the disk. */
  committed(): Promise<void> {
    return this.#commits.committed();
  }

  /** Brings all to the disk now. @throws when that fails. */
  flush(): void {
    this.#commits.flush();
  }

  /** Puts other jobs in the place of all, at once, on the disk and here. Ids go on from the highest ever. */
  replaceAll(jobs: readonly KeptJob[], nextId: QueueJobId): void {
    this.flush();
    this.#database.transaction(() => {
      this.tables.removeAllJobs();
      for (const kept of jobs) {
        this.tables.putJob(kept);
        this.tables.putNeeds(kept);
      }
      this.tables.putCounter('nextId', nextId);
    });
    this.#nextId = Math.max(this.#nextId, nextId);
    this.events.append({ type: 'queue:imported', jobs: jobs.length });
    this.#memory = this.#load();
    this.#hasGrown = true;
    this.touch();
  }

  /** Gives back to the file system what the file no longer needs, in pieces that others come in between of. */
  shrink(): Promise<void> {
    this.#shrinking ??= this.#shrink().finally(() => {
      this.#shrinking = undefined;
    });
    return this.#shrinking;
  }

  async #shrink(): Promise<void> {
    for (;;) {
      await nextTurn();
      if (this.#isClosed) return;
      try {
        if (!this.#database.shrink(SHRINK_PAGES)) return;
      } catch {
        return; // a file that is too large does no harm, and the next time may do better
      }
    }
  }

  onPending(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#isClosed = true;
    this.#stopTimer?.();
    try {
      this.#commits.close();
    } finally {
      this.#database.close();
    }
  }

  #load(): QueueMemory {
    this.#counts = new Map(this.tables.counts().map(({ state, jobs }) => [state, jobs]));
    this.#nextId = Math.max(this.#nextId, this.tables.highestId() + 1);
    const memory = new QueueMemory({
      now: () => this.clock.now(),
      endedState: (id) =>
        this.#dirty.get(id)?.state ?? (this.#removed.has(id) ? undefined : this.tables.stateOf(id)),
      onMove: (kept, from) => this.#noteMove(kept, from),
    });
    for (const kept of this.tables.jobs(LIVE_STATES)) memory.load(kept);
    this.#awaitBegin(memory);
    return memory;
  }

  #noteMove(kept: KeptJob, from: QueueState): void {
    const { id, state, attempt, machine, outcome, reason } = kept;
    const isNew = kept === this.#adding;
    this.#adding = undefined;
    if (!isNew) this.#counts.set(from, this.count(from) - 1);
    this.#counts.set(state, this.count(state) + 1);
    if (state === 'queued') this.#hasGrown = true;
    // An array's job that stops makes room for another.
    if (from === 'running' && kept.spec.array !== undefined) this.#hasGrown = true;
    if (isNew) {
      this.noteChange(kept, { type: 'queue:added', job: id, name: kept.spec.name, state });
      return;
    }
    this.noteChange(kept, {
      ...{ type: 'queue:state', job: id, from, state, attempt },
      ...(machine === undefined ? {} : { machine }),
      ...(outcome === undefined ? {} : { outcome }),
      ...(reason === undefined ? {} : { reason }),
    });
  }

  #commit(): void {
    this.#database.transaction(() => {
      for (const kept of this.#dirty.values()) this.tables.putJob(kept);
      for (const kept of this.#fresh) this.tables.putNeeds(kept);
      for (const id of this.#removed) this.tables.removeJob(id);
      if (this.#nextId !== this.#storedNextId) this.tables.putCounter('nextId', this.#nextId);
      this.events.write();
    });
    this.#storedNextId = this.#nextId;
    this.#dirty.clear();
    this.#fresh = [];
    this.#removed.clear();
  }

  #tell(): void {
    this.#awaitBegin(this.#memory);
    this.events.written();
    if (!this.#hasGrown) return;
    this.#hasGrown = false;
    this.#tellPending();
  }

  #tellPending(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #awaitBegin(memory: QueueMemory): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    const at = memory.line.nextBeginAt;
    if (at === undefined) return;
    const delayMs = Math.min(Math.max(0, at - this.clock.now()), LONGEST_TIMER_MS);
    this.#stopTimer = this.clock.after(delayMs, () => {
      const isAny = this.#memory.line.admitDue();
      this.#awaitBegin(this.#memory);
      if (isAny) this.#tellPending();
    });
  }

  /** Jobs in these states, by id. @throws when what has changed cannot be written. */
  list(states: readonly QueueState[], from: QueueJobId, limit: number): ReturnType<typeof recordOf>[] {
    const live = this.#memory.list(states, from, limit);
    const final = states.filter((state) => !LIVE_STATES.includes(state));
    if (final.length === 0) return live;
    this.flush();
    const ended = [...this.tables.jobs(final, { from, limit })].map(recordOf);
    return [...live, ...ended].sort((a, b) => a.id - b.id).slice(0, limit);
  }

  /** The jobs that were the last to end, those first. */
  lastEnded(limit: number): ReturnType<typeof recordOf>[] {
    const fresh = [...this.#dirty.values()].filter(({ state }) => isFinal(state));
    const isKnown = ({ id }: KeptJob) =>
      !this.#dirty.has(id) && !this.#removed.has(id) && this.#memory.get(id) === undefined;
    // The disk has those that were removed in this turn.
    const written = this.tables.lastEnded(limit + this.#removed.size).filter(isKnown);
    const endOf = ({ endedAt = 0 }: KeptJob) => endedAt;
    return [...fresh, ...written]
      .sort((a, b) => endOf(b) - endOf(a) || b.id - a.id)
      .slice(0, limit)
      .map(recordOf);
  }

  /** The ids of jobs in these states, ascending. @throws as `list` does */
  ids(states: readonly QueueState[]): QueueJobId[] {
    const live = this.#memory.ids(states);
    const final = states.filter((state) => !LIVE_STATES.includes(state));
    if (final.length === 0) return live;
    this.flush();
    return [...live, ...this.tables.ids(final)].sort((a, b) => a - b);
  }
}
