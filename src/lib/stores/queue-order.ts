/** A list that keeps its entries in order, with quick insertion and removal anywhere among hundreds of thousands. */

/** What is put in order. The rank of an entry must not change while it is in a list. */
export interface Ordered {
  readonly id: number;
}

interface Place {
  readonly rank: number;
  readonly id: number;
}

/** Pieces of about this many entries: moving so few is cheap, and so is looking for the right piece. */
const PIECE = 512;

/** Entries by rank, lower ones first, and by id where ranks are the same. */
export class OrderedList<T extends Ordered> {
  readonly #rankOf: (entry: T) => number;
  /** No piece is empty. */
  readonly #pieces: T[][] = [];
  #size = 0;
  /** Raised by every change, so that an iteration that is under way finds its place again. */
  #version = 0;

  constructor(rankOf: (entry: T) => number) {
    this.#rankOf = rankOf;
  }

  get size(): number {
    return this.#size;
  }

  get first(): T | undefined {
    return this.#pieces[0]?.[0];
  }

  /** The first entry that comes after the place of this one, which need not be in the list. */
  after(entry: T): T | undefined {
    const [piece, index] = this.#find(this.#placeOf(entry), true);
    return this.#pieces[piece]?.[index];
  }

  get last(): T | undefined {
    return this.#pieces.at(-1)?.at(-1);
  }

  has(entry: T): boolean {
    const [piece, index] = this.#find(this.#placeOf(entry), false);
    return this.#pieces[piece]?.[index]?.id === entry.id;
  }

  /** Puts an entry in, which must not be there yet. */
  add(entry: T): void {
    this.#version += 1;
    this.#size += 1;
    const at = this.#placeOf(entry);
    let [piece] = this.#find(at, false);
    if (piece === this.#pieces.length) {
      if (piece === 0) this.#pieces.push([]);
      else piece -= 1;
    }
    const entries = this.#pieces[piece] ?? [];
    entries.splice(this.#indexIn(entries, at, false), 0, entry);
    if (entries.length > 2 * PIECE) this.#pieces.splice(piece + 1, 0, entries.splice(PIECE));
  }

  /** Takes an entry out. False when it is not there. */
  delete(entry: T): boolean {
    const [piece, index] = this.#find(this.#placeOf(entry), false);
    const entries = this.#pieces[piece];
    if (entries?.[index]?.id !== entry.id) return false;
    this.#version += 1;
    this.#size -= 1;
    entries.splice(index, 1);
    if (entries.length === 0) this.#pieces.splice(piece, 1);
    return true;
  }

  /** Entries in order. The list may change meanwhile: what comes in ahead of where the iteration is, is passed by. */
  [Symbol.iterator](): Generator<T, void, undefined> {
    return this.from(undefined);
  }

  /** The same, from the first entry that does not come before this place. */
  *from(start: Place | undefined): Generator<T, void, undefined> {
    let version = this.#version;
    let [piece, index] = start === undefined ? [0, 0] : this.#find(start, false);
    let last: Place | undefined;
    for (;;) {
      if (version !== this.#version) {
        version = this.#version;
        [piece, index] =
          last !== undefined
            ? this.#find(last, true)
            : start === undefined
              ? [0, 0]
              : this.#find(start, false);
      }
      const entries = this.#pieces[piece];
      if (entries === undefined) return;
      const entry = entries[index];
      if (entry === undefined) {
        piece += 1;
        index = 0;
        continue;
      }
      last = this.#placeOf(entry);
      index += 1;
      yield entry;
    }
  }

  #placeOf(entry: T): Place {
    return { rank: this.#rankOf(entry), id: entry.id };
  }

  /** Where the first entry is that does not come before this place; with `isAfter`, the first that comes behind it. */
  #find(at: Place, isAfter: boolean): [piece: number, index: number] {
    const piece = firstIndex(this.#pieces.length, (n) => {
      const last = this.#pieces[n]?.at(-1);
      return last !== undefined && this.#isReached(last, at, isAfter);
    });
    const entries = this.#pieces[piece];
    return [piece, entries === undefined ? 0 : this.#indexIn(entries, at, isAfter)];
  }

  #indexIn(entries: readonly T[], at: Place, isAfter: boolean): number {
    return firstIndex(entries.length, (n) => {
      const entry = entries[n];
      return entry !== undefined && this.#isReached(entry, at, isAfter);
    });
  }

  #isReached(entry: T, { rank, id }: Place, isAfter: boolean): boolean {
    const difference = this.#rankOf(entry) - rank || entry.id - id;
    return isAfter ? difference > 0 : difference >= 0;
  }
}

/** The first index that it holds for, `length` where there is none. It has to hold for all that follow. */
function firstIndex(length: number, holds: (index: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
