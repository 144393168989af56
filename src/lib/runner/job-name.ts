/**
 * Which name a job may have. It is a folder `job_results/<name>/` and files beside it, so it must stay inside
 * `job_results`. Names that begin with a dot are kept for ourselves.
 */

import { UsageError } from '../domain/errors.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';

/** The longest name in bytes: file systems allow 255, and the results' endings and temporary names need room. */
export const MAX_NAME_BYTES = 200;

/**
 * Refuses a name that would leave `job_results`, hide there or look like a flag.
 * @throws UsageError
 */
export function checkJobName(name: string): void {
  const mistake = mistakeInName(name);
  if (mistake !== undefined) throw new UsageError(mistake);
}

/** What is wrong with a name; undefined when it is good. */
export function mistakeInName(name: string): string | undefined {
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
