/** What a person wants to know at the end of a batch: how many of what, and where to look for the failed ones. */
import { join } from 'node:path';
import type { BatchEnded, JobEnded, SchedulerEvent } from '../../lib/domain/events.ts';
import { isSuccess, type JobId } from '../../lib/domain/job.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { outcomeText } from './outcome-text.ts';
import { type TextOut, writeNote } from './text-out.ts';

const JOBS_SHOWN = 10;
const GROUPS_SHOWN = 10;

/** Options of `summaryReport`. */
export interface SummaryOptions {
  readonly stderr: TextOut;
  /** The results folder as the user wrote it. @default 'job_results' */
  readonly results?: string;
}

interface FailedJob {
  readonly line: number;
  readonly text: string;
}

/** Says nothing until `batch:ended`; then the failed jobs, those that ended alike together, and one line of counts. */
export function summaryReport({
  stderr,
  results = 'job_results',
}: SummaryOptions): (event: SchedulerEvent) => void {
  const failed = new Map<JobId, { outcome: string } & FailedJob>();
  let skippedBad = 0;
  return (event) => {
    switch (event.type) {
      case 'job:started':
        failed.delete(event.job); // a further attempt: only the last one counts
        break;
      case 'job:ended':
        if (!isSuccess(event.outcome)) {
          failed.set(event.job, {
            outcome: outcomeText(event.outcome),
            line: event.line,
            text: failedText(event, results),
          });
        }
        break;
      case 'job:skipped':
        if (!event.isGood) skippedBad += 1;
        break;
      case 'batch:ended':
        for (const line of failureLines([...failed.values()])) writeNote(stderr, line);
        writeNote(stderr, countsText(event, skippedBad));
        break;
      default:
    }
  };
}

function failedText(event: JobEnded, results: string): string {
  const name = visibleText(event.name);
  // Without a start there is no output to look at.
  return event.startedAt === undefined
    ? name
    : `${name}: see ${visibleText(join(results, `${event.name}.err`))}`;
}

function failureLines(failed: readonly ({ outcome: string } & FailedJob)[]): string[] {
  const groups = new Map<string, FailedJob[]>();
  for (const job of failed) {
    const group = groups.get(job.outcome);
    if (group) group.push(job);
    else groups.set(job.outcome, [job]);
  }
  const largestFirst = [...groups].sort(([, a], [, b]) => b.length - a.length);
  const lines = largestFirst.slice(0, GROUPS_SHOWN).flatMap(([outcome, jobs]) => groupLines(outcome, jobs));
  const others = largestFirst.slice(GROUPS_SHOWN).reduce((count, [, jobs]) => count + jobs.length, 0);
  if (others > 0) lines.push(`and ${countOf(others, 'job')} that failed in other ways`);
  return lines;
}

function groupLines(outcome: string, jobs: FailedJob[]): string[] {
  const inOrder = jobs.sort((a, b) => a.line - b.line);
  const lines = [`${countOf(jobs.length, 'job')}: ${outcome}`];
  for (const job of inOrder.slice(0, JOBS_SHOWN)) lines.push(`  ${job.text}`);
  if (jobs.length > JOBS_SHOWN) lines.push(`  and ${jobs.length - JOBS_SHOWN} more`);
  return lines;
}

function countsText({ done, failed, skipped, notRun, durationMs }: BatchEnded, skippedBad: number): string {
  const bad = skippedBad === 0 ? '' : ` (${skippedBad} without a good result)`;
  return `${done} done, ${failed} failed, ${skipped} skipped${bad}, ${notRun} not run in ${durationText(durationMs)}`;
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
