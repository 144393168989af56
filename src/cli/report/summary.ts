/** What a person wants to know at the end of a batch: how many of what, what went wrong, and where to look. */
import type { BatchEnded, SchedulerEvent } from '../../lib/domain/events.ts';
import { isSuccess, type JobId } from '../../lib/domain/job.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { type Failure, failureLines } from './failure-groups.ts';
import { type TextOut, writeNote } from './text-out.ts';

/** Options of `summaryReport`. */
export interface SummaryOptions {
  readonly stderr: TextOut;
  /** The results folder as the user wrote it. @default 'job_results' */
  readonly results?: string;
}

/** Says nothing until `batch:ended`; then the failed jobs, those that failed alike together, and one line of counts. */
export function summaryReport({
  stderr,
  results = 'job_results',
}: SummaryOptions): (event: SchedulerEvent) => void {
  const failed = new Map<JobId, Failure>();
  let skippedBad = 0;
  return (event) => {
    switch (event.type) {
      case 'job:started':
        failed.delete(event.job); // a further attempt: only the last one counts
        break;
      case 'job:ended':
        if (isSuccess(event.outcome) || event.willRetry) failed.delete(event.job);
        else failed.set(event.job, event);
        break;
      case 'job:skipped':
        if (!event.isGood) skippedBad += 1;
        break;
      case 'batch:ended':
        for (const line of failureLines([...failed.values()], results)) writeNote(stderr, line);
        writeNote(stderr, countsText(event, skippedBad));
        break;
      default:
    }
  };
}

function countsText({ done, failed, skipped, notRun, durationMs }: BatchEnded, skippedBad: number): string {
  const bad = skippedBad === 0 ? '' : ` (${skippedBad} without a good result)`;
  return `${done} done, ${failed} failed, ${skipped} skipped${bad}, ${notRun} not run in ${durationText(durationMs)}`;
}
