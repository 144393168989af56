import { expect, test } from 'vitest';
import { durationText } from '../../src/lib/util/duration-text.ts';

test('durations read as people say them, with no 60 in a lower place', () => {
  const HOUR = 3_600_000;
  const cases: [number, string][] = [
    [0, '0.0s'],
    [449, '0.4s'],
    [12_345, '12.3s'],
    [59_940, '59.9s'],
    [59_960, '1m00s'],
    [65_000, '1m05s'],
    [HOUR - 400, '1h00m'],
    [2 * HOUR + 179_000, '2h03m'],
    [24 * HOUR - 1000, '1d00h'],
    [76 * HOUR, '3d04h'],
    [-5, '0.0s'],
    [Number.NaN, '0.0s'],
  ];
  expect(cases.map(([ms]) => durationText(ms))).toEqual(cases.map(([, text]) => text));
  expect(durationText(59_400, 0)).toBe('59s');
  expect(durationText(59_600, 0)).toBe('1m00s');
});
