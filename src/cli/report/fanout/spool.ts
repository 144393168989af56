/** Texts of any length in bounded memory: the beginning of each is kept there, the rest in one file without a name. */
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SchedulerError } from '../../../lib/domain/errors.ts';

/** What is read and written at once. The file consists of such blocks, so that one can be used again. */
const BLOCK_BYTES = 64 * 1024;
const SMALLEST_BUFFER_BYTES = 256;
const EMPTY = Buffer.alloc(0);

/** Options of `Spool`. */
export interface SpoolOptions {
  /** What is kept in memory of one text. @default 256 KiB */
  readonly textMemoryBytes?: number;
  /** What is kept in memory of all texts together. @default 32 MiB */
  readonly memoryBytes?: number;
  /** Where the file is made. @default os.tmpdir() */
  readonly folder?: string;
}

const DEFAULTS = { textMemoryBytes: 256 * 1024, memoryBytes: 32 * 1024 * 1024 } satisfies SpoolOptions;

/**
 * Holds texts until `close`. Nothing of it outlives the process, however that ends: the file has lost its name before
 * anything is written into it.
 */
export class Spool implements Disposable {
  readonly #textMemoryBytes: number;
  readonly #folder: string;
  #memoryLeftBytes: number;
  #file: number | undefined;
  #blocks = 0;
  readonly #freeBlocks: number[] = [];

  constructor(options: SpoolOptions = {}) {
    const { textMemoryBytes, memoryBytes } = { ...DEFAULTS, ...options };
    this.#textMemoryBytes = textMemoryBytes;
    this.#memoryLeftBytes = memoryBytes;
    this.#folder = options.folder ?? tmpdir();
  }

  /** A new, empty text. */
  text(): SpoolText {
    return new SpoolText(this, this.#textMemoryBytes);
  }

  /** For texts alone: whether so much more may be kept in memory. A negative number gives some back. */
  reserve(bytes: number): boolean {
    if (bytes > this.#memoryLeftBytes) return false;
    this.#memoryLeftBytes -= bytes;
    return true;
  }

  /**
   * For texts alone: puts at most `BLOCK_BYTES` into the file and says where.
   * @throws SchedulerError when it cannot be written.
   */
  writeBlock(bytes: Buffer): number {
    try {
      this.#file ??= openNameless(this.#folder);
      const block = this.#freeBlocks.pop() ?? this.#blocks++;
      for (let written = 0; written < bytes.length; )
        written += writeSync(
          this.#file,
          bytes,
          written,
          bytes.length - written,
          block * BLOCK_BYTES + written,
        );
      return block;
    } catch (error) {
      throw new SchedulerError(
        `the machines' output does not fit into memory and cannot be kept in ${this.#folder}: ` +
          `${(error as Error).message}; TMPDIR names another folder`,
        { cause: error },
      );
    }
  }

  /** For texts alone: the first bytes of a block. */
  readBlock(block: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let got = 0; got < length; ) {
      const count = readSync(this.#file ?? -1, bytes, got, length - got, block * BLOCK_BYTES + got);
      if (count === 0) throw new Error(`Internal error: block ${block} ends after ${got} bytes`);
      got += count;
    }
    return bytes;
  }

  /** For texts alone: these blocks may be written anew. */
  freeBlocks(blocks: readonly number[]): void {
    for (const block of blocks) this.#freeBlocks.push(block);
  }

  /** Forgets all texts; none can be read any more. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A file that has no name, so that it is gone as soon as nobody has it open. */
function openNameless(parent: string): number {
  const folder = mkdtempSync(join(parent, 'execute_to-'));
  const path = join(folder, 'output');
  try {
    const file = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    return file;
  } finally {
    rmdirSync(folder);
  }
}

/** One text of a spool: written first, then finished, then read as often as one likes. */
export class SpoolText {
  readonly #spool: Spool;
  readonly #memoryLimitBytes: number;
  readonly #hash = createHash('sha256');
  #bytes = 0;
  #memory: Buffer = EMPTY;
  #memoryBytes = 0;
  readonly #blocks: number[] = [];
  /** What is not written yet, so that many small chunks do not make many small writes. */
  #gathered: Buffer = EMPTY;
  #gatheredBytes = 0;
  #digest: string | undefined;

  /** Made by `Spool.text`. */
  constructor(spool: Spool, memoryLimitBytes: number) {
    this.#spool = spool;
    this.#memoryLimitBytes = memoryLimitBytes;
  }

  /** How long the text is. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Equal for equal texts alone (SHA-256); of a finished text. */
  get digest(): string {
    if (this.#digest === undefined) throw new Error('Internal error: a text is compared before its end');
    return this.#digest;
  }

  /** Copies the bytes. @throws SchedulerError when the disk does not take them. */
  append(chunk: Buffer): void {
    if (this.#digest !== undefined) throw new Error('Internal error: output after the end');
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
    let rest = chunk.subarray(this.#remember(chunk));
    while (rest.length > 0) {
      if (this.#gatheredBytes === 0 && rest.length >= BLOCK_BYTES) {
        this.#blocks.push(this.#spool.writeBlock(rest.subarray(0, BLOCK_BYTES)));
        rest = rest.subarray(BLOCK_BYTES);
        continue;
      }
      if (this.#gathered.length === 0) this.#gathered = Buffer.allocUnsafe(BLOCK_BYTES);
      const count = rest.copy(this.#gathered, this.#gatheredBytes);
      this.#gatheredBytes += count;
      rest = rest.subarray(count);
      if (this.#gatheredBytes === BLOCK_BYTES) this.#writeGathered();
    }
  }

  /** Nothing more comes. */
  finish(): void {
    if (this.#digest !== undefined) return;
    this.#digest = this.#hash.digest('base64');
    if (this.#gatheredBytes > 0) this.#writeGathered();
    this.#gathered = EMPTY;
    if (this.#memory.length > this.#memoryBytes) this.#resizeMemory(this.#memoryBytes);
  }

  /** The text from its beginning, in pieces of bounded size that nobody changes afterwards. */
  *pieces(): Iterable<Buffer> {
    if (this.#memoryBytes > 0) yield this.#memory.subarray(0, this.#memoryBytes);
    let left = this.#bytes - this.#memoryBytes - this.#gatheredBytes;
    for (const block of this.#blocks) {
      const length = Math.min(left, BLOCK_BYTES);
      yield this.#spool.readBlock(block, length);
      left -= length;
    }
    if (this.#gatheredBytes > 0) yield Buffer.from(this.#gathered.subarray(0, this.#gatheredBytes));
  }

  /** Gives memory and disk back; the text is empty afterwards. */
  forget(): void {
    this.finish();
    this.#resizeMemory(0);
    this.#memoryBytes = 0;
    this.#bytes = 0;
    this.#spool.freeBlocks(this.#blocks.splice(0));
  }

  /** Keeps as much of the chunk in memory as may be, and says how much. */
  #remember(chunk: Buffer): number {
    // What comes behind bytes on the disk has to be there too.
    if (this.#blocks.length > 0 || this.#gatheredBytes > 0) return 0;
    const wanted = Math.min(this.#memoryBytes + chunk.length, this.#memoryLimitBytes);
    if (wanted > this.#memory.length) {
      const doubled = Math.max(wanted, this.#memory.length * 2, SMALLEST_BUFFER_BYTES);
      this.#resizeMemory(Math.min(doubled, this.#memoryLimitBytes));
    }
    const count = chunk.copy(this.#memory, this.#memoryBytes);
    this.#memoryBytes += count;
    return count;
  }

  /** Leaves the memory as it is where so much is not left. */
  #resizeMemory(length: number): void {
    if (!this.#spool.reserve(length - this.#memory.length)) return;
    const memory = Buffer.allocUnsafeSlow(length);
    this.#memory.copy(memory, 0, 0, Math.min(this.#memoryBytes, length));
    this.#memory = memory;
  }

  #writeGathered(): void {
    this.#blocks.push(this.#spool.writeBlock(this.#gathered.subarray(0, this.#gatheredBytes)));
    this.#gatheredBytes = 0;
  }
}
