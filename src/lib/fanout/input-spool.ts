/**
 * Our standard input for any number of machines: each reads it from the beginning, at its own pace, and possibly when
 * others are done with it already. What one of them has read is kept for the others, the first part in memory and the
 * rest in a file without a name. Of a regular file nothing is kept: each reads it in place.
 */
import { createReadStream, fstatSync, read, readFileSync, type Stats } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { SchedulerError } from '../domain/errors.ts';

const IN_MEMORY_BYTES = 1024 * 1024;
/** How much a reader asks for at once, and holds beyond what its machine takes. */
const PIECE_BYTES = 64 * 1024;

const readFd = promisify(read);

/** A regular file that is open, and the offset at which it begins for us. */
export interface InputFile {
  readonly fd: number;
  readonly start: number;
}

/** Who reads it. */
export interface InputSpoolOptions {
  /** One machine: nothing has to be kept for others. @default false */
  readonly isForOne?: boolean;
}

/** One input for many readers. Nothing is read before a reader wants it, nor while none does. */
export class InputSpool implements Disposable {
  readonly #bytes: Bytes | undefined;
  /** Opens the stream itself, for the one reader that there will be. */
  readonly #only: (() => Readable) | undefined;
  readonly #readers = new Set<Readable>();
  #isClosed = false;

  /**
   * A stream of bytes, or what opens it, is taken over; a file stays the caller's. With `isForOne` `open` is called once,
   * and nothing is kept.
   */
  constructor(source: Readable | (() => Readable) | InputFile, { isForOne = false }: InputSpoolOptions = {}) {
    const isFile = 'fd' in source && !(source instanceof Readable);
    if (isFile) this.#bytes = new FileBytes(source);
    else if (isForOne) this.#only = source instanceof Readable ? () => source : source;
    else this.#bytes = new KeptBytes(source);
  }

  /**
   * Our standard input, where somebody meant it for the commands: a pipe, a socket or a regular file, from where it
   * stands. Undefined for a terminal, `/dev/null` and other devices, and when it is closed.
   */
  static forStdin(fd = 0, options: InputSpoolOptions = {}): InputSpool | undefined {
    const stats = statsOf(fd);
    if (stats?.isFIFO() || stats?.isSocket()) {
      return new InputSpool(() => new Socket({ fd, readable: true, writable: false }), options);
    }
    if (!stats?.isFile()) return undefined;
    const start = positionOf(fd);
    return new InputSpool(
      start === undefined ? () => createReadStream('', { fd, autoClose: false }) : { fd, start },
      options,
    );
  }

  /**
   * All of it for one machine, from the beginning. An error of the input reaches every reader as an `error` event,
   * SchedulerError. A reader that is not read to its end has to be destroyed: it may keep the process waiting for more.
   */
  open(): Readable {
    if (this.#isClosed) throw new Error('Internal error: the input is closed');
    if (this.#only !== undefined) {
      const stream = this.#only();
      this.#readers.add(stream);
      return stream;
    }
    const bytes = this.#bytes;
    if (bytes === undefined) throw new Error('Internal error: the input is for nobody');
    let offset = 0;
    const reader = new Readable({
      highWaterMark: PIECE_BYTES,
      read: () => {
        bytes.readAt(offset, reader).then(
          (piece) => {
            offset += piece?.length ?? 0;
            if (!reader.destroyed) reader.push(piece ?? null);
          },
          (error: Error) => reader.destroy(error),
        );
      },
      destroy: (error, done) => {
        this.#readers.delete(reader);
        bytes.forget(reader);
        done(error);
      },
    });
    this.#readers.add(reader);
    return reader;
  }

  /** Destroys all readers and gives back what was kept. */
  close(): void {
    this.#isClosed = true;
    for (const reader of this.#readers) reader.destroy();
    this.#bytes?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What can be read at any offset. */
interface Bytes {
  /** At least one byte from there, once there is one; undefined at the end. `reader` is who asks. */
  readAt(offset: number, reader: object): Promise<Buffer | undefined>;
  /** That reader waits no longer. */
  forget(reader: object): void;
  close(): void;
}

class FileBytes implements Bytes {
  constructor(private readonly file: InputFile) {}

  async readAt(offset: number): Promise<Buffer | undefined> {
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    const { bytesRead } = await readFd(this.file.fd, piece, 0, piece.length, this.file.start + offset).catch(
      (error: Error) => {
        throw unreadable(error);
      },
    );
    return bytesRead === 0 ? undefined : piece.subarray(0, bytesRead);
  }

  forget(): void {}
  close(): void {}
}

/** A stream as far as it was read. It is read on only while a reader has got all that there is and waits. */
class KeptBytes implements Bytes {
  readonly #open: () => Readable;
  #source: Readable | undefined;
  #size = 0;
  #memory: Buffer | undefined;
  #file: FileHandle | undefined;
  /** Settles when all pieces that have come are kept; undefined when they are. */
  #keeping: Promise<void> | undefined;
  #hasEnded = false;
  #isClosed = false;
  #error: Error | undefined;
  /** How to wake each reader that waits for more. */
  readonly #waiting = new Map<object, () => void>();

  constructor(source: Readable | (() => Readable)) {
    if (source instanceof Readable) this.#listen(source);
    this.#open = source instanceof Readable ? () => source : source;
  }

  async readAt(offset: number, reader: object): Promise<Buffer | undefined> {
    while (offset >= this.#size) {
      // A stream may end while its last piece is still being written.
      if (this.#keeping === undefined) {
        if (this.#error !== undefined) throw this.#error;
        if (this.#hasEnded) return undefined;
      }
      await new Promise<void>((wake) => {
        this.#waiting.set(reader, wake);
        this.#readOn();
      });
    }
    const end = Math.min(this.#size, offset + PIECE_BYTES);
    if (offset < IN_MEMORY_BYTES && this.#memory !== undefined) {
      return this.#memory.subarray(offset, Math.min(end, IN_MEMORY_BYTES));
    }
    return this.#readKept(offset - IN_MEMORY_BYTES, end - offset);
  }

  forget(reader: object): void {
    this.#waiting.delete(reader);
    if (this.#waiting.size === 0) this.#rest();
  }

  close(): void {
    this.#isClosed = true;
    this.#memory = undefined;
    this.#source?.destroy();
    this.#file?.close().catch(() => {}); // it has no name, so it is gone in any case
  }

  #listen(source: Readable): void {
    this.#source = source;
    source.pause(); // else the first listener would set it going
    source.on('data', (chunk: Buffer) => {
      this.#rest();
      // One after the other: a paused stream may go on by itself, as a child's output does when the child has ended.
      const keeping = (this.#keeping ?? Promise.resolve())
        .then(() => this.#keep(chunk))
        .catch((error: Error) => this.#fail(unkept(error)))
        .then(() => {
          if (this.#keeping === keeping) this.#keeping = undefined;
          this.#wakeAll();
        });
      this.#keeping = keeping;
    });
    source.on('end', () => {
      this.#hasEnded = true;
      this.#wakeAll();
    });
    source.on('error', (error) => this.#fail(unreadable(error)));
    source.on('close', () => {
      if (!this.#hasEnded) this.#fail(unreadable(new Error('it was closed before its end')));
    });
  }

  #readOn(): void {
    if (this.#keeping !== undefined) return; // whoever waits is woken then, and asks again
    if (this.#source === undefined) this.#listen(this.#open());
    if (this.#source instanceof Socket) this.#source.ref();
    this.#source?.resume();
  }

  /** Reads no further, and does not keep the process alive: nobody may ever want more. */
  #rest(): void {
    this.#source?.pause();
    if (this.#source instanceof Socket) this.#source.unref();
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#wakeAll();
  }

  #wakeAll(): void {
    const wakers = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const wake of wakers) wake();
  }

  async #keep(chunk: Buffer): Promise<void> {
    if (this.#error !== undefined) return; // nothing may stand behind what is missing
    const forMemory = chunk.subarray(0, Math.max(0, IN_MEMORY_BYTES - this.#size));
    if (forMemory.length > 0) {
      this.#memory ??= Buffer.allocUnsafe(IN_MEMORY_BYTES); // takes real memory only as far as it is filled
      forMemory.copy(this.#memory, this.#size);
      this.#size += forMemory.length;
    }
    const rest = chunk.subarray(forMemory.length);
    for (let at = 0; at < rest.length && !this.#isClosed; ) {
      this.#file ??= await openNameless();
      if (this.#isClosed) await this.#file.close();
      else {
        const place = this.#size - IN_MEMORY_BYTES;
        const { bytesWritten } = await this.#file.write(rest, at, rest.length - at, place);
        at += bytesWritten;
        this.#size += bytesWritten;
      }
    }
  }

  async #readKept(place: number, length: number): Promise<Buffer> {
    const piece = Buffer.allocUnsafe(length);
    const { bytesRead = 0 } = (await this.#file?.read(piece, 0, length, place)) ?? {};
    if (bytesRead === 0) throw unkept(new Error('what was written there is gone'));
    return piece.subarray(0, bytesRead);
  }
}

/** A file that nobody else can open, and that is gone with this process however it ends. */
async function openNameless(): Promise<FileHandle> {
  const folder = await mkdtemp(join(tmpdir(), 'execute_to-'));
  try {
    return await open(join(folder, 'input'), 'wx+', 0o600);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Undefined when it is closed. */
function statsOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined;
  }
}

/** Where a program that reads the file now would begin (`{ read line; execute_to ...; } < file`); undefined without /proc. */
function positionOf(fd: number): number | undefined {
  try {
    const position = /^pos:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return position === undefined ? undefined : Number(position);
  } catch {
    return undefined;
  }
}

function unreadable(cause: Error): SchedulerError {
  return new SchedulerError(`standard input cannot be read: ${cause.message}`, { cause });
}

function unkept(cause: Error): SchedulerError {
  return new SchedulerError(
    `standard input cannot be kept for all machines in ${tmpdir()}: ${cause.message}`,
    {
      cause,
    },
  );
}
