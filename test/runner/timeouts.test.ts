/** Time limits, which the machine keeps by itself, and ends that somebody asks for. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { until } from '../rig/until.ts';
import { isAlive, parentOf, SupervisorFolder } from './supervisors.ts';

const gone = (pid: number) =>
  until(async () => !(await isAlive(pid)), { deadlineMs: 15_000, describe: `the end of process ${pid}` });

/** A process that a job printed, or its wrapper. */
const pidIn = (text: string) => Number(text.split(/\s/)[0]);

test('a time limit ends a job with all that it started, also when no controller is there', async () => {
  await using folder = await SupervisorFolder.make();
  const first = await folder.open();
  const place = first.run('slow', 'sleep 4601 & echo $!; setsid sleep 4601 & echo $!; wait', {
    timeoutMs: 1200,
  });
  await first.report(place, 'started');
  const supervisor = await parentOf(pidIn(await folder.read(place, 'wrapper')));
  process.kill(supervisor, 'SIGKILL');
  await first.supervisor.ended;
  await until(() => existsSync(folder.file(place, 'exit')), { deadlineMs: 15_000 });
  const pids = (await folder.read(place)).trim().split('\n').map(Number);
  expect(pids).toHaveLength(2);
  for (const pid of pids) expect(await isAlive(pid)).toBe(false);
  const second = await folder.open();
  second.supervisor.adopt(place);
  expect(await second.report(place, 'ended')).toMatchObject({
    exitCode: 143,
    endedBy: 'timeout',
    leftBehind: 0,
  });
});

test('what ignores TERM is killed after the grace', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const place = one.run('deaf', "trap '' TERM; echo $$; while :; do sleep 0.1; done", {
    timeoutMs: 300,
    killGraceMs: 400,
  });
  expect(await one.report(place, 'ended')).toMatchObject({ exitCode: 137, endedBy: 'timeout' });
  expect(await isAlive(pidIn(await folder.read(place)))).toBe(false);
});

test('what a job started has all of the grace, and hears one TERM', async () => {
  await using folder = await SupervisorFolder.make();
  // What is left behind otherwise would have a tenth of a second.
  const one = await folder.open({ GRACE_TENTHS: '1' });
  const tidies =
    'trap "echo heard >>heard" TERM; echo ready; until [ -e heard ]; do sleep 0.02; done; sleep 1.5; echo tidy >tidy';
  const call = { killGraceMs: 60_000 };
  const timed = one.run('timed', `bash -c '${tidies}' & wait`, { ...call, timeoutMs: 1000 });
  const cancelled = one.run('cancelled', `bash -c '${tidies}' & wait`, call);
  const expired = one.run('expired', `bash -c '${tidies}' & wait`, call);
  for (const place of [timed, cancelled, expired]) {
    await until(async () => (await folder.read(place)) === 'ready\n', { deadlineMs: 15_000 });
  }
  one.supervisor.cancel(cancelled, 60_000);
  one.supervisor.expire(expired, 60_000);
  for (const [place, endedBy] of [
    [timed, 'timeout'],
    [cancelled, 'cancel'],
    [expired, 'timeout'],
  ] as const) {
    expect(await one.report(place, 'ended')).toMatchObject({ exitCode: 143, endedBy, leftBehind: 0 });
    expect(await folder.read(place, 'work/heard')).toBe('heard\n');
    expect(await folder.read(place, 'work/tidy')).toBe('tidy\n');
  }
});

test('whoever asks again sends no second TERM, and may shorten the grace', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const deaf = one.run(
    'deaf-but-told',
    `trap 'echo heard >>heard' TERM; echo ready; while :; do sleep 0.02; done`,
  );
  await until(async () => (await folder.read(deaf)) === 'ready\n', { deadlineMs: 15_000 });
  one.supervisor.expire(deaf, 60_000);
  await until(() => existsSync(folder.file(deaf, 'work/heard')), { deadlineMs: 15_000 });
  const [, termAt] = (await folder.read(deaf, 'timed-out')).split(' ');
  one.supervisor.expire(deaf, 60_000);
  one.supervisor.cancel(deaf, 60_000);
  const note = await until(() => folder.read(deaf, 'cancelled'), { deadlineMs: 15_000 });
  expect(note.split(' ')).toEqual(['600', termAt]);
  one.supervisor.cancel(deaf, 1000);
  expect(await one.report(deaf, 'ended')).toMatchObject({ exitCode: 137, endedBy: 'timeout' });
  expect(await folder.read(deaf, 'work/heard')).toBe('heard\n');
});

test('the grace is a time, also where each look at the processes takes long', async () => {
  await using folder = await SupervisorFolder.make();
  const bin = join(folder.path, 'bin');
  await mkdir(bin);
  const grep = process.env.PATH?.split(':')
    .map((each) => join(each, 'grep'))
    .find((each) => existsSync(each));
  await writeFile(join(bin, 'grep'), `#!/bin/sh\nsleep 1\nexec ${grep} "$@"\n`, { mode: 0o755 });
  const one = await folder.open({ PATH: `${bin}:${process.env.PATH}` });
  // A name of its own: what the tests before end by its mark may still be looked for.
  const place = one.run('deaf-for-long', "trap '' TERM; echo ready; while :; do sleep 0.1; done");
  await until(async () => (await folder.read(place)) === 'ready\n', { deadlineMs: 15_000 });
  // By counting looks of a tenth of a second it would take forty seconds.
  one.supervisor.cancel(place, 4000);
  const ended = () => one.heard.find(({ report }) => report.type === 'ended');
  const { report } = await until(ended, { deadlineMs: 30_000, describe: () => one.heard });
  expect(report).toMatchObject({ exitCode: 137, endedBy: 'cancel' });
}, 60_000);

test('a job within its limit ends as without one, and its timer with it', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const gate = join(folder.path, 'gate');
  const place = one.run('quick', `until [ -e ${gate} ]; do sleep 0.02; done; exit 3`, { timeoutMs: 1e9 });
  await one.report(place, 'started');
  const wrapper = pidIn(await folder.read(place, 'wrapper'));
  const beside = (await children(wrapper)).filter((pid) => pid !== wrapper);
  expect(beside).toHaveLength(2); // the command and the timer
  await writeFile(gate, '');
  const ended = await one.report(place, 'ended');
  expect(ended).toMatchObject({ exitCode: 3, leftBehind: 0 });
  expect(ended).not.toHaveProperty('endedBy');
  for (const pid of [wrapper, ...beside]) await gone(pid);
  expect(existsSync(folder.file(place, 'timed-out'))).toBe(false);
});

test('without a limit nothing stands beside the command', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const place = one.run('plain', 'sleep 4602');
  await one.report(place, 'started');
  expect(await children(pidIn(await folder.read(place, 'wrapper')))).toHaveLength(1);
  one.supervisor.cancel(place, 100);
  expect(await one.report(place, 'ended')).toMatchObject({ endedBy: 'cancel' });
});

test('a job whose wrapper was killed is ended, and its timer with it', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const place = one.run('orphan', 'echo $$; exec sleep 4603', { timeoutMs: 1e9 });
  await until(async () => (await folder.read(place)) !== '');
  const wrapper = pidIn(await folder.read(place, 'wrapper'));
  const beside = await children(wrapper);
  process.kill(wrapper, 'SIGKILL');
  for (const pid of beside) await gone(pid);
});

test('an attempt that does not run is not expired', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const over = one.run('over', 'exit 5');
  await one.report(over, 'ended');
  const never = { folder: 'never', number: 1 };
  one.supervisor.expire(over, 100);
  one.supervisor.expire(never, 100);
  const asked = one.run('asked', "trap '' TERM; echo ready; while :; do sleep 0.1; done");
  await until(async () => (await folder.read(asked)) === 'ready\n');
  one.supervisor.cancel(asked, 1500);
  await until(() => existsSync(folder.file(asked, 'cancelled')));
  one.supervisor.expire(asked, 0);
  expect(await one.report(asked, 'ended')).toMatchObject({ exitCode: 137, endedBy: 'cancel' });
  // By now the two calls before were carried out as well.
  for (const place of [over, never, asked]) expect(existsSync(folder.file(place, 'timed-out'))).toBe(false);
  expect(existsSync(folder.file(never, '.'))).toBe(false);
  const second = await folder.open();
  second.supervisor.adopt(over);
  const ended = await second.report(over, 'ended');
  expect(ended).toMatchObject({ exitCode: 5 });
  expect(ended).not.toHaveProperty('endedBy');
});

/** The processes that a process has started and that are there. */
async function children(parent: number): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = await Promise.all(pids.map((pid) => parentOf(pid)));
  return pids.filter((_, i) => parents[i] === parent);
}

test('reports say how long ago, on the clock of the machine', async () => {
  await using folder = await SupervisorFolder.make();
  const first = await folder.open();
  const over = first.run('over', 'true');
  const running = first.run('running', 'exec sleep 4604');
  expect(await first.report(over, 'ended')).toMatchObject({ agoMs: 0 });
  expect(await first.report(running, 'started')).toEqual({ type: 'started', agoMs: 0 });
  // As if both had happened an hour earlier.
  const record = (await until(() => readFile(folder.file(over, 'exit'), 'utf8'))).split(' ');
  record[5] = String(Number(record[5]) - 3600);
  await writeFile(folder.file(over, 'exit'), record.join(' '));
  const [pid, start, boot, began] = (await folder.read(running, 'pid')).trim().split(' ');
  await writeFile(folder.file(running, 'pid'), `${pid} ${start} ${boot} ${Number(began) - 3600}\n`);
  const second = await folder.open();
  for (const place of [over, running]) second.supervisor.adopt(place);
  const ago = [(await second.report(over, 'ended')).agoMs, (await second.report(running, 'started')).agoMs];
  for (const ms of ago) {
    expect(ms).toBeGreaterThanOrEqual(3_600_000);
    expect(ms).toBeLessThan(3_700_000);
  }
  second.supervisor.cancel(running, 0);
  await second.report(running, 'ended');
});
