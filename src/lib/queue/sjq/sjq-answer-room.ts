/** Keeps bounded what long answers take together while their clients read them. */
import { type SjqMover, SjqPace, type SjqPaceLimits, SjqSlowWatch } from './sjq-pace.ts';

/** Sent at once: small, so that even a slow client is seen to take something. */
const BATCH_BYTES = 32 * 1024;

/** Makes an answer. Answers that are the same array are the same memory. */
export type MakeAnswer = () => Promise<readonly Buffer[]>;

/** An answer that a client takes: `pace` is to hear of what has gone, and `leave` is to be called in the end. */
export interface SjqAnswer extends SjqMover {
  readonly pieces: readonly Buffer[];
  leave(): void;
}

/** An answer that is to be made, and how many wait for it. */
interface Turn {
  askers: number;
  pieces: Promise<readonly Buffer[]>;
}

/**
 * One answer is made at a time, and the next is not before there is room for it: together they hold `maxBytes`, or one that is longer,
 * and the one that waits for room. Readers that are too slow are let go while it waits. An answer that several have counts once.
 */
export class SjqAnswerRoom {
  readonly #make: MakeAnswer;
  readonly #maxBytes: number;
  readonly #paceLimits: SjqPaceLimits;
  readonly #readers = new Set<SjqAnswer>();
  readonly #held = new Map<readonly Buffer[], { readonly bytes: number; readers: number }>();
  #heldBytes = 0;
  #last: Promise<unknown> = Promise.resolve();
  #next: Turn | undefined;
  #waiting: { readonly bytes: number; readonly enter: () => void } | undefined;
  readonly #watch = new SjqSlowWatch(() => (this.#waiting === undefined ? [] : [...this.#readers]));

  /** @param make the answer that many ask for */
  constructor(make: MakeAnswer, maxBytes: number, paceLimits: SjqPaceLimits) {
    this.#make = make;
    this.#maxBytes = maxBytes;
    this.#paceLimits = paceLimits;
  }

  /** The answer that many ask for, made later than this was called, once for all who wait. @throws what making throws */
  answer(onTooSlow: () => void): Promise<SjqAnswer> {
    // Begun it may already be older than what this client knows.
    this.#next ??= this.#turn(this.#make, () => {
      this.#next = undefined;
    });
    return this.#enter(this.#next, onTooSlow);
  }

  /** Another answer, in its turn. @throws what making throws */
  answerWith(make: MakeAnswer, onTooSlow: () => void): Promise<SjqAnswer> {
    return this.#enter(this.#turn(make), onTooSlow);
  }

  async #enter(turn: Turn, onTooSlow: () => void): Promise<SjqAnswer> {
    turn.askers++;
    const pieces = await turn.pieces;
    const leave = () => {
      if (this.#readers.delete(answer)) this.#release(pieces);
    };
    const letGo = () => {
      leave();
      onTooSlow();
    };
    const answer = { pieces, pace: new SjqPace(this.#paceLimits), leave, letGo };
    this.#readers.add(answer);
    return answer;
  }

  #turn(make: MakeAnswer, onBegin?: () => void): Turn {
    const before = this.#last;
    const turn: Turn = { askers: 0, pieces: Promise.resolve([]) };
    turn.pieces = (async () => {
      await before;
      onBegin?.();
      const pieces = await make();
      await this.#hold(pieces, turn.askers);
      return pieces;
    })();
    this.#last = turn.pieces.catch(() => undefined);
    return turn;
  }

  async #hold(pieces: readonly Buffer[], readers: number): Promise<void> {
    const known = this.#held.get(pieces);
    if (known !== undefined) {
      known.readers += readers;
      return;
    }
    const bytes = byteCount(pieces);
    if (!this.#hasRoom(bytes))
      await new Promise<void>((resolve) => {
        this.#waiting = { bytes, enter: resolve };
        this.#watch.start();
      });
    this.#heldBytes += bytes;
    this.#held.set(pieces, { bytes, readers });
  }

  #hasRoom(bytes: number): boolean {
    return this.#held.size === 0 || this.#heldBytes + bytes <= this.#maxBytes;
  }

  #release(pieces: readonly Buffer[]): void {
    const held = this.#held.get(pieces);
    if (held === undefined || --held.readers > 0) return;
    this.#held.delete(pieces);
    this.#heldBytes -= held.bytes;
    if (this.#waiting === undefined || !this.#hasRoom(this.#waiting.bytes)) return;
    this.#waiting.enter();
    this.#waiting = undefined;
  }
}

/** How many bytes the pieces have together. */
export function byteCount(pieces: readonly Buffer[]): number {
  return pieces.reduce((bytes, piece) => bytes + piece.length, 0);
}

/** The same bytes in parts of about `BATCH_BYTES`, not copied. */
export function* batches(pieces: readonly Buffer[]): Generator<readonly Buffer[]> {
  let batch: Buffer[] = [];
  let bytes = 0;
  for (const piece of pieces)
    for (let at = 0; at < piece.length; at += BATCH_BYTES) {
      const part = piece.length <= BATCH_BYTES ? piece : piece.subarray(at, at + BATCH_BYTES);
      batch.push(part);
      bytes += part.length;
      if (bytes < BATCH_BYTES) continue;
      yield batch;
      batch = [];
      bytes = 0;
    }
  if (bytes > 0) yield batch;
}
