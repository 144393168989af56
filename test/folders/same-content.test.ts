import { linkSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { combineFolders } from '../../src/lib/folders/combine.ts';
import { FileComparer } from '../../src/lib/folders/same-content.ts';
import { Sandbox } from './sandbox.ts';

const MIB = 1024 * 1024;

function listed(place: string) {
  const { size, dev, ino } = statSync(place);
  return { place, size, dev, ino };
}

test('sizes and inodes are enough where they can be: nothing is opened', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('a', { short: 'x', long: 'xy', empty: '', nothing: '' });
  linkSync(`${root}/long`, `${root}/linked`);
  const at = (name: string) => listed(`${root}/${name}`);
  const comparer = new FileComparer();
  expect(comparer.isSame(at('short'), at('long'))).toBe(false);
  expect(comparer.isSame(at('long'), at('linked'))).toBe(true);
  expect(comparer.isSame(at('empty'), at('nothing'))).toBe(true);
  expect(comparer.opened).toBe(0);
});

test('an inode number that a double cannot hold, or 0, proves nothing', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('a', { a: 'x', b: 'y' });
  for (const ino of [0, 2 ** 60]) {
    const [a, b] = ['a', 'b'].map((name) => ({ ...listed(`${root}/${name}`), ino }));
    expect(a && b && new FileComparer().isSame(a, b)).toBe(false);
  }
});

test('a difference is found wherever it is', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('a');
  for (const size of [1, 65_536, 65_537, MIB, 3 * MIB + 5]) {
    const bytes = Buffer.alloc(size, 7);
    writeFileSync(`${root}/a`, bytes);
    writeFileSync(`${root}/same`, bytes);
    expect(new FileComparer().isSame(listed(`${root}/a`), listed(`${root}/same`))).toBe(true);
    for (const at of new Set([0, size >> 1, size - 1])) {
      const other = Buffer.from(bytes);
      other[at] = 8;
      writeFileSync(`${root}/other`, other);
      expect(new FileComparer().isSame(listed(`${root}/a`), listed(`${root}/other`))).toBe(false);
    }
  }
});

test('a large difference is found early: terabytes of which the first byte differs take no time', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('a', { a: 'x', b: 'y' });
  for (const name of ['a', 'b']) truncateSync(`${root}/${name}`, 2 ** 41); // holes
  expect(new FileComparer().isSame(listed(`${root}/a`), listed(`${root}/b`))).toBe(false);
});

test('a file that becomes shorter meanwhile is an error with its name', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('a', { a: 'xxxx', b: 'xxxx' });
  const [a, b] = [listed(`${root}/a`), listed(`${root}/b`)];
  truncateSync(`${root}/b`, 2);
  expect(() => new FileComparer().isSame(a, b)).toThrow(/\/b became shorter/);
});

test('one file against many is read once, and only what can be the same is read', async () => {
  await using box = await Sandbox.open();
  const sources = ['xx', 'xx', 'xx', 'longer'].map((f, i) => box.tree(`s${i}`, { f, [`only${i}`]: 'xx' }));
  const { counts } = await combineFolders(box.at('out'), sources, { onConflict: 'keep-first' });
  expect(counts).toMatchObject({ compared: 3, identical: 2, dropped: 1 });
});
