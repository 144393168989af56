/** Asks a service for things through its door. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import type { Duplex } from 'node:stream';
import { serviceOf } from './data-folder.ts';
import { checkSocket, factsOf, findDoor, noService } from './door-place.ts';
import {
  DOOR_VERSION,
  DoorError,
  decodeLine,
  encodeLine,
  fromWireError,
  LineSplitter,
  MAX_LINE_BYTES,
} from './door-protocol.ts';

/** How to connect. */
export interface DoorClientOptions {
  /** How long the service may take for its first words. @default 20000 */
  readonly timeoutMs?: number;
}

/** How to speak over a stream. */
export interface DoorStreamOptions extends DoorClientOptions {
  /** The connection that carries the stream, where that can be lost by itself: its machine, and its end with the reason. */
  readonly carrier?: { readonly name: string; readonly closed: Promise<string> };
}

/** How to ask. */
export interface AskOptions {
  /** Ends the request; the service is told. */
  readonly signal?: AbortSignal;
}

/** What may be sent ahead of whoever reads a stream. */
const WINDOW_BYTES = 1024 * 1024;
const MAX_REQUESTS = 1024;
/** A stream often ends a moment before it is known that what carries it has. */
const CARRIER_WAIT_MS = 250;

/** Hears what the service says about one request, or why nothing more comes. */
type Listener = (message: { readonly [name: string]: unknown } | Error, bytes: number) => void;

/** A connection to a service. Requests may be made side by side. */
export class DoorClient implements AsyncDisposable {
  /** Settles with the reason when the connection is gone, also after `close`. Never rejects. */
  readonly closed: Promise<string>;
  readonly #stream: Duplex;
  readonly #where: string;
  readonly #lines = new LineSplitter(MAX_LINE_BYTES);
  readonly #listeners = new Map<number, Listener>();
  readonly #waiting: (() => void)[] = [];
  #freeRequests = 0;
  #lastId = 0;
  #gone: Error | undefined;
  #onGreeting: ((error?: Error) => void) | undefined;
  #settleClosed: (reason: string) => void = () => undefined;

  private constructor(stream: Duplex, where: string, carrier: DoorStreamOptions['carrier']) {
    this.#stream = stream;
    this.#where = where;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    const end = (reason: string) => {
      if (carrier === undefined) this.#lose(this.#goneError(reason));
      else setTimeout(() => this.#lose(this.#goneError(reason)), CARRIER_WAIT_MS);
    };
    stream.on('error', (error: Error) => end(error.message));
    stream.on('end', () => end('it closed the connection'));
    stream.on('close', () => end('the connection was closed'));
    void carrier?.closed.then((reason) =>
      this.#lose(new DoorError('gone', `the connection to ${carrier.name} was lost (${reason})`)),
    );
  }

  /**
   * Connects to the service of a data folder, or to a socket in a folder of this user's.
   * @throws DoorError `no-service` when none runs there, `refused` when the socket may not be used or is not its owner's, `version`
   */
  static async connect(path: string, options: DoorClientOptions = {}): Promise<DoorClient> {
    const isSocket = factsOf(path)?.kind === 'socket';
    const { socketPath, ownerUid } = isSocket
      ? { socketPath: path, ownerUid: process.getuid?.() ?? 0 }
      : lookFor(path);
    checkSocket(socketPath, ownerUid);
    const stream = connect(socketPath);
    try {
      await once(stream, 'connect');
    } catch (error) {
      throw connectError(error as NodeJS.ErrnoException, path, socketPath);
    }
    return await DoorClient.over(stream, path, options);
  }

  /**
   * Speaks with a service over a stream that leads to its socket. `where` names it in messages.
   * @throws DoorError `version`, and `gone` when it says nothing
   */
  static async over(stream: Duplex, where: string, options: DoorStreamOptions = {}): Promise<DoorClient> {
    const { timeoutMs = 20_000, carrier } = options;
    const client = new DoorClient(stream, where, carrier);
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        client.#onGreeting = (error) => (error === undefined ? resolve() : reject(error));
        timer = setTimeout(
          () => reject(client.#goneError(`no answer within ${timeoutMs / 1000} s`)),
          timeoutMs,
        );
      });
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
      client.#onGreeting = undefined;
    }
  }

  /** Asks for one answer. @throws what the service says: UsageError for a mistake in `args`, else DoorError */
  async call(verb: string, args?: unknown, { signal }: AskOptions = {}): Promise<unknown> {
    const id = await this.#takeId(signal);
    let forget: () => void = () => undefined;
    try {
      return await new Promise((resolve, reject) => {
        this.#ask(id, { id, verb, args }, (message) => {
          if (message instanceof Error) reject(message);
          else if (message.error !== undefined) reject(fromWireError(message.error));
          else if ('ok' in message) resolve(message.ok);
          else {
            this.#send({ id, cancel: true });
            reject(new DoorError('bad-request', `'${verb}' answers with a stream`));
          }
        });
        forget = onAbort(signal, () => {
          this.#send({ id, cancel: true });
          reject(signal?.reason);
        });
      });
    } finally {
      forget();
    }
  }

  /**
   * Asks for a stream, when it is first read. Who reads slowly holds the service back; who stops reading tells it so.
   * @throws what the service says, in its place in the stream
   */
  async *stream(
    verb: string,
    args?: unknown,
    { signal }: AskOptions = {},
  ): AsyncGenerator<unknown, void, void> {
    const id = await this.#takeId(signal);
    const items: { readonly item: unknown; readonly bytes: number }[] = [];
    let end: { readonly error?: unknown } | undefined;
    let isOverThere = false;
    let wake: () => void = () => undefined;
    this.#ask(id, { id, verb, args, window: WINDOW_BYTES }, (message, bytes) => {
      if (message instanceof Error) end ??= { error: message };
      else if ('item' in message) items.push({ item: message.item, bytes });
      else if ('ok' in message) items.push({ item: message.ok, bytes });
      else if (message.error !== undefined) end ??= { error: fromWireError(message.error) };
      isOverThere = message instanceof Error || isLast(message);
      if (isOverThere) end ??= {};
      wake();
    });
    const forget = onAbort(signal, () => {
      items.length = 0;
      end ??= { error: signal?.reason };
      wake();
    });
    try {
      let usedBytes = 0;
      for (;;) {
        const next = items.shift();
        if (next !== undefined) {
          yield next.item;
          usedBytes += next.bytes;
          if (usedBytes < WINDOW_BYTES / 4) continue;
          if (!isOverThere) this.#send({ id, took: usedBytes });
          usedBytes = 0;
        } else if (end !== undefined) {
          if ('error' in end) throw end.error;
          return;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      forget();
      items.length = 0;
      if (!isOverThere) this.#send({ id, cancel: true });
    }
  }

  /** Ends the connection; the service ends what was asked for over it. */
  close(): void {
    this.#lose(new DoorError('gone', 'the connection was closed here'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async #takeId(signal: AbortSignal | undefined): Promise<number> {
    // What would be refused there waits here.
    while (this.#freeRequests === 0 && this.#gone === undefined)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#gone !== undefined) throw this.#gone;
    if (signal?.aborted === true) {
      this.#waiting.shift()?.(); // whose turn it is then
      throw signal.reason;
    }
    this.#freeRequests--;
    return ++this.#lastId;
  }

  /** Its place is free again when the service has said its last word about it, also where nobody here waits for that. */
  #ask(id: number, message: { readonly [name: string]: unknown }, listener: Listener): void {
    try {
      const line = encodeLine(message);
      if (this.#gone !== undefined) throw this.#gone;
      this.#listeners.set(id, listener);
      this.#stream.write(line);
    } catch (error) {
      this.#givePlace();
      throw error;
    }
  }

  #givePlace(): void {
    this.#freeRequests++;
    this.#waiting.shift()?.();
  }

  #send(message: { readonly [name: string]: unknown }): void {
    if (this.#gone === undefined) this.#stream.write(encodeLine(message));
  }

  #read(chunk: Buffer): void {
    if (this.#gone !== undefined) return;
    try {
      for (const line of this.#lines.push(chunk)) this.#take(line);
    } catch {
      this.#lose(
        new DoorError('version', `what answers on ${this.#where} does not speak as a queue service does`),
      );
    }
  }

  #take(line: Buffer): void {
    const message = decodeLine(line);
    if (this.#onGreeting !== undefined) {
      this.#greet(message);
      return;
    }
    const { id } = message;
    if (typeof id === 'number') {
      this.#listeners.get(id)?.(message, line.length + 1);
      if (isLast(message) && this.#listeners.delete(id)) this.#givePlace();
    }
    // About the connection: the service lets us go.
    else if (message.error !== undefined) this.#lose(fromWireError(message.error));
  }

  #greet({ door, requests }: { readonly [name: string]: unknown }): void {
    if (typeof door !== 'number') throw new Error('no greeting');
    if (door !== DOOR_VERSION) {
      this.#lose(
        new DoorError(
          'version',
          `the service on ${this.#where} speaks version ${door} of its language, this program version ${DOOR_VERSION}: use the same release for both`,
        ),
      );
      return;
    }
    if (!Number.isSafeInteger(requests) || Number(requests) < 1) throw new Error('no number of requests');
    this.#freeRequests = Math.min(Number(requests), MAX_REQUESTS);
    this.#onGreeting?.();
    this.#onGreeting = undefined;
  }

  #lose(error: Error): void {
    if (this.#gone !== undefined) return;
    this.#gone = error;
    this.#lines.clear();
    this.#onGreeting?.(error);
    for (const listener of this.#listeners.values()) listener(error, 0);
    this.#listeners.clear();
    for (const wake of this.#waiting.splice(0)) wake();
    this.#stream.destroy();
    this.#settleClosed(error.message);
  }

  #goneError(reason: string): DoorError {
    return new DoorError('gone', `the service on ${this.#where} went away: ${reason}`);
  }
}

function isLast(message: { readonly [name: string]: unknown }): boolean {
  return 'ok' in message || 'end' in message || 'error' in message;
}

/** Returns what takes the task back: a signal may outlive many requests. */
function onAbort(signal: AbortSignal | undefined, task: () => void): () => void {
  if (signal?.aborted === true) task();
  else signal?.addEventListener('abort', task, { once: true });
  return () => signal?.removeEventListener('abort', task);
}

/** A folder on a network disk may have its service on another host, where alone its socket leads anywhere. */
function lookFor(dataFolder: string): { readonly socketPath: string; readonly ownerUid: number } {
  try {
    return findDoor(dataFolder);
  } catch (error) {
    throw (error instanceof DoorError && error.code === 'no-service' && elsewhere(dataFolder)) || error;
  }
}

function elsewhere(dataFolder: string): DoorError | undefined {
  const service = serviceOf(dataFolder);
  if (service === undefined || service.host === hostname()) return undefined;
  return new DoorError(
    'no-service',
    `the service on ${dataFolder} runs on ${service.host} (process ${service.pid}): job_queue --host ${service.host} reaches it`,
  );
}

function connectError(error: NodeJS.ErrnoException, path: string, socketPath: string): DoorError {
  if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') return elsewhere(path) ?? dead(path);
  const reason =
    error.code === 'EACCES' ? 'you may not (job_queue start --group lets others in)' : error.message;
  return new DoorError('refused', `cannot connect to ${socketPath}: ${reason}`, { cause: error });
}

function dead(path: string): DoorError {
  const message = noService(path).message;
  return new DoorError('no-service', `${message} (the one before it died and left its socket)`);
}
