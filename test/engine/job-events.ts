/** Events of jobs, for tests of what hears them. */
import type { JobEnded } from '../../src/lib/domain/events.ts';
import { type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';

export const GOOD: JobOutcome = { type: 'exited', exitCode: 0 };

/** What the events of a job have alike. */
export const about = (name: string) => ({
  job: jobId(name),
  name,
  line: 1,
  at: 0,
  command: 'x',
  machine: machineName('m'),
  attempt: 1,
});

/** The end of the job `j`, unless said otherwise. */
export const ended = (outcome: JobOutcome, more: Partial<JobEnded> = {}): JobEnded => ({
  ...about('j'),
  type: 'job:ended',
  outcome,
  durationMs: 1000,
  sentBytes: 0,
  returnedBytes: 0,
  leftBehind: 0,
  willRetry: false,
  ...more,
});
