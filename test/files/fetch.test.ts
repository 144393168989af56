import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { fetchFiles } from '../../src/lib/files/fetch.ts';
import { FETCH_FUNCTIONS } from '../../src/lib/files/fetch-script.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { findProgram } from '../rig/find-program.ts';
import { until } from '../rig/until.ts';
import { type CraftedEntry, craftedArchive } from './crafted-archive.ts';
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

/** A program of the machine's that is none of its own. */
const replace = (name: string, text: string) =>
  writeFile(join(folder.path, 'bin', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });

/** The machine announces a hundred entries of 10,000 bytes, and its `tar` sends this, whatever it was asked for. */
async function sendInstead(entries: readonly CraftedEntry[], behind = ''): Promise<void> {
  await writeFile(join(folder.path, 'archive'), craftedArchive(entries));
  await replace('stat', 'i=0; while [ $i -lt 100 ]; do echo 10000; i=$((i+1)); done');
  await replace('tar', `cat ${folder.path}/archive; ${behind}`);
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
  expect((await fetch(['none-*', 'c.txt'])).warnings).toEqual([expect.stringContaining('none-* does not')]);
  expect(await readFile(into('c.txt'), 'utf8')).toBe('c.txt');
  expect(await fetch(['`touch evil`', '; touch evil'])).toMatchObject({ files: 0 });
  expect(await readdir(work())).not.toContain('evil');
});

test('what patterns match together comes once, and each that matches nothing is named', async () => {
  await mkdir(work('sub/deep'), { recursive: true });
  for (const name of ['sub/a.log', 'sub/deep/b.log', 'a[1].log', 'a1.log']) await writeFile(work(name), name);
  const paths = ['sub/', 'sub//a.log', './sub/*', 'sub', 'a[1].log', 'model.pt', 'none-*.x', "it's; gone"];
  const { files, warnings } = await fetch(paths);
  expect(warnings).toEqual([
    "--copy-backwards: model.pt does not exist in the job's folder",
    "--copy-backwards: none-*.x does not exist in the job's folder",
    "--copy-backwards: it's; gone does not exist in the job's folder",
  ]);
  expect(files).toBe(4);
  expect((await readdir(into())).sort()).toEqual(['a1.log', 'a[1].log', 'sub']);
});

test('absolute paths and ../ come home below the folder', async () => {
  await writeFile(join(folder.path, 'attempt/beside'), 'beside');
  await writeFile(join(folder.path, 'elsewhere'), 'elsewhere');
  await fetch(['../beside', join(folder.path, 'elsewhere')]);
  expect(await readFile(into('beside'), 'utf8')).toBe('beside');
  expect(await readFile(into(folder.path, 'elsewhere'), 'utf8')).toBe('elsewhere');
});

test('nothing changed, nothing named, and no list at all are empty results', async () => {
  const empty = { files: 0, warnings: [], deleted: [] };
  expect(await fetch('changed')).toMatchObject(empty);
  await writeFile(join(folder.path, 'attempt/changed'), '');
  expect(await fetch('changed')).toMatchObject(empty);
  expect(await fetch([])).toMatchObject(empty);
  expect(await readdir(into())).toEqual([]);
});

test('deletions are told, made visible, ten thousand at most', async () => {
  await writeFile(join(folder.path, 'attempt/deleted'), './gone\0sub/\x1b[2J\n\0');
  expect((await fetch('changed')).deleted).toEqual(['gone', 'sub/\\x1b[2J\\n']);
  await writeFile(
    join(folder.path, 'attempt/deleted'),
    Array.from({ length: 10_001 }, (_, i) => `./${i}\0`),
  );
  const many = await fetch('changed');
  expect(many.deleted).toHaveLength(10_000);
  expect(many.warnings).toEqual(['the job deleted more than the 10000 paths that the manifest lists']);
  await writeFile(join(folder.path, 'attempt/deleted'), `${'x'.repeat(1000)}\0`.repeat(9000));
  const long = await fetch('changed');
  expect(long.deleted).toHaveLength(4190);
  expect(long.warnings).toEqual(['the job deleted more than the 4190 paths that the manifest lists']);
});

test('what is neither file, folder nor link stays there, with a warning', async () => {
  await mkdir(work('sub'));
  await runOrThrow('mkfifo', [work('sub/fifo')]);
  await writeFile(work('sub/file'), 'x');
  const { files, warnings } = await fetch(['sub']);
  expect(files).toBe(1);
  expect(warnings).toEqual(['--copy-backwards: sub/fifo is a socket, a FIFO or a device and stays']);
});

test('several fetches at a time over one shell keep apart', async () => {
  const names = Array.from({ length: 20 }, (_, i) => `f${i}`);
  for (const name of names) {
    await writeFile(work(name), name.repeat(1000));
    await mkdir(into(name));
  }
  await Promise.all(names.map((name) => fetch([name, `no-${name}`], into(name))));
  for (const name of names) expect(await readFile(into(name, name), 'utf8')).toBe(name.repeat(1000));
});

const HOSTILE: readonly (readonly [string, readonly CraftedEntry[], string])[] = [
  ['a name with ..', [{ path: '../evil', content: 'x' }], '../evil: its name leads out by ..'],
  ['a name with .. inside', [{ path: 'a/../../evil' }], 'a/../../evil: its name leads out by ..'],
  ['an absolute name', [{ path: 'ABSOLUTE/evil' }], 'ABSOLUTE/evil: its name is absolute'],
  [
    'a file through a link',
    [
      { path: 'way', type: '2', target: '..' },
      { path: 'way/evil', content: 'x' },
    ],
    'way/evil: lies below way, which is a symlink',
  ],
  [
    'a file over a link',
    [
      { path: 'evil', type: '2', target: '../evil' },
      { path: 'evil', content: 'x' },
    ],
    'evil: comes as a file and was a symlink before',
  ],
  [
    'a folder over a link, and a file through it',
    [
      { path: 'way', type: '2', target: '..' },
      { path: 'way', type: '5' },
      { path: 'way/evil', content: 'x' },
    ],
    'way: comes as a folder and was a symlink before',
  ],
  [
    'a hard link out, and bytes for it',
    [
      { path: 'mine', type: '1', target: '../victim' },
      { path: 'mine', content: 'x' },
    ],
    'mine: the name that it is a hard link to leads out by ..',
  ],
  [
    'a hard link to an absolute name',
    [{ path: 'mine', type: '1', target: 'ABSOLUTE/victim' }],
    'mine: the name that it is a hard link to is absolute',
  ],
  [
    'a hard link through a link',
    [
      { path: 'way', type: '2', target: '..' },
      { path: 'mine', type: '1', target: 'way/victim' },
    ],
    'mine: is a hard link to way/victim, which is no file that came before',
  ],
  [
    'a character device',
    [{ path: 'device', type: '3' }],
    'device: is a character device, which is not taken',
  ],
  ['a block device', [{ path: 'device', type: '4' }], 'device: is a block device, which is not taken'],
  ['a FIFO', [{ path: 'fifo', type: '6' }], 'fifo: is a FIFO, which is not taken'],
  [
    'a file and then a folder',
    [{ path: 'both', content: 'x' }, { path: 'both/in' }],
    'both/in: lies below both, which is a file',
  ],
  [
    'a folder and then a file',
    [{ path: 'both/', type: '5' }, { path: 'both' }],
    'both: comes as a file and was a folder before',
  ],
  ['the same name twice', [{ path: 'a' }, { path: 'a' }], 'a: comes as a file and was a file before'],
  [
    'a size that lies, too large',
    [{ path: 'liar', content: 'x', size: 5000 }],
    'liar: the archive breaks off 3464 bytes before the end of it',
  ],
  [
    'a size that lies, too small',
    [{ path: 'liar', content: 'x'.repeat(600), size: 7 }],
    'liar: behind it stands a header with a wrong checksum',
  ],
  [
    'a size beyond what was announced',
    [{ path: 'liar', size: 10_000_000 }],
    'liar: is larger than announced: more than 1000000 bytes in all',
  ],
  [
    'more entries than announced',
    Array.from({ length: 101 }, (_, i) => ({ path: `n${i}` })),
    'n100: comes though only 100 entries were announced',
  ],
  ['fewer entries than announced', [{ path: 'one' }], '100 entries were announced and 1 came'],
  ['a name that plays with the terminal', [{ path: '/\x1b[2J' }], '/\\x1b[2J: its name is absolute'],
];

test.each(HOSTILE)('a machine that sends %s is refused with the name', async (_, entries, reason) => {
  await writeFile(work('x'), 'asked for');
  await writeFile(join(folder.path, 'victim'), 'precious');
  const place = (text: string) => text.replace('ABSOLUTE', folder.path);
  await sendInstead(
    entries.map((entry) => ({ ...entry, path: place(entry.path), target: place(entry.target ?? '') })),
  );
  const before = await readdir(folder.path);
  await expect(fetch(['x'])).rejects.toMatchObject({
    name: 'RemoteError',
    stage: 'fetch',
    message: `here: cannot bring the results home: ${place(reason)}`,
  });
  expect(await readFile(join(folder.path, 'victim'), 'utf8')).toBe('precious');
  expect((await stat(join(folder.path, 'victim'))).nlink).toBe(1);
  expect(await readdir(folder.path)).toEqual(before);
  expect(await shell.text('echo fine')).toEqual({ exitCode: 0, output: 'fine\n' });
});

test('a stream that never ends is given up', async () => {
  await mkdir(into('first'));
  await writeFile(work('x'), 'x');
  await replace('tar', 'exec busybox tar "$@"');
  await fetch(['x'], into('first')); // asks what `tar` can do
  await sendInstead([{ path: 'last' }], `echo $$ >${folder.path}/pid; exec cat /dev/zero`);
  await expect(fetch(['x'])).rejects.toThrow('last: behind it come zeros without end');
  expect(shell.isBroken).toBe(true); // after dropping 256 MiB
  const pid = Number(await readFile(join(folder.path, 'pid'), 'utf8'));
  await until(() => !existsSync(`/proc/${pid}`), { describe: 'the sender ends with the connection' });
});

test('an announcement without sense is refused', async () => {
  await writeFile(work('x'), 'x');
  await replace('stat', 'echo 99999999999999999');
  await expect(fetch(['x'])).rejects.toThrow(/cannot bring the results home: /);
  expect(await readdir(into())).toEqual([]);
  expect(await shell.text('echo fine')).toEqual({ exitCode: 0, output: 'fine\n' });
});

test('an archive that is none, breaks off, or whose tar failed is refused', async () => {
  await writeFile(work('x'), 'x');
  await sendInstead([], 'head -c 100000 /dev/urandom');
  await replace('tar', 'head -c 100000 /dev/urandom');
  await expect(fetch(['x'])).rejects.toMatchObject({ stage: 'fetch' });
  await writeFile(
    join(folder.path, 'archive'),
    craftedArchive([{ path: 'large', content: 'x'.repeat(9000) }]),
  );
  await replace('tar', `head -c 5000 ${folder.path}/archive`);
  await expect(fetch(['x'])).rejects.toThrow('large: the archive breaks off 4512 bytes before the end of it');
  await rm(into('large'));
  await replace('tar', `cat ${folder.path}/archive; echo 'tar: ./y: Read error' >&2; exit 2`);
  await expect(fetch(['x'])).rejects.toThrow(/results home: there: \.\/y: Read error$/);
  await rm(into('large'));
  await replace('tar', `cat ${folder.path}/archive; exit 2`);
  await expect(fetch(['x'])).rejects.toThrow(/results home: there: tar ended with 2$/);
});

test('what came is what was sent, by its sum', async () => {
  await writeFile(work('x'), 'x');
  await replace('sha256sum', `cat >/dev/null; echo ${'0'.repeat(64)}`);
  await expect(fetch(['x'])).rejects.toThrow(
    /what came \(\d+ bytes, SHA-256 [0-9a-f]{64}\) is not what was sent/,
  );
  await replace('sha256sum', 'echo no >&2; exit 1');
  await expect(fetch(['x'])).rejects.toMatchObject({ stage: 'fetch' });
});

test('without sha256sum other programs tell the sum; without any that is said', async () => {
  await writeFile(work('x'), 'x');
  const bin = join(folder.path, 'few');
  await mkdir(bin);
  for (const tool of [
    'sh',
    'tar',
    'tee',
    'cat',
    'sort',
    'find',
    'xargs',
    'stat',
    'head',
    'tr',
    'bash',
    'openssl',
  ])
    await symlink((await runOrThrow('sh', ['-c', `command -v ${tool}`])).trim(), join(bin, tool));
  const fewer = new LocalHost(machineName('here'), { home: folder.path, env: { PATH: bin } });
  const ask = async (target: string) => {
    await using own = await RequestShell.open(fewer);
    await mkdir(into(target));
    return await fetchFiles(machineName('here'), own, {
      attemptFolder: join(folder.path, 'attempt'),
      paths: ['x'],
      into: into(target),
    });
  };
  expect((await ask('openssl')).warnings).toEqual([]);
  await rm(join(bin, 'openssl'));
  await writeFile(join(bin, 'shasum'), `#!/bin/sh\nexec ${process.execPath} -e '${SHASUM}'`, { mode: 0o755 });
  expect((await ask('shasum')).warnings).toEqual([]);
  await rm(join(bin, 'shasum'));
  expect(await ask('none')).toMatchObject({ files: 1, warnings: [expect.stringContaining('by size only')] });
  await fewer.close();
});

const SHASUM =
  'const h = require("crypto").createHash("sha256"); process.stdin.on("data", (d) => h.update(d)).on("end", () => console.log(h.digest("hex") + "  -"))';

test('a full disk here is told with the reason', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  await writeFile(work('large'), Buffer.alloc(4 << 20, 'x'));
  await expect(fetch(['large'], disk.path)).rejects.toMatchObject({
    stage: 'fetch',
    message: expect.stringMatching(
      /^here: cannot bring the results home: no space left on device here: they need 4(\.0)? MiB, .* are free$/,
    ),
  });
  expect(await readdir(disk.path)).toEqual([]); // nothing was sent
  expect(await shell.text('echo fine')).toEqual({ exitCode: 0, output: 'fine\n' });
});

test('a disk that fills while it is written to is told with the reason, and can be cleared', async () => {
  await using disk = await smallDisk(8);
  if (disk === undefined) return;
  await runOrThrow('mount', ['-o', 'remount,nr_inodes=20', disk.path]);
  await mkdir(work('sub'), { mode: 0o555 });
  for (let i = 0; i < 50; i++) await writeFile(work('sub', `f${i}`), 'x');
  await expect(fetch(['sub'], disk.path)).rejects.toMatchObject({
    stage: 'fetch',
    message: expect.stringMatching(
      /^here: cannot bring the results home: \.\/sub\/f\d+: no space left on device here$/,
    ),
  });
  await rm(join(disk.path, 'sub'), { recursive: true });
  expect(await readdir(disk.path)).toEqual([]);
  expect(await shell.text('echo fine')).toEqual({ exitCode: 0, output: 'fine\n' });
});

test('names are sorted out without bash, and without a sort that knows NUL', async () => {
  const bin = join(folder.path, 'only');
  await mkdir(bin);
  const tools = ['od', 'tr', 'awk', 'head', 'stat', 'tar', 'cat', 'sha256sum', 'sh'];
  for (const tool of tools) await symlink(findProgram(tool), join(bin, tool));
  await writeFile(join(bin, 'sort'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  const names = ['b\na', '-n', 'c', "it's \\0101 %d", 'c', 'é\xff', '-n'];
  const given = names.map((name) => `${name}\0`).join('');
  const script = `${FETCH_FUNCTIONS}\ncommand -v bash && exit 9\nfetch_sort <given`;
  await writeFile(join(folder.path, 'given'), given, 'latin1');
  const { stdout } = await promisify(execFile)('/bin/sh', ['-c', script], {
    cwd: folder.path,
    env: { PATH: bin },
    encoding: 'latin1',
  });
  expect(stdout.split('\0')).toEqual(['b\na', '-n', 'c', "it's \\0101 %d", 'é\xff', '']);
});
