/** Standard output and standard error of a command that prints much: whole, in order, and in bounded memory. */
import { fstatSync, writeSync } from 'node:fs';

/** More than this waiting for the reader, and whoever writes should wait. */
const FULL_BYTES = 4 * 1024 * 1024;
const LOW_BYTES = 1024 * 1024;
/** Small pieces are written together up to this. */
const JOINED_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** Why a stream cannot be written any more. */
export interface WriteFailure {
  readonly stream: 'standard output' | 'standard error';
  readonly error: NodeJS.ErrnoException;
  /** Whether nobody is left to read it: a closed pipe or terminal. */
  readonly isReaderGone: boolean;
}

/** One of the two streams. */
export interface QueuedOut {
  /** Takes bytes, which nobody may change afterwards, or text. Never blocks, but on a terminal. */
  write(data: string | Uint8Array): void;
  /** Resolves when it makes sense to write more. Whoever writes much waits for it between pieces. */
  ready(): Promise<void>;
  /** Descriptor. */
  readonly fd: number;
  /** Whether a terminal shows it. */
  readonly isTTY: boolean;
  /** Size of the terminal. */
  readonly columns?: number;
  readonly rows?: number;
}

interface Target {
  readonly lane: Lane;
  readonly name: WriteFailure['stream'];
  readonly stream: NodeJS.WriteStream & { readonly fd: number };
  readonly kind: 'terminal' | 'pipe' | 'file';
  hasFailed: boolean;
}

/** What is written one after another: both streams where they are one pipe or file, else one of them. */
interface Lane {
  readonly batches: Batch[];
  isWriting: boolean;
  /** The stream that is in the middle of a line. */
  open: Target | undefined;
  /** What the other one got meanwhile. */
  readonly behindLine: { readonly to: Target; readonly data: Uint8Array }[];
}

/** Pieces for one stream that are written together. */
interface Batch {
  readonly to: Target;
  readonly pieces: Uint8Array[];
  bytes: number;
}

/**
 * Where both streams are one pipe or file they are one queue: no piece is written before the last one has gone out whole,
 * so that they are not mixed within a line. Where a line is written in several pieces, the other stream waits for its end.
 * Terminals are written at once.
 *
 * Pipes are written through node's streams, which do not block: a thread that waits for a reader that stalls would keep
 * `process.exit` waiting as well.
 */
export class WriteQueue {
  readonly stdout: QueuedOut;
  readonly stderr: QueuedOut;
  /** So much waits that nothing more should be read from elsewhere; not called for a terminal. */
  onFull = (): void => {};
  /** The end of `onFull`. */
  onLow = (): void => {};
  /** Told once for each stream. What is written to it afterwards is dropped. */
  onFailure: (failure: WriteFailure) => void = () => {};
  readonly #lanes: readonly Lane[];
  #bytes = 0;
  #isFull = false;
  readonly #waiting: (() => void)[] = [];
  readonly #ends: (() => void)[] = [];

  constructor() {
    const { stdout, stderr } = process;
    const lane = newLane();
    const errLane = isSameFile(stdout.fd, stderr.fd) ? lane : newLane();
    this.#lanes = [lane, errLane];
    this.stdout = this.#out({ name: 'standard output', stream: stdout, lane });
    this.stderr = this.#out({ name: 'standard error', stream: stderr, lane: errLane });
  }

  /** Resolves when all is written, or nobody reads it any more: before that, no process may exit. */
  async written(): Promise<void> {
    for (const lane of this.#lanes) {
      this.#endLine(lane);
      this.#pump(lane);
    }
    if (this.#isWriting) await new Promise<void>((resolve) => this.#ends.push(resolve));
    // An error of a terminal is told a little later.
    await new Promise((resolve) => setImmediate(resolve));
  }

  get #isWriting(): boolean {
    return this.#lanes.some(({ isWriting }) => isWriting);
  }

  #out(target: Pick<Target, 'name' | 'stream' | 'lane'>): QueuedOut {
    const { stream } = target;
    const to: Target = { ...target, kind: kindOf(stream), hasFailed: false };
    stream.on('error', (error) => this.#fail(to, error));
    return {
      write: (data) => this.#write(to, data),
      ready: () => (this.#isFull ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve()),
      fd: stream.fd,
      isTTY: to.kind === 'terminal',
      get columns() {
        return stream.columns;
      },
      get rows() {
        return stream.rows;
      },
    };
  }

  #write(to: Target, data: string | Uint8Array): void {
    if (to.hasFailed || data.length === 0) return;
    if (to.kind === 'terminal') {
      to.stream.write(data);
      return;
    }
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    const { lane } = to;
    if (lane.open !== undefined && lane.open !== to) {
      lane.behindLine.push({ to, data: bytes });
      return;
    }
    this.#push(to, bytes);
    lane.open = to;
    if (bytes.at(-1) === NEWLINE) this.#endLine(lane);
    this.#pump(lane);
  }

  #push(to: Target, data: Uint8Array): void {
    const { batches } = to.lane;
    const last = batches.at(-1);
    if (last?.to === to && last.bytes + data.length <= JOINED_BYTES) {
      last.pieces.push(data);
      last.bytes += data.length;
    } else batches.push({ to, pieces: [data], bytes: data.length });
    this.#bytes += data.length;
    if (this.#isFull || this.#bytes < FULL_BYTES) return;
    this.#isFull = true;
    this.onFull();
  }

  #endLine(lane: Lane): void {
    lane.open = undefined;
    for (const { to, data } of lane.behindLine.splice(0)) this.#push(to, data);
  }

  #pump(lane: Lane): void {
    while (!lane.isWriting) {
      const batch = lane.batches.shift();
      if (batch === undefined) break;
      const { to, pieces, bytes } = batch;
      const [first] = pieces;
      const data = first !== undefined && pieces.length === 1 ? first : Buffer.concat(pieces, bytes);
      if (to.hasFailed || to.kind !== 'pipe') {
        this.#done(batch, to.hasFailed ? undefined : writeWhole(to.stream.fd, data));
        continue;
      }
      lane.isWriting = true;
      to.stream.write(data, (error) => {
        lane.isWriting = false;
        this.#done(batch, error ?? undefined);
        this.#pump(lane);
      });
    }
    if (!this.#isWriting) for (const resolve of this.#ends.splice(0)) resolve();
  }

  #done({ to, bytes }: Batch, error: Error | undefined): void {
    this.#bytes -= bytes;
    if (error !== undefined) this.#fail(to, error);
    this.#tellRoom();
  }

  #tellRoom(): void {
    if (!this.#isFull || this.#bytes > LOW_BYTES) return;
    this.#isFull = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
    this.onLow();
  }

  #fail(to: Target, error: NodeJS.ErrnoException): void {
    if (to.hasFailed) return;
    to.hasFailed = true;
    if (to.lane.open === to) this.#endLine(to.lane);
    // Not open at all, or for reading alone: whoever wants no errors closes it like that.
    if (error.code === 'EBADF' && to.name === 'standard error') return;
    const isReaderGone =
      error.code === 'EPIPE' ||
      error.code === 'ECONNRESET' ||
      (error.code === 'EIO' && to.kind === 'terminal');
    this.onFailure({ stream: to.name, error, isReaderGone });
  }
}

/** A full disk may take a part: only the next write says so. */
function writeWhole(fd: number, data: Uint8Array): Error | undefined {
  try {
    for (let written = 0; written < data.length; ) written += writeSync(fd, data, written);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

function newLane(): Lane {
  return { batches: [], isWriting: false, open: undefined, behindLine: [] };
}

function isSameFile(fd: number, otherFd: number): boolean {
  const [one, other] = [fstatSync(fd), fstatSync(otherFd)];
  return one.dev === other.dev && one.ino === other.ino;
}

function kindOf(stream: Target['stream']): Target['kind'] {
  if (stream.isTTY) return 'terminal';
  const status = fstatSync(stream.fd);
  return status.isFIFO() || status.isSocket() ? 'pipe' : 'file';
}
