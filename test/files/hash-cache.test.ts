import { lstatSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HashCache, hashCacheFolder } from '../../src/lib/files/hash-cache.ts';
import { SourceProject } from './source-project.ts';

let project: SourceProject;
let folder: string;
beforeEach(async () => {
  project = await SourceProject.make();
  folder = project.at('../hashes');
});
afterEach(async () => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
  await project[Symbol.asyncDispose]();
});

const open = (cwd = project.at()) => HashCache.open(cwd, folder);
const note = (letter: string) => ({ digest: letter.repeat(64), look: 'plain' }) as const;
const LATER = 60_000;

/** A path as the listing names it: what lies in the working directory, by its place there. */
function where(path: string): readonly [root: string, path: string] {
  const within = `${project.at()}/`;
  return path.startsWith(within) ? [project.at(), path.slice(within.length)] : ['/', path.slice(1)];
}

/** Remembers a file as if it had been hashed long after its last change. */
function keep(cache: HashCache, path: string, letter: string): void {
  cache.keep(...where(path), lstatSync(path), note(letter), Date.now() + LATER);
}

/** Remembers one file in a cache file, and returns the path of that. */
async function saved(letter = 'a'): Promise<{ readonly file: string; readonly path: string }> {
  const path = await project.file('file');
  const cache = await open();
  keep(cache, path, letter);
  await cache.save();
  const [name = ''] = await readdir(folder);
  return { file: join(folder, name), path };
}

test('remembers hashes and looks from one run to the next, for names of any bytes', async () => {
  const cache = await open();
  const paths = [project.at('a'), '/else/\xff\xfe\n"x"', `${project.at()}/\xc3\xbc`];
  const stamp = { size: 1, mtimeMs: 1234.5678, ctimeMs: 1763700000123.25, ino: 99 };
  paths.forEach((path, i) => {
    cache.keep(
      ...where(path),
      stamp,
      { digest: String(i).repeat(64), look: i === 1 ? 'secret' : 'plain' },
      Date.now(),
    );
  });
  cache.keep('/', 'm', stamp, { ...note('f'), look: 'machine-file' }, Date.now());
  expect(await readdir(project.at('..'))).not.toContain('hashes');
  // What is gone is forgotten, unless it was met: it is met here by `find`.
  await cache.save();
  const again = await open();
  expect(paths.map((path) => again.find(...where(path), stamp)?.digest[0])).toEqual(['0', '1', '2']);
  expect(again.find(...where(paths[1] ?? ''), stamp)?.look).toBe('secret');
  expect(again.find('/', 'm', stamp)?.look).toBe('machine-file');
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
});

test('a file with another size, time or inode is not known', async () => {
  const { path } = await saved();
  const cache = await open();
  const stamp = lstatSync(path);
  const { size, mtimeMs, ctimeMs, ino } = stamp;
  expect(cache.find(...where(path), stamp)?.digest).toBe(note('a').digest);
  for (const other of [{ size: size + 1 }, { mtimeMs: mtimeMs + 0.001 }, { ctimeMs: 1 }, { ino: ino + 1 }])
    expect(cache.find(...where(path), { size, mtimeMs, ctimeMs, ino, ...other })).toBeUndefined();
});

test('a file that was changed shortly before it was hashed is not remembered', async () => {
  const cache = await open();
  const stamp = { size: 1, mtimeMs: 5000, ctimeMs: 5000, ino: 1 };
  cache.keep('/', 'a', stamp, note('a'), 7000);
  expect(cache.find('/', 'a', stamp)).toBeDefined();
  for (const late of [{ mtimeMs: 5000.1 }, { ctimeMs: 5001 }, { mtimeMs: 1e15 }]) {
    cache.keep('/', 'a', { ...stamp, ...late }, note('b'), 7000);
    expect(cache.find('/', 'a', { ...stamp, ...late })).toBeUndefined();
    expect(cache.find('/', 'a', stamp)).toBeUndefined();
  }
});

test('a listing takes the hashes that it knows, and reads what has changed', async () => {
  await project.files('same', 'changes', 'sub/\xc3\xbc');
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + LATER });
  const digests = async () =>
    (await project.list()).tree.parts[0]?.entries.map(({ digest }) => digest.slice(0, 4));
  const first = await digests();
  const cache = await open();
  const path = project.at('same');
  const known = cache.find(...where(path), lstatSync(path));
  expect(known).toBeDefined();
  // A hash that no content has shows that the file is not read any more.
  cache.keep(...where(path), lstatSync(path), note('e'), Date.now());
  await cache.save();
  await writeFile(project.at('changes'), 'differs');
  const second = await digests();
  expect(second?.[1]).toBe('eeee');
  expect(second?.[0]).not.toBe(first?.[0]);
  expect(second?.slice(2)).toEqual(first?.slice(2));
  await writeFile(path, 'same'); // the same bytes, but it was written to
  expect((await digests())?.[1]).toBe(first?.[1]);
});

test('a damaged file, one of another version and one of another folder are ignored', async () => {
  const { file, path } = await saved();
  const stamp = lstatSync(path);
  const text = await readFile(file, 'latin1');
  const knows = async (content: string) => {
    await writeFile(file, content, 'latin1');
    return (await open()).find(...where(path), stamp) !== undefined;
  };
  expect(await knows(text)).toBe(true);
  const wrong = [
    ...['', '\n', 'x', text.slice(0, -1), text.slice(0, 60), `${text} `],
    text.replace('aaaa', 'aaab'),
    text.replace('hashes 1', 'hashes 2'),
    text.replace('\n', '\0\n'),
  ];
  for (const content of wrong) expect(await knows(content)).toBe(false);
  await writeFile(file, text, 'latin1');
  const other = project.at('../other');
  await mkdir(other);
  const cache = await open(other);
  keep(cache, path, 'b');
  await cache.save();
  const names = await readdir(folder);
  expect(names).toHaveLength(2);
  const [one = '', two = ''] = names.map((name) => join(folder, name));
  await writeFile(one === file ? two : one, text, 'latin1');
  expect((await open(other)).find(...where(path), stamp)).toBeUndefined();
  expect((await open()).find(...where(path), stamp)).toBeDefined();
});

test('what is gone is forgotten, what is merely not sent this time stays', async () => {
  await project.files('stays', 'goes', 'new', '../beside', '../leaves');
  const first = await open();
  for (const name of ['stays', 'goes', '../beside', '../leaves']) keep(first, project.at(name), 'a');
  await first.save();
  const stamps = ['stays', 'goes', '../beside', '../leaves'].map((name) => lstatSync(project.at(name)));
  await Promise.all(['goes', '../leaves'].map((name) => rm(project.at(name))));
  const second = await open();
  keep(second, project.at('new'), 'b');
  await second.save();
  const third = await open();
  const known = ['stays', 'goes', '../beside', '../leaves'].map((name, i) => {
    const stamp = stamps[i];
    return stamp !== undefined && third.find(...where(project.at(name)), stamp) !== undefined;
  });
  expect(known).toEqual([true, false, true, false]);
});

test('two controllers at once leave a whole file behind', async () => {
  const paths = await Promise.all(['a', 'b', 'c', 'd'].map((name) => project.file(name)));
  const caches = await Promise.all(paths.map(() => open()));
  caches.forEach((cache, i) => {
    keep(cache, paths[i] ?? '', 'a');
  });
  await Promise.all(caches.map((cache) => cache.save()));
  const last = await open();
  expect(paths.filter((path) => last.find(...where(path), lstatSync(path)) !== undefined)).toHaveLength(1);
  expect(await readdir(folder)).toHaveLength(1);
});

test('files of 60 days without use are removed, others left as they are; use counts', async () => {
  const { file } = await saved();
  const daysAgo = (days: number) => new Date(Date.now() - days * 24 * 3600 * 1000);
  const ages = { old: 61, recent: 59, 'x.partial': 70 };
  for (const [name, days] of Object.entries(ages)) {
    await writeFile(join(folder, name), name);
    await utimes(join(folder, name), daysAgo(days), daysAgo(days));
  }
  await utimes(file, daysAgo(100), daysAgo(100));
  await (await open()).save(); // nothing new, but it was loaded for use
  expect((await readdir(folder)).map((name) => join(folder, name)).sort()).toEqual(
    [file, join(folder, 'recent')].sort(),
  );
  expect(await readFile(join(folder, 'recent'), 'utf8')).toBe('recent');
  expect((await stat(file)).mtimeMs).toBeGreaterThan(daysAgo(1).getTime());
});

test('where nothing can be written, nothing is remembered and nothing fails', async () => {
  await writeFile(folder, 'a file in the place of the folder');
  const cache = await open();
  keep(cache, await project.file('file'), 'a');
  await cache.save();
  expect((await project.list()).paths).toEqual(['file']);
  expect(await readFile(folder, 'utf8')).toContain('a file');
});

test('the folder follows XDG_CACHE_HOME where that is an absolute path', () => {
  vi.stubEnv('XDG_CACHE_HOME', '/caches');
  expect(hashCacheFolder('/home/me')).toBe('/caches/ssh-scheduler/hashes');
  for (const other of ['', 'relative']) {
    vi.stubEnv('XDG_CACHE_HOME', other);
    expect(hashCacheFolder('/home/me')).toBe('/home/me/.cache/ssh-scheduler/hashes');
  }
});
