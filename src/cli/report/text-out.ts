/** Where reporters write: a standard stream, or the footer's stand-in for one. */

/** Takes text that consists of whole lines. */
export interface TextOut {
  write(text: string): unknown;
  /** Whether a terminal shows it. */
  readonly isTTY?: boolean;
}

/** What begins every line for people on stderr. */
export const PREFIX = 'execute_batch: ';

/** Writes one line, with the program's name before it. */
export function writeNote(stderr: TextOut, text: string): void {
  stderr.write(`${PREFIX}${text}\n`);
}
