/**
 * What people do to jobs of the queue that are there. Each answers per job, and none is refused for one id that is wrong.
 * Many jobs are done in slices, each on the disk before the next, so that others who ask come in between.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { UsageError } from '../domain/errors.ts';
import { FINAL_STATES, type QueueJobId, type QueueState } from '../domain/queue.ts';
import type { QueueBase } from './queue-base.ts';
import { isFinal, type KeptJob, type WantedEnd } from './queue-kept.ts';

/** What became of one job that a verb was for. */
export interface VerbAnswer {
  readonly id: QueueJobId;
  /** Whether it was done, or begun. */
  readonly isDone: boolean;
  /** The job's state now; absent for a job that is not known. */
  readonly state?: QueueState;
  /** For people: what was done, or why not. */
  readonly message: string;
}

/** Jobs that are done in one go: some milliseconds. */
const SLICE_JOBS = 500;

type Tried = readonly [isDone: boolean, message: string];

/** The verbs. Their promises settle when all is on the disk. */
export class QueueVerbs {
  readonly #base: QueueBase;

  constructor(base: QueueBase) {
    this.#base = base;
  }

  hold(ids: readonly QueueJobId[]): Promise<VerbAnswer[]> {
    return this.#each(ids, (kept) => {
      if (kept.state === 'running') return [false, 'it runs already'];
      if (isFinal(kept.state)) return [false, `it has ended (${kept.state})`];
      if (kept.isHeld) return [false, 'it is held already'];
      kept.isHeld = true;
      this.#base.noteChange(kept, { type: 'queue:held', job: kept.id, isHeld: true });
      if (kept.state === 'queued') this.#base.memory.move(kept, 'user-hold');
      return [true, 'held'];
    });
  }

  release(ids: readonly QueueJobId[]): Promise<VerbAnswer[]> {
    return this.#each(ids, (kept) => {
      if (isFinal(kept.state)) return [false, `it has ended (${kept.state})`];
      if (!kept.isHeld) return [false, 'it is not held'];
      kept.isHeld = false;
      this.#base.noteChange(kept, { type: 'queue:held', job: kept.id, isHeld: false });
      if (kept.state === 'user-hold') this.#base.memory.move(kept, 'queued');
      return [true, 'released'];
    });
  }

  kill(ids: readonly QueueJobId[], reason: string): Promise<VerbAnswer[]> {
    return this.#each(ids, (kept) => {
      if (isFinal(kept.state)) return [false, `it has ended (${kept.state})`];
      if (kept.state === 'running') return this.#want(kept, 'killed', reason);
      this.#base.memory.move(kept, 'killed', reason);
      return [true, 'killed before it began'];
    });
  }

  requeue(ids: readonly QueueJobId[], reason: string): Promise<VerbAnswer[]> {
    return this.#each(ids, (kept) => {
      if (kept.state !== 'running') return [false, `it does not run (${kept.state})`];
      if (kept.wanted === 'killed') return [false, 'it is being killed'];
      return this.#want(kept, 'queued', reason);
    });
  }

  #want(kept: KeptJob, wanted: WantedEnd, reason: string): Tried {
    if (kept.wanted === wanted) return [true, 'is being ended already'];
    kept.wanted = wanted;
    kept.reason = reason;
    this.#base.noteChange(kept, { type: 'queue:ending', job: kept.id, wanted, reason });
    return [true, 'is being ended'];
  }

  rerun(ids: readonly QueueJobId[]): Promise<VerbAnswer[]> {
    // Parents have lower ids: those that run again themselves are waited for.
    const ascending = [...ids].sort((a, b) => a - b);
    return this.#each(ascending, (kept) => {
      if (!isFinal(kept.state)) return [false, `it has not ended (${kept.state})`];
      const bad = kept.spec.dependsOnAny ? undefined : kept.spec.dependsOn.find((id) => this.#isBad(id));
      if (bad !== undefined)
        return [
          false,
          this.#base.stateOf(bad) === 'killed'
            ? `job ${bad}, which it depends on, was killed: name it to have it run again too`
            : `job ${bad}, which it depends on, is in state ${this.#base.stateOf(bad)}: have that run again first`,
        ];
      kept.startedAt = undefined;
      kept.endedAt = undefined;
      kept.machine = undefined;
      kept.machineKey = undefined;
      kept.outcome = undefined;
      kept.isHeld = false;
      kept.losses = 0;
      kept.failures = 0;
      kept.avoid = [];
      kept.grown = {};
      this.#base.memory.reopen(kept);
      return [true, `waits again (${kept.state})`];
    });
  }

  #isBad(id: QueueJobId): boolean {
    const state = this.#base.stateOf(id);
    return state !== undefined && state !== 'success' && isFinal(state);
  }

  async setPriority(ids: readonly QueueJobId[], priority: number): Promise<VerbAnswer[]> {
    if (!Number.isSafeInteger(priority))
      throw new UsageError(`the priority has to be a whole number, found ${priority}`);
    return this.#each(ids, (kept) => {
      if (isFinal(kept.state)) return [false, `it has ended (${kept.state})`];
      const from = kept.priority;
      this.#base.memory.change(kept, () => {
        kept.priority = priority;
      });
      this.#base.noteChange(kept, { type: 'queue:priority', job: kept.id, from, priority });
      return [true, `priority ${priority}, was ${from}`];
    });
  }

  async clean(olderThanMs: number, states: readonly QueueState[] = FINAL_STATES): Promise<QueueJobId[]> {
    const { tables, clock } = this.#base;
    const final = states.filter((state) => isFinal(state));
    const until = clock.now() - olderThanMs;
    const removed: QueueJobId[] = [];
    // Children have higher ids: those that are forgotten now need nothing any more.
    let below = Number.MAX_SAFE_INTEGER;
    for (;;) {
      this.#base.checkWritable();
      this.#base.flush();
      const slice = tables.endedUntil(final, until, { below, limit: SLICE_JOBS });
      for (const { id, state } of slice) {
        below = id;
        if (this.#isNeeded(id, state)) continue;
        this.#base.remove(id, state);
        removed.push(id);
      }
      await this.#base.committed();
      if (slice.length < SLICE_JOBS) break;
      await nextTurn();
    }
    if (removed.length > 0) await this.#base.shrink();
    return removed.reverse();
  }

  /** Whether what became of a job that has ended still counts for others. */
  #isNeeded(id: QueueJobId, state: QueueState): boolean {
    // For those that still wait for others besides.
    if (this.#base.memory.isNeeded(id)) return true;
    if (state === 'success') return false;
    // For those that must not run again before it has a good end. No more than a slice are gone and still on the disk.
    const children = this.#base.tables.neededBy(id, SLICE_JOBS + 1);
    return children.some((child) => this.#base.stateOf(child) !== undefined);
  }

  async #each(ids: readonly QueueJobId[], attempt: (kept: KeptJob) => Tried): Promise<VerbAnswer[]> {
    this.#base.checkWritable();
    const answers: VerbAnswer[] = [];
    const all = [...new Set(ids)];
    for (let at = 0; at < all.length; at += SLICE_JOBS) {
      if (at > 0) {
        await nextTurn();
        this.#base.checkWritable();
      }
      // As it is now: others may have done something to it since the slice before.
      for (const id of all.slice(at, at + SLICE_JOBS)) {
        const kept = this.#base.find(id);
        if (kept === undefined) {
          answers.push({ id, isDone: false, message: 'it is not known' });
          continue;
        }
        const [isDone, message] = attempt(kept);
        answers.push({ id, isDone, state: kept.state, message });
      }
      await this.#base.committed();
    }
    return answers;
  }
}
