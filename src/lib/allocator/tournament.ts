/**
 * Keeps the best of many numbered entries while their scores change: a complete binary tree in an array, each node
 * holding the number of the better of its two children, so that the best of all is at node 1 and one change costs
 * at most log2(size) comparisons (D. Knuth, The Art of Computer Programming 3, 5.4.1, trees of winners).
 */
export class Tournament {
  /** Per entry; -Infinity is out of the game. */
  readonly #scores: Float64Array;
  /** Decides between equal scores, higher first; after it the lower number. Shared between tournaments. */
  readonly #tieBreaks: Float64Array;
  /** Node n has the children 2n and 2n + 1; the leaves begin at `size`. */
  readonly #winners: Int32Array;

  /** `tieBreaks` has one number per entry and its length, a power of two, is the size. It may change, if `set` is called for that entry afterwards. */
  constructor(tieBreaks: Float64Array) {
    const size = tieBreaks.length;
    this.#tieBreaks = tieBreaks;
    this.#scores = new Float64Array(size).fill(-Infinity);
    this.#winners = new Int32Array(2 * size);
    for (let entry = 0; entry < size; entry++) this.#winners[size + entry] = entry;
    for (let node = size - 1; node > 0; node--) this.#play(node);
  }

  /** The number of the best entry, undefined when none has a score. */
  get best(): number | undefined {
    const best = at(this.#winners, 1);
    return at(this.#scores, best) === -Infinity ? undefined : best;
  }

  /** One entry has a new score, or the same and a new tie-break. */
  set(entry: number, score: number): void {
    this.#scores[entry] = score;
    for (let node = (this.#scores.length + entry) >> 1; node > 0; node >>= 1) {
      const before = at(this.#winners, node);
      const winner = this.#play(node);
      // The entry did not count at this node and does not now: nothing above can change.
      if (winner === before && winner !== entry) return;
    }
  }

  /** Every entry from 0 up to `count` has a new score; the entries beyond are out. */
  setAll(count: number, scoreOf: (entry: number) => number): void {
    this.#scores.fill(-Infinity, count);
    for (let entry = 0; entry < count; entry++) this.#scores[entry] = scoreOf(entry);
    for (let node = this.#scores.length - 1; node > 0; node--) this.#play(node);
  }

  #play(node: number): number {
    const left = at(this.#winners, 2 * node);
    const right = at(this.#winners, 2 * node + 1);
    const difference = at(this.#scores, left) - at(this.#scores, right);
    // -Infinity - -Infinity is NaN: neither is in the game, and either may stand here.
    const winner =
      difference < 0 || (difference === 0 && at(this.#tieBreaks, left) < at(this.#tieBreaks, right))
        ? right
        : left;
    this.#winners[node] = winner;
    return winner;
  }
}

/** An element that is known to be there. */
function at(array: Float64Array | Int32Array, index: number): number {
  return array[index] ?? 0;
}
