import { expect, test } from 'vitest';
import { type InLine, QueueLine } from '../../src/lib/stores/queue-line.ts';

function randomFrom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state % limit;
  };
}

const entry = (id: number, priority: number, kind: string): InLine => ({ id, priority, kind, spec: {} });

test.each([1, 2, 3, 4, 5])(
  'what is left out by kind leaves the order of the others as it is (seed %i)',
  (seed) => {
    const random = randomFrom(seed);
    const line = new QueueLine<InLine>(() => 0);
    const all: InLine[] = [];
    for (let id = 1; id <= 3000; id++) {
      const one = entry(id, random(3), `kind ${random(5)}`);
      all.push(one);
      line.add(one);
    }
    for (const one of all.splice(0, 700)) line.delete(one);
    const inOrder = [...all].sort((a, b) => b.priority - a.priority || a.id - b.id);
    expect([...line.without(new Set())]).toEqual(inOrder);
    expect([...line]).toEqual(inOrder);

    // Kinds are refused on the way, and entries leave the line as they are taken.
    const refused = new Set<string>();
    const expected: number[] = [];
    const seen: number[] = [];
    const skipped = new Set<string>();
    for (const [at, one] of inOrder.entries()) {
      if (skipped.has(one.kind)) continue;
      expected.push(one.id);
      if (at % 97 === 96 && skipped.size < 4) skipped.add(one.kind);
    }
    const places = new Map(inOrder.map(({ id }, at) => [id, at]));
    for (const one of line.without(refused)) {
      seen.push(one.id);
      const at = places.get(one.id) ?? 0;
      if (at % 97 === 96 && refused.size < 4) refused.add(one.kind);
      if (at % 3 === 0) line.delete(one);
    }
    expect(seen).toEqual(expected);
  },
);

test('a walk that refuses each of 20,000 kinds looks at each once', () => {
  const line = new QueueLine<InLine>(() => 0);
  for (let id = 1; id <= 40_000; id++) line.add(entry(id, 0, `kind ${id % 20_000}`));
  const refused = new Set<string>();
  const seen: number[] = [];
  for (const { id, kind } of line.without(refused)) {
    seen.push(id);
    refused.add(kind);
  }
  expect(seen).toEqual(Array.from({ length: 20_000 }, (_, at) => at + 1));
});
