import { expect, test } from 'vitest';
import { parseDurationMs } from '../../src/lib/util/duration.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

test.each([
  ['90', 90 * SECOND],
  ['0', 0],
  ['0.5', 500],
  ['.25', 250],
  [' 7 ', 7 * SECOND],
  ['90s', 90 * SECOND],
  ['1.5h', 90 * MINUTE],
  ['5m', 5 * MINUTE],
  ['5M', 5 * MINUTE],
  ['1h30m', HOUR + 30 * MINUTE],
  ['90m', 90 * MINUTE],
  ['2d', 2 * DAY],
  ['1d2h3m4.5s', DAY + 2 * HOUR + 3 * MINUTE + 4500],
  ['1-02:00:00', DAY + 2 * HOUR],
  ['2-03', 2 * DAY + 3 * HOUR],
  ['2-03:04', 2 * DAY + 3 * HOUR + 4 * MINUTE],
  ['12:00:30', 12 * HOUR + 30 * SECOND],
  ['100:00:00', 100 * HOUR],
  ['90:00', 90 * MINUTE],
  ['0.0001', 0],
])('%j is %d ms', (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms);
});

test.each([
  ...['', ' ', '-5', '5x', '5 m', '1m1h', '5mm', 'm', 'five', '1e3', '0x10', 'Infinity', 'NaN'],
  ...['1:60', '1:00:60', '1:60:00', '1-24:00:00', '1-2-3', '1-', '1:', '1:2:3:4', '1.5-02:00', '99999999d'],
])('%j is no time, and the message says what is', (text) => {
  expect(() => parseDurationMs(text)).toThrow(
    `found the time ${JSON.stringify(text)}, expected seconds such as 90, or 90s, 5m, 1h30m, 2d, 1-02:00:00`,
  );
});
