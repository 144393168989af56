import { expect, test } from 'vitest';
import { largestFolders } from '../../src/lib/files/largest-folders.ts';
import type { SourceEntry } from '../../src/lib/files/source-part.ts';

const file = (path: string, size: number): SourceEntry => ({
  path,
  kind: 'file',
  mode: 0o644,
  size,
  digest: '',
});
const largest = (sizes: Record<string, number>, count = 3) =>
  largestFolders(
    Object.entries(sizes).map(([path, size]) => file(path, size)),
    count,
  ).map(({ path, bytes }) => `${path} ${bytes}`);

test('names the largest things at the top, the largest first', () => {
  const sizes = { 'a/1': 10, 'a/2': 20, b: 50, 'c/x/1': 60, 'c/x/2': 70, 'c/y': 80, 'd/1': 5, e: 0 };
  expect(largest(sizes)).toEqual(['c 210', 'b 50', 'a 30']);
  expect(largest(sizes, 9)).toEqual(['c 210', 'b 50', 'a 30', 'd/1 5']);
});

test('looks into a folder that holds nearly all, and names what in it is large', () => {
  const sizes = {
    'p/data/raw/1': 500,
    'p/data/raw/2': 400,
    'p/data/out/1': 300,
    'p/data/x': 200,
    'p/code': 1,
  };
  expect(largest(sizes)).toEqual(['p/data/raw 900', 'p/data/out/1 300', 'p/data/x 200']);
  expect(largest({ 'data/big.bin': 1000, 'data/small': 1, code: 5 })).toEqual([
    'data/big.bin 1000',
    'data/small 1',
  ]);
  expect(largest({ 'big.bin': 1000, code: 5 })).toEqual(['big.bin 1000', 'code 5']);
});

test('nothing is named twice, folders and empty files not at all', () => {
  expect(largestFolders([], 3)).toEqual([]);
  expect(
    largestFolders([{ path: 'a', kind: 'folder', mode: 0, size: 0, digest: '' }, file('a/b', 0)], 3),
  ).toEqual([]);
  const deep = largest({ 'a/b/c/d/e': 100, 'a/b/c/d/f': 100 });
  expect(deep).toEqual(['a/b/c/d/e 100', 'a/b/c/d/f 100']);
});
