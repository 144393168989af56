/** Which jobs one who watches wants to see. */
import type { QueueJob, QueueJobId } from '../domain/queue.ts';
import { statesCalled } from '../domain/state-words.ts';

/**
 * Whether a job has that text in its id, names, command or machine, also the one that it waits for; or whether a word for
 * its state begins so.
 */
export function hasText(filter: string | undefined): (job: QueueJob) => boolean {
  if (filter === undefined || filter === '') return () => true;
  const wanted = filter.toLowerCase();
  const states = statesCalled(wanted);
  return ({ id, spec, machine, state, isHeld }) =>
    [String(id), spec.name, spec.inPlace?.title, spec.command, machine, spec.machine].some(
      (text) => text?.toLowerCase().includes(wanted) === true,
    ) ||
    states.has(state) ||
    (isHeld && states.has('user-hold'));
}

/** The id that a filter may mean: it is one, or ends in one as the names of jobs do (`train_17`). */
export function namedId(filter: string): QueueJobId | undefined {
  const digits = /^(?:.*_)?(\d{1,15})$/s.exec(filter)?.[1];
  const id = Number(digits ?? 0);
  return id > 0 ? id : undefined;
}

/** The first so many of those that were found, and among them in any case the one that was named. */
export function firstOf<T>(found: readonly T[], named: T | undefined, limit: number): readonly T[] {
  const first = found.slice(0, limit);
  if (named === undefined || limit === 0 || first.includes(named)) return first;
  return [named, ...first.slice(0, limit - 1)];
}
