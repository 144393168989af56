/** Which names the jobs of one batch may have beside each other: no job may have another's files. */
import type { Job } from '../domain/job.ts';
import { mistakeInName } from '../runner/job-name.ts';
import { visibleText } from '../util/terminal-text.ts';
import { type LineNote, mistakesError } from './line-checks.ts';

const RESULT_ENDINGS = ['.out', '.err', '.json'];

/**
 * Refuses jobs whose names are bad, the same, or name each other's files (`a` and `a.out`). `path`, the batch file, is
 * for the message.
 * @throws UsageError with all mistakes, the first ten in words.
 */
export function checkJobNames(jobs: readonly Pick<Job, 'name' | 'line'>[], path?: string): void {
  const mistakes = jobNameMistakes(jobs);
  if (mistakes.length > 0) throw mistakesError(mistakes, path);
}

/** The mistakes that `checkJobNames` throws, for a caller that has found others. */
export function jobNameMistakes(jobs: readonly Pick<Job, 'name' | 'line'>[]): LineNote[] {
  const mistakes: LineNote[] = [];
  const lineOf = new Map<string, number>();
  for (const { name, line } of jobs) {
    const mistake = mistakeInName(name);
    const other = lineOf.get(name);
    if (mistake !== undefined) mistakes.push({ line, message: mistake });
    else if (other === undefined) lineOf.set(name, line);
    else mistakes.push({ line, message: `the job name '${visibleText(name)}' is taken by line ${other}` });
  }
  for (const [name, line] of lineOf) {
    const ending = RESULT_ENDINGS.find((each) => name.endsWith(each));
    if (ending === undefined) continue;
    const base = name.slice(0, -ending.length);
    const other = lineOf.get(base);
    if (other === undefined) continue;
    const message = `the job name '${visibleText(name)}' is also a result file of the job '${visibleText(base)}' on line ${other}`;
    mistakes.push({ line, message });
  }
  return mistakes;
}
