import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create, Header } from 'tar';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { fetchFiles } from '../../src/lib/files/fetch.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { smallDisk } from './small-disk.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
let host: LocalHost;
let shell: RequestShell;
beforeEach(async () => {
  folder = await scratch();
  for (const path of ['attempt/work', 'into', 'bin'])
    await mkdir(join(folder.path, path), { recursive: true });
  const env = { ...process.env, PATH: `${folder.path}/bin:${process.env.PATH}` };
  host = new LocalHost(machineName('here'), { home: folder.path, env });
  shell = await RequestShell.open(host);
});
afterEach(async () => {
  shell.close();
  await host.close();
  await folder[Symbol.asyncDispose]();
});

const work = (...path: string[]) => join(folder.path, 'attempt/work', ...path);
const into = (...path: string[]) => join(folder.path, 'into', ...path);
const fetch = (paths: readonly string[] | 'changed', target = into()) =>
  fetchFiles(machineName('here'), shell, {
    attemptFolder: join(folder.path, 'attempt'),
    paths,
    into: target,
  });

test('links come home as they are, also those that point out', async () => {
  await writeFile(work('file'), 'content');
  await mkdir(work('sub'));
  await symlink('/usr/bin', work('absolute'));
  await symlink('../../../up', work('sub/out'));
  await symlink('../file', work('sub/in'));
  await writeFile(join(folder.path, 'attempt/changed'), './absolute\0./sub/out\0./file\0./sub/in\0');
  await fetch('changed');
  expect(await readlink(into('absolute'))).toBe('/usr/bin');
  expect(await readlink(into('sub/out'))).toBe('../../../up');
  expect(await readFile(into('sub/in'), 'utf8')).toBe('content');
});

test('no file comes home as setuid', async () => {
  await writeFile(work('tool'), '#!/bin/sh\n');
  await chmod(work('tool'), 0o4755);
  await fetch(['tool']);
  expect((await stat(into('tool'))).mode & 0o7777).toBe(0o755);
});

/** One entry of an archive that no honest tar would make. */
interface HostileEntry {
  readonly path: string;
  readonly type?: 'File' | 'Link' | 'SymbolicLink' | 'CharacterDevice' | 'BlockDevice' | 'FIFO' | 'Directory';
  readonly linkpath?: string;
  readonly body?: string;
}

/** The machine's `tar` sends this archive, whatever it was asked for. */
async function sendInstead(entries: readonly HostileEntry[]): Promise<void> {
  const blocks = entries.flatMap(({ path, type = 'File', linkpath = '', body = '' }) => {
    const header = new Header({ path, type, linkpath, mode: 0o644, size: body.length, mtime: new Date() });
    const block = Buffer.alloc(512);
    header.encode(block);
    const padded = Buffer.alloc(Math.ceil(body.length / 512) * 512);
    padded.write(body);
    return [block, padded];
  });
  await writeFile(join(folder.path, 'archive'), Buffer.concat([...blocks, Buffer.alloc(1024)]));
  await writeFile(join(folder.path, 'bin/tar'), `#!/bin/sh\nexec cat ${folder.path}/archive\n`, {
    mode: 0o755,
  });
}

test('brings what the list of changes names, and counts it', async () => {
  await mkdir(work('sub/empty'), { recursive: true });
  await writeFile(work('sub/file'), 'content');
  await writeFile(work('not listed'), 'x');
  await symlink('file', work('sub/link'));
  await writeFile(join(folder.path, 'attempt/changed'), './sub/file\0./sub/link\0./sub/empty\0');
  const result = await fetch('changed');
  expect(result).toMatchObject({ files: 1, warnings: [] });
  expect(result.bytes).toBeGreaterThan(512);
  expect((await readdir(into(), { recursive: true })).sort()).toEqual([
    'sub',
    'sub/empty',
    'sub/file',
    'sub/link',
  ]);
  expect(await readFile(into('sub/link'), 'utf8')).toBe('content');
});

test('patterns are expanded there and never evaluated', async () => {
  for (const name of ['a.log', 'b c.log', 'c.txt', '$(touch evil)', '-f', "it's"])
    await writeFile(work(name), name);
  await mkdir(work('sub'));
  await writeFile(work('sub/in'), 'x');
  expect((await fetch(['*.log', '$(touch evil)', '-f', "it's", 'sub'])).warnings).toEqual([]);
  expect((await readdir(into())).sort()).toEqual(['$(touch evil)', '-f', 'a.log', 'b c.log', "it's", 'sub']);
  expect((await fetch(['none-*', 'c.txt'])).warnings).toEqual([expect.stringContaining('does not exist')]);
  expect(await readFile(into('c.txt'), 'utf8')).toBe('c.txt');
  expect(await fetch(['`touch evil`', '; touch evil'])).toMatchObject({ files: 0 });
  expect(await readdir(work())).not.toContain('evil');
});

const OUTSIDE: readonly (readonly [string, readonly HostileEntry[]])[] = [
  ['a name with ..', [{ path: '../evil', body: 'x' }]],
  ['a name with .. inside', [{ path: 'good/../../evil', body: 'x' }]],
  ['an absolute name', [{ path: 'ABSOLUTE/evil', body: 'x' }]],
  [
    'a file through a link',
    [
      { path: 'way', type: 'SymbolicLink', linkpath: '..' },
      { path: 'way/evil', body: 'x' },
    ],
  ],
  [
    'a file over a link',
    [
      { path: 'evil', type: 'SymbolicLink', linkpath: '../evil' },
      { path: 'evil', body: 'x' },
    ],
  ],
  [
    'a folder over a link',
    [
      { path: 'way', type: 'SymbolicLink', linkpath: '..' },
      { path: 'way', type: 'Directory' },
      { path: 'way/evil', body: 'x' },
    ],
  ],
  [
    'a hard link to outside',
    [
      { path: 'mine', type: 'Link', linkpath: '../victim' },
      { path: 'mine', body: 'x' },
    ],
  ],
  [
    'a hard link to an absolute name',
    [
      { path: 'mine', type: 'Link', linkpath: 'ABSOLUTE/victim' },
      { path: 'mine', body: 'x' },
    ],
  ],
  [
    'a hard link through a link',
    [
      { path: 'way', type: 'SymbolicLink', linkpath: '..' },
      { path: 'mine', type: 'Link', linkpath: 'way/victim' },
      { path: 'mine', body: 'x' },
    ],
  ],
  ['a character device', [{ path: 'device', type: 'CharacterDevice' }]],
  ['a block device', [{ path: 'device', type: 'BlockDevice' }]],
  ['a FIFO', [{ path: 'fifo', type: 'FIFO' }]],
];

test.each(OUTSIDE)('a machine that sends %s harms nothing outside of the folder', async (what, entries) => {
  await writeFile(work('x'), 'asked for');
  await writeFile(join(folder.path, 'victim'), 'precious');
  await sendInstead(
    entries.map((entry) => ({
      ...entry,
      path: entry.path.replace('ABSOLUTE', folder.path),
      ...(entry.linkpath === undefined ? {} : { linkpath: entry.linkpath.replace('ABSOLUTE', folder.path) }),
    })),
  );
  const outcome = await fetch(['x']).then(
    () => 'accepted',
    (error: Error) => error.message,
  );
  expect(await readFile(join(folder.path, 'victim'), 'utf8')).toBe('precious');
  expect(await readdir(folder.path)).not.toContain('evil');
  expect(await readdir(into())).not.toContain('device');
  expect(await readdir(into())).not.toContain('fifo');
  // A link over a link, or a link's place taken by a folder, stays inside; all else is refused.
  if (outcome !== 'accepted') expect(outcome).toMatch(/^here: cannot bring the results home: /);
  else expect(what).toMatch(/ over a link$/);
  // The shell is still of use.
  expect(await shell.text('echo fine')).toEqual({ exitCode: 0, output: 'fine\n' });
});

test('an archive that is none, or breaks off, is refused', async () => {
  await writeFile(join(folder.path, 'bin/tar'), '#!/bin/sh\nhead -c 100000 /dev/urandom\n', { mode: 0o755 });
  await writeFile(work('x'), 'x');
  await expect(fetch(['x'])).rejects.toMatchObject({ stage: 'fetch' });
  await writeFile(work('large'), 'x'.repeat(100_000));
  await create({ cwd: work(), file: join(folder.path, 'archive') }, ['large']);
  await writeFile(join(folder.path, 'bin/tar'), `#!/bin/sh\nhead -c 50000 ${folder.path}/archive\n`, {
    mode: 0o755,
  });
  await expect(fetch(['x'])).rejects.toMatchObject({ stage: 'fetch' });
  await writeFile(join(folder.path, 'bin/tar'), `#!/bin/sh\ncat ${folder.path}/archive; exit 2\n`, {
    mode: 0o755,
  });
  await expect(fetch(['x'])).rejects.toMatchObject({ stage: 'fetch' });
});

test('a full disk here is told with the reason', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  await writeFile(work('large'), Buffer.alloc(4 << 20, 'x'));
  await expect(fetch(['large'], disk.path)).rejects.toMatchObject({
    stage: 'fetch',
    message: expect.stringMatching(/here: cannot bring the results home: .*(ENOSPC|no space)/i),
  });
  expect(await shell.text('echo fine')).toEqual({ exitCode: 0, output: 'fine\n' });
});
