/** Results from real machines over ssh, one with GNU tools and one with busybox alone. */
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { fetchFiles } from '../../src/lib/files/fetch.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { entry, scratch } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';

const NAMES = ['gnu', 'busybox'] as const;
let hosts: TestHosts;
const connections = new Map<string, RemoteHost>();
let folder: Awaited<ReturnType<typeof scratch>>;

beforeAll(async () => {
  await using probe = await TestHosts.start([]);
  const { busyboxOnly } = probe.capabilities;
  if (!busyboxOnly)
    console.warn('test hosts cannot be reduced to busybox here: the same is tried with the tools they have');
  hosts = await TestHosts.start([{ name: 'gnu' }, { name: 'busybox', ...(busyboxOnly && { busyboxOnly }) }]);
  const options = { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } };
  for (const name of NAMES) connections.set(name, await connectSsh(entry(name), options));
});
afterAll(async () => {
  for (const connection of connections.values()) await connection.close();
  await hosts.close();
});
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

const into = (...path: string[]) => join(folder.path, ...path);

/** Runs a script in a fresh `work`, and brings what came of it. */
async function fetchMade(name: string, script: string, paths: readonly string[] | 'changed') {
  const connection = connections.get(name);
  if (connection === undefined) throw new Error(`no connection to ${name}`);
  await using shell = await RequestShell.open(connection);
  const attempt = `${hosts.get(name).homeOnHost}/attempt`;
  const { exitCode, output } = await shell.text(
    `(chmod -R u+rwx ${attempt}; rm -rf ${attempt}; mkdir -p ${attempt}/work && cd ${attempt}/work && ${script}\n)`,
  );
  if (exitCode !== 0) throw new Error(`the script ended with ${exitCode}: ${output}`);
  const result = await fetchFiles(connection.name, shell, {
    attemptFolder: attempt,
    paths,
    into: folder.path,
  });
  expect((await shell.text('echo fine')).output).toBe('fine\n');
  return result;
}

const LIST = 'find . ! -name . -print0 >../changed';

test.each(NAMES)('brings all kinds of names and files from %s', async (name) => {
  const script = `
mkdir -p empty "sp ace/-dash" && chmod 750 empty
printf a >"$(printf 'not\\377utf8')"; printf b >"$(printf 'not\\376utf8')"; printf c >"$(printf 'new\\nline')"
printf d >"sp ace/-dash/--checkpoint=1"; printf e >-f; printf f >"it's \\"\\$(x)"
head -c 100001 /dev/zero >zeros; : >none; chmod 555 zeros; ln -s ../out link; ln zeros second
printf g >"$(head -c 255 /dev/zero | tr '\\0' n)"; chmod 500 "sp ace"
touch -d '2001-02-03 04:05:06 UTC' none || touch -d '2001-02-03 04:05:06' none
${LIST}; printf './gone\\0' >../deleted`;
  const result = await fetchMade(name, script, 'changed');
  expect(result).toMatchObject({ files: 10, warnings: [], deleted: ['gone'] });
  const names = (await readdir(into(), { encoding: 'buffer' })).map((one) => one.toString('latin1'));
  expect(names.sort()).toEqual(
    ['-f', 'empty', 'it\'s "$(x)', 'link', 'new\nline', 'n'.repeat(255), 'none', 'not\xfeutf8', 'not\xffutf8']
      .concat(['second', 'sp ace', 'zeros'])
      .sort(),
  );
  expect(await readFile(Buffer.from(into('not\xffutf8'), 'latin1'), 'utf8')).toBe('a');
  expect(await readFile(into('sp ace/-dash/--checkpoint=1'), 'utf8')).toBe('d');
  expect((await lstat(into('sp ace'))).mode & 0o777).toBe(0o500);
  expect((await lstat(into('empty'))).mode & 0o777).toBe(0o750);
  expect((await lstat(into('zeros'))).mode & 0o777).toBe(0o555);
  expect(await readFile(into('zeros'))).toEqual(Buffer.alloc(100_001));
  expect((await lstat(into('none'))).mtime.getUTCFullYear()).toBe(2001);
});

test.each(NAMES)('names the file that cannot be read on %s, and why', async (name) => {
  if (hosts.get(name).user === 'root') return console.warn('root can read anything: nothing to test here');
  await expect(
    fetchMade(name, `echo x >open; echo x >secret; chmod 0 secret; ${LIST}`, 'changed'),
  ).rejects.toThrow(
    new RegExp(`^${name}: cannot bring the results home: there: .*\\./secret.*: Permission denied$`),
  );
  await expect(fetchMade(name, 'mkdir shut; echo x >shut/in; chmod 0 shut', ['shut'])).rejects.toThrow(
    /there: .*\.\/shut.*: Permission denied$/,
  );
});

test.each(NAMES)('brings more names than one command line of %s holds', async (name) => {
  const long = 'a-name-of-some-length-so-that-many-of-them-need-several-command-lines';
  const script = `mkdir d && cd d && i=0; while [ $i -lt 3000 ]; do echo $i >${long}-$i; i=$((i+1)); done; cd ..; ${LIST}`;
  expect(await fetchMade(name, script, 'changed')).toMatchObject({ files: 3000, warnings: [] });
  expect(await readFile(into('d', `${long}-2999`), 'utf8')).toBe('2999\n');
});

test.each(NAMES)('expands patterns on %s', async (name) => {
  const script =
    'mkdir -p logs/old; echo 1 >logs/a.log; echo 2 >logs/old/b.log; echo 3 >c.txt; mkfifo logs/fifo';
  const { files, warnings } = await fetchMade(name, script, [
    'logs',
    'logs/*.log',
    '*.txt',
    'no*',
    './logs/',
  ]);
  expect(files).toBe(3);
  expect(warnings).toEqual([
    "--copy-backwards: no* does not exist in the job's folder",
    '--copy-backwards: logs/fifo is a socket, a FIFO or a device and stays',
  ]);
  expect((await readdir(into(), { recursive: true })).sort()).toEqual([
    'c.txt',
    'logs',
    'logs/a.log',
    'logs/old',
    'logs/old/b.log',
  ]);
});
