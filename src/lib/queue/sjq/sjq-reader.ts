/**
 * Bytes of one client to requests of the sjq protocol. Knows the form alone: which commands and options there are, and what their
 * values may be, is decided elsewhere; only the length behind SRC is needed here.
 */
import { visibleText } from '../../util/terminal-text.ts';
import type { SjqOption } from './sjq-queue.ts';

/** What one client may send. */
export interface SjqReaderLimits {
  /** Of a line up to its LF. */
  readonly maxLineBytes: number;
  /** Of all option lines of one SUBMIT. */
  readonly maxOptionsBytes: number;
  readonly maxOptions: number;
  readonly maxScriptBytes: number;
  /** A script longer than allowed, up to this length, is read and dropped, so that the connection can go on. */
  readonly maxDroppedBytes: number;
}

/** What a client wants. */
export type SjqRequest =
  /** The word in capital letters, and as it came; what stands behind it, without blanks around. */
  | { readonly type: 'command'; readonly word: string; readonly sent: string; readonly rest: string }
  | { readonly type: 'submit'; readonly options: readonly SjqOption[]; readonly script: Buffer }
  /** What cannot be served, and why. When it is over, nothing can be made of the bytes that follow. */
  | { readonly type: 'refused'; readonly reasons: readonly string[]; readonly isOver: boolean };

/** A SUBMIT that is not complete. */
interface Submit {
  readonly options: SjqOption[];
  /** Why it is refused when its script has passed. */
  readonly reasons: string[];
  lines: number;
  bytes: number;
  heldBytes: number;
  /** Undefined before SRC. */
  script: { readonly bytes: number; left: number } | undefined;
}

const NOTHING: Buffer = Buffer.alloc(0);
const LF = 0x0a;
const CR = 0x0d;
const MAX_REASONS = 20;
/** What an option takes besides its text, about. */
const OPTION_BYTES = 100;

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads what one client sends: give it a chunk, then ask for requests until there is none. */
export class SjqReader {
  readonly #limits: SjqReaderLimits;
  readonly #line = new GrowingBytes();
  readonly #script = new GrowingBytes();
  #input = NOTHING;
  #submit: Submit | undefined;

  constructor(limits: SjqReaderLimits) {
    this.#limits = limits;
  }

  /** Memory taken for what is not complete, or not asked for yet. */
  get heldBytes(): number {
    return (
      this.#input.length +
      this.#line.heldBytes +
      this.#script.heldBytes +
      (this.#submit === undefined ? 0 : OPTION_BYTES + this.#submit.heldBytes)
    );
  }

  /** Whether a SUBMIT has begun and its script is not complete. */
  get isInSubmit(): boolean {
    return this.#submit !== undefined;
  }

  /** Drops what has come. */
  clear(): void {
    this.#input = NOTHING;
    this.#submit = undefined;
    this.#line.clear();
    this.#script.clear();
  }

  /** Takes what has come; the chunk is not to change later. */
  push(chunk: Buffer): void {
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
  }

  /** The next request that is complete. */
  next(): SjqRequest | undefined {
    for (;;) {
      const { script } = this.#submit ?? {};
      if (this.#submit !== undefined && script !== undefined) return this.#readScript(this.#submit, script);
      const line = this.#readLine();
      if (line === undefined) return undefined;
      if (line === 'too long')
        return this.#giveUp(`a line is longer than ${this.#limits.maxLineBytes} bytes`);
      const request = this.#readWords(line);
      if (request !== undefined) return request;
    }
  }

  /** The next line without its end, good until the next call. */
  #readLine(): Buffer | 'too long' | undefined {
    const { maxLineBytes } = this.#limits;
    const end = this.#input.indexOf(LF);
    const piece = end < 0 ? this.#input : this.#input.subarray(0, end);
    if (this.#line.length + piece.length > maxLineBytes) return 'too long';
    this.#input = end < 0 ? NOTHING : this.#input.subarray(end + 1);
    if (end < 0) {
      this.#line.add(piece, maxLineBytes);
      return undefined;
    }
    let line = piece;
    if (this.#line.length > 0) {
      this.#line.add(piece, maxLineBytes);
      line = this.#line.take();
    }
    return line.at(-1) === CR ? line.subarray(0, -1) : line;
  }

  #readWords(line: Buffer): SjqRequest | undefined {
    const text = decoded(line);
    const [, first = '', rest = ''] = /^[ \t]*([^ \t]*)[ \t]?(.*)$/s.exec(text ?? line.toString()) ?? [];
    const word = first.replace(/[a-z]+/g, (letters) => letters.toUpperCase()); // of ASCII only
    if (word === '') return undefined;
    if (this.#submit === undefined && word !== 'SUBMIT' && word !== 'SRC')
      return { type: 'command', word, sent: first, rest: rest.trim() };
    if (this.#submit !== undefined && word !== 'SRC') {
      this.#addOption(this.#submit, { word, value: rest }, line.length, text !== undefined);
      return undefined;
    }
    const submit: Submit = { options: [], reasons: [], lines: 0, bytes: 0, heldBytes: 0, script: undefined };
    this.#submit ??= submit;
    if (word === 'SUBMIT') return undefined;
    // Its script must not be taken for commands.
    if (this.#submit === submit) refuse(submit, 'SRC comes without SUBMIT');
    return this.#beginScript(this.#submit, rest.trim());
  }

  #addOption(submit: Submit, option: SjqOption, bytes: number, isText: boolean): void {
    const { maxOptions, maxOptionsBytes } = this.#limits;
    submit.lines++;
    submit.bytes += bytes;
    if (submit.lines === maxOptions + 1) refuse(submit, `more than ${maxOptions} option lines`);
    if (submit.bytes > maxOptionsBytes && submit.bytes - bytes <= maxOptionsBytes)
      refuse(submit, `more than ${maxOptionsBytes} bytes of option lines`);
    // Another value than the client means, such as the name of another file, must not be used.
    if (!isText) refuse(submit, `${shown(option.word)}: its line is no UTF-8`);
    if (submit.reasons.length > 0) return;
    submit.options.push(option);
    submit.heldBytes += OPTION_BYTES + 2 * bytes;
  }

  #beginScript(submit: Submit, length: string): SjqRequest | undefined {
    const { maxScriptBytes, maxDroppedBytes } = this.#limits;
    const bytes = /^\d+$/.test(length) ? Number(length) : Number.NaN;
    if (!(bytes <= Math.max(maxScriptBytes, maxDroppedBytes)))
      return this.#giveUp(
        `SRC: found '${shown(length)}', expected how many bytes the script has, at most ${maxScriptBytes}`,
      );
    if (bytes > maxScriptBytes)
      refuse(submit, `SRC: the script has ${bytes} bytes, at most ${maxScriptBytes} are taken`);
    submit.script = { bytes, left: bytes };
    return undefined;
  }

  #readScript(submit: Submit, script: { readonly bytes: number; left: number }): SjqRequest | undefined {
    const piece = this.#input.subarray(0, script.left);
    this.#input = piece.length === this.#input.length ? NOTHING : this.#input.subarray(piece.length);
    script.left -= piece.length;
    if (submit.reasons.length === 0) this.#script.add(piece, script.bytes);
    if (script.left > 0) return undefined;
    this.#submit = undefined;
    return submit.reasons.length > 0
      ? { type: 'refused', reasons: submit.reasons, isOver: false }
      : { type: 'submit', options: submit.options, script: this.#script.take() };
  }

  #giveUp(reason: string): SjqRequest {
    const reasons = [...(this.#submit?.reasons ?? []), reason];
    this.clear();
    return { type: 'refused', reasons, isOver: true };
  }
}

/** Bytes that come little by little, in one piece: sent byte by byte they cost no more. */
class GrowingBytes {
  length = 0;
  #held = NOTHING;

  get heldBytes(): number {
    return this.#held.length;
  }

  /** Adds a copy; there will be `mostBytes` at most. */
  add(piece: Buffer, mostBytes: number): void {
    const needed = this.length + piece.length;
    if (needed > this.#held.length) {
      const size = Math.min(Math.max(needed, Math.ceil(this.#held.length * 1.25), 1024), mostBytes);
      const larger = Buffer.allocUnsafeSlow(size);
      this.#held.copy(larger, 0, 0, this.length);
      this.#held = larger;
    }
    piece.copy(this.#held, this.length);
    this.length = needed;
  }

  take(): Buffer {
    const all = this.#held.subarray(0, this.length);
    this.clear();
    return all;
  }

  clear(): void {
    this.#held = NOTHING;
    this.length = 0;
  }
}

function refuse(submit: Submit, reason: string): void {
  if (submit.reasons.length < MAX_REASONS) submit.reasons.push(reason);
  submit.options.length = 0; // nobody will ask for them
  submit.heldBytes = 0;
}

function decoded(line: Buffer): string | undefined {
  try {
    return strict.decode(line);
  } catch {
    return undefined;
  }
}

function shown(text: string): string {
  return visibleText(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}
