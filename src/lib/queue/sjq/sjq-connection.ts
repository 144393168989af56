/** The server's end of one sjq client: one request at a time, answered before the next is read. */
import type { Socket } from 'node:net';
import { visibleText } from '../../util/terminal-text.ts';
import { batches, byteCount, type SjqAnswerRoom } from './sjq-answer-room.ts';
import type { SjqQueue } from './sjq-queue.ts';
import { SjqReader, type SjqReaderLimits, type SjqRequest } from './sjq-reader.ts';

/** What all connections have in common. */
export interface SjqHouse {
  readonly queue: SjqQueue;
  readonly limits: SjqReaderLimits;
  readonly room: SjqAnswerRoom;
  /** A SUBMIT that does not go on, and an answer that is not read, are given up after so long. */
  readonly stallMs: number;
  /** How long a client that is let go may take to read why. */
  readonly lastWordsMs: number;
  /** What incomplete lines and SUBMITs, and those with the queue, hold together. */
  heldBytes: number;
  /** Called when a connection holds more than before. */
  readonly onHeld: () => void;
  /** What the server's owner should know, in a whole sentence. */
  readonly onNote: (note: string) => void;
}

const MAX_ANSWER_LENGTH = 4096;
/** Read and dropped of a client that is let go. */
const MAX_LAST_BYTES = 64 * 1024 * 1024;

/** One client of the sjq door. */
export class SjqConnection {
  /** Settles when the client is gone. Never rejects. */
  readonly closed: Promise<void>;
  /** When it last sent something or had an answer, on the process's clock. */
  usedAt = performance.now();
  readonly #socket: Socket;
  readonly #house: SjqHouse;
  readonly #reader: SjqReader;
  #heldBytes = 0;
  /** Of the SUBMIT that the queue has. */
  #submittedBytes = 0;
  #lastBytes = 0;
  /** A request is being answered. */
  #isBusy = false;
  /** The client sends nothing more. */
  #hasAll = false;
  /** Nothing more is said to the client. */
  #isEnding = false;
  #timer: NodeJS.Timeout | undefined;

  /** The socket has to allow half open connections: a client may close its side before it has its answers. */
  constructor(socket: Socket, house: SjqHouse) {
    this.#socket = socket;
    this.#house = house;
    this.#reader = new SjqReader(house.limits);
    socket.on('error', () => undefined); // `close` follows
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('end', () => {
      this.#hasAll = true;
      if (!this.#isBusy) this.#next();
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#isEnding = true;
        clearTimeout(this.#timer);
        this.#reader.clear();
        this.#count();
        resolve();
      });
    });
  }

  /** Between two requests; a command that has come in part only is none. */
  get isIdle(): boolean {
    return !this.#isBusy && !this.#isEnding && !this.#reader.isInSubmit;
  }

  /** Whether letting it go frees memory, and no request is under way. */
  get isHolding(): boolean {
    return !this.#isBusy && !this.#isEnding && this.#heldBytes > 0;
  }

  /** Tells the client why it is not served any more. Not while a request is under way: it would take that for the answer. */
  letGo(reason: string): void {
    if (this.#isEnding) return;
    this.#write(answerLine('ERROR', reason));
    this.#end(this.#house.lastWordsMs);
  }

  /** The server closes: an answer that is under way may still come within the time for last words. */
  close(): void {
    if (this.#isEnding) return;
    if (this.#isBusy) {
      this.#hasAll = true;
      this.#reader.clear();
      setTimeout(() => this.#socket.destroy(), this.#house.lastWordsMs).unref();
    } else if (this.#reader.isInSubmit) this.letGo('the server stops');
    else this.#end(this.#house.lastWordsMs);
  }

  #read(chunk: Buffer): void {
    this.usedAt = performance.now();
    if (this.#isEnding) {
      this.#lastBytes += chunk.length;
      if (this.#lastBytes > MAX_LAST_BYTES) this.#socket.destroy();
      return;
    }
    if (this.#isBusy && this.#hasAll) return; // the server closes
    this.#reader.push(chunk);
    if (!this.#isBusy) this.#next();
  }

  /** Serves the next request, or waits for more of it. */
  #next(): void {
    if (this.#isEnding) return;
    clearTimeout(this.#timer);
    const request = this.#reader.next();
    if (request?.type === 'submit')
      this.#submittedBytes = request.options.reduce(
        (sum, { value }) => sum + value.length,
        request.script.length,
      );
    this.#isBusy = request !== undefined;
    this.#count();
    if (request !== undefined) {
      this.#socket.pause();
      void this.#serve(request);
    } else if (this.#hasAll) {
      if (this.#reader.isInSubmit) this.#write(answerLine('ERROR', 'the input ends within a SUBMIT'));
      this.#end(this.#house.stallMs);
    } else {
      this.#socket.resume();
      if (!this.#isEnding && this.#reader.isInSubmit)
        this.#timer = setTimeout(
          () => this.letGo(`nothing more of the SUBMIT came for ${this.#house.stallMs / 1000} s`),
          this.#house.stallMs,
        );
    }
  }

  async #serve(request: SjqRequest): Promise<void> {
    try {
      await this.#answer(request);
    } catch (error) {
      this.#write(answerLine('ERROR', error instanceof Error ? error.message : 'the queue failed'));
    }
    this.#submittedBytes = 0;
    this.#count();
    this.usedAt = performance.now();
    await this.#drained();
    // Many requests in one chunk must not keep others waiting.
    setImmediate(() => {
      this.#isBusy = false;
      this.#next();
    });
  }

  async #answer(request: SjqRequest): Promise<void> {
    const { queue } = this.#house;
    if (request.type === 'refused') {
      this.#write(answerLine('ERROR', ...request.reasons));
      if (request.isOver) this.#end(this.#house.lastWordsMs);
      return;
    }
    if (request.type === 'submit') {
      const result = await queue.submit(request.options, request.script);
      this.#write('id' in result ? answerLine(`OK ${result.id}`) : answerLine('ERROR', ...result.reasons));
      return;
    }
    const { word, sent, rest } = request;
    switch (word) {
      case 'PING':
        return this.#write(answerLine('OK', queue.stats()));
      case 'EXIT':
        this.#write(answerLine('OK BYE'));
        return this.#end(this.#house.stallMs);
      case 'SHUTDOWN':
        this.#shutdown();
        return;
      case 'KILL':
      case 'RELEASE': {
        const id = jobId(word, rest);
        if (Number.isSafeInteger(id)) await (word === 'KILL' ? queue.kill(id) : queue.release(id));
        return this.#write(answerLine('OK'));
      }
      case 'STATUS':
        return await this.#status(rest === '' ? undefined : jobId(word, rest));
      default:
        this.#write(answerLine('ERROR', `unknown command '${sent.slice(0, 60)}'`));
    }
  }

  /** The queue hears of it when the client has its answer, or is gone. */
  #shutdown(): void {
    let isTold = false;
    const tell = () => {
      if (isTold) return;
      isTold = true;
      try {
        this.#house.queue.shutdown();
      } catch (error) {
        this.#house.onNote(`SHUTDOWN failed: ${(error as Error).message}`);
      }
    };
    this.#socket.once('finish', tell).once('close', tell);
    this.#write(answerLine('OK'));
    this.#end(this.#house.lastWordsMs);
  }

  async #status(id: number | undefined): Promise<void> {
    const { queue, room } = this.#house;
    const isKnowable = id === undefined || Number.isSafeInteger(id);
    const pieces = await room.make(async () => (isKnowable && !this.#isEnding ? await queue.status(id) : []));
    let left = byteCount(pieces);
    try {
      this.#write(Buffer.from(`OK ${left}\r\n`));
      for (const batch of batches(pieces)) {
        if (this.#isEnding || this.#socket.destroyed) return;
        this.#socket.cork();
        for (const piece of batch) this.#write(piece);
        this.#socket.uncork();
        await this.#drained();
        const bytes = byteCount(batch);
        left -= bytes;
        room.taken(bytes);
      }
    } finally {
      room.taken(left);
    }
  }

  /** Settles when the client has read so much that there is room, or is gone; one that takes nothing for long is let go. */
  async #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket.writableNeedDrain || socket.destroyed) return;
    const timer = setTimeout(() => socket.destroy(), this.#house.stallMs);
    await new Promise<void>((resolve) => {
      const settle = () => {
        socket.off('drain', settle).off('close', settle);
        resolve();
      };
      socket.on('drain', settle).on('close', settle);
    });
    clearTimeout(timer);
  }

  /** What still comes is read and dropped for a while: an end in the middle of it would take our last words away. */
  #end(flushMs: number): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#reader.clear();
    this.#count();
    clearTimeout(this.#timer);
    const destroyIn = (ms: number) => {
      clearTimeout(this.#timer);
      if (!this.#socket.destroyed) this.#timer = setTimeout(() => this.#socket.destroy(), ms);
    };
    destroyIn(flushMs);
    this.#socket.end(() => destroyIn(this.#house.lastWordsMs));
    this.#socket.resume();
  }

  #write(bytes: Buffer): void {
    if (!this.#isEnding && this.#socket.writable) this.#socket.write(bytes);
  }

  #count(): void {
    const bytes = this.#reader.heldBytes + this.#submittedBytes;
    const more = bytes - this.#heldBytes;
    this.#heldBytes = bytes;
    this.#house.heldBytes += more;
    if (more > 0) this.#house.onHeld();
  }
}

/** One line: the word and what is said with it, cut where it is very long. */
function answerLine(word: string, ...reasons: readonly string[]): Buffer {
  const text = reasons.join('; ');
  const cut = text.length > MAX_ANSWER_LENGTH ? `${text.slice(0, MAX_ANSWER_LENGTH)}...` : text;
  return Buffer.from(`${cut === '' ? word : `${word} ${visibleText(cut)}`}\r\n`);
}

/** Infinity or so for a whole number that no job can have. @throws Error for what is no number of a job */
function jobId(word: string, text: string): number {
  const id = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (id >= 1) return id;
  throw new Error(
    `${word}: found '${text.slice(0, 60)}', expected ${word === 'STATUS' ? 'nothing or ' : ''}the number of a job`,
  );
}
