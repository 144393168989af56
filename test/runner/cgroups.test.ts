/** What the kernel's groups of processes (cgroups) tell of memory that ran out, and what they keep together. */
import { mkdir, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { until } from '../rig/until.ts';
import { isAlive, SupervisorFolder } from './supervisors.ts';

/** The process ids that a job printed, one a line. */
const pidsIn = (text: string) => text.trim().split('\n').map(Number);

const noneAlive = async (pids: readonly number[]) =>
  until(async () => !(await Promise.all(pids.map(isAlive))).includes(true), {
    describe: () => `the end of processes ${pids.join(' ')}`,
  });

/** A group of processes that may have 8 MB together. Undefined where this account may not make one. */
async function smallMemoryGroup(): Promise<string | undefined> {
  for (const [base, file] of [
    ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
    ['/sys/fs/cgroup', 'memory.max'],
  ] as const) {
    const path = join(base, `supervisor-test-${process.pid}`);
    try {
      await stat(join(base, 'cgroup.procs'));
      await mkdir(path);
      await writeFile(join(path, file), '8000000');
      return path;
    } catch {
      await rmdir(path).catch(() => {});
    }
  }
  return undefined;
}

const memoryGroup = await smallMemoryGroup();
afterAll(async () => {
  if (memoryGroup !== undefined) await rmdir(memoryGroup);
});

/** Needs more than that group may have. */
const HUNGRY = `echo $BASHPID >${memoryGroup}/cgroup.procs; head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null`;

const oomKills = async () => /^oom_kill (\d+)$/m.exec(await readFile('/proc/vmstat', 'utf8'))?.[1];

test('a SIGKILL counts as out of memory only when the kernel has killed for that meanwhile', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const before = await oomKills();
  const killed = one.run('killed', 'kill -KILL $$');
  const { oomKills: claimed } = await one.report(killed, 'ended');
  // Another program of the machine may have run out of memory at this very moment.
  if ((await oomKills()) === before) expect(claimed).toBeUndefined();
});

test.runIf(memoryGroup !== undefined)('a job that the kernel killed for want of memory is told', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const place = one.run('hungry', HUNGRY);
  expect(await one.report(place, 'ended')).toMatchObject({ exitCode: 137, oomKills: 'on machine' });
  const coped = one.run('coped', `(${HUNGRY}); exit 1`);
  const ended = await one.report(coped, 'ended');
  expect(ended).toMatchObject({ exitCode: 1 });
  expect(ended).not.toHaveProperty('oomKills');
});

// Plain files play a scope whose groups count memory, which this kernel's may not do.
test.runIf(memoryGroup !== undefined)(
  "another's want of memory counts only where the job's own group does not tell",
  async () => {
    await using folder = await SupervisorFolder.make();
    const root = join(folder.path, 'cgroups');
    const bin = join(folder.path, 'bin');
    await mkdir(bin);
    await writeFile(join(folder.path, 'me'), '');
    await writeFile(
      join(bin, 'systemd-run'),
      `#!/bin/sh
while [ "\${1#-}" != "$1" ]; do shift; done
mkdir -p ${root}$(sed -n 's/^0:://p' /proc/self/cgroup) && exec "$@"
`,
      { mode: 0o755 },
    );
    const one = await folder.open({
      PATH: `${bin}:${process.env.PATH}`,
      LINGER_FOLDER: folder.path,
      CGROUP_ROOT: root,
      USER: 'me',
    });
    const tells = (count: number) =>
      `printf 'oom 0\noom_kill ${count}\n' >"$(cat ../cgroup)/memory.events"\n`;
    const untold = one.run('untold', HUNGRY);
    expect(await one.report(untold, 'ended')).toMatchObject({ exitCode: 137, oomKills: 'on machine' });
    const spared = one.run('spared', `${tells(0)}${HUNGRY}`);
    const ended = await one.report(spared, 'ended');
    expect(ended).toMatchObject({ exitCode: 137 });
    expect(ended).not.toHaveProperty('oomKills');
    const hit = one.run('hit', `${tells(1)}exit 1`);
    expect(await one.report(hit, 'ended')).toMatchObject({ exitCode: 1, oomKills: 'in job' });
  },
);

/** A folder of the kernel's second cgroup version where groups can be made; undefined where this account may not. */
async function cgroupFolder(): Promise<string | undefined> {
  for (const root of ['/sys/fs/cgroup/unified', '/sys/fs/cgroup']) {
    const path = join(root, `supervisor-test-${process.pid}`);
    try {
      await stat(join(root, 'cgroup.procs'));
      await mkdir(path);
      return path;
    } catch {
      // The other place may do.
    }
  }
  return undefined;
}

const cgroups = await cgroupFolder();
afterAll(async () => {
  if (cgroups === undefined) return;
  const left = async () =>
    (await readdir(cgroups, { withFileTypes: true })).filter((one) => one.isDirectory());
  // A group can be removed a moment after its last process.
  await until(
    async () => {
      for (const { name } of await left()) {
        await rmdir(join(cgroups, name, 'supervisor')).catch(() => {});
        await rmdir(join(cgroups, name)).catch(() => {});
      }
      return (await left()).length === 0;
    },
    { deadlineMs: 15_000, describe: left },
  );
  await rmdir(cgroups);
});

// A user's systemd cannot run here: its place takes a program that makes a group and starts the command in it.
test.runIf(cgroups !== undefined)(
  'in a scope, not even a job that wipes its environment leaves anything',
  async () => {
    await using folder = await SupervisorFolder.make();
    const bin = join(folder.path, 'bin');
    await mkdir(bin);
    await mkdir(join(folder.path, 'linger'));
    await writeFile(join(folder.path, 'linger', 'me'), '');
    await writeFile(
      join(bin, 'systemd-run'),
      `#!/bin/sh
echo "$*" >>${folder.path}/scopes
while [ "\${1#-}" != "$1" ]; do shift; done
mkdir ${cgroups}/$$ && echo $$ >${cgroups}/$$/cgroup.procs && exec "$@"
`,
      { mode: 0o755 },
    );
    const env = {
      PATH: `${bin}:${process.env.PATH}`,
      LINGER_FOLDER: join(folder.path, 'linger'),
      CGROUP_ROOT: cgroups?.replace(/\/supervisor-test.*/, '') ?? '',
      USER: 'me',
    };
    const one = await folder.open(env);
    const getAway =
      'env -i setsid -f sh -c "echo \\$\\$; exec sleep 4701"; until [ -s ../out ]; do sleep 0.02; done';
    const over = one.run('over', `${getAway}; env | grep -c SCOPE; exit 3`);
    const ended = await one.report(over, 'ended');
    expect(ended).toMatchObject({ exitCode: 3, leftBehind: 1 });
    expect((await folder.read(over)).split('\n')[1]).toBe('0');
    await noneAlive(pidsIn(await folder.read(over)).slice(0, 1));

    // Another supervisor, out of any scope, ends it by what the first noted.
    const running = one.run('running', `trap '' TERM; ${getAway}; while :; do sleep 0.1; done`);
    await until(async () => (await folder.read(running)) !== '', { deadlineMs: 15_000 });
    const other = await folder.open({ USER: 'nobody-who-lingers' });
    other.supervisor.adopt(running);
    other.supervisor.cancel(running, 300);
    expect(await other.report(running, 'ended')).toMatchObject({ endedBy: 'cancel' });
    await noneAlive(pidsIn(await folder.read(running)));
    const scopes = (await readFile(join(folder.path, 'scopes'), 'utf8')).trim().split('\n');
    expect(scopes).toEqual([
      '--user --scope --quiet --property=Delegate=yes true',
      '--user --scope --quiet --property=Delegate=yes bash --norc --noprofile',
    ]);
    const groups = (await readdir(cgroups ?? '', { recursive: true })).filter((path) =>
      /\.(over|running)\.1$/.test(path),
    );
    expect(groups).toEqual([]);
  },
);
