/**
 * The jobs of a queue that have not ended, in memory, and the moves between states:
 *
 *   add -> holding -> user-hold <-> queued -> running -> success | fail | error
 *                                     ^----------'        (lost, tried again, put back)
 *   any that waits -> killed;  holding -> abort;  running -> killed
 *   an end -> holding | user-hold | queued                 (run again)
 *
 * `holding` goes first: a job that waits for others is `user-hold` only once those have ended. What a change entails for
 * other jobs happens with it, so that it reaches the disk in one transaction.
 */
import type { MachineName } from '../domain/machine.ts';
import type { QueueJob, QueueJobId, QueueState } from '../domain/queue.ts';
import { QueueDependencies } from './queue-dependencies.ts';
import { isFinal, type KeptJob, recordOf, refreshKind } from './queue-kept.ts';
import { QueueLine } from './queue-line.ts';
import { OrderedList } from './queue-order.ts';

/** What the memory asks and tells. */
export interface QueueMemoryOptions {
  /** Epoch milliseconds. */
  readonly now: () => number;
  /** The state of a job that has ended; undefined for one that is not known. */
  readonly endedState: (id: QueueJobId) => QueueState | undefined;
  /** A job has another state, or the same one anew. Told for every move. */
  readonly onMove: (kept: KeptJob, from: QueueState) => void;
}

/** Jobs that wait or run. */
export class QueueMemory {
  readonly line: QueueLine<KeptJob>;
  readonly #options: QueueMemoryOptions;
  readonly #jobs = new Map<QueueJobId, KeptJob>();
  readonly #byId = new OrderedList<KeptJob>(() => 0);
  readonly #running = new Set<KeptJob>();
  /** Those that wait and are not in line. */
  readonly #holding = new OrderedList<KeptJob>(() => 0);
  readonly #held = new OrderedList<KeptJob>(() => 0);
  /** Those that have not begun and wait for one machine and no other. */
  readonly #waitingFor = new Map<MachineName, Set<QueueJobId>>();
  readonly #dependencies = new QueueDependencies();

  constructor(options: QueueMemoryOptions) {
    this.#options = options;
    this.line = new QueueLine(options.now);
  }

  get(id: QueueJobId): KeptJob | undefined {
    return this.#jobs.get(id);
  }

  running(): Iterable<KeptJob> {
    return this.#running;
  }

  /**
   * Jobs that wait, without a look at more than are asked for: those in line in its order, those beside it, those that wait
   * for others, those that are held. `ahead`: of one in line, how many stand before it.
   */
  *waiting(): Generator<{ readonly kept: KeptJob; readonly ahead?: number }, void, undefined> {
    let ahead = 0;
    for (const kept of this.line) yield { kept, ahead: ahead++ };
    for (const list of [this.line.beside(), this.#holding, this.#held])
      for (const kept of list) yield { kept };
  }

  /** Jobs in these states, by id, from an id on. */
  list(states: readonly QueueState[], from: QueueJobId, limit: number): QueueJob[] {
    // No more are looked at than are wanted: there may be hundreds of thousands.
    const found: QueueJob[] = [];
    for (const kept of this.#byId.from({ rank: 0, id: from })) {
      if (found.length >= limit) break;
      if (states.includes(kept.state)) found.push(recordOf(kept));
    }
    return found;
  }

  /** The ids of jobs in these states, ascending. */
  ids(states: readonly QueueState[]): QueueJobId[] {
    const ids: QueueJobId[] = [];
    for (const { id, state } of this.#byId) if (states.includes(state)) ids.push(id);
    return ids;
  }

  /** Jobs that have not begun and wait for one machine and no other, by machine; not in order. */
  waitingByMachine(): ReadonlyMap<MachineName, readonly QueueJobId[]> {
    return new Map([...this.#waitingFor].map(([machine, ids]) => [machine, [...ids]]));
  }

  /** Whether a job that has not begun waits for this one. */
  isNeeded(id: QueueJobId): boolean {
    return this.#dependencies.hasChildren(id);
  }

  /** What a job that is `holding` still waits for. */
  waitsFor(id: QueueJobId): QueueJobId[] {
    return this.#dependencies.unmetOf(id);
  }

  /** Takes in a job as the disk has it. Jobs come by id, so that what they depend on is there already. */
  load(kept: KeptJob): void {
    this.#take(kept);
    refreshKind(kept);
    this.#note(kept);
    if (kept.state === 'queued') this.line.add(kept);
    if (kept.state === 'running') {
      this.#running.add(kept);
      this.line.noteRunning(kept);
    }
    if (kept.state === 'holding') this.place(kept);
  }

  /**
   * Takes in a job that is new or runs again, and that is nowhere yet: it waits for its parents, its release or a
   * machine, or aborts. `load` has it look at its parents again.
   */
  place(kept: KeptJob): void {
    const from = kept.state;
    this.#take(kept);
    const unmet: QueueJobId[] = [];
    for (const parent of new Set(kept.spec.dependsOn)) {
      const state = this.#jobs.get(parent)?.state ?? this.#options.endedState(parent);
      if (state === undefined || state === 'success') continue;
      if (!isFinal(state)) unmet.push(parent);
      else if (!kept.spec.dependsOnAny) {
        this.#enter(kept, from, 'abort', parentReason(parent, state));
        return;
      }
    }
    if (unmet.length > 0) {
      this.#dependencies.wait(kept.id, kept.spec.dependsOn, unmet);
      // From the disk it comes as it was.
      if (from !== 'holding') this.#enter(kept, from, 'holding');
      return;
    }
    this.#enter(kept, from, kept.isHeld ? 'user-hold' : 'queued');
  }

  /** Runs again what had ended: those that wait for it wait on, and those wait again that it had let go and have not begun. */
  reopen(kept: KeptJob): void {
    this.#dependencies.reopen(kept.id);
    this.place(kept);
    for (const id of this.#dependencies.letGoBy(kept.id)) {
      const child = this.#jobs.get(id);
      if (child === undefined) continue;
      if (child.state === 'queued') this.line.delete(child);
      this.place(child);
    }
  }

  #take(kept: KeptJob): void {
    if (!this.#jobs.has(kept.id)) this.#byId.add(kept);
    this.#jobs.set(kept.id, kept);
  }

  /** Keeps by its state what is asked for by others than its id. */
  #note(kept: KeptJob): void {
    const { id, state, spec } = kept;
    setIn(this.#holding, kept, state === 'holding');
    setIn(this.#held, kept, state === 'user-hold');
    const waits = !isFinal(state) && state !== 'running';
    if (spec.dependsOn.length > 0)
      this.#dependencies.noteLetGo(id, spec.dependsOn, state === 'queued' || state === 'user-hold');
    if (spec.machine === undefined) return;
    const ids = this.#waitingFor.get(spec.machine);
    if (waits && ids === undefined) this.#waitingFor.set(spec.machine, new Set([id]));
    else if (waits) ids?.add(id);
    else if (ids?.delete(id) === true && ids.size === 0) this.#waitingFor.delete(spec.machine);
  }

  /** Gives a job another state, with all that follows from it for others. */
  move(kept: KeptJob, state: QueueState, reason?: string): void {
    const from = kept.state;
    if (from === 'queued') this.line.delete(kept);
    if (from === 'holding') this.#dependencies.drop(kept.id, kept.spec.dependsOn);
    if (from === 'running') {
      this.#running.delete(kept);
      this.line.noteStopped(kept);
    }
    this.#enter(kept, from, state, reason);
  }

  /** Changes what its place in line hangs on. */
  change(kept: KeptJob, change: () => void): void {
    const isInLine = kept.state === 'queued';
    if (isInLine) this.line.delete(kept);
    change();
    if (isInLine) this.line.add(kept);
  }

  #enter(kept: KeptJob, from: QueueState, state: QueueState, reason?: string): void {
    kept.state = state;
    kept.reason = reason;
    if (state === 'queued') {
      refreshKind(kept);
      this.line.add(kept);
    }
    if (state === 'running') {
      this.#running.add(kept);
      this.line.noteRunning(kept);
    } else {
      kept.wanted = undefined;
    }
    if (isFinal(state)) {
      kept.endedAt = this.#options.now();
      if (this.#jobs.delete(kept.id)) this.#byId.delete(kept);
    }
    this.#note(kept);
    this.#options.onMove(kept, from);
    if (isFinal(state)) this.#tellChildren(kept.id, state);
  }

  /** Not by recursion: chains of jobs may be longer than the stack is deep. */
  #tellChildren(id: QueueJobId, state: QueueState): void {
    if (this.#isTelling) {
      this.#ended.push([id, state]);
      return;
    }
    this.#isTelling = true;
    this.#ended.push([id, state]);
    for (let next = this.#ended.shift(); next !== undefined; next = this.#ended.shift()) {
      const [parent, end] = next;
      for (const child of this.#dependencies.childrenOf(parent)) this.#tellChild(child, parent, end);
    }
    this.#isTelling = false;
  }
  readonly #ended: [QueueJobId, QueueState][] = [];
  #isTelling = false;

  #tellChild(id: QueueJobId, parent: QueueJobId, end: QueueState): void {
    const child = this.#jobs.get(id);
    if (child === undefined) return;
    if (end !== 'success' && !child.spec.dependsOnAny) this.move(child, 'abort', parentReason(parent, end));
    else if (this.#dependencies.meet(id, parent)) this.move(child, child.isHeld ? 'user-hold' : 'queued');
  }
}

function setIn(list: OrderedList<KeptJob>, kept: KeptJob, isIn: boolean): void {
  if (!isIn) list.delete(kept);
  else if (!list.has(kept)) list.add(kept);
}

function parentReason(parent: QueueJobId, state: QueueState): string {
  const words: Partial<Record<QueueState, string>> = {
    fail: 'failed',
    killed: 'was killed',
    abort: 'was aborted',
    error: 'could not be started',
  };
  return `job ${parent}, which it depends on, ${words[state] ?? `ended as ${state}`}`;
}
