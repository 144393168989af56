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
export function writeNote(stderr: TextOut, text: string, prefix = PREFIX): void {
  stderr.write(`${prefix}${text}\n`);
}

const GATHERED_LENGTH = 64 * 1024;

/** A stream that is written to once per turn of the event loop: a write to a file costs more than the line in it. */
export class GatheredOut implements TextOut {
  readonly #stream: TextOut;
  #text = '';

  constructor(stream: TextOut) {
    this.#stream = stream;
  }

  write(text: string): void {
    if (this.#text === '') setImmediate(() => this.flush());
    this.#text += text;
    if (this.#text.length > GATHERED_LENGTH) this.flush();
  }

  /** Writes what has gathered; call it before the process exits. */
  flush(): void {
    const text = this.#text;
    this.#text = '';
    if (text !== '') this.#stream.write(text);
  }
}
