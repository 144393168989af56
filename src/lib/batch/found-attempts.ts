/** What to do about the attempts that earlier runs of a batch left on the machines. */
import type { Attempt, Job, JobId } from '../domain/job.ts';
import type { FoundAttempt } from '../domain/ports.ts';

/** Found attempts by what becomes of them. */
export interface SortedAttempts {
  /** One for each job that has one worth it: an attempt that has ended, else one that may still run. */
  readonly toAdopt: readonly { readonly job: Job; readonly found: FoundAttempt }[];
  /** All attempts of jobs that are left to run: new ones need higher numbers. */
  readonly noted: readonly Attempt[];
  /** Nothing of these is wanted: never begun, cancelled, or of a job whose result is home. */
  readonly toDiscard: readonly FoundAttempt[];
  /** Of lines that are not in the batch any more, or have another command now. */
  readonly strange: readonly FoundAttempt[];
}

/** Sorts what was found. `jobs`: all lines, `toRun`: those without a result. */
export function sortFound(
  found: readonly FoundAttempt[],
  jobs: readonly Job[],
  toRun: readonly Job[],
): SortedAttempts {
  const all = new Map(jobs.map((job) => [job.id, job]));
  const left = new Set(toRun.map((job) => job.id));
  const best = new Map<JobId, { readonly job: Job; readonly found: FoundAttempt }>();
  const noted: Attempt[] = [];
  const toDiscard: FoundAttempt[] = [];
  const strange: FoundAttempt[] = [];
  for (const one of found) {
    const job = all.get(one.attempt.job);
    if (job !== undefined && left.has(job.id)) noted.push(one.attempt);
    if (one.state === 'unstarted' || one.state === 'cancelled') toDiscard.push(one);
    else if (job === undefined || job.command !== one.command) strange.push(one);
    else if (left.has(job.id)) {
      const other = best.get(job.id)?.found;
      if (other === undefined || isBetter(one, other)) best.set(job.id, { job, found: one });
    } else if (one.state === 'ended') toDiscard.push(one);
  }
  return { toAdopt: [...best.values()], noted, toDiscard, strange };
}

/** Whoever has ended has a result to bring; else the later attempt is the one that counts. */
function isBetter(one: FoundAttempt, other: FoundAttempt): boolean {
  if (one.state !== other.state) return one.state === 'ended';
  return one.attempt.number > other.attempt.number;
}
