/** One stream of one machine, written line by line with a prefix. */
import type { ByteOut } from './byte-out.ts';
import { terminalLine } from './terminal-line.ts';
import { characterEnd } from './utf8-pieces.ts';

/** A longer line is cut into several, so that one without an end cannot fill the memory. */
export const LINE_LIMIT_BYTES = 64 * 1024;

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const NEWLINE_BYTES = Buffer.from('\n');
const EMPTY = Buffer.alloc(0);

/**
 * Takes bytes split anywhere and writes whole lines, all that one chunk completes in one write.
 *
 * Of a progress bar, drawn over itself with carriage returns, only the last state is written, as a terminal would leave
 * it. Those at the end of a line stay in a file and go on a terminal. All other bytes reach a file as they are; a
 * terminal gets no control character.
 */
export class LineWriter {
  readonly #out: ByteOut;
  readonly #prefix: string;
  readonly #prefixBytes: Buffer;
  /** The prefix with one character per byte. */
  readonly #bytePrefix: string;
  /** The first `#heldBytes` bytes are the line that has no end yet. */
  #held: Buffer = EMPTY;
  #heldBytes = 0;

  /** @param prefix What begins every line, fit for a terminal. */
  constructor(out: ByteOut, prefix: string) {
    this.#out = out;
    this.#prefix = prefix;
    this.#prefixBytes = Buffer.from(prefix);
    this.#bytePrefix = this.#prefixBytes.toString('latin1');
  }

  write(chunk: Buffer): void {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end > 0) {
      const lines = chunk.subarray(0, end);
      this.#print(this.#heldBytes === 0 ? lines : Buffer.concat([this.#takeHeld(), lines]));
    }
    this.#hold(chunk.subarray(end));
  }

  /** Writes a last line that has no newline, with one. More may be written afterwards. */
  end(): void {
    if (this.#heldBytes > 0) this.#print(Buffer.concat([this.#takeHeld(), NEWLINE_BYTES]));
    this.#held = EMPTY;
  }

  #takeHeld(): Buffer {
    const held = this.#held.subarray(0, this.#heldBytes);
    this.#heldBytes = 0;
    return held;
  }

  #hold(rest: Buffer): void {
    if (rest.length === 0) return;
    const start = overwrittenBytes(rest);
    const isOverwritten =
      start > 0 || (rest[0] !== CARRIAGE_RETURN && this.#held[this.#heldBytes - 1] === CARRIAGE_RETURN);
    if (isOverwritten) this.#heldBytes = 0;
    const kept = rest.subarray(start);
    const length = this.#heldBytes + kept.length;
    if (length > this.#held.length) {
      // Doubled, so that a line that comes byte by byte is not copied for each of them.
      const larger = Buffer.allocUnsafe(Math.max(256, length, this.#held.length * 2));
      this.#held.copy(larger, 0, 0, this.#heldBytes);
      this.#held = larger;
    }
    kept.copy(this.#held, this.#heldBytes);
    this.#heldBytes = length;
    if (length > LINE_LIMIT_BYTES) this.#cut();
  }

  /** Writes all of the held line but the last piece. */
  #cut(): void {
    const pieces = [...linePieces(this.#takeHeld())];
    const last = pieces.pop() ?? EMPTY;
    this.#held = EMPTY;
    this.#hold(Buffer.from(last));
    this.#print(Buffer.concat(pieces.flatMap((piece) => [piece, NEWLINE_BYTES])));
  }

  /** @param lines Whole lines, the last newline included. */
  #print(lines: Buffer): void {
    if (this.#out.isTTY) {
      let text = '';
      for (const line of shownLines(lines))
        text += `${this.#prefix}${terminalLine(withoutReturns(line).toString())}\n`;
      this.#out.write(text);
    } else if (lines.length <= LINE_LIMIT_BYTES && !lines.includes(CARRIAGE_RETURN)) {
      // As a string of one character per byte this is twice as fast as copying line by line.
      const text = lines.toString('latin1', 0, lines.length - 1).replaceAll('\n', `\n${this.#bytePrefix}`);
      this.#out.write(Buffer.from(`${this.#bytePrefix}${text}\n`, 'latin1'));
    } else {
      const parts: Buffer[] = [];
      for (const line of shownLines(lines)) parts.push(this.#prefixBytes, line, NEWLINE_BYTES);
      this.#out.write(Buffer.concat(parts));
    }
  }
}

/** What a terminal would show of each line, in pieces of bounded size; carriage returns at the end are still there. */
function* shownLines(lines: Buffer): Iterable<Buffer> {
  for (let start = 0; start < lines.length; ) {
    const end = lines.indexOf(NEWLINE, start);
    const line = lines.subarray(start, end);
    yield* linePieces(line.subarray(overwrittenBytes(line)));
    start = end + 1;
  }
}

/** How much of a line's beginning is overwritten: all up to the last carriage return that something follows. */
function overwrittenBytes(line: Buffer): number {
  return withoutReturns(line).lastIndexOf(CARRIAGE_RETURN) + 1;
}

function withoutReturns(line: Buffer): Buffer {
  let end = line.length;
  while (end > 0 && line[end - 1] === CARRIAGE_RETURN) end--;
  return line.subarray(0, end);
}

function* linePieces(line: Buffer): Iterable<Buffer> {
  let start = 0;
  while (line.length - start > LINE_LIMIT_BYTES) {
    const end = characterEnd(line, start + LINE_LIMIT_BYTES);
    yield line.subarray(start, end);
    start = end;
  }
  yield line.subarray(start);
}
