import { expect, test } from 'vitest';
import { fromUnits, unitsDown, unitsUp, wholeDown, wholeUp } from '../../src/lib/util/amount.ts';

test('what is asked for is rounded up and what is free down', () => {
  expect([wholeUp(1000), wholeUp(1000.1), wholeDown(1000.9)]).toEqual([1000, 1001, 1000]);
  expect([unitsUp(0.00001), unitsDown(0.00019)]).toEqual([1, 1]);
});

test('every amount of four decimals is exact in both directions', () => {
  for (let units = 0; units <= 30_000; units++) {
    const amount = Number((units / 10_000).toFixed(4));
    expect(unitsUp(amount)).toBe(units);
    expect(unitsDown(amount)).toBe(units);
    expect(fromUnits(units)).toBe(amount);
  }
});

test('nothing is 0, never -0', () => {
  expect(Object.is(wholeUp(0), 0)).toBe(true);
  expect(Object.is(unitsUp(-0), 0)).toBe(true);
});
