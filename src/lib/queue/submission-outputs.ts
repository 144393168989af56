/** The files behind `--stdout` and `--stderr`: `%j` the job's id, `%a` its array index, `%x` its name, `%%` a percent sign. */
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';

/** What the patterns stand for in one job. */
export interface OutputNames {
  readonly id: number;
  readonly name: string;
  readonly index?: number;
}

/** The files of one job. */
export interface OutputPaths {
  readonly stdout?: string;
  readonly stderr?: string;
}

const PATTERN = /%(.?)/gsu;

/**
 * How the files of each job are named; undefined where they keep their places in the results folder. Both are absolute.
 * @throws UsageError for a pattern that is none, one file for several jobs, or one for both streams
 */
export function outputPattern(
  { stdout, stderr }: OutputPaths,
  about: { readonly isArray: boolean; readonly count: number },
): ((names: OutputNames) => OutputPaths) | undefined {
  if (stdout === undefined && stderr === undefined) return undefined;
  if (stdout !== undefined) checkPattern('--stdout', stdout, about);
  if (stderr !== undefined) checkPattern('--stderr', stderr, about);
  if (stdout !== undefined && stdout === stderr)
    throw new UsageError(
      `--stderr: found ${visibleText(stderr)}, which is --stdout too: expected another file`,
    );
  return (names) => ({
    ...(stdout === undefined ? {} : { stdout: filled(stdout, names) }),
    ...(stderr === undefined ? {} : { stderr: filled(stderr, names) }),
  });
}

function checkPattern(
  flag: string,
  path: string,
  { isArray, count }: { readonly isArray: boolean; readonly count: number },
): void {
  const shown = visibleText(path);
  if (path.endsWith('/')) throw new UsageError(`${flag}: found ${shown}, expected a file`);
  const letters = [...path.matchAll(PATTERN)].map(([, letter = '']) => letter);
  for (const letter of letters) {
    if (letter === 'a' && !isArray) throw new UsageError(`${flag}: %a says nothing without --array`);
    if (!['j', 'a', 'x', '%'].includes(letter))
      throw new UsageError(
        `${flag}: found ${visibleText(`%${letter}`)}, expected %j (id), %a (array index), %x (name) or %%`,
      );
  }
  if (count > 1 && !letters.some((letter) => letter !== '%'))
    throw new UsageError(
      `${flag}: all ${count} jobs would write to ${shown}: expected %j (id)${isArray ? ', %a (array index)' : ''} or %x (name) in it`,
    );
}

function filled(path: string, { id, name, index }: OutputNames): string {
  return path.replace(PATTERN, (_found, letter: string) => {
    if (letter === '%') return '%';
    return String(letter === 'j' ? id : letter === 'a' ? index : name);
  });
}
