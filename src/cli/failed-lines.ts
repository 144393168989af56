/** `--failed-lines FILE`: the lines without a good result, as a batch file. */
import { closeSync, openSync, statSync, writeFileSync } from 'node:fs';
import { UsageError } from '../lib/domain/errors.ts';
import type { BatchArguments } from './batch-arguments.ts';

/** A file that can be written, as far as can be told beforehand. */
export interface FailedLines {
  /** Writes the file anew, empty when nothing failed; what goes wrong is said. */
  write(lines: readonly string[], say: (message: string) => void): void;
}

/**
 * Sees whether the file can be written, and leaves what is in it. Undefined where none is asked for.
 * @throws UsageError when it cannot be opened, or is the batch file itself.
 */
export function openFailedLines({
  failedLines: path,
  file,
}: Pick<BatchArguments, 'failedLines' | 'file'>): FailedLines | undefined {
  if (path === undefined) return undefined;
  try {
    closeSync(openSync(path, 'a'));
  } catch (error) {
    throw new UsageError(
      `--failed-lines: cannot open ${JSON.stringify(path)} for writing: ${(error as Error).message}`,
    );
  }
  if (isSameFile(path, file))
    throw new UsageError(
      `--failed-lines: ${JSON.stringify(path)} is the batch file itself: name another one`,
    );
  return {
    write: (lines, say) => {
      try {
        writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
      } catch (error) {
        say(`--failed-lines: cannot write ${path}: ${(error as Error).message}`);
      }
    },
  };
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }));
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}
