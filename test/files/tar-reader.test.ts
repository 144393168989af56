import { createHash } from 'node:crypto';
import { mkdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nameText, type TarEntry, TarReader } from '../../src/lib/files/tar-reader.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { type CraftedEntry, crafted, craftedArchive, paxText } from './crafted-archive.ts';

type Seen = TarEntry & { readonly digest: string; readonly isWhole: boolean };

/** Reads an archive in the given pieces. */
function read(pieces: readonly Buffer[]): Seen[] {
  const seen: Seen[] = [];
  let hash = createHash('sha256');
  const reader = new TarReader({
    entry(entry) {
      seen.push({ ...entry, digest: '', isWhole: false });
      hash = createHash('sha256');
    },
    content: (piece) => void hash.update(piece),
    entryEnd() {
      const last = seen.pop();
      if (last !== undefined) seen.push({ ...last, digest: hash.digest('hex'), isWhole: true });
    },
  });
  for (const piece of pieces) reader.push(piece);
  reader.end();
  return seen;
}

const pack = (folder: string, command: string) =>
  runOrThrow('sh', ['-c', `cd '${folder}' && ${command} | base64`]).then((text) =>
    Buffer.from(text, 'base64'),
  );

const LONG = `${'folder of some length/'.repeat(12)}${'n'.repeat(120)}`;

/** A tree with what archives can hold; what v7 cannot (long names) is left out there. */
async function tree(folder: string, hasLongNames: boolean): Promise<void> {
  await mkdir(join(folder, 'sub/empty'), { recursive: true });
  await writeFile(join(folder, 'sub/file'), 'content');
  await writeFile(join(folder, 'none'), '');
  await writeFile(join(folder, 'block'), 'x'.repeat(512));
  await writeFile(join(folder, 'large'), 'y'.repeat(100_001), { mode: 0o750 });
  await utimes(join(folder, 'large'), 1e9, 1e9);
  await symlink('../elsewhere', join(folder, 'link'));
  await runOrThrow('sh', [
    '-c',
    `cd '${folder}' && ln sub/file hard && printf z >"$(printf 'b\\377d \\n name')"`,
  ]);
  if (!hasLongNames) return;
  await mkdir(join(folder, LONG), { recursive: true });
  await writeFile(join(folder, LONG, 'file'), 'far away');
  await symlink(LONG, join(folder, 'long link'));
}

const PRODUCERS = ['gnu', 'pax', 'ustar', 'v7', 'busybox'] as const;

test.each(PRODUCERS)('reads what %s tar writes', async (format) => {
  await using folder = await scratch();
  const hasLongNames = format === 'gnu' || format === 'pax' || format === 'busybox';
  await tree(folder.path, hasLongNames);
  const tar = format === 'busybox' ? 'busybox tar -cf - .' : `tar --format=${format} -cf - .`;
  const seen = new Map(
    read([await pack(folder.path, tar)]).map((one) => [one.path.replace(/^\.\/|\/$/g, ''), one]),
  );
  expect([...seen.values()].every(({ isWhole }) => isWhole)).toBe(true);
  const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');
  expect(seen.get('large')).toMatchObject({
    kind: 'file',
    size: 100_001,
    digest: digestOf('y'.repeat(100_001)),
  });
  expect(seen.get('large')).toMatchObject({ mode: 0o750, modifiedAtSeconds: 1e9 });
  expect(seen.get('block')).toMatchObject({ kind: 'file', size: 512, digest: digestOf('x'.repeat(512)) });
  expect(seen.get('none')).toMatchObject({ kind: 'file', size: 0 });
  expect(seen.get('sub/empty')).toMatchObject({ kind: 'folder' });
  expect(seen.get('link')).toMatchObject({ kind: 'symlink', target: '../elsewhere' });
  expect(seen.get('b\xffd \n name')).toMatchObject({ kind: 'file', digest: digestOf('z') });
  const pair = [seen.get('hard'), seen.get('sub/file')];
  expect(pair.map((one) => one?.kind).sort()).toEqual(['file', 'hardlink']);
  if (!hasLongNames) return;
  expect(seen.get(`${LONG}/file`)).toMatchObject({ kind: 'file', digest: digestOf('far away') });
  expect(seen.get('long link')).toMatchObject({ kind: 'symlink', target: LONG });
});

const MIXED: readonly CraftedEntry[] = [
  { path: 'folder/', type: '5' },
  { path: '././@LongLink', type: 'L', content: `${'l'.repeat(700)}\0` },
  { path: 'cut', content: 'a'.repeat(513) },
  { path: 'x', type: 'x', content: paxText({ path: 'told', mtime: '12.5', size: '3' }) },
  { path: 'cut', content: 'abc', size: 0 },
  { path: 'empty' },
  { path: 'link', type: '2', target: 'x' },
];

test('pieces of any size give the same entries', () => {
  const archive = craftedArchive(MIXED);
  const whole = read([archive]);
  expect(whole.map(({ path }) => path)).toEqual(['folder/', 'l'.repeat(700), 'told', 'empty', 'link']);
  expect(whole[2]).toMatchObject({ size: 3, modifiedAtSeconds: 12.5 });
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: archive.length }), { maxLength: 40 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), archive.length];
      expect(read(at.slice(1).map((end, i) => archive.subarray(at[i], end)))).toEqual(whole);
    }),
  );
  expect(read([...archive].map((byte) => Buffer.of(byte)))).toEqual(whole);
});

test('an archive that breaks off anywhere is refused with the entry that it happened at', () => {
  const archive = craftedArchive(MIXED);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: archive.length - 1 }), (length) => {
      expect(() => read([archive.subarray(0, length)])).toThrow(/breaks off|belongs to nothing/);
    }),
  );
  const file = crafted({ path: 'model.pt', content: 'a'.repeat(1000) });
  expect(() => read([file.subarray(0, 900)])).toThrow(
    'model.pt: the archive breaks off 612 bytes before the end of it',
  );
  expect(read([])).toEqual([]);
});

test('a bit that flips in a header is found', () => {
  const archive = craftedArchive([{ path: 'first', content: 'x' }, { path: 'second' }]);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 511 }), fc.integer({ min: 0, max: 7 }), (at, bit) => {
      const broken = Buffer.from(archive);
      broken[1024 + at] = (broken[1024 + at] ?? 0) ^ (1 << bit);
      try {
        // In the sum's own field a flip may leave the number as it is: a blank for a NUL.
        expect(read([broken])).toEqual(read([archive]));
      } catch (error) {
        expect(String(error)).toMatch(/first: behind it stands a header with a wrong checksum|toEqual/);
        expect(String(error)).not.toContain('toEqual');
      }
    }),
  );
});

test.each([
  ['3', /^thing: is a character device, which is not taken$/],
  ['4', /thing: is a block device/],
  ['6', /thing: is a FIFO/],
  ['S', /thing: is a sparse file/],
  ['M', /thing: is a later volume's part of a file/],
  ['V', /thing: is a volume label/],
  ['Z', /thing: is of the unknown type Z/],
])('an entry of type %s is refused by name', (type, message) => {
  expect(() => read([craftedArchive([{ path: 'thing', type }])])).toThrow(message);
});

test('a sparse file as pax has it is refused', () => {
  const content = paxText({ 'GNU.sparse.major': '1', 'GNU.sparse.name': 'real' });
  expect(() => read([craftedArchive([{ path: 'x', type: 'x', content }, { path: 'file' }])])).toThrow(
    'file: is a sparse file',
  );
});

test('numbers: binary ones are understood, what is none is refused', () => {
  const binary = (at: number, length: number, value: bigint) => (header: Buffer) => {
    header.fill(value < 0n ? 0xff : 0, at, at + length);
    header.writeBigInt64BE(value, at + length - 8);
    header[at] = value < 0n ? 0xff : 0x80;
  };
  const entries: TarEntry[] = [];
  const reader = new TarReader({ entry: (entry) => entries.push(entry), content() {}, entryEnd() {} });
  reader.push(crafted({ path: 'old', patch: binary(136, 12, -5n) }));
  reader.push(crafted({ path: 'huge', patch: binary(124, 12, 2n ** 40n + 7n) }));
  expect(entries).toMatchObject([{ modifiedAtSeconds: -5 }, { path: 'huge', size: 2 ** 40 + 7 }]);
  const refuse = (entry: CraftedEntry, message: string) =>
    expect(() => read([craftedArchive([entry])])).toThrow(message);
  refuse({ path: 'a', patch: binary(124, 12, -1n) }, 'a: its size is no number');
  refuse({ path: 'a', patch: binary(124, 12, 2n ** 60n) }, 'a: its size is no number');
  refuse({ path: 'a', patch: (header) => header.write('12x4', 124) }, 'a: its size is no number');
  refuse({ path: 'a', patch: (header) => header.write('9', 136) }, 'a: its time is no number');
  refuse({ path: 'a', patch: (header) => header.write('x', 100) }, 'a: its mode is no number');
  refuse({ path: 'a/', type: '5', size: 512 }, 'a/: is a folder and yet has 512 bytes');
  refuse({ path: 'a', type: '2', target: 'b', size: 1 }, 'a: is a symlink and yet has 1 bytes');
});

test('pax headers for all that follows hold until they are taken back', () => {
  const seen = read([
    craftedArchive([
      { path: 'g', type: 'g', content: paxText({ mtime: '7', comment: 'x' }) },
      { path: 'a' },
      { path: 'x', type: 'x', content: paxText({ mtime: '8' }) },
      { path: 'b' },
      { path: 'c' },
    ]),
  ]);
  expect(seen.map((entry) => [entry.path, entry.modifiedAtSeconds])).toEqual([
    ['a', 7],
    ['b', 8],
    ['c', 7],
  ]);
});

test.each(['5 a=b\n', '6 a=b', '99 a=b\n', 'a=b\n', '4 ab\n', '-6 a=b\n'])(
  'the pax header %j is malformed',
  (content) => {
    const entries = [{ path: 'first' }, { path: 'x', type: 'x', content }, { path: 'a' }];
    expect(() => read([craftedArchive(entries)])).toThrow('first: behind it stands a malformed pax header');
  },
);

test('what never ends, or is out of proportion, is refused', () => {
  const file = crafted({ path: 'last' });
  const zeros = () => read([file, Buffer.alloc(2 << 20)]);
  expect(zeros).toThrow('last: behind it come zeros without end');
  const names = () =>
    read([file, ...Array.from({ length: 20 }, () => crafted({ path: 'l', type: 'L', content: 'x' }))]);
  expect(names).toThrow('last: behind it come headers that belong to nothing');
  const large = crafted({ path: 'l', type: 'L', size: 2 ** 30 });
  expect(() => read([file, large])).toThrow('last: behind it stands a header of 1073741824 bytes');
  expect(() => read([file, Buffer.alloc(512), file, Buffer.alloc(1024)])).toThrow('a single block of zeros');
  // Archives one behind the other are one.
  expect(read([craftedArchive([{ path: 'a' }]), craftedArchive([{ path: 'b' }])])).toHaveLength(2);
});

test('names are shown on one line', () => {
  expect(nameText('a\x1b[2J\nb\xc3\xa4')).toBe('a\\x1b[2J\\nbä');
  expect(nameText('x'.repeat(5000)).length).toBeLessThan(400);
});
