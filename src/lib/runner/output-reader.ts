/**
 * Brings home what jobs print, while they run: asks the machine which output files grew and fetches the new bytes, a
 * bounded piece of each in turn, so that one job's burst holds up no other. It asks for the next piece when the last is
 * written, so nothing piles up here; what has come is known by its offset, so a new connection goes on where the last
 * broke off.
 */
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import type { AttemptPlace } from './supervisor.ts';

const PIECE_BYTES = 512 * 1024;
const FILES_PER_QUESTION = 100;

/** Where the bytes of one attempt go. Called in order, for whole pieces. */
export interface OutputSinks {
  readonly out: (chunk: Buffer) => void;
  readonly err: (chunk: Buffer) => void;
}

interface OutputFile {
  readonly path: string;
  readonly sink: (chunk: Buffer) => void;
  offset: number;
  /** Settles when the reads asked so far are done: reads of one file keep their order. */
  idle: Promise<unknown>;
}

interface Follower {
  readonly files: readonly [OutputFile, OutputFile];
  readonly since: number;
}

/** Runs a step on the machine's shell, and again on a new one when the connection goes under it. */
export type WithShell = <T>(step: (shell: RequestShell) => Promise<T>) => Promise<T>;

/** Follows the output files of one machine's running jobs. */
export class OutputReader {
  readonly #withShell: WithShell;
  readonly #runs: string;
  readonly #pollMs: number;
  readonly #followers = new Map<string, Follower>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(withShell: WithShell, runs: string, pollMs = 400) {
    this.#withShell = withShell;
    this.#runs = runs;
    this.#pollMs = pollMs;
  }

  /** Starts to follow an attempt from the given offsets. */
  follow(place: AttemptPlace, sinks: OutputSinks, from = { out: 0, err: 0 }): void {
    const folder = `${this.#runs}/${place.folder}/${place.number}`;
    const file = (name: 'out' | 'err'): OutputFile => ({
      path: `${folder}/${name}`,
      sink: sinks[name],
      offset: from[name],
      idle: Promise.resolve(),
    });
    this.#followers.set(key(place), { files: [file('out'), file('err')], since: Date.now() });
    this.#schedule();
  }

  /** Brings home the rest of an ended attempt's output and stops following it. Resolves to the lengths. */
  async finish(
    place: AttemptPlace,
    has: { readonly hasOutput: boolean; readonly hasErrors: boolean },
  ): Promise<{ readonly outBytes: number; readonly errBytes: number }> {
    const follower = this.#followers.get(key(place));
    if (follower === undefined) return { outBytes: 0, errBytes: 0 };
    this.#followers.delete(key(place));
    const [out, err] = follower.files;
    await Promise.all([
      has.hasOutput ? this.#readToEnd(out) : out.idle,
      has.hasErrors ? this.#readToEnd(err) : err.idle,
    ]);
    return { outBytes: out.offset, errBytes: err.offset };
  }

  /** Stops following an attempt whose output will not come any more. */
  forget(place: AttemptPlace): void {
    this.#followers.delete(key(place));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #readToEnd(file: OutputFile): Promise<void> {
    while ((await this.#readPiece(file)) === PIECE_BYTES);
  }

  /** Reads the next piece of a file; resolves to its length. */
  #readPiece(file: OutputFile): Promise<number> {
    const reading = file.idle.then(async () => {
      const before = file.offset;
      const path = shellQuote(file.path);
      await this.#withShell(async (shell) => {
        const left = before + PIECE_BYTES - file.offset; // some of it may have come before the connection went
        const script =
          file.offset === 0
            ? `head -c ${left} ${path} 2>/dev/null`
            : `{ tail -c +${file.offset + 1} ${path} 2>/dev/null | head -c ${left}; [ -r ${path} ]; }`;
        const exitCode = await shell.run(script, (chunk) => {
          const wanted = chunk.subarray(0, before + PIECE_BYTES - file.offset); // never more than was asked for
          file.sink(wanted);
          file.offset += wanted.length;
        });
        // Nothing there is not the same as no more there.
        if (exitCode !== 0) throw new Error(`its output cannot be read there (${file.path})`);
      });
      return file.offset - before;
    });
    file.idle = reading.catch(() => {});
    return reading;
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#closed || this.#followers.size === 0) return;
    this.#timer = setTimeout(() => {
      void this.#poll()
        .catch(() => {}) // the connection is gone; the next poll waits for the new one
        .finally(() => {
          this.#timer = undefined;
          this.#schedule();
        });
    }, this.#pollMs);
  }

  async #poll(): Promise<void> {
    const old = Date.now() - this.#pollMs;
    const files = [...this.#followers.values()].filter((f) => f.since <= old).flatMap((f) => f.files);
    for (let from = 0; from < files.length; from += FILES_PER_QUESTION) {
      await this.#readGrown(files.slice(from, from + FILES_PER_QUESTION));
    }
  }

  /** Asks for the sizes of some files and reads what is new, piece by piece in turn. */
  async #readGrown(files: readonly OutputFile[]): Promise<void> {
    const { output } = await this.#withShell((shell) =>
      shell.text(`wc -c ${files.map((f) => shellQuote(f.path)).join(' ')} 2>/dev/null`),
    );
    const sizes = new Map<string, number>();
    for (const line of output.split('\n')) {
      const [, size, path] = /^\s*(\d+) (.+)$/.exec(line) ?? [];
      if (path !== undefined) sizes.set(path, Number(size));
    }
    let grown = files.filter((file) => (sizes.get(file.path) ?? 0) > file.offset);
    while (grown.length > 0) {
      const lengths = await Promise.all(grown.map((file) => this.#readPiece(file)));
      grown = grown.filter(
        (file, i) => lengths[i] === PIECE_BYTES && (sizes.get(file.path) ?? 0) > file.offset,
      );
    }
  }
}

function key(place: AttemptPlace): string {
  return `${place.folder}/${place.number}`;
}
