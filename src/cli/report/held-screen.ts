/** The two standard streams of a command whose terminal something else has at times: what comes meanwhile waits. */
import type { TerminalStream } from './live-footer.ts';

/** More than that is not read again. */
const MOST_KEPT = 200;

/** Stands in for both streams. Begins as if it were not there. What is no terminal is never held. */
export class HeldScreen {
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
  #isHeld = false;
  #kept: (string | Uint8Array)[] = [];
  #leftOut = 0;

  constructor(streams: { readonly stdout: TerminalStream; readonly stderr: TerminalStream }) {
    this.stdout = this.#standIn(streams.stdout, () => undefined);
    this.stderr = this.#standIn(streams.stderr, (data) => this.#keep(data));
  }

  /** Whether what is written to the stream now does not appear. */
  holds(stream: Pick<TerminalStream, 'isTTY'>): boolean {
    return this.#isHeld && stream.isTTY === true;
  }

  /**
   * From now on nothing is written to a terminal, until the function returned is called: what came for stderr is written
   * then, the last of it where that is much. What came for stdout is not: the summary of a batch tells what became of its jobs.
   */
  hold(): () => void {
    this.#isHeld = true;
    return () => {
      if (!this.#isHeld) return;
      this.#isHeld = false;
      const kept = this.#kept;
      this.#kept = [];
      if (this.#leftOut > 0) this.stderr.write(`... ${this.#leftOut} earlier lines are left out\n`);
      this.#leftOut = 0;
      for (const data of kept) this.stderr.write(data);
    };
  }

  #keep(data: string | Uint8Array): void {
    this.#kept.push(data);
    if (this.#kept.length <= MOST_KEPT) return;
    this.#kept.shift();
    this.#leftOut += 1;
  }

  #standIn(stream: TerminalStream, onHeld: (data: string | Uint8Array) => void): TerminalStream {
    return {
      write: (data) => (this.holds(stream) ? onHeld(data) : stream.write(data)),
      get isTTY() {
        return stream.isTTY === true;
      },
      get columns() {
        return stream.columns ?? 0;
      },
      get rows() {
        return stream.rows ?? 0;
      },
      ...(stream.fd === undefined ? {} : { fd: stream.fd }),
    };
  }
}
