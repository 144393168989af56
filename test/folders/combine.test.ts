import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, lstatSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { type CombineProgress, combineFolders } from '../../src/lib/folders/combine.ts';
import { contentsOf, Sandbox, snapshotOf, stamp } from './sandbox.ts';

function sha256(text: string): string {
  return execFileSync('sha256sum', { input: text, encoding: 'utf8' }).slice(0, 64);
}

test('the same path with the same content is one file, and all other paths are there', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'same.txt': 'x', 'only-a': '1', 'sub/deep/f': 'f' });
  const b = box.tree('b', { 'same.txt': 'x', 'only-b': '2', 'sub/g': 'g' });
  const out = box.at('new', 'out'); // the folder above is missing as well
  const result = await combineFolders(out, [a, b]);
  expect(contentsOf(out)).toEqual({
    ...{ 'only-a': '1', 'only-b': '2', 'same.txt': 'x' },
    ...{ 'sub/': '', 'sub/deep/': '', 'sub/deep/f': 'f', 'sub/g': 'g' },
  });
  expect(result).toMatchObject({ conflicts: [], leftOut: [], renamed: [] });
  expect(result.counts).toMatchObject({ files: 5, bytes: 5, folders: 3, links: 0, identical: 1 });
});

test('modes and times are the first source’s, down to links and folders', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'run.sh': 'x', link: '-> run.sh', 'sub/f': 'f', 'empty/': '', old: 'o' });
  const b = box.tree('b', { 'run.sh': 'x', link: '-> run.sh', 'sub/g': 'g' });
  stamp(`${a}/run.sh`, 1_000_000_000.123456, 0o751);
  stamp(`${a}/link`, 1_100_000_000);
  stamp(`${a}/old`, -1000, 0o444); // before 1970
  stamp(`${a}/sub`, 1_200_000_000, 0o710);
  stamp(`${a}/empty`, 1_300_000_000, 0o1777);
  stamp(a, 1_400_000_000, 0o700);
  stamp(`${b}/run.sh`, 1_500_000_000, 0o600);
  stamp(`${b}/sub`, 1_500_000_000, 0o777);
  const out = box.at('out');
  await combineFolders(out, [a, b]);
  const facts = (path: string) => {
    const stat = lstatSync(`${out}/${path}`);
    return [stat.mtimeMs / 1000, stat.mode & 0o7777] as const;
  };
  expect(facts('run.sh')[0]).toBeCloseTo(1_000_000_000.123456, 5);
  expect(facts('run.sh')[1]).toBe(0o751);
  expect(facts('link')[0]).toBe(1_100_000_000);
  expect(facts('old')).toEqual([-1000, 0o444]);
  expect(facts('sub')).toEqual([1_200_000_000, 0o710]);
  expect(facts('empty')).toEqual([1_300_000_000, 0o1777]);
  expect(facts('')).toEqual([1_400_000_000, 0o700]);
});

test('setuid and setgid are dropped: the copy may belong to somebody else', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { tool: 'x' });
  stamp(`${a}/tool`, 1, 0o6755);
  await combineFolders(box.at('out'), [a]);
  expect(statSync(box.at('out', 'tool')).mode & 0o7777).toBe(0o755);
});

test('a second run changes nothing, not even a time', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'x.txt': 'x', 'sub/f': 'f', l: '-> nowhere' });
  const b = box.tree('b', { 'x.txt': 'y', 'sub/f': 'f', m: '-> /etc' });
  const out = box.at('out');
  for (const onConflict of ['rename', 'keep-first', 'keep-newest'] as const) {
    await combineFolders(out, [a, b], { onConflict });
    const before = snapshotOf(out);
    const { counts } = await combineFolders(out, [a, b], { onConflict });
    expect(snapshotOf(out)).toEqual(before);
    expect(counts).toMatchObject({ files: 0, links: 0, folders: 0, replaced: 0 });
  }
});

test('what DEST has stays, and its folders keep their times when something is put into them', async () => {
  await using box = await Sandbox.open();
  const out = box.tree('out', { 'x.txt': 'x', 'sub/own': 'own' });
  const a = box.tree('a', { 'x.txt': 'x', 'sub/new': 'new' });
  for (const path of ['x.txt', 'sub/own', 'sub', '']) stamp(`${out}/${path}`, 1_000_000_000);
  const before = snapshotOf(out);
  await combineFolders(out, [a]);
  expect(snapshotOf(out).filter((line) => !line.startsWith('sub/new|'))).toEqual(before);
  expect(contentsOf(out)['sub/new']).toBe('new');
});

test('all conflicts are told, and DEST is exactly as before, also when it did not exist', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'f.txt': 'one', thing: 'file', link: '-> x', l2: '-> f.txt', ok: 'ok' });
  const b = box.tree('b', { 'f.txt': 'two', 'thing/inner': 'i', link: '-> y', l2: 'f.txt' });
  const out = box.tree('out', { 'f.txt': 'one' });
  const before = snapshotOf(box.path);
  const into = await combineFolders(out, [a, b]);
  expect(into.conflicts).toEqual([
    {
      path: 'f.txt',
      type: 'content',
      found: [
        { folder: out, what: 'file' },
        { folder: b, what: 'file' },
      ],
    },
    {
      path: 'l2',
      type: 'kind',
      found: [
        { folder: a, what: 'link' },
        { folder: b, what: 'file' },
      ],
    },
    {
      path: 'link',
      type: 'content',
      found: [
        { folder: a, what: 'link' },
        { folder: b, what: 'link' },
      ],
    },
    {
      path: 'thing',
      type: 'kind',
      found: [
        { folder: a, what: 'file' },
        { folder: b, what: 'folder' },
      ],
    },
  ]);
  const fresh = await combineFolders(box.at('x', 'fresh'), [a, b]);
  expect(fresh.conflicts.map(({ path }) => path)).toEqual(['f.txt', 'l2', 'link', 'thing']);
  expect(snapshotOf(box.path)).toEqual(before);
});

test('keep-first keeps the first, also against DEST; a file against a folder stays a conflict', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { f: 'a', g: 'a' });
  const b = box.tree('b', { f: 'b', g: '-> f' });
  const out = box.tree('out', { f: 'dest' });
  const { counts } = await combineFolders(out, [a, b], { onConflict: 'keep-first' });
  expect(contentsOf(out)).toEqual({ f: 'dest', g: 'a' });
  expect(counts).toMatchObject({ files: 1, dropped: 3 });
  const c = box.tree('c', { 'f/x': '' });
  for (const onConflict of ['keep-first', 'keep-newest'] as const) {
    const { conflicts } = await combineFolders(box.at('new'), [a, c], { onConflict });
    expect(conflicts).toMatchObject([{ path: 'f', type: 'kind' }]);
  }
});

test('keep-newest takes the newest, replaces what DEST has, and leaves an open file of DEST whole', async () => {
  await using box = await Sandbox.open();
  const out = box.tree('out', { f: 'dest', same: 's', l: '-> old' });
  const a = box.tree('a', { f: 'newest', same: 's', l: '-> new' });
  const b = box.tree('b', { f: 'newer' });
  for (const path of ['f', 'l', 'same']) stamp(`${out}/${path}`, 1000);
  stamp(`${a}/f`, 3000, 0o640);
  stamp(`${a}/l`, 3000);
  stamp(`${b}/f`, 2000);
  linkSync(`${out}/f`, box.at('other-name-of-f')); // a write in place would show here
  const { counts } = await combineFolders(out, [a, b], { onConflict: 'keep-newest' });
  expect(contentsOf(out)).toEqual({ f: 'newest', same: 's', l: '-> new' });
  expect(contentsOf(box.path)['other-name-of-f']).toBe('dest');
  expect([statSync(`${out}/f`).mtimeMs, statSync(`${out}/f`).mode & 0o777]).toEqual([3_000_000, 0o640]);
  expect(statSync(`${out}/same`).mtimeMs).toBe(1_000_000); // newer, but the same content
  expect(counts).toMatchObject({ files: 1, links: 1, replaced: 2, dropped: 3 });
});

test('rename puts each other content beside the first, once, under a name with its hash', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'log.txt': 'one', '.rc': '1', 'x.tar.gz': '1', link: '-> 1' });
  const b = box.tree('b', { 'log.txt': 'two', '.rc': '2', 'x.tar.gz': '2', link: '-> 2' });
  const c = box.tree('c', { 'log.txt': 'two' });
  const out = box.at('out');
  const { renamed, counts } = await combineFolders(out, [a, b, c], { onConflict: 'rename' });
  const hash = (text: string) => execFileSync('sha256sum', { input: text, encoding: 'utf8' }).slice(0, 8);
  expect(Object.keys(contentsOf(out))).toEqual([
    ...['.rc', `.rc.${hash('2')}`, 'link', expect.stringMatching(/^link\.[0-9a-f]{8}$/)],
    ...[`log.${hash('two')}.txt`, 'log.txt', `x.tar.${hash('2')}.gz`, 'x.tar.gz'],
  ]);
  expect(contentsOf(out)[`log.${hash('two')}.txt`]).toBe('two');
  expect(contentsOf(out)['log.txt']).toBe('one');
  expect(renamed).toContainEqual({ folder: b, path: 'log.txt', to: `log.${hash('two')}.txt` });
  expect(renamed).toHaveLength(4);
  expect(counts.identical).toBe(1);
});

test('rename finds another name where that one is taken or too long, and the same one again', async () => {
  await using box = await Sandbox.open();
  const hash = sha256('two');
  const [taken, longer] = [`f.${hash.slice(0, 8)}.txt`, `f.${hash.slice(0, 16)}.txt`];
  const long = `${'ä'.repeat(122)}.data`; // 249 bytes: with a hash too long for a name
  const a = box.tree('a', { 'f.txt': 'one', [long]: 'one' });
  const b = box.tree('b', { 'f.txt': 'two', [taken]: 'in the way', [long]: 'two' });
  const out = box.at('out');
  await combineFolders(out, [a, b], { onConflict: 'rename' });
  const names = Object.keys(contentsOf(out)).map((name) => Buffer.from(name, 'latin1').toString());
  const short = `${'ä'.repeat(120)}.${hash.slice(0, 8)}.data`; // cut between characters
  expect(names.sort()).toEqual([taken, longer, 'f.txt', long, short].sort());
  const before = snapshotOf(out);
  await combineFolders(out, [a, b], { onConflict: 'rename' });
  expect(snapshotOf(out)).toEqual(before);
});

test('rename gives way to a folder, but moves nothing that DEST has', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { thing: 'file' });
  const b = box.tree('b', { 'thing/inner': 'i' });
  const out = box.at('out');
  await combineFolders(out, [a, b], { onConflict: 'rename' });
  const before = snapshotOf(out);
  expect(Object.keys(contentsOf(out))).toEqual([
    'thing/',
    'thing/inner',
    expect.stringMatching(/^thing\.[0-9a-f]{8}$/),
  ]);
  await combineFolders(out, [a, b], { onConflict: 'rename' });
  expect(snapshotOf(out)).toEqual(before);
  const own = box.tree('own', { thing: 'file' });
  const { conflicts } = await combineFolders(own, [b], { onConflict: 'rename' });
  expect(conflicts).toMatchObject([{ path: 'thing', type: 'kind' }]);
});

test('names that are no UTF-8, with newlines and leading dashes survive', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'new\nline': '1', '-rf': '2', 'ü /ß': '3' });
  const b = box.tree('b');
  const odd = (root: string, name: Buffer) => Buffer.concat([Buffer.from(`${root}/`), name]);
  const names = [Buffer.from([0x66, 0xff, 0x2e, 0x74]), Buffer.from([0x66, 0xfe, 0x2e, 0x74])];
  for (const name of names) writeFileSync(odd(b, name), name);
  mkdirSync(odd(b, Buffer.from([0xe4])));
  writeFileSync(odd(b, Buffer.from([0xe4, 0x2f, 0x78])), 'inner');
  const out = box.at('out');
  await combineFolders(out, [a, b]);
  const all = { ...contentsOf(a), ...contentsOf(b) };
  expect(contentsOf(out)).toEqual(all);
  expect(contentsOf(out)['f\xff.t']).toBe('f\xff.t');
  expect((await combineFolders(out, [a, b])).counts).toMatchObject({ files: 0, identical: 6 });
});

test('sockets, FIFOs and half files of killed runs are reported and left out', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', {
    f: 'f',
    '.combine-folders.0123456789abcdef': 'half',
    '.combine-folders.note': 'mine',
  });
  execFileSync('mkfifo', [`${a}/fifo`]);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${a}/sock`, resolve));
  try {
    const { leftOut } = await combineFolders(box.at('out'), [a]);
    expect(leftOut.map(({ path, what }) => `${path} ${what}`).sort()).toEqual([
      ...['.combine-folders.0123456789abcdef unfinished', 'fifo fifo', 'sock socket'],
    ]);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
  expect(Object.keys(contentsOf(box.at('out')))).toEqual(['.combine-folders.note', 'f']);
  const out = box.tree('blocked');
  execFileSync('mkfifo', [`${out}/f`]);
  for (const onConflict of ['error', 'keep-first', 'keep-newest', 'rename'] as const) {
    const { conflicts } = await combineFolders(out, [a], { onConflict });
    expect(conflicts).toMatchObject([{ path: 'f', found: [{ what: 'fifo' }, { what: 'file' }] }]);
  }
});

test('wrong folders are refused before anything is written', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'sub/f': 'f', file: '' });
  box.tree('results', { 'job/out': 'o', 'job.out': '', 'job.json': '' });
  const before = snapshotOf(box.path);
  const refused = async (dest: string, sources: readonly string[], message: RegExp) => {
    const attempt = combineFolders(dest, sources);
    await expect(attempt).rejects.toThrow(UsageError);
    await expect(attempt).rejects.toThrow(message);
  };
  const out = box.at('out');
  await refused(out, [a, box.at('no1'), box.at('no2')], /the sources \S+no1, \S+no2 do not exist/);
  const all = ['job', 'job.out', 'job.json'].map((name) => box.at('results', name));
  await refused(out, all, /job\.out, \S+job\.json are files, expected folders: .* write \S+\/results\/\*\/$/);
  await refused(`${a}/sub`, [a], /the destination \S+ lies inside the source/);
  await refused(`${a}/new/deep`, [a], /the destination \S+ lies inside the source/);
  await refused(a, [`${a}/sub`], /the source \S+ lies inside the destination/);
  await refused(`${a}/file`, [box.at('results')], /is a file/);
  await refused(out, [], /no source/);
  expect(snapshotOf(box.path)).toEqual(before);
  // `results/*/` matches the destination itself from the second run on: it takes part anyway.
  await combineFolders(box.at('results', 'all'), [box.at('results', 'job')]);
  await combineFolders(box.at('results', 'all'), [box.at('results', 'all'), box.at('results', 'job')]);
  expect(contentsOf(box.at('results', 'all'))).toEqual({ out: 'o' });
});

test('a source is looked at through links, so none can hide inside another', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'sub/f': 'f' });
  box.tree('links', { sub: `-> ${a}/sub`, a: `-> ${a}`, gone: '-> nowhere' });
  await expect(combineFolders(box.at('links', 'sub', 'new'), [a])).rejects.toThrow(/inside the source/);
  await expect(combineFolders(a, [box.at('links', 'sub')])).rejects.toThrow(/inside the destination/);
  await expect(combineFolders(box.at('links', 'gone'), [a])).rejects.toThrow(/link to nothing/);
  await combineFolders(box.at('out'), [box.at('links', 'a')]);
  expect(contentsOf(box.at('out'))).toEqual({ 'sub/': '', 'sub/f': 'f' });
});

test('hard links on wish, copies of the rest where the disk has none', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { f: 'f', l: '-> f' });
  const b = box.tree('b', { f: 'f', g: 'g' });
  const out = box.at('out');
  const { counts } = await combineFolders(out, [a, b], { link: true });
  expect(statSync(`${out}/f`).ino).toBe(statSync(`${a}/f`).ino);
  expect(counts).toMatchObject({ files: 2, linked: 2, copiedInstead: 0 });
  const again = await combineFolders(out, [a, b], { link: true });
  expect(again.counts).toMatchObject({ files: 0, identical: 4 });
  expect(again.counts.compared).toBe(2); // out/f is a/f; only b/f has to be read against it
  await using other = await Sandbox.open('/dev/shm');
  if (statSync(other.path).dev === statSync(box.path).dev) return;
  const across = await combineFolders(other.at('out'), [a, b], { link: true });
  expect(across.counts).toMatchObject({ files: 2, linked: 0, copiedInstead: 2 });
  expect(contentsOf(other.at('out'))).toEqual(contentsOf(out));
});

test('a dry run tells the same counts and writes nothing', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { f: 'f', 'sub/g': 'g', l: '-> f' });
  const b = box.tree('b', { f: 'other' });
  const before = snapshotOf(box.path);
  const dry = await combineFolders(box.at('out'), [a, b], { onConflict: 'rename', dryRun: true });
  expect(snapshotOf(box.path)).toEqual(before);
  expect(existsSync(box.at('out'))).toBe(false);
  expect(dry).toEqual(await combineFolders(box.at('out'), [a, b], { onConflict: 'rename' }));
});

test('a run that is broken off leaves what the same call completes', async () => {
  await using box = await Sandbox.open();
  const a = box.tree('a', { 'one/f': 'f' });
  const reason = new Error('enough');
  const before = combineFolders(box.at('out'), [a], { signal: AbortSignal.abort(reason) });
  await expect(before).rejects.toBe(reason);
  expect(existsSync(box.at('out'))).toBe(false);
  // So many that progress is told while they are written, from where it is broken off.
  for (let i = 0; i < 1400; i++) writeFileSync(`${a}/one/${i}`, 'x'.repeat(15_000));
  const stop = new AbortController();
  const onProgress = ({ phase, files }: CombineProgress) => {
    if (phase === 'writing' && files > 0) stop.abort(reason);
  };
  const half = combineFolders(box.at('out'), [a], { signal: stop.signal, onProgress });
  await half.catch((error: unknown) => expect(error).toBe(reason));
  await combineFolders(box.at('out'), [a]);
  expect(contentsOf(box.at('out'))).toEqual(contentsOf(a));
});
