/** One command on many real hosts: alike, different, slow, unreachable, of another key, noisy, with busybox alone. */
import { randomBytes } from 'node:crypto';
import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { type ExecuteToOptions, executeTo, type FanoutRun } from '../../src/lib/fanout/execute-to.ts';
import type { HostOutcome, HostResult } from '../../src/lib/fanout/host-result.ts';
import type { MachineConfig } from '../../src/lib/machine/config.ts';
import type { MachineEntry } from '../../src/lib/machine/find-machines.ts';
import { scratch } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

const ALIKE = ['a1', 'a2', 'a3'];
const NOISE =
  'echo "hello from bashrc"; echo "and errors" >&2; printf "no newline"; test -z "$PS1" && echo more';
let hosts: TestHosts;
let isBashless = false;
let refusing: { readonly port: number; close(): void };

beforeAll(async () => {
  await using probe = await TestHosts.start([]);
  const hasBusybox = probe.capabilities.busyboxOnly;
  hosts = await TestHosts.start([
    ...ALIKE.map((name) => ({ name })),
    { name: 'noisy', bashrc: `${NOISE}\n` },
    { name: 'tiny', loginShell: '/bin/sh', ...(hasBusybox && { busyboxOnly: true }) },
    { name: 'shless', loginShell: '/bin/false' },
    { name: 'hangs', loginShell: 'hang', tools: { hang: '#!/bin/sh\necho "wait for it"\nexec sleep 600\n' } },
    { name: 'endless', loginShell: 'endless', tools: { endless: '#!/bin/sh\nexec yes\n' } },
    { name: 'late', bashrc: 'sleep 1.2\n' },
    { name: 'single', sshd: ['MaxSessions 1'] },
    { name: 'changed' },
  ]);
  await hosts.get('changed').changeHostKey();
  // Busybox's sh and no other.
  if (hasBusybox) await hosts.get('tiny').exec('rm /usr/local/busybox/bash', { asRoot: true });
  isBashless = hasBusybox;
  refusing = await portOfNobody();
});
afterAll(async () => {
  refusing.close();
  await hosts.close();
});

/** A port that refuses: it was given out and closed again. */
async function portOfNobody(): Promise<{ readonly port: number; close(): void }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { port: address.port, close: () => {} };
}

function entry(name: string, more: Partial<MachineConfig> = {}): MachineEntry {
  const source = { type: 'destination', destination: name, searched: [] } as const;
  return {
    kind: 'ssh',
    config: { name: machineName(name), host: name, env: {}, startSpacingMs: 0, source, ...more },
  };
}

const nobody = (name: string) => entry(name, { host: '127.0.0.1', port: refusing.port, username: 'x' });

function start(
  machines: readonly (string | MachineEntry)[],
  command: string,
  options: ExecuteToOptions = {},
): FanoutRun {
  const entries = machines.map((one) => (typeof one === 'string' ? entry(one) : one));
  return executeTo(entries, command, { ssh: { configFile: hosts.sshConfigPath }, ...options });
}

async function run(...args: Parameters<typeof start>): Promise<readonly HostResult[]> {
  return await start(...args).results;
}

async function runOne(...[machines, command, options]: Parameters<typeof start>): Promise<HostResult> {
  const [result, second] = await run(machines, command, options);
  if (result === undefined || second !== undefined) throw new Error('expected one result');
  return result;
}

const EXITED_0: HostOutcome = { type: 'exited', exitCode: 0 };
const outText = ({ stdout }: HostResult) => stdout.toString();

test('every machine answers for itself, in the order given, and only with what the command printed', async () => {
  const results = await run([...ALIKE, 'noisy', 'tiny'], 'echo "$MACHINE_NAME"; echo oops >&2; printf end');
  expect(results.map(({ machine, outcome }) => [machine, outcome])).toEqual(
    [...ALIKE, 'noisy', 'tiny'].map((name) => [name, EXITED_0]),
  );
  for (const result of results) {
    expect(outText(result)).toBe(`${result.machine}\nend`);
    expect(result.stderr.toString()).toBe('oops\n');
    expect(result.printedBytes).toEqual({ out: result.stdout.length, err: 5 });
    expect(result.endedAt).toBeGreaterThanOrEqual(result.startedAt ?? Number.POSITIVE_INFINITY);
  }
});

test('a command reaches the shell as it stands, whatever is in it', async () => {
  const command = `echo 'single "double"' "back\\slash \\$HOME" '!!' \`echo tick\` # a comment
cat <<'EOF'
$not \`expanded\`
EOF
printf '%s|%s\\n' "a  b" 'é 世界 🚀'; exit 7`;
  const results = await run(['a1', 'noisy', 'tiny'], command);
  const expected = `single "double" back\\slash $HOME !! tick\n$not \`expanded\`\na  b|é 世界 🚀\n`;
  for (const result of results) {
    expect(outText(result)).toBe(expected);
    expect(result.outcome).toEqual({ type: 'exited', exitCode: 7 });
  }
});

test('binary output comes byte for byte, and a result holds no more than it is asked to', async () => {
  const bytes = `i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %o $i)"; i=$((i+1)); done`;
  const result = await runOne(['a1'], bytes);
  expect([...result.stdout]).toEqual(Array.from({ length: 256 }, (_, i) => i));
  const cut = await runOne(['a1'], 'head -c 100000 /dev/zero', { keepBytes: 1000 });
  expect(cut.stdout.length).toBe(1000);
  expect(cut.printedBytes.out).toBe(100_000);
});

test('signals, setup and env of the machine file, the shell and the folder of the command', async () => {
  const config = { env: { WORD: "it's\ntwo lines" }, setup: 'SET=up' };
  const result = await runOne(
    [entry('a1', config)],
    'echo "$SET $WORD"; pwd; [[ -n $BASH_VERSION ]] && echo bash',
  );
  expect(outText(result)).toBe(`up it's\ntwo lines\n${hosts.get('a1').homeOnHost}\nbash\n`);
  const killed = await runOne(['a1'], 'kill -SEGV $$');
  expect(killed.outcome).toEqual({ type: 'signalled', signal: 'SEGV' });
});

test('bash where there is one, else sh', async () => {
  const results = await run(['a1', 'tiny'], 'command -v bash >/dev/null && echo bash || echo "$0 alone"');
  expect(results.map(outText)).toEqual(['bash\n', isBashless ? '/bin/sh alone\n' : 'bash\n']);
});

test('the built-in machine needs no ssh', async () => {
  const local: MachineEntry = { ...entry('local'), kind: 'local' };
  const result = await runOne([local], 'echo here; exit 3');
  expect(outText(result)).toBe('here\n');
  expect(result.outcome).toEqual({ type: 'exited', exitCode: 3 });
});

test('machines that cannot be reached are told apart, in words that are the same for all of a kind', async () => {
  const limits = { connectTimeoutMs: 3000 };
  const names = ['changed', 'shless', 'hangs', 'endless'];
  const results = await run(['a1', nobody('n1'), nobody('n2'), ...names], 'echo yes', limits);
  const [good, n1, n2, changed, shless, hangs, endless] = results.map(({ outcome }) => outcome);
  expect(good).toEqual(EXITED_0);
  expect(n1).toMatchObject({ type: 'unreachable', reason: { brief: 'connection refused' } });
  expect(n2).toEqual(n1);
  expect(changed).toMatchObject({ type: 'unreachable', reason: { brief: 'host key changed' } });
  expect(JSON.stringify(changed)).toContain('ssh-keygen -R');
  expect(shless).toMatchObject({
    type: 'unreachable',
    reason: { brief: 'no shell: the login shell ended at once (exit 1)' },
  });
  expect(hangs).toMatchObject({
    type: 'unreachable',
    reason: { brief: expect.stringContaining('no answer within 3 s') },
  });
  expect(JSON.stringify(hangs)).toContain('it said: wait for it');
  expect(endless).toMatchObject({
    type: 'unreachable',
    reason: { brief: 'no shell: the login shell prints without end' },
  });
  await until(async () =>
    (await hosts.get('endless').processes()).every((one) => !/^yes/.test(one.commandLine)),
  );
});

test('a login that is ready when nobody waits any more runs nothing', async () => {
  const late = hosts.get('late');
  const result = await runOne(['late'], 'touch ran', { connectTimeoutMs: 500 });
  expect(result.outcome.type).toBe('unreachable');
  await until(async () =>
    (await late.processes()).every(({ commandLine }) => !/sleep 1|IFS=/.test(commandLine)),
  );
  expect((await late.exec('ls ran')).exitCode).not.toBe(0);
  expect((await runOne(['late'], 'touch ran')).outcome).toEqual(EXITED_0);
  expect((await late.exec('ls ran')).exitCode).toBe(0);
});

test('a machine that falls silent is lost, and the others go on', async () => {
  const ssh = { configFile: hosts.sshConfigPath, keepaliveIntervalMs: 200 };
  const going = start(['a1', 'a2'], 'echo begun; sleep 3; echo done', { ssh });
  let begun = 0;
  going.events.on('host:output', () => {
    begun += 1;
  });
  await until(() => begun >= 2);
  await hosts.get('a1').cut();
  const [lost, other] = await going.results;
  await hosts.get('a1').heal();
  expect(lost?.outcome).toMatchObject({ type: 'lost', reason: { brief: 'connection lost' } });
  expect(other?.outcome).toEqual(EXITED_0);
});

/** Sleepers of a command: in its session, in one of their own, deaf to TERM, and stopped. */
const FAMILY = (seconds: number) =>
  `sleep ${seconds} & setsid sleep ${seconds} & (trap "" TERM; while :; do sleep ${seconds}; done) & sleep ${seconds} & kill -STOP $!; echo ready; wait`;

const sleepers = async (name: string, seconds: number) =>
  (await hosts.get(name).processes()).filter(({ commandLine }) => commandLine.includes(`sleep ${seconds}`));

test.each(['a1', 'tiny', 'single'])(
  'a time limit ends the command on %s with all that it started',
  async (name) => {
    const result = await runOne([name], FAMILY(4141), { timeoutMs: 1000, killGraceMs: 300 });
    expect(result.outcome).toEqual({ type: 'timed-out', limitMs: 1000, left: 'nothing' });
    expect(outText(result)).toBe('ready\n');
    expect(await sleepers(name, 4141)).toEqual([]);
  },
);

test('a limit says what it could not end, and does not wait for a machine that is silent', async () => {
  const ssh = { configFile: hosts.sshConfigPath, keepaliveIntervalMs: 300 };
  const going = start(['a2'], 'echo ready; sleep 4242', { ssh, timeoutMs: 1500, connectTimeoutMs: 1000 });
  let isReady = false;
  going.events.on('host:output', () => {
    isReady = true;
  });
  await until(() => isReady);
  await hosts.get('a2').cut();
  const [result] = await going.results;
  await hosts.get('a2').heal();
  // Whichever is noticed first: the silence or the limit.
  expect(['lost', 'timed-out']).toContain(result?.outcome.type);
  if (result?.outcome.type === 'timed-out') expect(result.outcome.left).toHaveProperty('unknown');
  for (const { pid } of await sleepers('a2', 4242)) await hosts.get('a2').exec(`kill -KILL ${pid}`);
});

test('calling off ends what runs, what connects, and what waits for its turn', async () => {
  const going = start(['a1', 'tiny', 'hangs', 'a3'], FAMILY(4343), { fanout: 3, killGraceMs: 200 });
  const ready = new Set<string>();
  going.events.on('host:output', ({ machine }) => ready.add(machine));
  await until(() => ready.size === 2);
  await until(() => going.running.length === 3);
  expect(going.running.map(({ machine, state }) => [machine, state])).toEqual([
    ['a1', 'running'],
    ['tiny', 'running'],
    ['hangs', 'connecting'],
  ]);
  going.cancel('by the test');
  const [a1, tiny, hangs, a3] = (await going.results).map(({ outcome }) => outcome);
  expect(a1).toEqual({ type: 'cancelled', reason: 'by the test', left: 'nothing' });
  expect(tiny).toEqual(a1);
  expect(hangs).toEqual(a3);
  expect(a3).toEqual({ type: 'not-started', reason: 'by the test' });
  for (const name of ['a1', 'tiny']) expect(await sleepers(name, 4343)).toEqual([]);
});

test('fail-fast: the first failure ends the command elsewhere and starts nothing more', async () => {
  const command = 'if [ "$MACHINE_NAME" = a2 ]; then sleep 0.5; exit 4; fi; exec sleep 4444';
  const results = await run(['a1', 'a2', 'a3'], command, { failFast: true, fanout: 2, killGraceMs: 200 });
  expect(results.map(({ outcome }) => outcome)).toEqual([
    { type: 'cancelled', reason: 'a2 failed', left: 'nothing' },
    { type: 'exited', exitCode: 4 },
    { type: 'not-started', reason: 'a2 failed' },
  ]);
  expect(await sleepers('a1', 4444)).toEqual([]);
});

test('rolling batches: the next begins when the last is done and good', async () => {
  const going = start([...ALIKE, 'noisy', 'tiny'], 'sleep 0.3; [ "$MACHINE_NAME" != a3 ]', {
    batches: { count: 2 },
  });
  const spans = new Map<string, { from: number; to: number }>();
  const results = await going.results;
  for (const { machine, startedAt = 0, endedAt } of results)
    spans.set(machine, { from: startedAt, to: endedAt });
  const types = results.map(({ outcome }) => (outcome.type === 'exited' ? outcome.exitCode : outcome.type));
  expect(types).toEqual([0, 0, 1, 0, 'not-started']);
  const firstEnd = Math.max(...['a1', 'a2'].map((name) => spans.get(name)?.to ?? Number.POSITIVE_INFINITY));
  for (const name of ['a3', 'noisy']) expect(spans.get(name)?.from).toBeGreaterThanOrEqual(firstEnd);
});

test('a percentage of the machines is rounded down to whole ones, and to one at least', async () => {
  const going = start([...ALIKE], 'true', { batches: { percent: 10 } });
  let now = 0;
  let most = 0;
  going.events.subscribe(({ type, ...rest }) => {
    if (type === 'host:state' && 'state' in rest && rest.state === 'connecting') now += 1;
    if (type === 'host:ended') now -= 1;
    most = Math.max(most, now);
  });
  expect((await going.results).map(({ outcome }) => outcome)).toEqual([EXITED_0, EXITED_0, EXITED_0]);
  expect(most).toBe(1);
});

test('no more machines at once than the fanout says', async () => {
  const going = start([...ALIKE, 'noisy', 'tiny'], 'sleep 0.2', { fanout: 2 });
  let most = 0;
  going.events.subscribe(() => {
    most = Math.max(most, going.running.length);
  });
  await going.results;
  expect(most).toBe(2);
});

test('mistakes are told before a machine is contacted', async () => {
  const told: string[] = [];
  const attempt = async (...args: Parameters<typeof start>) => {
    const going = start(...args);
    going.events.subscribe(({ type }) => told.push(type));
    return await going.results.then(
      () => 'ran',
      (error: unknown) =>
        error instanceof UsageError ? error.message : `not a usage error: ${String(error)}`,
    );
  };
  expect(await attempt(['a1'], ' \n')).toBe('the command is empty');
  expect(await attempt(['a1'], 'a\0b')).toContain('NUL');
  expect(await attempt(['a1'], 'x'.repeat(130_000))).toContain('130000 bytes, expected at most');
  expect(await attempt([], 'true')).toContain('no machine');
  expect(await attempt(['a1'], 'true', { copyBackwards: ['x'] })).toContain('--job-name');
  expect(await attempt(['a1'], 'true', { jobName: 'x' })).toContain('--copy-backwards');
  expect(await attempt(['a1'], 'true', { copyForwards: ['/there/is/no/such'] })).toContain(
    '/there/is/no/such',
  );
  expect(told).toEqual([]);
});

describe('called off', () => {
  test.each(['connecting', 'running'] as const)(
    'by who hears that it is %s: it runs nowhere',
    async (state) => {
      const going = start(['a1'], 'touch ran-after-all', {});
      going.events.on('host:state', (event) => {
        if (event.state === state) going.cancel('by a listener');
      });
      const [result] = await going.results;
      expect(result?.outcome).toEqual({ type: 'not-started', reason: 'by a listener' });
      expect((await hosts.get('a1').exec('ls ran-after-all')).exitCode).not.toBe(0);
    },
  );

  test('while files go there: what was made there is cleared away', async () => {
    await using folder = await scratch();
    const file = await open(join(folder.path, 'big'), 'w');
    await file.write(randomBytes(1024), 0, 1024, 300 << 20);
    await file.close();
    const going = start(['a1', 'a2'], 'touch ran-after-all', { cwd: folder.path, copyForwards: ['big'] });
    const sending = new Set<string>();
    going.events.on('host:state', ({ machine, state }) => {
      if (state === 'sending') sending.add(machine);
    });
    const partials = async (name: string) =>
      (await hosts.get(name).exec('ls -d ~/.cache/ssh-scheduler/trees/*.partial')).stdout;
    await until(async () => sending.size === 2 && (await partials('a1')) !== '', { deadlineMs: 20_000 });
    going.cancel('by the test');
    for (const { outcome } of await going.results)
      expect(outcome).toEqual({ type: 'not-started', reason: 'by the test' });
    for (const name of ['a1', 'a2']) {
      expect(
        (await hosts.get(name).exec('ls ~/.cache/ssh-scheduler/to ~/.cache/ssh-scheduler/leases')).stdout,
      ).not.toMatch(/[0-9a-f]{12}/);
      expect((await hosts.get(name).exec('ls ran-after-all')).exitCode).not.toBe(0);
    }
  });

  test('while files come home: nothing of them is kept here', async () => {
    await using folder = await scratch();
    const command = 'truncate -s 20G big';
    const options = { cwd: folder.path, copyBackwards: ['big'], jobName: 'home' };
    const going = start(['a1'], command, options);
    const partial = async () =>
      (await readdir(join(folder.path, 'job_results/.partial'), { recursive: true }).catch(() => [])).join();
    await until(async () => (await partial()).includes('big'), { deadlineMs: 20_000 });
    going.cancel('by the test');
    const [result] = await going.results;
    expect(result?.outcome).toEqual({ type: 'cancelled', reason: 'by the test', left: 'nothing' });
    expect(await partial()).not.toContain('big');
    expect(await readdir(folder.path)).not.toContain('job_results/home');
    expect((await hosts.get('a1').exec('ls ~/.cache/ssh-scheduler/to')).stdout).toBe('');
  });
});

describe('with files', () => {
  test('a time limit that could not be kept is told, and not what became of the files', async () => {
    await using folder = await scratch();
    const ssh = { configFile: hosts.sshConfigPath, keepaliveIntervalMs: 2_000 };
    const files = { cwd: folder.path, copyBackwards: ['x'], jobName: 'home' };
    const going = start(['a3'], 'echo begun; exec sleep 4545', {
      ssh,
      timeoutMs: 1500,
      connectTimeoutMs: 1000,
      ...files,
    });
    let isBegun = false;
    going.events.on('host:output', () => {
      isBegun = true;
    });
    await until(() => isBegun);
    await hosts.get('a3').cut();
    const [result] = await going.results;
    await hosts.get('a3').heal();
    expect(result?.outcome).toMatchObject({ type: 'timed-out', left: { unknown: expect.any(String) } });
    for (const { pid } of await sleepers('a3', 4545)) await hosts.get('a3').exec(`kill -KILL ${pid}`);
  });

  test('what was written before a time limit comes home', async () => {
    await using folder = await scratch();
    const files = { cwd: folder.path, copyBackwards: ['x', 'nothing'], jobName: 'home' };
    const result = await runOne(['a1'], 'echo begun >x; exec sleep 4646', { timeoutMs: 500, ...files });
    expect(result.outcome).toEqual({ type: 'timed-out', limitMs: 500, left: 'nothing' });
    expect(await readFile(join(folder.path, 'job_results/home/a1/x'), 'utf8')).toBe('begun\n');
    expect(result.fetchedFiles).toBe(1);
  });

  test('a login that hangs is unreachable, within the time for a connection', async () => {
    await using folder = await scratch();
    await writeFile(join(folder.path, 'x'), 'x');
    const files = { cwd: folder.path, copyForwards: ['x'] };
    const began = performance.now();
    const result = await runOne(['hangs'], 'true', { connectTimeoutMs: 1000, ...files });
    expect(result.outcome).toMatchObject({
      type: 'unreachable',
      reason: { brief: expect.stringContaining('no shell: no answer within 1 s') },
    });
    expect(performance.now() - began).toBeLessThan(15_000); // its default would be 20 s
  });
});

test('no more is read than somebody takes', async () => {
  const going = start(['a1'], 'yes "a line of output" | head -c 300000000; echo end');
  let bytes = 0;
  going.events.on('host:output', ({ chunk }) => {
    bytes += chunk.length;
    going.pauseOutput();
  });
  await until(() => bytes > 0);
  const first = bytes;
  const memory = process.memoryUsage().arrayBuffers;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(bytes - first).toBeLessThan(1 << 20);
  expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(64 << 20);
  const wake = setInterval(() => going.resumeOutput(), 1);
  const [result] = await going.results;
  clearInterval(wake);
  expect(result?.outcome).toEqual(EXITED_0);
  expect(result?.printedBytes.out).toBe(300_000_004);
});

test('a command may begin with + or -, and end with anything', async () => {
  for (const machine of ['a1', 'tiny']) {
    expect((await runOne([machine], '+x; echo hi')).outcome).toEqual(EXITED_0);
    expect((await runOne([machine], '-x || echo hi')).stdout.toString()).toBe('hi\n');
    expect((await runOne([machine], 'echo hi # \\')).stdout.toString()).toBe('hi\n');
  }
});

test.each([
  { fanout: 0 },
  { batches: { count: 0 } },
  { batches: { percent: 101 } },
  { timeoutMs: Number.POSITIVE_INFINITY },
  { timeoutMs: 2 ** 31 },
  { connectTimeoutMs: 0 },
])('options that make no sense are refused: %j', async (options) => {
  await expect(start(['a1'], 'true', options).results).rejects.toThrow(UsageError);
  await expect(start(['a1'], 'true', options).results).rejects.toThrow(/expected a whole number from/);
});
