import { linkSync } from 'node:fs';
import { expect, test } from 'vitest';
import { foldName, probeCase } from '../../src/lib/folders/case-probe.ts';
import { combineFolders } from '../../src/lib/folders/combine.ts';
import { smallDisk } from '../files/small-disk.ts';
import { exfatDisk } from './exfat-disk.ts';
import { contentsOf, Sandbox, snapshotOf } from './sandbox.ts';

test('this disk tells cases apart, and finding that out writes nothing', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('Root', { File: 'x', '123': '' });
  const other = box.tree('other', { '123': '' });
  const before = snapshotOf(box.path);
  expect(probeCase(root)).toBe('sensitive');
  expect(probeCase(other)).toBe('sensitive'); // by its own name
  expect(snapshotOf(box.path)).toEqual(before);
});

test('two spellings of one file are two names when both are listed', async () => {
  await using box = await Sandbox.open();
  const root = box.tree('root', { f: 'x' });
  linkSync(`${root}/f`, `${root}/F`);
  expect(probeCase(root)).toBe('sensitive');
});

test('an empty disk is judged by its kind', async () => {
  await using disk = await smallDisk(1);
  if (disk !== undefined) expect(probeCase(disk.path)).toBe('sensitive');
});

test('a real disk that takes them for one is found out, empty or not, where one can be had', async () => {
  await using disk = await exfatDisk();
  if (disk === undefined) return;
  await using box = await Sandbox.open();
  const [a, b] = [box.tree('a', { Data: 'x', other: 'o' }), box.tree('b', { data: 'x' })];
  const names = (path: string) => Object.keys(contentsOf(path));
  const fresh = await combineFolders(`${disk.path}/out`, [a, b]);
  expect(fresh.conflicts).toMatchObject([{ path: 'data', type: 'case' }]);
  expect(names(disk.path)).toEqual([]);
  await combineFolders(`${disk.path}/out`, [a]);
  const { conflicts } = await combineFolders(`${disk.path}/out`, [b]);
  expect(conflicts).toMatchObject([{ path: 'data', type: 'case' }]);
  expect(names(`${disk.path}/out`)).toEqual(['Data', 'other']);
  // No links on such a disk: copies take their place.
  const { counts } = await combineFolders(`${disk.path}/out`, [box.tree('c', { more: '' })], { link: true });
  expect(counts).toMatchObject({ files: 1, copiedInstead: 1 });
});

test('on a disk that takes them for one, names that differ in case are refused before anything is written', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { Data: 'x', 'sub/x': '', same: 's' });
  const b = box.tree('b', { data: 'x', 'Sub/y': '', same: 's' });
  const before = snapshotOf(box.path);
  const asked: string[] = [];
  const caseOf = (folder: string) => {
    asked.push(folder);
    return 'insensitive' as const;
  };
  for (const onConflict of ['error', 'keep-first', 'keep-newest', 'rename'] as const) {
    const { conflicts } = await combineFolders(box.at('x', 'out'), [a, b], { caseOf, onConflict });
    expect(conflicts).toEqual([
      {
        path: 'data',
        type: 'case',
        found: [
          { folder: a, what: 'Data' },
          { folder: b, what: 'data' },
        ],
      },
      {
        path: 'sub',
        type: 'case',
        found: [
          { folder: b, what: 'Sub' },
          { folder: a, what: 'sub' },
        ],
      },
    ]);
  }
  expect(new Set(asked)).toEqual(new Set([box.path])); // the nearest that exists
  expect(snapshotOf(box.path)).toEqual(before);
  const own = box.tree('own', { DATA: 'x' });
  const against = await combineFolders(own, [a], { caseOf });
  expect(against.conflicts).toMatchObject([{ path: 'Data', type: 'case' }]);
  await combineFolders(box.at('out'), [a, b], { caseOf: () => 'sensitive' });
  expect(Object.keys(contentsOf(box.at('out')))).toContain('data');
});

test('accents and letters of any script are one name in both spellings, other bytes are not', () => {
  expect(foldName(Buffer.from('Ä').toString('latin1'))).toBe(
    foldName(Buffer.from('a\u0308').toString('latin1')),
  );
  expect(foldName('a')).not.toBe(foldName('b'));
});
