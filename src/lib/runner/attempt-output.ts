/**
 * What one attempt prints, on its way home: into the files of its result and to whoever listens, cut where a limit says
 * so. The end of its standard error stays in memory, for it tells why a command failed.
 *
 * Of an attempt that an earlier controller started, the files here are taken for the beginning of what is there. When it
 * has ended, sizes and hashes are compared; a file that differs is fetched anew.
 */
import { ERROR_TAIL_BYTES } from './evidence.ts';
import type { OutputLength, OutputReader, OutputStream } from './output-reader.ts';
import type { ResultFiles } from './result-files.ts';
import type { AttemptPlace } from './supervisor.ts';

/** Where output comes from and where it goes. */
export interface AttemptOutputOptions {
  readonly reader: OutputReader;
  readonly place: AttemptPlace;
  /** Undefined when nothing is kept. */
  readonly results: ResultFiles | undefined;
  readonly onOutput: ((stream: OutputStream, chunk: Buffer) => void) | undefined;
  /** The most that is kept of each stream. */
  readonly maxBytes: number | undefined;
  /** It cannot be written here. Told once; nothing more is fetched then. */
  readonly onProblem: (error: Error) => void;
}

/** An ended attempt's output. */
export interface EndedOutput {
  readonly out: OutputLength;
  readonly err: OutputLength;
}

/** The output of one attempt. */
export class AttemptOutput {
  readonly #options: AttemptOutputOptions;
  #errorTail: Buffer = Buffer.alloc(0);
  /** What an earlier controller had brought. */
  #from = { out: 0, err: 0 };
  #isFollowed = false;
  #isLeft = false;

  constructor(options: AttemptOutputOptions) {
    this.#options = options;
  }

  /** The end of what has come of its standard error. */
  get errorTail(): Buffer {
    return this.#errorTail;
  }

  /** Starts the files here anew: they are this attempt's from now on. */
  open(): void {
    this.#options.results?.openOutputs();
  }

  /** Goes on where the files here stop, which are this attempt's already. */
  resume(): void {
    const { results, maxBytes } = this.#options;
    if (results === undefined) return;
    this.#from = results.resumeOutputs(maxBytes);
    this.#errorTail = results.endOf('err', ERROR_TAIL_BYTES);
  }

  /** Fetches what there is from now on, as it grows. */
  follow(): void {
    const { reader, place, maxBytes } = this.#options;
    const sink = (stream: OutputStream) => (chunk: Buffer) => this.#take(stream, chunk);
    reader.follow(place, { out: sink('out'), err: sink('err') }, { from: this.#from, limitBytes: maxBytes });
    this.#isFollowed = true;
  }

  #take(stream: OutputStream, chunk: Buffer): void {
    const { results, onOutput, onProblem, reader, place } = this.#options;
    if (this.#isLeft) throw new Error('another attempt counts');
    try {
      results?.append(stream, chunk);
    } catch (error) {
      reader.forget(place);
      onProblem(error as Error);
      throw error;
    }
    if (stream === 'err') this.#errorTail = endOf(this.#errorTail, chunk);
    onOutput?.(stream, chunk);
  }

  /** Brings home the rest of an ended attempt's output. */
  async finish(has: { readonly hasOutput: boolean; readonly hasErrors: boolean }): Promise<EndedOutput> {
    const { reader, place, results } = this.#options;
    if (!this.#isFollowed) return { out: NOTHING, err: NOTHING };
    const came = await reader.finish(place, has);
    const out = await this.#checked('out', came.out);
    const err = await this.#checked('err', came.err);
    for (const [stream, length] of [['out', out] as const, ['err', err] as const])
      if (length.fetchedBytes < length.bytes) results?.append(stream, this.#cutMark(stream, length.bytes));
    if (err.fetchedBytes < err.bytes) this.#errorTail = await reader.tail(place, 'err', ERROR_TAIL_BYTES);
    return { out, err };
  }

  /** Compares what an earlier controller began with what is there; what differs is fetched anew. */
  async #checked(stream: OutputStream, came: OutputLength): Promise<OutputLength> {
    const { reader, place, results, maxBytes } = this.#options;
    if (results === undefined || this.#from[stream] === 0) return came;
    const there = await reader.hash(place, stream, came.fetchedBytes);
    const expectedBytes = Math.min(there.bytes, maxBytes ?? Number.POSITIVE_INFINITY);
    const isSame =
      came.fetchedBytes === expectedBytes &&
      there.sha256 !== undefined &&
      there.sha256 === (await results.hashOf(stream));
    if (isSame) return { bytes: there.bytes, fetchedBytes: came.fetchedBytes };
    let length = NOTHING;
    await results.replaceOutput(stream, async (append) => {
      const sink = (chunk: Buffer) => {
        if (this.#isLeft) throw new Error('another attempt counts');
        append(chunk);
      };
      length = await reader.fetchAgain(place, stream, { sink, limitBytes: maxBytes });
    });
    if (stream === 'err') this.#errorTail = results.endOf('err', ERROR_TAIL_BYTES);
    return length;
  }

  /** A line of its own that says where a file was cut. */
  #cutMark(stream: OutputStream, bytes: number): Buffer {
    const last = this.#options.results?.endOf(stream, 1).toString('latin1') ?? '';
    const lineEnd = last === '' || last === '\n' ? '' : '\n';
    return Buffer.from(`${lineEnd}[ssh-scheduler: cut here, ${bytes} bytes in all: see --max-output]\n`);
  }

  /** Another attempt counts, or nobody waits: nothing more is fetched, written or told. */
  leave(): void {
    this.#isLeft = true;
    this.#options.reader.forget(this.#options.place);
    this.#options.results?.leave();
  }
}

const NOTHING: OutputLength = { bytes: 0, fetchedBytes: 0 };

function endOf(tail: Buffer, chunk: Buffer): Buffer {
  // Copied, since a chunk may be a small part of a large piece of memory.
  if (chunk.length >= ERROR_TAIL_BYTES) return Buffer.from(chunk.subarray(-ERROR_TAIL_BYTES));
  return Buffer.concat([tail.subarray(-(ERROR_TAIL_BYTES - chunk.length)), chunk]);
}
