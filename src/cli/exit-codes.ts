/** Exit codes of the commands, as GNU parallel and ssh have them. */
import { SchedulerError } from '../lib/domain/errors.ts';

/** Usage, configuration, no machine: everything that is not about a job. */
export const OWN_FAILURE = 255;

/** 0 when no line is without a good result, 1 to 100 for so many, 101 for more. */
export function exitCodeOf(linesWithoutResult: number): number {
  return Math.min(linesWithoutResult, 101);
}

/** Prints an error and exits. An error that is not meant for users shows where it came from. */
export function failWith(command: string, error: unknown): never {
  const text = error instanceof SchedulerError ? error.message : (error as Error).stack;
  process.stderr.write(`${command}: ${text}\n`);
  process.exit(OWN_FAILURE);
}
