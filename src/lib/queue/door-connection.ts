/** The service's end of one client: its lines come in, its requests run, answers go out no faster than it reads them. */
import type { Socket } from 'node:net';
import {
  DOOR_VERSION,
  DoorError,
  decodeLine,
  encodeLine,
  LineSplitter,
  MAX_LINE_BYTES,
  toWireError,
} from './door-protocol.ts';

/** What a verb is told besides its arguments. */
export interface RequestContext {
  /** Aborted when the client goes away or wants no answer any more, and when the door closes. */
  readonly signal: AbortSignal;
  readonly peer: { readonly connection: number };
  /** Settles when the answer is on its way, or the client gone: a `stop` may close the door then. Never rejects. */
  readonly answered: Promise<void>;
}

/** Answers a request: with a value, or with a stream of them. What it throws is told to the client. */
export type Verb = (
  args: unknown,
  context: RequestContext,
) => Promise<unknown> | AsyncIterable<unknown> | unknown;

/** What all connections have in common. */
export interface DoorHouse {
  readonly verbs: { readonly [verb: string]: Verb };
  /** Requests of one connection that may be under way. */
  readonly maxRequests: number;
  /** What incomplete lines and requests under way of all connections may hold together. */
  readonly maxHeldBytes: number;
  heldBytes: number;
}

/** How long a client may take to read the last words to it. */
const LAST_WORDS_MS = 1_000;
const MAX_WINDOW_BYTES = 64 * 1024 * 1024;

interface Request {
  readonly abort: AbortController;
  /** Bytes of a stream that may be sent ahead of the client's acknowledgement; Infinity without. */
  readonly windowBytes: number;
  unusedBytes: number;
  onTook: () => void;
}

/** One client of the service. */
export class DoorConnection {
  /** Settles when the client is gone. Never rejects. */
  readonly closed: Promise<void>;
  /** When it last asked for something, on the process's clock. */
  usedAt = performance.now();
  readonly #socket: Socket;
  readonly #number: number;
  readonly #house: DoorHouse;
  readonly #lines = new LineSplitter(MAX_LINE_BYTES);
  readonly #requests = new Map<number, Request>();
  /** Others wait for the client to read, all for the same. */
  #draining: Promise<void> | undefined;
  #partialBytes = 0;
  #isEnding = false;

  constructor(socket: Socket, number: number, house: DoorHouse) {
    this.#socket = socket;
    this.#number = number;
    this.#house = house;
    socket.on('error', () => undefined); // `close` follows
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('drain', () => socket.resume());
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#isEnding = true;
        this.#countPartial(0);
        this.#abortAll(new DoorError('gone', 'the client went away'));
        resolve();
      });
    });
    this.#write(encodeLine({ door: DOOR_VERSION, requests: house.maxRequests }));
  }

  /** Nothing that it asked for is under way, or on its way to it. */
  get isIdle(): boolean {
    return this.#requests.size === 0 && this.#socket.writableLength === 0;
  }

  /** Tells the client why it is not served any more, and lets it go. */
  end(reason: DoorError): void {
    if (this.#isEnding) return;
    for (const id of this.#requests.keys()) this.#write(encodeLine({ id, error: toWireError(reason) }));
    if (this.#requests.size === 0) this.#write(encodeLine({ id: null, error: toWireError(reason) }));
    this.#isEnding = true;
    this.#lines.clear();
    this.#countPartial(0);
    this.#abortAll(reason);
    const timer = setTimeout(() => this.#socket.destroy(), LAST_WORDS_MS);
    this.#socket.once('close', () => clearTimeout(timer));
    this.#socket.end(() => this.#socket.destroy());
  }

  #read(chunk: Buffer): void {
    if (this.#isEnding) return; // read and dropped
    try {
      for (const line of this.#lines.push(chunk)) {
        if (line.length > 0) this.#take(line);
        if (this.#isEnding) return;
      }
    } catch (error) {
      this.end(error as DoorError);
      return;
    }
    this.#countPartial(this.#lines.heldBytes);
    if (this.#house.heldBytes > this.#house.maxHeldBytes && this.#partialBytes > 0) {
      this.end(new DoorError('busy', 'too much is being sent to the service at once: try again'));
      return;
    }
    // Who does not read its answers is not asked for more.
    if (this.#socket.writableNeedDrain) this.#socket.pause();
  }

  #countPartial(bytes: number): void {
    this.#house.heldBytes += bytes - this.#partialBytes;
    this.#partialBytes = bytes;
  }

  #take(line: Buffer): void {
    let id: number | null = null;
    try {
      const message = decodeLine(line);
      if (!isId(message.id))
        throw new DoorError('bad-request', 'a request has no id: a whole number is expected');
      const request = this.#requests.get(message.id);
      if (message.cancel === true) {
        request?.abort.abort(new DoorError('cancelled', 'cancelled by the client'));
      } else if (message.took !== undefined) {
        if (request !== undefined && isAmount(message.took)) {
          request.unusedBytes -= Math.min(message.took, request.unusedBytes);
          request.onTook();
        }
      } else {
        // An answer under the id of another request would be taken for that one's.
        if (request !== undefined)
          throw new DoorError('bad-request', `request ${message.id} is under way already`);
        id = message.id;
        this.#start(id, message, line.length);
      }
    } catch (error) {
      this.#write(encodeLine({ id, error: toWireError(error) }));
    }
  }

  #start(id: number, message: { readonly [name: string]: unknown }, bytes: number): void {
    const { verb, args, window } = message;
    if (typeof verb !== 'string') throw new DoorError('bad-request', `request ${id} has no verb`);
    const handler = Object.hasOwn(this.#house.verbs, verb) ? this.#house.verbs[verb] : undefined;
    if (handler === undefined)
      throw new DoorError('unknown-verb', `the service knows no '${verb.slice(0, 100)}'`);
    if (window !== undefined && !(isAmount(window) && window > 0 && window <= MAX_WINDOW_BYTES))
      throw new DoorError('bad-request', `the window of request ${id} is no number of bytes`);
    const { maxRequests, maxHeldBytes } = this.#house;
    if (this.#requests.size >= maxRequests)
      throw new DoorError('busy', `${maxRequests} requests of this connection are under way already`);
    if (this.#house.heldBytes + bytes > maxHeldBytes)
      throw new DoorError('busy', 'too much is being asked of the service at once: try again');
    this.usedAt = performance.now();
    const request: Request = {
      abort: new AbortController(),
      windowBytes: isAmount(window) ? window : Number.POSITIVE_INFINITY,
      unusedBytes: 0,
      onTook: () => undefined,
    };
    this.#requests.set(id, request);
    this.#house.heldBytes += bytes;
    void this.#serve(id, request, handler, args).finally(() => {
      this.#house.heldBytes -= bytes;
      this.usedAt = performance.now();
    });
  }

  async #serve(id: number, request: Request, handler: Verb, args: unknown): Promise<void> {
    const { signal } = request.abort;
    let settle: () => void = () => undefined;
    const answered = new Promise<void>((resolve) => {
      settle = resolve;
    });
    try {
      const result = handler(args, { signal, peer: { connection: this.#number }, answered });
      if (isStream(result)) {
        await this.#stream(id, request, result);
        this.#finish(id, encodeLine({ id, end: true }));
      } else {
        const ok = (await untilAborted(Promise.resolve(result), signal)) ?? null;
        this.#finish(id, encodeLine({ id, ok }));
      }
    } catch (error) {
      this.#finish(id, encodeLine({ id, error: toWireError(error) }));
    }
    // Nothing more is read from a client that has no room for its answers, so they do not gather here.
    await this.#drained();
    settle();
  }

  async #stream(id: number, request: Request, items: AsyncIterable<unknown>): Promise<void> {
    const { signal } = request.abort;
    const iterator = items[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await untilAborted(iterator.next(), signal);
        if (next.done === true) return;
        const line = encodeLine({ id, item: next.value ?? null });
        request.unusedBytes += line.length;
        this.#write(line);
        await untilAborted(this.#drained(), signal);
        while (request.unusedBytes >= request.windowBytes) {
          const took = new Promise<void>((resolve) => {
            request.onTook = resolve;
          });
          await untilAborted(took, signal);
        }
      }
    } catch (error) {
      // Not waited for: a generator that waits for something else hears of it only then.
      void Promise.resolve(iterator.return?.()).catch(() => undefined);
      throw error;
    }
  }

  #finish(id: number, line: Buffer): void {
    this.#requests.delete(id); // first: the client may use its place as soon as it has the line
    this.#write(line);
  }

  #write(line: Buffer): void {
    if (!this.#isEnding && this.#socket.writable) this.#socket.write(line);
  }

  /** Settles when the client has read so much that there is room, or is gone. */
  #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket.writableNeedDrain || socket.destroyed || this.#isEnding) return Promise.resolve();
    this.#draining ??= new Promise((resolve) => {
      const settle = () => {
        this.#draining = undefined;
        socket.off('drain', settle).off('close', settle);
        resolve();
      };
      socket.on('drain', settle).on('close', settle);
    });
    return this.#draining;
  }

  #abortAll(reason: DoorError): void {
    for (const { abort } of this.#requests.values()) abort.abort(reason);
  }
}

/** As the work, or rejects with the signal's reason when that comes first. Leaves nothing behind on the signal. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

function isId(value: unknown): value is number {
  return isAmount(value);
}

function isAmount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
