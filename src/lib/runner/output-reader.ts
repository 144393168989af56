/**
 * Brings home what jobs print, while they run: asks the machine which output files grew and fetches the new bytes, a
 * bounded piece of each in turn, so that one job's burst holds up no other. It asks for the next piece when the last is
 * written, so nothing piles up here; what has come is known by its offset, so a new connection goes on where the last
 * broke off, and a new controller where the earlier one stopped.
 */
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import type { AttemptPlace } from './supervisor.ts';

const PIECE_BYTES = 512 * 1024;
const FILES_PER_QUESTION = 100;

/** The two files that a job prints into. */
export type OutputStream = 'out' | 'err';

/** Where the bytes of one attempt go. Called in order. What one throws, `finish` throws; until then it is tried again. */
export interface OutputSinks {
  readonly out: (chunk: Buffer) => void;
  readonly err: (chunk: Buffer) => void;
}

/** Which part of an attempt's output is fetched. */
export interface OutputRange {
  /** What is here already, in bytes. @default { out: 0, err: 0 } */
  readonly from?: { readonly out: number; readonly err: number };
  /** What lies beyond is not fetched, in bytes of each file. @default no limit */
  readonly limitBytes?: number | undefined;
}

/** How long an ended attempt's output is. */
export interface OutputLength {
  /** There. */
  readonly bytes: number;
  /** What was fetched of it, now or earlier. Less where a limit cut it. */
  readonly fetchedBytes: number;
}

/** Size and SHA-256 of the beginning of an output file on the machine. */
export interface OutputHash {
  /** Of the whole file. */
  readonly bytes: number;
  /** In hex; undefined where nothing on the machine can tell it. */
  readonly sha256: string | undefined;
}

interface OutputFile {
  readonly path: string;
  readonly sink: (chunk: Buffer) => void;
  readonly limitBytes: number;
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

  /** Starts to follow an attempt. */
  follow(place: AttemptPlace, sinks: OutputSinks, range: OutputRange = {}): void {
    const { from = { out: 0, err: 0 }, limitBytes } = range;
    const file = (stream: OutputStream) =>
      this.#fileOf(place, stream, { sink: sinks[stream], offset: from[stream], limitBytes });
    this.#followers.set(key(place), { files: [file('out'), file('err')], since: Date.now() });
    this.#schedule();
  }

  /** Brings home the rest of an ended attempt's output and stops following it. */
  async finish(
    place: AttemptPlace,
    has: { readonly hasOutput: boolean; readonly hasErrors: boolean },
  ): Promise<{ readonly out: OutputLength; readonly err: OutputLength }> {
    const follower = this.#followers.get(key(place));
    if (follower === undefined) throw new Error('Internal error: its output is not followed');
    this.#followers.delete(key(place));
    const [out, err] = follower.files;
    const [outLength, errLength] = await Promise.all([
      this.#finishFile(out, has.hasOutput),
      this.#finishFile(err, has.hasErrors),
    ]);
    return { out: outLength, err: errLength };
  }

  /** Fetches one output file of an ended attempt from its beginning, as far as the limit. */
  async fetchAgain(
    place: AttemptPlace,
    stream: OutputStream,
    { sink, limitBytes }: { readonly sink: (chunk: Buffer) => void; readonly limitBytes: number | undefined },
  ): Promise<OutputLength> {
    return await this.#finishFile(this.#fileOf(place, stream, { sink, offset: 0, limitBytes }), true);
  }

  /** The size of an output file there, and the SHA-256 of its first bytes. */
  async hash(place: AttemptPlace, stream: OutputStream, firstBytes: number): Promise<OutputHash> {
    const path = shellQuote(this.#pathOf(place, stream));
    const { output } = await this.#withShell((shell) =>
      shell.text(`wc -c <${path} 2>/dev/null || echo 0
head -c ${firstBytes} ${path} 2>/dev/null | if command -v sha256sum >/dev/null 2>&1; then sha256sum
elif command -v shasum >/dev/null 2>&1; then shasum -a 256
elif command -v openssl >/dev/null 2>&1; then openssl dgst -sha256 -r
else cat >/dev/null; fi`),
    );
    const [size = '', sum = ''] = output.split('\n');
    return { bytes: sizeIn(size), sha256: /^[0-9a-f]{64}\b/.exec(sum)?.[0] };
  }

  /** The end of an output file there. */
  async tail(place: AttemptPlace, stream: OutputStream, lastBytes: number): Promise<Buffer> {
    const path = shellQuote(this.#pathOf(place, stream));
    const chunks: Buffer[] = [];
    await this.#withShell(async (shell) => {
      chunks.length = 0; // an earlier try may have brought a part
      await shell.run(`tail -c ${lastBytes} ${path} 2>/dev/null`, (chunk) => {
        chunks.push(Buffer.from(chunk));
      });
    });
    return Buffer.concat(chunks).subarray(-lastBytes);
  }

  /** Stops following an attempt whose output will not come any more. */
  forget(place: AttemptPlace): void {
    this.#followers.delete(key(place));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #pathOf(place: AttemptPlace, stream: OutputStream): string {
    return `${this.#runs}/${place.folder}/${place.number}/${stream}`;
  }

  #fileOf(
    place: AttemptPlace,
    stream: OutputStream,
    file: Pick<OutputFile, 'sink' | 'offset'> & { readonly limitBytes: number | undefined },
  ): OutputFile {
    const { sink, offset, limitBytes = Number.POSITIVE_INFINITY } = file;
    return { path: this.#pathOf(place, stream), sink, offset, limitBytes, idle: Promise.resolve() };
  }

  /** Reads a file to its end, or to its limit; `hasContent` spares the question where there is nothing. */
  async #finishFile(file: OutputFile, hasContent: boolean): Promise<OutputLength> {
    if (hasContent) while ((await this.#readPiece(file)) === PIECE_BYTES);
    else await file.idle;
    const fetchedBytes = file.offset;
    if (fetchedBytes < file.limitBytes) return { bytes: fetchedBytes, fetchedBytes };
    const { output } = await this.#withShell((shell) =>
      shell.text(`wc -c <${shellQuote(file.path)} 2>/dev/null`),
    );
    return { bytes: Math.max(fetchedBytes, sizeIn(output)), fetchedBytes };
  }

  /** Reads the next piece of a file; resolves to its length. */
  #readPiece(file: OutputFile): Promise<number> {
    const reading = file.idle.then(async () => {
      const before = file.offset;
      const end = Math.min(before + PIECE_BYTES, file.limitBytes);
      if (before >= end) return 0;
      const path = shellQuote(file.path);
      await this.#withShell(async (shell) => {
        const left = end - file.offset; // some of it may have come before the connection went
        const script =
          file.offset === 0
            ? `head -c ${left} ${path} 2>/dev/null`
            : `{ tail -c +${file.offset + 1} ${path} 2>/dev/null | head -c ${left}; [ -r ${path} ]; }`;
        const exitCode = await shell.run(script, (chunk) => {
          const wanted = chunk.subarray(0, end - file.offset); // never more than was asked for
          if (wanted.length === 0) return;
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
    const files = [...this.#followers.values()]
      .filter((f) => f.since <= old)
      .flatMap((f) => f.files.filter((file) => file.offset < file.limitBytes));
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

function sizeIn(text: string): number {
  return Number(/^\s*(\d{1,15})\s*$/.exec(text)?.[1] ?? 0);
}

function key(place: AttemptPlace): string {
  return `${place.folder}/${place.number}`;
}
