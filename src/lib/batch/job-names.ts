/**
 * Which names a job may have. A job's name is a folder `job_results/<name>/` and three files beside it, so it must stay
 * inside `job_results`, and no job may have another's files. Names that begin with a dot are kept for ourselves.
 */
import { UsageError } from '../domain/errors.ts';
import type { Job } from '../domain/job.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { type LineNote, mistakesError } from './line-checks.ts';

/** The longest name in bytes: file systems allow 255, and the results' endings and temporary names need room. */
export const MAX_NAME_BYTES = 200;

const RESULT_ENDINGS = ['.out', '.err', '.json'];

/**
 * Refuses a name that would leave `job_results`, hide there or look like a flag.
 * @throws UsageError
 */
export function checkJobName(name: string): void {
  const mistake = mistakeIn(name);
  if (mistake !== undefined) throw new UsageError(mistake);
}

function mistakeIn(name: string): string | undefined {
  const found = `the job name '${cutToWidth(visibleText(name), 60)}'`;
  if (name === '') return 'the job name is empty';
  if (name.includes('/'))
    return `${found} contains a slash: expected a plain name, it names a folder in job_results`;
  if (/^[.-]/.test(name)) return `${found} begins with '${name.charAt(0)}': expected another first character`;
  if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(name)) return `${found} contains a control character`;
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) return `${found} has ${bytes} bytes: expected at most ${MAX_NAME_BYTES}`;
  return undefined;
}

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
    const mistake = mistakeIn(name);
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
