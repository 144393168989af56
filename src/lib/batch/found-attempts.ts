/** What to do about the attempts that earlier runs of a batch left on the machines. */
import type { Attempt, Job, JobId } from '../domain/job.ts';
import type { FoundAttempt } from '../domain/ports.ts';
import { jobFolder } from '../runner/job-folder.ts';
import { historyOf, isClosed, type JobHistory } from '../stores/journal.ts';

/** A job and the attempt that goes on for it. */
export interface AdoptedJob {
  readonly job: Job;
  readonly found: FoundAttempt;
}

/** Found attempts by what becomes of them. */
export interface SortedAttempts {
  /** One for each job that has one worth it: an attempt that has ended, else one that may still run. */
  readonly toAdopt: readonly AdoptedJob[];
  /** All attempts of jobs that are left to run: new ones need higher numbers. */
  readonly noted: readonly Attempt[];
  /** Nothing of these is wanted: never begun, cancelled, or of a job whose result is home. */
  readonly toDiscard: readonly FoundAttempt[];
  /** They may still run, though another attempt of their job counts. */
  readonly toEnd: readonly FoundAttempt[];
  /** Of lines that are not in the batch any more, or have another command now. */
  readonly strange: readonly FoundAttempt[];
}

/** Sorts what was found. `jobs`: all lines, `toRun`: those without a result, `histories`: what the journal tells of them. */
export function sortFound(
  found: readonly FoundAttempt[],
  jobs: readonly Job[],
  toRun: readonly Job[],
  histories: ReadonlyMap<JobId, JobHistory> = new Map(),
): SortedAttempts {
  const all = new Map(jobs.map((job) => [job.id, job]));
  const byFolder = new Map(jobs.map((job) => [jobFolder(job.id), job]));
  const left = new Set(toRun.map((job) => job.id));
  const best = new Map<JobId, AdoptedJob>();
  const noted: Attempt[] = [];
  const toDiscard: FoundAttempt[] = [];
  const toEnd: FoundAttempt[] = [];
  const strange: FoundAttempt[] = [];
  const isUnwanted = (one: FoundAttempt) => (one.state === 'ended' ? toDiscard : toEnd).push(one);
  for (const each of found) {
    // Without a record only its folder tells whose it is. Nobody has begun another command under a line's name there.
    const job = each.command === '' ? byFolder.get(each.attempt.job) : all.get(each.attempt.job);
    const one =
      each.command === '' && job !== undefined
        ? { ...each, attempt: { ...each.attempt, job: job.id }, command: job.command }
        : each;
    if (job !== undefined && left.has(job.id)) noted.push(one.attempt);
    if (one.state === 'unstarted' || one.state === 'cancelled') toDiscard.push(one);
    else if (job === undefined || job.command !== one.command) strange.push(one);
    else if (!left.has(job.id) || isPast(one, historyOf(histories, job))) isUnwanted(one);
    else {
      const other = best.get(job.id)?.found;
      if (other === undefined || isBetter(one, other)) best.set(job.id, { job, found: one });
      if (other !== undefined) isUnwanted(isBetter(one, other) ? other : one);
    }
  }
  return { toAdopt: [...best.values()], noted, toDiscard, toEnd, strange };
}

/** Whether the journal knows what became of an attempt, or that another one followed it. One with a result to bring counts. */
function isPast({ attempt: { number }, state }: FoundAttempt, history: JobHistory | undefined): boolean {
  if (history === undefined) return false;
  const { open } = history;
  return isClosed(history, number) || (state !== 'ended' && open !== undefined && open.number !== number);
}

/** Whoever has ended has a result to bring; else the later attempt is the one that counts. */
function isBetter(one: FoundAttempt, other: FoundAttempt): boolean {
  if ((one.state === 'ended') !== (other.state === 'ended')) return one.state === 'ended';
  return one.attempt.number > other.attempt.number;
}
