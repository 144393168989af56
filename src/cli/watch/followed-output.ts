/** A job's output as lines, in bounded memory. */
import { StringDecoder } from 'node:string_decoder';
import type { OutputItem } from '../../lib/domain/overview.ts';
import { lastPart, printedLine } from './printed-text.ts';

const MOST_LINES = 5000;
/** Characters of all lines together. */
const MOST_LENGTH = 1024 * 1024;
const MOST_LINE_LENGTH = 8192;

/** Where a line came from; `note`: it is ours. */
export type OutputStream = 'out' | 'err' | 'note';

/** A line, maybe not at its end yet. */
export interface OutputLine {
  readonly stream: OutputStream;
  readonly text: string;
}

interface Kept {
  readonly stream: OutputStream;
  raw: string;
}

/** The last lines of what a job printed, in the order in which they began. */
export class FollowedOutput {
  /** The number of the first line that is still here, counted from 0. */
  first = 0;
  /** There was more before, which was not read. */
  isCut = false;
  #lines: Kept[] = [];
  #length = 0;
  readonly #open: { out: Kept | undefined; err: Kept | undefined } = { out: undefined, err: undefined };
  #decoders = newDecoders();

  /** The number of the line behind the last. */
  get end(): number {
    return this.first + this.#lines.length;
  }

  /** Lines by number; those that are gone or still to come are left out. */
  lines(from: number, count: number): OutputLine[] {
    const start = Math.max(0, from - this.first);
    return this.#lines
      .slice(start, Math.max(start, from - this.first + count))
      .map(({ stream, raw }) => ({ stream, text: stream === 'note' ? raw : printedLine(raw) }));
  }

  /** A piece of what the job printed. */
  add({ stream, base64 }: OutputItem & { type: 'chunk' }): void {
    const text = this.#decoders[stream].write(Buffer.from(base64, 'base64'));
    // What cannot stay anyway need not be looked at.
    this.#addText(stream, text.slice(-MOST_LENGTH));
    this.#forget();
  }

  /** A line of ours. What comes next begins a new line. */
  note(text: string): void {
    this.#open.out = undefined;
    this.#open.err = undefined;
    this.#push('note', text);
    this.#forget();
  }

  /** Forgets all: the same output comes again from its beginning. */
  clear(): void {
    this.#lines = [];
    this.#length = 0;
    this.first = 0;
    this.isCut = false;
    this.#open.out = undefined;
    this.#open.err = undefined;
    this.#decoders = newDecoders();
  }

  #addText(stream: 'out' | 'err', text: string): void {
    const parts = text.split('\n');
    for (const [i, part] of parts.entries()) {
      if (i > 0) this.#open[stream] = undefined;
      // A line is there once something is in it, or its end.
      if (part === '' && i === parts.length - 1) continue;
      this.#extend(stream, part);
    }
  }

  #extend(stream: 'out' | 'err', part: string): void {
    const line = this.#open[stream] ?? this.#push(stream, '');
    this.#open[stream] = line;
    const before = line.raw.length;
    // A progress bar stays one line for hours: what it has overwritten is dropped.
    const raw = line.raw + part;
    line.raw = lastPart(raw).slice(0, MOST_LINE_LENGTH) + (raw.endsWith('\r') ? '\r' : '');
    this.#length += line.raw.length - before;
  }

  #push(stream: OutputStream, raw: string): Kept {
    const line: Kept = { stream, raw };
    this.#lines.push(line);
    this.#length += raw.length;
    return line;
  }

  #forget(): void {
    let count = Math.max(0, this.#lines.length - MOST_LINES);
    let length = this.#length;
    for (const line of this.#lines.slice(0, count)) length -= line.raw.length;
    while (length > MOST_LENGTH) length -= this.#lines[count++]?.raw.length ?? length;
    if (count === 0) return;
    const gone = this.#lines.splice(0, count);
    for (const stream of ['out', 'err'] as const) {
      const open = this.#open[stream];
      if (open !== undefined && gone.includes(open)) this.#open[stream] = undefined;
    }
    this.#length = length;
    this.first += count;
  }
}

function newDecoders(): Readonly<Record<'out' | 'err', StringDecoder>> {
  return { out: new StringDecoder('utf8'), err: new StringDecoder('utf8') };
}
