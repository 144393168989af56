/** What a job starts ends with it, wherever it goes to; and nothing else does. On real ssh servers. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { MachineSession } from '../../src/lib/runner/machine-session.ts';
import type { AttemptPlace, AttemptReport, StartCall } from '../../src/lib/runner/supervisor.ts';
import { entry } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'lab' }]);
});
afterAll(() => hosts.close());

/** Ways to get away from a job, each a line of bash that leaves processes whose arguments hold `$MARK`. */
const ESCAPES: Record<string, string> = {
  'a session of its own': 'setsid sleep $MARK &',
  'a session of its own, forked by setsid': 'setsid -f sleep $MARK',
  'a double fork': '(setsid bash -c "(sleep $MARK &)" &)',
  'a daemon with nohup': 'cd /; nohup setsid nohup sleep $MARK >/dev/null 2>&1 &',
  'deaf to TERM': `setsid bash -c 'trap "" TERM; while :; do sleep 0.05; done' escapee $MARK &`,
  'stopped by itself': `setsid bash -c 'kill -STOP $$; sleep 1' escapee $MARK &`,
  'stopped in the session': `bash -c 'kill -STOP $$; sleep 1' escapee $MARK &`,
  'forks when it hears TERM': `setsid bash -c 'trap "setsid sleep $1 & (setsid nohup sleep $1 &)" TERM; while :; do sleep 0.05; done' escapee $MARK &`,
};

/** A session on the test host, and what it hears. */
async function open(): Promise<{
  session: MachineSession;
  report<T extends AttemptReport['type']>(
    place: AttemptPlace,
    type: T,
  ): Promise<Extract<AttemptReport, { type: T }>>;
  start(folder: string, script: string, more?: Partial<StartCall>): AttemptPlace;
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const heard: { place: AttemptPlace; report: AttemptReport }[] = [];
  const host = await connectSsh(entry('lab'), {
    configFile: hosts.sshConfigPath,
    env: { ...process.env, SSH_AUTH_SOCK: '' },
  });
  const session = await MachineSession.open(host, {
    machineKey: 'key',
    batch: '0123456789ab',
    loginEnvironment: false,
    onReport: (place, report) => heard.push({ place, report }),
    onWarning: () => {},
  });
  return {
    session,
    report: (place, type) =>
      until(
        () => {
          const fits = (one: AttemptPlace) => one.folder === place.folder && one.number === place.number;
          const report = heard.find((one) => fits(one.place) && one.report.type === type)?.report;
          return report as Extract<AttemptReport, { type: typeof type }> | undefined; // of that type, as just asked
        },
        { deadlineMs: 30_000, describe: () => ({ place, type, heard }) },
      ),
    start(folder, script, more = {}) {
      const place = { folder, number: 1 };
      session.supervisor.start(place, {
        parts: [],
        isSmallTree: false,
        links: [],
        env: {},
        request: { job: folder, command: script },
        script,
        back: 'none',
        killGraceMs: 500,
        ...more,
      });
      return place;
    },
    async [Symbol.asyncDispose]() {
      await session.close();
      await host.close();
    },
  };
}

/** The host's processes that have the mark among their arguments. */
const marked = async (mark: string) =>
  (await hosts.get('lab').processes()).filter(({ commandLine }) => commandLine.split(/\s/).includes(mark));

const escapes = Object.values(ESCAPES)
  .map((line) => `( ${line} )`)
  .join('\n');
const COUNT = Object.keys(ESCAPES).length;
const isReady = (mark: string) =>
  until(async () => (await marked(mark)).length >= COUNT, {
    deadlineMs: 20_000,
    describe: async () => ({ marked: await marked(mark) }),
  });

describe.concurrent('none of what a job started is left', { timeout: 120_000 }, () => {
  let marks = 7_000_000;
  const job = (end: string) => {
    const mark = String(++marks);
    return { mark, script: `export MARK=${mark}\n${escapes}\n${end.replaceAll('MARK', mark)}` };
  };

  test('after a cancel', async () => {
    await using lab = await open();
    const { mark, script } = job('exec sleep MARK');
    const place = lab.start('cancelled', script);
    await isReady(mark);
    lab.session.supervisor.cancel(place, 500);
    expect(await lab.report(place, 'ended')).toMatchObject({ endedBy: 'cancel' });
    expect(await marked(mark)).toEqual([]);
  });

  test('after a time limit', async () => {
    await using lab = await open();
    const { mark, script } = job('exec sleep MARK');
    const place = lab.start('timed-out', script, { timeoutMs: 5000 });
    await isReady(mark);
    expect(await lab.report(place, 'ended')).toMatchObject({ endedBy: 'timeout' });
    expect(await marked(mark)).toEqual([]);
  });

  test('after it was expired', async () => {
    await using lab = await open();
    const { mark, script } = job('exec sleep MARK');
    const place = lab.start('expired', script);
    await isReady(mark);
    lab.session.supervisor.expire(place, 500);
    expect(await lab.report(place, 'ended')).toMatchObject({ endedBy: 'timeout' });
    expect(await marked(mark)).toEqual([]);
  });

  test('after its own end', async () => {
    await using lab = await open();
    const { mark, script } = job('until [ -e go ]; do sleep 0.02; done; exit 4');
    const place = lab.start('over', script);
    await isReady(mark);
    await hosts.get('lab').exec(`touch ${lab.session.folders.runs}/over/1/work/go`);
    const ended = await lab.report(place, 'ended');
    expect(ended.exitCode).toBe(4);
    expect(ended.leftBehind).toBeGreaterThanOrEqual(COUNT);
    expect(await marked(mark)).toEqual([]);
  });

  test('after an end right behind the escape', async () => {
    await using lab = await open();
    const mark = String(++marks);
    const places = Array.from({ length: 60 }, (_, i) =>
      lab.start(`at-once${i}`, i % 2 === 0 ? `setsid -f sleep ${mark}` : `setsid sleep ${mark} & exit`),
    );
    for (const place of places) await lab.report(place, 'ended');
    expect(await marked(mark)).toEqual([]);
  });

  test('after the machine was told again, by the next controller', async () => {
    const { mark, script } = job('exec sleep MARK');
    const place = { folder: 'handed-over', number: 1 };
    {
      await using first = await open();
      first.start(place.folder, script);
      await isReady(mark);
    }
    await using second = await open();
    second.session.supervisor.adopt(place);
    second.session.supervisor.cancel(place, 500);
    expect(await second.report(place, 'ended')).toMatchObject({ endedBy: 'cancel' });
    expect(await marked(mark)).toEqual([]);
  });
});

test('other processes of the same user are left alone, also under the id of one of ours', {
  timeout: 120_000,
}, async () => {
  await using lab = await open();
  const mark = '8000001';
  const channel = await lab.session.host.open(`exec sleep ${mark}`);
  channel.stdout.resume();
  channel.stderr.resume();
  const [bystander] = await until(async () => {
    const found = await marked(mark);
    return found.length === 1 && found;
  });
  const pid = bystander?.pid ?? 0;
  const home = hosts.get('lab');
  const start = (await home.exec(`cat /proc/${pid}/stat`)).stdout.split(' ')[21] ?? '';
  expect(start).toMatch(/^\d+$/);
  const { runs } = lab.session.folders;
  const place = { folder: 'recycled', number: 1 };
  // An attempt whose process had that id, and started a moment earlier.
  const record = `${pid} ${Number(start) - 1}`;
  await home.exec(
    `mkdir -p ${runs}/recycled/1/started && cd ${runs}/recycled/1 && echo "${record}" >pid && echo "${record}" >wrapper`,
  );
  for (const act of ['cancel', 'expire'] as const) lab.session.supervisor[act](place, 0);
  lab.session.supervisor.adopt(place);
  expect(await lab.report(place, 'lost')).toEqual({ type: 'lost', because: 'wrapper gone' });
  // A whole other attempt that is cancelled, with escapees and KILL.
  const other = lab.start('other', `export MARK=8000002\n${escapes}\nexec sleep 8000002`);
  await isReady('8000002');
  lab.session.supervisor.cancel(other, 0);
  await lab.report(other, 'ended');
  expect((await marked(mark)).map((one) => one.pid)).toEqual([pid]);
  await home.exec(`kill ${pid}`);
  await channel.ended;
});

test('an attempt is lost at once when its machine was powered off and on', async () => {
  if (!hosts.capabilities.powerOff) {
    process.stderr.write('Not tested: hosts that are no machines of their own cannot be powered off.\n');
    return;
  }
  const host = hosts.get('lab');
  const place = { folder: 'powered-off', number: 1 };
  const over = { folder: 'over-before', number: 1 };
  {
    await using first = await open();
    first.start(over.folder, 'exit 7');
    await first.report(over, 'ended');
    first.start(place.folder, 'exec sleep 9000001');
    await first.report(place, 'started');
    await host.exec(
      `until [ -e ${first.session.folders.runs}/over-before/1/exit ]; do sleep 0.02; done; sync`,
    );
    await host.powerOff();
  }
  await host.boot();
  await using second = await open();
  for (const one of [place, over]) second.session.supervisor.adopt(one);
  expect(await second.report(place, 'lost')).toEqual({ type: 'lost', because: 'rebooted' });
  expect(await second.report(over, 'ended')).toMatchObject({ exitCode: 7 });
});
