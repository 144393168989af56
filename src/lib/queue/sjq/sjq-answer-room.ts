/** Keeps bounded what long answers take together while their clients read them. */

/** Sent at once, so that even a slow client is seen to take something. */
const BATCH_BYTES = 256 * 1024;

/**
 * One answer is made at a time, and none while those that are not taken hold too much: together they hold `maxBytes` and one
 * answer more.
 */
export class SjqAnswerRoom {
  readonly #maxBytes: number;
  readonly #waiting: (() => void)[] = [];
  #heldBytes = 0;
  #isMaking = false;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Made in its turn, and held until `taken` has been told of all its bytes. @throws what `make` throws */
  async make(make: () => Promise<readonly Buffer[]>): Promise<readonly Buffer[]> {
    if (!this.#isFree || this.#waiting.length > 0)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#isMaking = true;
    try {
      const pieces = await make();
      this.#heldBytes += byteCount(pieces);
      return pieces;
    } finally {
      this.#isMaking = false;
      this.#next();
    }
  }

  /** So many bytes have gone to their client, or with it. */
  taken(bytes: number): void {
    this.#heldBytes -= bytes;
    this.#next();
  }

  get #isFree(): boolean {
    return !this.#isMaking && this.#heldBytes < this.#maxBytes;
  }

  #next(): void {
    if (!this.#isFree) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#isMaking = true; // it goes on in a later step: nobody may come between
    next();
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
