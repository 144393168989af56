import fc from 'fast-check';
import { expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { isPlainName, readHostList, textOfItem } from '../../src/lib/machine/host-list.ts';

const read = (text: string, ...files: string[]) => readHostList(text, (name) => files.includes(name));
const written = (text: string, ...files: string[]) =>
  read(text, ...files).map((item) => (item.isExcluded ? '!' : '') + textOfItem(item));

test('a list has names, groups and files, each of which may be excluded', () => {
  expect(read('lab.yaml, ! gpu[1-2] ,@rack,!@old,^more,!^less,n[3]')).toEqual([
    { type: 'name', text: 'lab.yaml', isExcluded: false, isLiteral: true, written: 'lab.yaml' },
    { type: 'name', text: 'gpu1', isExcluded: true, isLiteral: false, written: 'gpu[1-2]' },
    { type: 'name', text: 'gpu2', isExcluded: true, isLiteral: false, written: 'gpu[1-2]' },
    { type: 'group', text: 'rack', isExcluded: false, isLiteral: true, written: 'rack' },
    { type: 'group', text: 'old', isExcluded: true, isLiteral: true, written: 'old' },
    { type: 'list', text: 'more', isExcluded: false, isLiteral: true, written: 'more' },
    { type: 'list', text: 'less', isExcluded: true, isLiteral: true, written: 'less' },
    { type: 'name', text: 'n3', isExcluded: false, isLiteral: false, written: 'n[3]' },
  ]);
});

test.each([
  ['ann@gpu[1-2]:2201,[::1]:22', ['ann@gpu1:2201', 'ann@gpu2:2201', '[::1]:22']],
  ['@rack[1-2],!@r[3]', ['@rack1', '@rack2', '!@r3']],
  ['^hosts[1-2]', ['^hosts[1-2]']], // a path, taken as it stands
  ['a,,b,', ['a', 'b']], // as in a shell, where a variable of the list may be empty
  [' , a', ['a']],
])('%s', (text, items) => {
  expect(written(text)).toEqual(items);
});

test('a list of nothing, and a `!` of nothing, are mistakes', () => {
  expect(() => read('')).toThrow('found an empty list of hosts, expected machine files');
  expect(() => read(' , ,')).toThrow('found a list of hosts with nothing but commas, expected machine files');
  expect(() => read('a,!')).toThrow('found a `!` with nothing after it, expected what it leaves out');
});

test('what is a file as it stands is no list and no range', () => {
  expect(written('a,m[1-2].yaml', 'a,m[1-2].yaml')).toEqual(['a,m[1-2].yaml']);
  expect(written('a,m[1-2].yaml', 'm[1-2].yaml')).toEqual(['a', 'm[1-2].yaml']);
  expect(written('a,!m[1-2].yaml', 'm[1-2].yaml')).toEqual(['a', '!m[1-2].yaml']);
});

test('one name as it stands is plain, and nothing else is', () => {
  for (const text of ['gpu1', 'lab.yaml', 'ann@gpu1:22', '[::1]:22', 'local', 'a,'])
    expect(isPlainName(read(text))).toBe(true);
  for (const text of ['a,b', 'n[1]', '@a', '^a', '!a', 'n[1-2]']) expect(isPlainName(read(text))).toBe(false);
});

test('a list has at most 10,000 items, and the mistakes of ranges are those of lists', () => {
  expect(read('a[1-5000],b[1-5000]')).toHaveLength(10_000);
  expect(() => read('a[1-5000],b[1-5000],c')).toThrow(
    'found a list of more than 10000 hosts, expected at most',
  );
  expect(read('a[1-10000],!a[1-10000]')).toHaveLength(20_000);
  expect(() => read('a,!b[1-5000],!c[1-5001]')).toThrow('found a list of more than 10000 hosts');
  expect(() => read('a,n[2-1]')).toThrow(UsageError);
});

test('any text is a list of at most 10,000 items or a UsageError', () => {
  const piece = fc.oneof(
    fc.constantFrom('!', '@', '^', ',', '[', ']', 'n', '1-9', '[1-3]', '[::1]', ' '),
    fc.string({ unit: 'binary', maxLength: 3 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      try {
        expect(read(pieces.join('')).length).toBeLessThanOrEqual(20_000);
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
      }
    }),
    { numRuns: 2000 },
  );
});
