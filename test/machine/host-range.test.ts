import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import {
  compareNames,
  expandRange,
  foldNames,
  MOST_HOSTS,
  splitHostList,
} from '../../src/lib/machine/host-range.ts';

const expandList = (text: string) => splitHostList(text).flatMap((part) => expandRange(part));

/** The message of the UsageError. */
function mistake(text: string, mostNames?: number): string {
  try {
    expandRange(text, mostNames);
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return (error as Error).message;
  }
  throw new Error('no mistake was found');
}

test.each([
  ['a,b', ['a', 'b']],
  ['a[1,2],b', ['a[1,2]', 'b']],
  [' a , b[1,2]n[3,4] ,', ['a', 'b[1,2]n[3,4]', '']],
  ['ann@[fe80::1]:22,[::1]', ['ann@[fe80::1]:22', '[::1]']],
  ['', ['']],
])('%j is split at commas outside brackets', (text, parts) => {
  expect(splitHostList(text)).toEqual(parts);
});

describe('expandRange', () => {
  test.each([
    ['gpu1', ['gpu1']],
    ['gpu[1-3]', ['gpu1', 'gpu2', 'gpu3']],
    ['gpu[08-10,15]', ['gpu08', 'gpu09', 'gpu10', 'gpu15']],
    ['gpu[3,1,2-3]', ['gpu3', 'gpu1', 'gpu2']],
    ['gpu[098-101]', ['gpu098', 'gpu099', 'gpu100', 'gpu101']],
    ['gpu[98-101]', ['gpu98', 'gpu99', 'gpu100', 'gpu101']],
    ['gpu[09-10,9]', ['gpu09', 'gpu10', 'gpu9']],
    ['n[08-100]', Array.from({ length: 93 }, (_, i) => `n${String(i + 8).padStart(2, '0')}`)],
    ['r[1-2]n[01-02].lab', ['r1n01.lab', 'r1n02.lab', 'r2n01.lab', 'r2n02.lab']],
    ['[1-2][0-1]', ['10', '11', '20', '21']],
    ['ann@gpu[1-2]:2201', ['ann@gpu1:2201', 'ann@gpu2:2201']],
    ['10.0.0.1:[2201-2202]', ['10.0.0.1:2201', '10.0.0.1:2202']],
    ['[::1]:22', ['[::1]:22']],
    ['ann@[fe80::1%eth0]:2201', ['ann@[fe80::1%eth0]:2201']],
    ['[::1]:[1-2]', ['[::1]:1', '[::1]:2']],
    ['n[999999999999999]', ['n999999999999999']],
    ['', ['']],
  ])('%s', (text, names) => {
    expect(expandRange(text)).toEqual(names);
  });

  test.each([
    [
      'gpu[3-1]',
      'found "3-1", which counts down, in "gpu[3-1]", expected ranges of numbers as in gpu[01-12,15]',
    ],
    ['n[01-001]', 'found "01-001", whose two numbers have zeros to different widths, in'],
    ['n[001-12]', 'found "001-12", whose two numbers have zeros to different widths, in'],
    ['n[1-012]', 'found "1-012", whose two numbers have zeros to different widths, in'],
    ['n[]', 'found nothing where a number belongs in "n[]", expected'],
    ['n[1,]', 'found nothing where a number belongs in'],
    ['n[1-]', 'found "1-" as a range in "n[1-]", expected'],
    ['n[-1]', 'found "-1" as a range in'],
    ['n[a-b]', 'found "a-b" as a range in'],
    ['n[1-2-3]', 'found "1-2-3" as a range in'],
    ['n[1-9/2]', 'found "1-9/2" as a range in'],
    ['n[٣]', 'found "٣" as a range in'],
    ['n[1-2', 'found a `[` without `]` in "n[1-2", expected'],
    ['n1-2]', 'found a `]` without `[` in'],
    ['n[1-2]]', 'found a `]` without `[` in'],
    ['n[1[2]]', 'found a `[` inside brackets in'],
    ['n[1-1000000000000000]', 'found a number of more than 15 digits in'],
    ['n[0000000000000001]', 'found a number of more than 15 digits in'],
    ['n[\u001b[2J]', 'found a `[` inside brackets in "n[\\x1b[2J]"'],
  ])('%s is a mistake', (text, message) => {
    expect(mistake(text).slice(0, message.length)).toBe(message);
  });

  test('more names than may be are refused with their number before any is made', () => {
    expect(expandRange('n[1-10000]')).toHaveLength(MOST_HOSTS);
    expect(mistake('n[0-10000]')).toBe('found 10001 names in "n[0-10000]", expected at most 10000');
    expect(mistake('n[1-999999999999]')).toContain('found 999999999999 names in');
    expect(mistake('n[1-3]', 2)).toContain('found 3 names in "n[1-3]", expected at most 2');
    expect(mistake('[1-9]'.repeat(9))).toContain('found 387420489 names in');
    expect(mistake('[1-999999999999999]'.repeat(40))).toContain('found more than 10^15 names in');
    expect(mistake(`n[${'1,'.repeat(20_000)}1]`)).toContain('found 20001 names in');
    // Few enough names, but each would be 100,000 characters long.
    expect(mistake(`n[1-10000]${'a'.repeat(100_000)}`)).toContain(
      'found names of 100006 characters in "n[1-',
    );
  });
});

describe('foldNames', () => {
  test.each([
    [['gpu01', 'gpu02', 'gpu03', 'gpu07', 'login'], 'gpu[01-03,07],login'],
    [['gpu10', 'gpu2', 'gpu2', 'gpu9'], 'gpu[2,9-10]'],
    [['n1.lab', 'n2.lab', 'n3.lab'], 'n[1-3].lab'],
    [['r1n01', 'r1n02', 'r2n01', 'r2n02'], 'r[1-2]n[01-02]'],
    [['r1n01', 'r1n02', 'r2n01'], 'r1n[01-02],r2n01'],
    [['10.0.0.1:2201', '10.0.0.2:2201'], '10.0.0.[1-2]:2201'],
    [['9', '09', '10', '010', '011'], '[09-10,9,010-011]'],
    [['n8', 'n9', 'n10', 'n08', 'n09'], 'n[08-10,8-9]'],
    [['n098', 'n099', 'n100'], 'n[098-100]'],
    [['n0', 'n1', 'n00', 'n01'], 'n[0-1,00-01]'],
    [['b', 'a', 'a'], 'a,b'],
    [['n10', 'n1.lab', 'n2'], 'n1.lab,n[2,10]'],
    [['[::1]:22', '[::1]:23'], '[::1]:22,[::1]:23'],
    [['fe80::1', 'fe80::2'], 'fe80::[1-2]'],
    [['n1234567890123456', 'n1234567890123457'], 'n1234567890123456,n1234567890123457'],
    [['n999999999999998', 'n999999999999999'], 'n[999999999999998-999999999999999]'],
    [[], ''],
  ])('%j', (names, folded) => {
    expect(foldNames(names)).toBe(folded);
    expect(foldNames(names.toReversed())).toBe(folded);
  });

  const digits = fc.oneof(
    fc.constantFrom(
      '0',
      '00',
      '1',
      '01',
      '8',
      '9',
      '09',
      '009',
      '10',
      '010',
      '11',
      '99',
      '099',
      '100',
      '101',
    ),
    fc.nat(12).map(String),
    fc.nat(120).map((n) => String(n).padStart(2, '0')),
    fc.stringMatching(/^[0-9]{1,17}$/),
  );
  const letters = fc.constantFrom('n', 'gpu', '.', '-', '.lab', 'r', ':', '@', 'ä', '_', '');
  const hostLike = fc
    .array(fc.tuple(letters, digits), { minLength: 1, maxLength: 3 })
    .chain((groups) => letters.map((end) => groups.flat().join('') + end));
  const sorted = (names: Iterable<string>) => [...new Set(names)].sort();

  test('folding and expanding gives the same names, whatever their padding', () => {
    fc.assert(
      fc.property(fc.array(hostLike, { maxLength: 40 }), (names) => {
        expect(sorted(expandList(names.length === 0 ? 'none' : foldNames(names)))).toEqual(
          sorted(names.length === 0 ? ['none'] : names),
        );
      }),
      { numRuns: 2000 },
    );
  });

  test('what numbers alone tell apart folds and expands to the same names', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(digits, digits), { minLength: 1, maxLength: 60 }), (pairs) => {
        const names = pairs.map(([rack, node]) => `r${rack}n${node}.lab`);
        const folded = foldNames(names);
        expect(sorted(expandList(folded))).toEqual(sorted(names));
        expect(foldNames(expandList(folded))).toBe(folded);
      }),
      { numRuns: 2000 },
    );
  });

  test('a full product folds to one name', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 }), (racks, nodes) => {
        const text = `r[1-${racks + 1}]n[01-${String(nodes + 1).padStart(2, '0')}]:2201`;
        expect(foldNames(expandRange(text))).toBe(text);
      }),
    );
  });

  test('10,000 names of two kinds, in any order', () => {
    const names = [...expandRange('r[1-50]n[001-100].lab'), ...expandRange('gpu[1-5000]')];
    expect(foldNames(names.map((_, i) => names[(i * 7919) % names.length] ?? ''))).toBe(
      'gpu[1-5000],r[1-50]n[001-100].lab',
    );
  });
});

test('any text is expanded within its bound or refused by a UsageError', () => {
  const piece = fc.oneof(
    fc.constantFrom('[', ']', '-', ',', ':', 'n', '1', '01', '10', '99', '[1-9]', '[01-12,15]', '[1-99999]'),
    fc.string({ unit: 'binary', maxLength: 3 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.nat(200), (pieces, mostNames) => {
      try {
        expect(expandRange(pieces.join(''), mostNames + 1).length).toBeLessThanOrEqual(mostNames + 1);
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
      }
    }),
    { numRuns: 3000 },
  );
});

describe('compareNames', () => {
  test('numbers count as numbers', () => {
    const names = [
      'a',
      'gpu',
      'gpu1',
      'gpu01',
      'gpu2',
      'gpu2.lab',
      'gpu10',
      'gpu10a',
      'gpua',
      'r1n10',
      'r2n9',
    ];
    const natural = [...names].sort(compareNames);
    expect(natural).toEqual([
      'a',
      'gpu',
      'gpu01',
      'gpu1',
      'gpu2',
      'gpu2.lab',
      'gpu10',
      'gpu10a',
      'gpua',
      'r1n10',
      'r2n9',
    ]);
  });

  test('it is an order: only equal names are equal, and any three agree', () => {
    const name = fc
      .array(fc.constantFrom('a', 'b', '0', '1', '9', '.', '-'), { maxLength: 6 })
      .map((all) => all.join(''));
    fc.assert(
      fc.property(name, name, name, (a, b, c) => {
        expect(Math.sign(compareNames(a, b)) + Math.sign(compareNames(b, a))).toBe(0);
        expect(compareNames(a, b) === 0).toBe(a === b);
        if (compareNames(a, b) <= 0 && compareNames(b, c) <= 0)
          expect(compareNames(a, c)).toBeLessThanOrEqual(0);
      }),
      { numRuns: 3000 },
    );
  });
});
