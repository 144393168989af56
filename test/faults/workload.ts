/** The batch of a run, and what each of its jobs has to leave. */
import { fileURLToPath } from 'node:url';
import type { PlannedJob } from './plan.ts';

/** What every job runs, and a file that goes forward with it and that every job changes. */
export const JOB_SCRIPT = fileURLToPath(new URL('job.sh', import.meta.url));
export const INPUT = 'went forward\n';
/** Names the jobs: `jobs.sh.1` and so on. */
export const BATCH_FILE = 'jobs.sh';

export function jobName(index: number): string {
  return `${BATCH_FILE}.${index + 1}`;
}

/** The line of a job in the batch file. */
export function jobLine({ sleepMs, lines }: PlannedJob): string {
  return `bash job.sh ${(sleepMs / 2000).toFixed(3)} ${lines}`;
}

/** What a job's result has to be when it comes from that attempt: paths below the results folder to contents. */
export function expectedResult(name: string, job: PlannedJob, attempt: number): ReadonlyMap<string, string> {
  const lines = Array.from(
    { length: job.lines },
    (_, index) => `${name} attempt ${attempt} line ${index} ........................................\n`,
  );
  return new Map([
    [`${name}.out`, `${lines.join('')}the end\n`],
    [`${name}.err`, `halfway in attempt ${attempt}\n`],
    [`${name}/made/result`, `${name} attempt ${attempt}\n`],
    [`${name}/input.txt`, `${INPUT}added by ${name}\n`],
  ]);
}
