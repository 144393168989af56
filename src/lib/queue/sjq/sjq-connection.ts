/** The server's end of one sjq client: one request at a time, answered before the next is read. */
import type { Socket } from 'node:net';
import { batches, byteCount, type SjqAnswer, type SjqAnswerRoom } from './sjq-answer-room.ts';
import type { SjqIntake, SjqSender } from './sjq-intake.ts';
import { answerLine, isPossible, jobId, lengthLine } from './sjq-lines.ts';
import { SjqPace, type SjqPaceLimits } from './sjq-pace.ts';
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
  /** Hears of what incomplete lines and SUBMITs, and those with the queue, hold together. */
  readonly intake: SjqIntake;
  /** Of those who send. */
  readonly sendPace: SjqPaceLimits;
  /** What the server's owner should know, in a whole sentence. */
  readonly onNote: (note: string) => void;
}

/** Read and dropped of a client that is let go. */
const MAX_LAST_BYTES = 64 * 1024 * 1024;
/** An answer to STATUS of one job that is longer has to wait until there is room. */
const MAX_SHORT_BYTES = 64 * 1024;

/** One client of the sjq door. */
export class SjqConnection implements SjqSender {
  /** Settles when the client is gone. Never rejects. */
  readonly closed: Promise<void>;
  /** Of the request that it sends. */
  readonly pace: SjqPace;
  #usedAt = performance.now();
  readonly #socket: Socket;
  readonly #house: SjqHouse;
  readonly #reader: SjqReader;
  #heldBytes = 0;
  /** Of the SUBMIT that the queue has. */
  #submittedBytes = 0;
  #lastBytes = 0;
  /** A request is being answered. */
  #isBusy = false;
  /** An answer waits for the client to read. */
  #isFlushing = false;
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
    this.pace = new SjqPace(house.sendPace);
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
        this.#drop();
        resolve();
      });
    });
  }

  /** Between two requests; a command that has come in part only is none. */
  get isIdle(): boolean {
    return !this.#isBusy && !this.#isEnding && !this.#reader.isInSubmit;
  }

  /** In a SUBMIT, or a line, that is not complete. */
  get isSending(): boolean {
    return !this.#isBusy && !this.#isEnding && this.#reader.heldBytes > 0;
  }

  /** It has to read what it was told before anything else. */
  get isReading(): boolean {
    return this.#isEnding || this.#isFlushing;
  }

  /** When it last sent something or took of an answer, on the process's clock; now, when it cannot, because it is not read. */
  get usedAt(): number {
    return this.#house.intake.isWaiting(this) ? performance.now() : this.#usedAt;
  }

  /** Tells the client why it is not served any more. Within an answer it is told nothing: it would take that for the answer. */
  letGo(reason = 'too much is being sent to the server at once, and this came to a stand: try again'): void {
    if (this.#isFlushing) this.destroy();
    if (this.#isEnding) return;
    this.#write(answerLine('ERROR', reason));
    this.#end(this.#house.lastWordsMs);
  }

  /** It is gone at once, whatever it has not read. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** It waited to be read, and is now. */
  resume(): void {
    this.#usedAt = performance.now();
    this.#readOn();
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
    if (this.#isEnding) {
      this.#lastBytes += chunk.length;
      if (this.#lastBytes > MAX_LAST_BYTES) this.#socket.destroy();
      return;
    }
    if (this.#isBusy && this.#hasAll) return; // the server closes
    this.#usedAt = performance.now();
    if (this.#reader.heldBytes === 0) this.pace.restart();
    this.pace.moved(chunk.length);
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
      this.#house.intake.leave(this);
      this.#socket.pause();
      void this.#serve(request);
    } else if (this.#hasAll) {
      if (this.#reader.isInSubmit) this.#write(answerLine('ERROR', 'the input ends within a SUBMIT'));
      this.#end(this.#house.stallMs);
    } else if (this.#reader.heldBytes === 0) {
      this.#house.intake.leave(this);
      this.#socket.resume();
    } else if (this.#house.intake.mayRead(this)) this.#readOn();
    else this.#socket.pause();
  }

  #readOn(): void {
    this.#socket.resume();
    if (!this.#reader.isInSubmit) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.letGo(`nothing more of the SUBMIT came for ${this.#house.stallMs / 1000} s`),
      this.#house.stallMs,
    );
  }

  async #serve(request: SjqRequest): Promise<void> {
    try {
      await this.#answer(request);
    } catch (error) {
      this.#write(answerLine('ERROR', error instanceof Error ? error.message : 'the queue failed'));
    }
    this.#submittedBytes = 0;
    this.#count();
    this.#usedAt = performance.now();
    await this.#drained();
    this.pace.restart();
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
        if (isPossible(id)) await (word === 'KILL' ? queue.kill(id) : queue.release(id));
        return this.#write(answerLine('OK'));
      }
      case 'STATUS':
        return await (rest === '' ? this.#statusOfAll() : this.#statusOf(jobId(word, rest)));
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

  /** One line waits for nobody, whatever others do not read. */
  async #statusOf(id: number): Promise<void> {
    const { queue, room } = this.#house;
    const pieces = isPossible(id) ? await queue.status(id) : [];
    if (byteCount(pieces) <= MAX_SHORT_BYTES)
      return this.#write(Buffer.concat([lengthLine(pieces), ...pieces]));
    await this.#send(
      room.answerWith(
        () => queue.status(id),
        () => this.destroy(),
      ),
    );
  }

  async #statusOfAll(): Promise<void> {
    await this.#send(this.#house.room.answer(() => this.destroy()));
  }

  async #send(promised: Promise<SjqAnswer>): Promise<void> {
    const answer = await promised;
    try {
      this.#write(lengthLine(answer.pieces));
      for (const batch of batches(answer.pieces)) {
        if (this.#isEnding || this.#socket.destroyed) return;
        this.#socket.cork();
        for (const piece of batch) this.#write(piece);
        this.#socket.uncork();
        await this.#drained();
        answer.pace.moved(byteCount(batch));
      }
    } finally {
      answer.leave();
    }
  }

  /** Settles when the client has read so much that there is room, or is gone; one that takes nothing for long is let go. */
  async #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket.writableNeedDrain || socket.destroyed) return;
    this.#isFlushing = true;
    const timer = setTimeout(() => socket.destroy(), this.#house.stallMs);
    await new Promise<void>((resolve) => {
      const settle = () => {
        socket.off('drain', settle).off('close', settle);
        resolve();
      };
      socket.on('drain', settle).on('close', settle);
    });
    clearTimeout(timer);
    this.#isFlushing = false;
    this.#usedAt = performance.now();
  }

  /** What still comes is read and dropped for a while: an end in the middle of it would take our last words away. */
  #end(flushMs: number): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#usedAt = performance.now();
    this.#drop();
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

  #drop(): void {
    this.#reader.clear();
    this.#count();
    this.#house.intake.leave(this);
  }

  #count(): void {
    const bytes = this.#reader.heldBytes + this.#submittedBytes;
    const more = bytes - this.#heldBytes;
    this.#heldBytes = bytes;
    this.#house.intake.count(more);
  }
}
