import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Tournament } from '../../src/lib/allocator/tournament.ts';

/** Few values, so that there are many ties. */
const anyScore = fc.constantFrom(-Infinity, -2, -1, 0, 1);
const anyChange = fc.record({ entry: fc.nat(7), score: anyScore, tieBreak: fc.nat(2) });

function bestOf(scores: readonly number[], tieBreaks: Float64Array): number | undefined {
  let best: number | undefined;
  for (const [entry, score] of scores.entries()) {
    if (score === -Infinity) continue;
    const [bestScore, bestTie] =
      best === undefined ? [-Infinity, 0] : [scores[best] ?? 0, tieBreaks[best] ?? 0];
    if (score > bestScore || (score === bestScore && (tieBreaks[entry] ?? 0) > bestTie)) best = entry;
  }
  return best;
}

test('the winner is the highest score, then the highest tie-break, then the lowest number', () => {
  fc.assert(
    fc.property(
      fc.array(anyScore, { maxLength: 8 }),
      fc.array(fc.array(anyChange, { maxLength: 6 }), { maxLength: 20 }),
      (start, rounds) => {
        const tieBreaks = new Float64Array(8);
        const tournament = new Tournament(tieBreaks);
        expect(tournament.best).toBe(undefined);
        const scores = Array.from({ length: 8 }, (_, entry) => start[entry] ?? -Infinity);
        tournament.setAll(start.length, (entry) => start[entry] ?? 0);
        expect(tournament.best).toBe(bestOf(scores, tieBreaks));
        for (const changes of rounds) {
          // All that changed is written first and told afterwards, as the index does.
          for (const { entry, score, tieBreak } of changes) {
            scores[entry] = score;
            tieBreaks[entry] = tieBreak;
          }
          for (const { entry } of changes) tournament.set(entry, scores[entry] ?? 0);
          expect(tournament.best).toBe(bestOf(scores, tieBreaks));
        }
      },
    ),
    { numRuns: 2000 },
  );
});
