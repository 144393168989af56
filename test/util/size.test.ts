import { expect, test } from 'vitest';
import { formatBytes, formatMiB, parseSizeMiB } from '../../src/lib/util/size.ts';

test.each([
  ['7000', 7000],
  ['0', 0],
  ['3G', 3072],
  ['8 GiB', 8192],
  ['1.5g', 1536],
  ['512M', 512],
  ['512MB', 512],
  ['2T', 2 * 1024 * 1024],
  ['800K', 0.78125],
  [' .5G ', 512],
])('%s', (text, sizeMiB) => {
  expect(parseSizeMiB(text)).toBe(sizeMiB);
});

test.each(['', 'G', '-1', '1e3', '3X', '1.2.3', '3 G B', '0x10', 'Infinity', '9'.repeat(40), '1,5G', '5B'])(
  '%j is no size',
  (text) => {
    expect(() => parseSizeMiB(text)).toThrow(
      /^found the size ".*", expected a number of megabytes such as 2000/,
    );
  },
);

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [1024 * 1024 - 1, '1 MiB'],
  [32094000000, '29.9 GiB'],
  [150 * 1024 * 1024 + 5, '150 MiB'],
  [-5, '0 B'],
])('%i bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes).replace('.0 ', ' ')).toBe(text);
});

test('MiB are shown in the unit that fits', () => {
  expect(formatMiB(512)).toBe('512 MiB');
  expect(formatMiB(30607)).toBe('29.9 GiB');
});
