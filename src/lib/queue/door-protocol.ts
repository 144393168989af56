/**
 * What is said through the door of the service: one JSON object per line, both ways.
 *
 *     service  {"door":1,"requests":64}                           the version, and how many requests may be under way
 *     client   {"id":1,"verb":"status","args":{...}}              `"window":BYTES` where a stream is acknowledged
 *     service  {"id":1,"ok":...}                                  or {"id":1,"error":{"message":"...","code":"..."}}
 *     service  {"id":2,"item":...} ... {"id":2,"end":true}        or an error in place of the end
 *     client   {"id":2,"took":BYTES}                              so many bytes of a stream's lines have been used
 *     client   {"id":2,"cancel":true}                             its answer is not wanted any more
 *
 * A stream with a window stops when so many bytes of its lines (newlines included) were sent and not acknowledged, so a slow
 * reader of one stream holds up nothing else on its connection. One without stops when the socket is full.
 * An error about a line that cannot be understood has `"id":null`.
 */
import { SchedulerError, UsageError } from '../domain/errors.ts';

/** Raised when old clients could misunderstand a service, or the other way round. */
export const DOOR_VERSION = 1;
/** Longest line, without its newline. */
export const MAX_LINE_BYTES = 8 * 1024 * 1024;

/**
 * Why a request failed. `usage`: a mistake in what was asked. `failed`: it could not be done. `busy`: too much at once, try
 * again. `internal`: a fault of the service. `no-service`, `refused`, `gone`: it was not reached, or went away.
 */
export type DoorErrorCode =
  | 'usage'
  | 'failed'
  | 'internal'
  | 'unknown-verb'
  | 'bad-request'
  | 'too-long'
  | 'busy'
  | 'cancelled'
  | 'closing'
  | 'no-service'
  | 'refused'
  | 'version'
  | 'gone';

const CODES: ReadonlySet<string> = new Set<DoorErrorCode>([
  ...(['usage', 'failed', 'internal', 'unknown-verb', 'bad-request', 'too-long', 'busy'] as const),
  ...(['cancelled', 'closing', 'no-service', 'refused', 'version', 'gone'] as const),
]);

/** A request that failed, or a service that cannot be reached. The message is meant to be shown as it is. */
export class DoorError extends SchedulerError {
  override readonly name = 'DoorError';
  constructor(
    readonly code: DoorErrorCode,
    message: string,
    options: ErrorOptions = {},
  ) {
    super(message, options);
  }
}

/** An error as it travels. */
export interface WireError {
  readonly message: string;
  readonly code: DoorErrorCode;
}

const MAX_ERROR_LENGTH = 64 * 1024;

/** What a handler threw, for the client. Never throws, whatever that was. */
export function toWireError(error: unknown): WireError {
  return { message: textOf(error).slice(0, MAX_ERROR_LENGTH), code: codeOf(error) };
}

function codeOf(error: unknown): DoorErrorCode {
  if (error instanceof DoorError) return error.code;
  if (error instanceof UsageError) return 'usage';
  return error instanceof SchedulerError ? 'failed' : 'internal';
}

function textOf(error: unknown): string {
  try {
    return error instanceof Error ? `${error.message}` : String(error);
  } catch {
    return 'the service failed, and cannot say how';
  }
}

/** What the service said, as an error to throw: mistakes of the user are UsageErrors here as there. */
export function fromWireError(value: unknown): SchedulerError {
  const { message, code } = (isRecord(value) ? value : {}) as { readonly [name: string]: unknown };
  const text = typeof message === 'string' ? message : 'the service says that it failed, and not why';
  if (code === 'usage') return new UsageError(text);
  const known = typeof code === 'string' && CODES.has(code);
  return new DoorError(known ? (code as DoorErrorCode) : 'failed', text);
}

/** One line to send, with its newline. @throws DoorError `too-long`, and what JSON cannot hold */
export function encodeLine(message: { readonly [name: string]: unknown }, maxBytes = MAX_LINE_BYTES): Buffer {
  const line = Buffer.from(`${JSON.stringify(message)}\n`);
  if (line.length - 1 <= maxBytes) return line;
  throw new DoorError(
    'too-long',
    `a message of ${line.length - 1} bytes is too long: at most ${maxBytes} go through the door at once`,
  );
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** The object in a line. @throws DoorError `bad-request` */
export function decodeLine(line: Buffer): { readonly [name: string]: unknown } {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(line));
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'JSON' : 'UTF-8';
    throw new DoorError('bad-request', `a line is no ${reason}: one JSON object per line is expected`);
  }
  if (!isRecord(value))
    throw new DoorError('bad-request', 'a line is no JSON object: {"id":1,"verb":"..."} is expected');
  return value;
}

function isRecord(value: unknown): value is { readonly [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const FIRST_BYTES = 1024;

/** Splits bytes into lines. Holds what has come of one line, in one piece: a line sent byte by byte costs no more. */
export class LineSplitter {
  #held = Buffer.alloc(0);
  #length = 0;
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Memory taken for the line that is not complete. */
  get heldBytes(): number {
    return this.#held.length;
  }

  /** Drops what has come of a line. */
  clear(): void {
    this.#held = Buffer.alloc(0);
    this.#length = 0;
  }

  /**
   * The lines that the chunk completes, without their newlines; each is good until the next is asked for.
   * @throws DoorError `too-long` when a line is; nothing can be made of what follows
   */
  *push(chunk: Buffer): Generator<Buffer, void, void> {
    let rest = chunk;
    for (let at = rest.indexOf(0x0a); at >= 0; at = rest.indexOf(0x0a)) {
      const piece = rest.subarray(0, at);
      rest = rest.subarray(at + 1);
      if (this.#length + piece.length > this.#maxBytes) throw this.#tooLong();
      if (this.#length === 0) {
        yield piece;
        continue;
      }
      this.#add(piece);
      const line = this.#held.subarray(0, this.#length);
      this.clear();
      yield line;
    }
    if (this.#length + rest.length > this.#maxBytes) throw this.#tooLong();
    if (rest.length > 0) this.#add(rest);
  }

  #add(piece: Buffer): void {
    const needed = this.#length + piece.length;
    if (needed > this.#held.length) {
      const size = Math.min(Math.max(needed, this.#held.length * 2, FIRST_BYTES), this.#maxBytes);
      const larger = Buffer.allocUnsafeSlow(size);
      this.#held.copy(larger, 0, 0, this.#length);
      this.#held = larger;
    }
    piece.copy(this.#held, this.#length);
    this.#length = needed;
  }

  #tooLong(): DoorError {
    this.clear();
    return new DoorError('too-long', `a line is longer than ${this.#maxBytes} bytes`);
  }
}
