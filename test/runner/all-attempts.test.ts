/** What lies on a machine of all batches, and the end of what nobody follows any more. On a real ssh server. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { endAttempts, listAllAttempts } from '../../src/lib/runner/all-attempts.ts';
import { removeAttempts } from '../../src/lib/runner/job-folder.ts';
import { type BatchOrigin, MachineSession } from '../../src/lib/runner/machine-session.ts';
import type { AttemptReport } from '../../src/lib/runner/supervisor.ts';
import { entry } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'lab' }]);
});
afterAll(() => hosts.close());

const CONTROLLED = 'aaaaaaaaaaaa';
const ORPHANED = 'bbbbbbbbbbbb';
const STRANGE = 'cccccccccccc';

const connect = () =>
  connectSsh(entry('lab'), {
    configFile: hosts.sshConfigPath,
    env: { ...process.env, SSH_AUTH_SOCK: '' },
  });

/** A batch's session, and what it heard of each job. */
async function open(host: RemoteHost, batch: string, origin?: BatchOrigin) {
  const heard = new Map<string, AttemptReport[]>();
  const session = await MachineSession.open(host, {
    machineKey: 'key',
    batch,
    ...(origin !== undefined && { origin }),
    loginEnvironment: false,
    onReport: ({ folder }, report) => heard.set(folder, [...(heard.get(folder) ?? []), report]),
    onWarning: () => {},
  });
  const start = async (folder: string, script: string, wanted: AttemptReport['type'], job = folder) => {
    session.supervisor.start(
      { folder, number: 1 },
      {
        parts: [],
        isSmallTree: false,
        links: [],
        env: {},
        request: { job, command: script },
        script,
        back: 'none',
        killGraceMs: 500,
      },
    );
    await until(() => heard.get(folder)?.some(({ type }) => type === wanted), {
      deadlineMs: 15_000,
      describe: () => ({ folder, wanted, heard: [...heard] }),
    });
  };
  return { session, start };
}

const survivors = async (mark: string) =>
  (await hosts.get('lab').processes()).filter(({ commandLine }) => commandLine.split(/\s/).includes(mark));

test('all attempts are listed with their batch, and those of one batch can be ended', {
  timeout: 120_000,
}, async () => {
  const lab = hosts.get('lab');
  await using host = await connect();
  const origin = (file: string) => ({ host: 'lap"top', folder: "/home/o'neil/ünder\nway", file });
  const controlled = await open(host, CONTROLLED, origin('a.txt'));
  await controlled.start('runs-on', 'exec sleep 5501', 'started');
  await controlled.start('over', 'exit 3', 'ended');
  const orphaned = await open(host, ORPHANED, origin('b.txt'));
  await orphaned.start('left%20alone', 'setsid sleep 5502 & exec sleep 5502', 'started', 'left alone');
  await orphaned.start('killed', 'exec sleep 5503', 'started');
  const { base, runs } = orphaned.session.folders;
  await lab.exec(
    `cd ${runs} && for f in wrapper pid; do kill -9 $(cut -d' ' -f1 killed/1/$f); done
mkdir -p never/1 ../${STRANGE}/odd/2/started ../no-batch/x/1
echo '{"job":"never","command":"echo not yet"}' >never/1/request
echo '{"host":"only"}' >../${STRANGE}/.origin
echo '4194399 1 -' >../${STRANGE}/.controller
echo 'no JSON' >../${STRANGE}/odd/2/request`,
  );
  await orphaned.session.close();

  await using shell = await RequestShell.open(host);
  const look = async () => {
    const found = await listAllAttempts(shell, base, 'key');
    return new Map(found.map((one) => [`${one.batch}/${one.place.folder}/${one.place.number}`, one]));
  };
  // The supervisor of a session that was closed needs a moment to end.
  const all = await until(
    async () => {
      const found = await look();
      return found.get(`${ORPHANED}/killed/1`)?.isControlled === false && found;
    },
    { deadlineMs: 15_000 },
  );
  const ago: unknown = expect.any(Number);
  const first = { batch: CONTROLLED, origin: origin('a.txt'), isControlled: true };
  const second = { batch: ORPHANED, origin: origin('b.txt'), isControlled: false };
  const third = { batch: STRANGE, origin: undefined, isControlled: false };
  const one = (folder: string, job: string, command: string, state: string, startedAgoMs: unknown) => ({
    place: { folder, number: folder === 'odd' ? 2 : 1 },
    job,
    command,
    state,
    startedAgoMs,
  });
  expect([...all.values()].sort((a, b) => (a.batch + a.job < b.batch + b.job ? -1 : 1))).toEqual([
    { ...first, ...one('over', 'over', 'exit 3', 'ended', ago) },
    { ...first, ...one('runs-on', 'runs-on', 'exec sleep 5501', 'running', ago) },
    { ...second, ...one('killed', 'killed', 'exec sleep 5503', 'gone', ago) },
    {
      ...second,
      ...one('left%20alone', 'left alone', 'setsid sleep 5502 & exec sleep 5502', 'running', ago),
    },
    { ...second, ...one('never', 'never', 'echo not yet', 'unstarted', undefined) },
    { ...third, ...one('odd', 'odd', '', 'running', undefined) },
  ]);
  for (const { startedAgoMs = 0 } of all.values()) {
    expect(startedAgoMs).toBeGreaterThanOrEqual(0);
    expect(startedAgoMs).toBeLessThan(600_000);
  }
  // A look changes nothing: it did not keep the one from starting.
  expect((await lab.exec(`test -e ${runs}/never/1/started`)).exitCode).toBe(1);

  expect(await survivors('5502')).toHaveLength(2);
  const ended = [...all.values()].filter(({ batch }) => batch !== CONTROLLED);
  await endAttempts(host, { machineKey: 'key' }, ended, 500);
  expect(await survivors('5502')).toEqual([]);
  expect(await survivors('5501')).toHaveLength(1);
  expect([...(await look()).keys()].sort()).toEqual([`${CONTROLLED}/over/1`, `${CONTROLLED}/runs-on/1`]);
  expect((await lab.exec(`ls -A ${base}/runs/key`)).stdout.trim().split('\n')).toEqual([
    CONTROLLED,
    'no-batch',
  ]);
  // Whoever ends another's jobs does not pass for their controller, nor do those look abandoned.
  expect((await look()).get(`${CONTROLLED}/over/1`)?.isControlled).toBe(true);

  // The notes go with the batch's folder, when no attempt is left in it.
  const notes = async () =>
    (await lab.exec(`cd ${base}/runs/key/${CONTROLLED} && ls -A`)).stdout.trim().split('\n');
  await controlled.session.removeBatchFolder();
  expect(await notes()).toEqual(['.controller', '.origin', 'over', 'runs-on']);
  await endAttempts(host, { machineKey: 'key' }, [...(await look()).values()].slice(0, 1), 500);
  expect(await notes()).toEqual(['.controller', '.origin', 'runs-on']);
  // An end that is asked for too late must not make its folder anew: the batch's could never go then.
  controlled.session.supervisor.cancel({ folder: 'over', number: 1 }, 0);
  controlled.session.supervisor.cancel({ folder: 'runs-on', number: 1 }, 0);
  await until(async () => (await look()).get(`${CONTROLLED}/runs-on/1`)?.state === 'cancelled', {
    deadlineMs: 15_000,
  });
  await shell.run(removeAttempts(controlled.session.folders.runs, [{ folder: 'runs-on', number: 1 }]));
  await controlled.session.removeBatchFolder();
  expect((await lab.exec(`ls -A ${base}/runs/key`)).stdout.trim()).toBe('no-batch');
  await controlled.session.close();
});

test('a batch comes from where it was controlled last', async () => {
  await using host = await connect();
  const batch = 'dddddddddddd';
  const first = { host: 'laptop', folder: '/home/ben/before', file: '/home/ben/before/a.txt' };
  const moved = { ...first, machineId: '0123456789abcdef', folder: '/home/ben/after' };
  await using shell = await RequestShell.open(host);
  for (const origin of [first, moved, undefined]) {
    const one = await open(host, batch, origin);
    if (origin === first) await one.start('over', 'true', 'ended');
    const { base } = one.session.folders;
    const [found] = (await listAllAttempts(shell, base, 'key')).filter((each) => each.batch === batch);
    expect(found?.origin).toEqual(origin ?? moved); // a session that is no controller's leaves it
    await one.session.close();
  }
});

test('a machine that has nothing of ours lists nothing', async () => {
  await using host = await connect();
  await using shell = await RequestShell.open(host);
  expect(await listAllAttempts(shell, '/nowhere', 'key')).toEqual([]);
});
