/** Folders on real machines: files go there first, what was made comes home, and nothing stays. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, symlink, utimes } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HostFolder, type HostFolderOptions } from '../../src/lib/fanout/host-folder.ts';
import type { SourceTree } from '../../src/lib/files/source-part.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { contents, editOddProject, makeOddProject } from '../files/odd-project.ts';
import { SourceProject } from '../files/source-project.ts';
import { entry, runOver, scratch } from '../remote/run-over.ts';
import type { RigCapabilities } from '../rig/host-spec.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

const NAMES = ['gnu', 'bare', 'loud'] as const;
/** A cp before which the folder that it is told disappears, once. */
const ROBBER = `#!/bin/sh
if [ -e "$HOME/rob-me" ]; then
  victim=$(cat "$HOME/rob-me")
  rm -rf "$HOME/rob-me" "$victim"
  mkdir "$victim"
fi
exec /bin/cp "$@"
`;
let hosts: TestHosts;
let can: RigCapabilities;
const connections: RemoteHost[] = [];
beforeAll(async () => {
  await using probe = await TestHosts.start([]);
  can = probe.capabilities;
  if (!can.busyboxOnly) console.warn('test hosts cannot be reduced to busybox here: they keep their tools');
  hosts = await TestHosts.start([
    { name: 'gnu' },
    { name: 'bare', ...(can.busyboxOnly && { busyboxOnly: true, loginShell: '/bin/sh' }) },
    {
      name: 'loud',
      tools: { cp: ROBBER },
      bashrc: 'echo welcome; echo to this machine >&2; printf "no newline"',
    },
    { name: 'nfs1' },
    { name: 'nfs2', sharedHome: 'nfs1' },
    { name: 'small', ...(can.limitedDisk && { diskMiB: 16 }) },
    { name: 'narrow', sshd: ['MaxSessions 1'] },
  ]);
  // As on an Alpine machine.
  if (can.busyboxOnly)
    await hosts.get('bare').exec('mv /usr/local/busybox/bash /usr/local/', { asRoot: true });
});
afterAll(async () => {
  for (const connection of connections) await connection.close();
  await hosts.close();
});

async function connect(name: string): Promise<RemoteHost> {
  const env = { ...process.env, SSH_AUTH_SOCK: '' };
  const host = await connectSsh(entry(name), { configFile: hosts.sshConfigPath, env });
  connections.push(host);
  return host;
}

/** Runs a line in the folder as the command would. */
async function inWork(host: RemoteHost, folder: HostFolder, line: string): Promise<string> {
  const { stdout, stderr, end } = await runOver(
    host,
    'exec /bin/sh',
    `cd '${folder.work}' && { ${line}\n}\n`,
  );
  if (end.type !== 'exited' || end.exitCode !== 0)
    throw new Error(`${line}: ${JSON.stringify(end)} ${stderr}`);
  return stdout;
}

/** A path of the host's that the test can read. */
function seen(name: string, onHost: string): string {
  const { homeOnHost, homeDir } = hosts.get(name);
  return onHost.replace(homeOnHost, homeDir);
}

const cache = (name: string, ...path: string[]) =>
  join(hosts.get(name).homeDir, '.cache/ssh-scheduler', ...path);
const id = 'abc123';
const nothing: SourceTree = { id: '', parts: [], shared: [], files: 0, bytes: 0, isSmall: false };
/** A remote_dir that only one test uses. */
let count = 0;
function fresh(name: string): { readonly remoteDir: string; readonly base: string } {
  const folder = `of test ${++count}`;
  return { remoteDir: `~/${folder}`, base: join(hosts.get(name).homeDir, folder) };
}

test.each(NAMES)("on %s an odd tree arrives, is the command's own, and is not sent again", async (name) => {
  await using project = await SourceProject.make();
  await makeOddProject(project.at());
  const host = await connect(name);
  const { tree } = await project.list();
  const first = await HostFolder.open(host, { id, tree });
  expect(first.sentBytes).toBeGreaterThan(300_000);
  expect(await contents(seen(name, first.work))).toEqual(await contents(project.at()));
  await inWork(host, first, 'echo changed >plain; rm big; mkdir new');
  const second = await HostFolder.open(host, { id, tree });
  expect(second.sentBytes).toBe(0);
  expect(second.work).not.toBe(first.work);
  expect(await contents(seen(name, second.work))).toEqual(await contents(project.at()));

  await editOddProject(project.at());
  const third = await HostFolder.open(host, { id, tree: (await project.list()).tree });
  expect(third.sentBytes).toBeLessThan(20_000);
  expect(await contents(seen(name, third.work))).toEqual(await contents(project.at()));
  await chmod(project.at('read-only'), 0o755); // so that it can be removed
  for (const folder of [first, second, third]) {
    await folder.remove();
    folder.close();
  }
  expect(await readdir(cache(name, 'to'))).toEqual([]);
  expect(await readdir(cache(name, 'leases'))).toEqual([]);
});

test.each(NAMES)('on %s several paths come together, read-only folders too', async (name) => {
  await using project = await SourceProject.make();
  await project.files('shut/one', 'shut/two', 'a file', 'left behind');
  await project.file('run.sh', '#!/bin/sh\n', 0o755);
  await mkdir(project.at('empty'));
  await symlink('a file', project.at('link'));
  await chmod(project.at('shut'), 0o555);
  const { tree } = await project.list(['shut/one', 'shut/two', 'a file', 'run.sh', 'empty', 'link']);
  expect(tree.parts.length).toBeGreaterThan(4);
  const host = await connect(name);
  const folder = await HostFolder.open(host, { id, tree, ...fresh(name) });
  const expected = (await contents(project.at())).filter((line) => !line.startsWith('left'));
  expect(await contents(seen(name, folder.work))).toEqual(expected);
  await chmod(project.at('shut'), 0o755);
  await folder.remove();
});

test.each(NAMES)(
  'on %s without a tree there is an empty folder, and files come home by patterns',
  async (name) => {
    await using home = await scratch();
    const host = await connect(name);
    const folder = await HostFolder.open(host, { id, tree: nothing });
    expect(folder.sentBytes).toBe(0);
    expect(await inWork(host, folder, 'echo "[$(pwd; ls -A)]"')).toContain(`[${folder.work}]`);
    await inWork(
      host,
      folder,
      `mkdir -p logs/old; echo 1 >logs/a.log; echo 2 >logs/old/b.log; echo 3 >"it's \\$(x).txt"; echo 4 >other`,
    );
    const { files, warnings } = await folder.fetch(['logs', 'logs/*.log', '*.txt', 'no*'], home.path);
    expect(warnings).toEqual(["--copy-backwards: no* does not exist in the job's folder"]);
    expect((await readdir(home.path, { recursive: true })).sort()).toEqual(
      ["it's $(x).txt", 'logs', 'logs/a.log', 'logs/old', 'logs/old/b.log'].sort(),
    );
    expect(files).toBe(3);
    expect(await readFile(join(home.path, "it's $(x).txt"), 'utf8')).toBe('3\n');
    await inWork(host, folder, 'chmod -R a-w .');
    await folder.remove();
    expect(await readdir(cache(name, 'to'))).toEqual([]);
  },
);

test('the folder for our files may have an odd name, and be given by its whole path', async () => {
  await using project = await SourceProject.make();
  await project.file('x', randomBytes(100_000));
  const { tree } = await project.list();
  const host = await connect('gnu');
  const { homeOnHost, homeDir } = hosts.get('gnu');
  for (const remoteDir of ['~/a b/$HOME;*ü', `${homeOnHost}/-rf /c#%d`]) {
    if (/[$]/.test(remoteDir)) {
      // The send itself cannot name such a folder; it says so in one line, and leaves nothing.
      await expect(HostFolder.open(host, { id, tree, remoteDir })).rejects.toMatchObject({
        stage: 'send',
        message: expect.stringMatching(
          /^gnu: cannot send files: the folder [^\n]* has a name that cannot be used$/,
        ),
      });
      expect(await readdir(join(homeDir, remoteDir.slice(2), 'to'))).toEqual([]);
      expect(await readdir(join(homeDir, remoteDir.slice(2), 'trees'))).toEqual([]);
      continue;
    }
    const folder = await HostFolder.open(host, { id, tree, remoteDir });
    expect(folder.work.startsWith(`${remoteDir}/to/`)).toBe(true);
    expect(await readdir(seen('gnu', folder.work))).toEqual(['x']);
    await folder.remove();
  }
});

test('two machines with one home folder do not meet', async () => {
  await using project = await SourceProject.make();
  await makeOddProject(project.at());
  const { tree } = await project.list();
  const pair = [await connect('nfs1'), await connect('nfs2')];
  const folders = await Promise.all(pair.map((host) => HostFolder.open(host, { id, tree })));
  const expected = await contents(project.at());
  await chmod(project.at('read-only'), 0o755);
  const [first, second] = folders;
  if (first === undefined || second === undefined || pair[0] === undefined) throw new Error('no two folders');
  expect(first.work).not.toBe(second.work);
  for (const { work } of folders) expect(await contents(seen('nfs1', work))).toEqual(expected);
  await first.remove();
  expect(await contents(seen('nfs1', second.work))).toEqual(expected);
  expect((await readdir(cache('nfs1', 'leases'))).length).toBe(1);
  await second.remove();
  expect(await readdir(cache('nfs1', 'to'))).toEqual([]);
  expect(await readdir(cache('nfs1', 'trees'))).toEqual(tree.parts.flatMap(({ id }) => [id, `${id}.list`]));
});

test('a machine without room says so in one line, and nothing stays', async () => {
  if (!can.limitedDisk) return console.warn('no small disks here: a full one is not tested');
  const host = await connect('small');
  const rest = async () => [await readdir(cache('small', 'to')), await readdir(cache('small', 'leases'))];
  // Too large to be sent; then too large for the copy, with one file and with many; then no room for anything.
  for (const sizes of [[20e6], [9e6], Array<number>(180).fill(50e3)]) {
    await using project = await SourceProject.make();
    for (const [i, size] of sizes.entries()) await project.file(`file ${i}`, randomBytes(size));
    await expect(HostFolder.open(host, { id, tree: (await project.list()).tree })).rejects.toMatchObject({
      stage: 'send',
      message: expect.stringMatching(/^small: cannot send files: [^\n]*No space left on device[^\n]*$/),
    });
    expect(await rest()).toEqual([[], []]);
    expect((await readdir(cache('small', 'trees'))).filter((name) => name.includes('partial'))).toEqual([]);
    await hosts
      .get('small')
      .exec('chmod -R u+w .cache/ssh-scheduler/trees; rm -rf .cache/ssh-scheduler/trees');
  }
  await hosts.get('small').fillDisk();
  await using project = await SourceProject.make();
  await project.file('few bytes');
  await expect(HostFolder.open(host, { id, tree: (await project.list()).tree })).rejects.toThrow(
    /^small: cannot send files: [^\n]*No space left on device[^\n]*$/,
  );
  expect(await rest()).toEqual([[], []]);
  await hosts.get('small').freeDisk();
  await (await HostFolder.open(host, { id, tree: (await project.list()).tree })).remove();
});

test('a folder that cannot be made is told in one line', async () => {
  const host = await connect('gnu');
  await hosts.get('gnu').exec('echo >"a file"');
  const remoteDir = '~/a file/below';
  await expect(HostFolder.open(host, { id, tree: nothing, remoteDir })).rejects.toMatchObject({
    stage: 'send',
    brief: expect.stringMatching(/^cannot send files: mkdir:/),
    message: expect.stringMatching(/^gnu: cannot send files: mkdir: [^\n]*a file[^\n]*: Not a directory$/),
  });
});

test('a part that was removed there before its use is sent again', async () => {
  await using project = await SourceProject.make();
  await project.file('x', randomBytes(100_000));
  const { tree } = await project.list();
  const host = await connect('loud');
  // As a prune on another machine with this home could do when a send has taken more than an hour.
  const { remoteDir, base } = fresh('loud');
  await hosts.get('loud').exec(`echo "$HOME/${basename(base)}/trees" >rob-me`);
  const folder = await HostFolder.open(host, { id, tree, remoteDir });
  expect(await readdir(hosts.get('loud').homeDir)).not.toContain('rob-me');
  expect(folder.sentBytes).toBeGreaterThan(200_000);
  expect(await readFile(join(seen('loud', folder.work), 'x'))).toEqual(await readFile(project.at('x')));
  await folder.remove();
});

test('leftovers of killed controllers go after a week, and a folder in use never looks like one', async () => {
  const host = await connect('gnu');
  const { remoteDir, base } = fresh('gnu');
  const options: HostFolderOptions = { id, tree: nothing, remoteDir, renewMs: 50 };
  const used = await HostFolder.open(host, options);
  used.close(); // as it is while the command runs
  const then = Date.now() / 1000 - 9 * 86_400;
  await hosts
    .get('gnu')
    .exec(`cd '${basename(base)}/to' && mkdir -p old/work/shut young && chmod 500 old/work/shut`);
  await hosts
    .get('gnu')
    .exec(`cd '${basename(base)}/to' && touch old/work/shut/x; touch -d '9 days ago' old`);
  await utimes(seen('gnu', used.work.replace(/\/work$/, '')), then, then);
  await until(
    async () => (await hosts.get('gnu').exec(`find '${used.work}/..' -maxdepth 0 -mtime -1`)).stdout !== '',
  );
  const next = await HostFolder.open(host, options);
  await until(async () => !(await readdir(join(base, 'to'))).includes('old'));
  expect((await readdir(join(base, 'to'))).length).toBe(3);
  await Promise.all([used.remove(), next.remove()]);
  expect(await readdir(join(base, 'to'))).toEqual(['young']);
});

test('where sshd allows one program at a time, the shell can be given up for the command', async () => {
  await using home = await scratch();
  await using project = await SourceProject.make();
  await project.file('x', 'small enough for the shell');
  const host = await connect('narrow');
  const folder = await HostFolder.open(host, { id, tree: (await project.list()).tree });
  folder.close();
  await until(() =>
    inWork(host, folder, 'cp x y').then(
      () => true,
      () => false,
    ),
  );
  expect(await folder.fetch(['y'], home.path)).toMatchObject({ files: 1, warnings: [] });
  await folder.remove();
  expect(await readdir(cache('narrow', 'to'))).toEqual([]);
  folder.close();
});

test('removing never rejects, and a connection that goes is told by what needs it', async () => {
  await using home = await scratch();
  const host = await connect('gnu');
  const { remoteDir } = fresh('gnu');
  const folder = await HostFolder.open(host, { id, tree: nothing, remoteDir });
  await host.close();
  await expect(folder.fetch(['x'], home.path)).rejects.toThrow(/^[^\n]+$/);
  await folder.remove();
  folder.close();
  await expect(HostFolder.open(host, { id, tree: nothing, remoteDir })).rejects.toThrow(/^[^\n]+$/);
});
