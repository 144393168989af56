import { randomBytes } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectSsh, type SshOptions } from '../../src/lib/remote/ssh-host.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { entry, runOver, scratch } from './run-over.ts';

let hosts: TestHosts;
let options: SshOptions;
let gpu: TestHost;

beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'gpu' },
    { name: 'gate' },
    { name: 'narrow', sshd: ['MaxSessions 2', 'MaxStartups 2'] },
    { name: 'shut', sshd: ['AllowTcpForwarding no'] },
    { name: 'fickle', sshd: ['RekeyLimit 1M'] },
  ]);
  options = { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } };
  gpu = hosts.get('gpu');
});
afterAll(() => hosts.close());

const connect = (name: string, more: SshOptions = {}) => connectSsh(entry(name), { ...options, ...more });

/** A configuration that knows one host as `it`, with known_hosts of its own. */
function configFor(host: TestHost, knownHosts: string, ...lines: string[]): string {
  const { address, port, user, keyPath } = host;
  const block = [
    `HostName ${address}`,
    `Port ${port}`,
    `User ${user}`,
    `IdentityFile ${keyPath}`,
    'IdentitiesOnly yes',
  ];
  block.push(`UserKnownHostsFile ${knownHosts}`, 'GlobalKnownHostsFile none', ...lines);
  return `Host it\n${block.map((line) => `  ${line}\n`).join('')}`;
}

test('runs a program with its streams apart and tells how it ended', async () => {
  await using host = await connect('gpu');
  expect(await runOver(host, 'echo out; echo err >&2; exit 7')).toEqual({
    stdout: 'out\n',
    stderr: 'err\n',
    end: { type: 'exited', exitCode: 7 },
  });
  expect((await runOver(host, 'kill -KILL $$')).end).toEqual({ type: 'signalled', signal: 'SIGKILL' });
  expect(host.traffic.sentBytes).toBeGreaterThan(1000);
  expect(host.traffic.receivedBytes).toBeGreaterThan(1000);
});

test('runs 300 programs one by one and 300 side by side without a refusal', async () => {
  await using host = await connect('gpu');
  for (let i = 0; i < 300; i++)
    expect((await runOver(host, 'true')).end).toEqual({ type: 'exited', exitCode: 0 });
  const ends = await Promise.all(Array.from({ length: 300 }, () => runOver(host, 'exec /bin/sh', 'exit 3')));
  expect(ends.every(({ end }) => end.type === 'exited' && end.exitCode === 3)).toBe(true);
});

test('small programs are not held up by Nagle\u2019s algorithm', async () => {
  await using host = await connect('gpu');
  const startedAt = performance.now();
  for (let i = 0; i < 40; i++) await runOver(host, 'true');
  expect(performance.now() - startedAt).toBeLessThan(40 * 40); // 40 ms each with it, 3 without
});

test('carries 64 MiB of any bytes both ways, and waits for a slow reader', async () => {
  await using host = await connect('gpu');
  const data = randomBytes(64 << 20);
  const channel = await host.open('exec cat');
  channel.stdin.end(data);
  channel.stderr.resume();
  const received = await buffer(channel.stdout);
  expect(received.equals(data)).toBe(true);
  expect(await channel.ended).toEqual({ type: 'exited', exitCode: 0 });

  const before = host.traffic.receivedBytes;
  const flood = await host.open('exec head -c 67108864 /dev/zero');
  expect((await runOver(host, 'echo still alive')).stdout).toBe('still alive\n');
  expect(host.traffic.receivedBytes - before).toBeLessThan(8 << 20); // window 2 MiB, and what was read ahead
  flood.stderr.resume();
  expect((await buffer(flood.stdout)).length).toBe(64 << 20);
});

test('a connection whose keys are exchanged anew again and again carries on', async () => {
  await using host = await connect('fickle');
  const data = randomBytes(16 << 20);
  const channel = await host.open('exec cat');
  channel.stdin.end(data);
  channel.stderr.resume();
  expect((await buffer(channel.stdout)).equals(data)).toBe(true);
});

test('a program that does not read its input ends all the same, and its writer is told', async () => {
  await using host = await connect('gpu');
  const channel = await host.open('exit 4');
  channel.stdout.resume();
  channel.stderr.resume();
  const source = (function* () {
    for (let i = 0; i < 64; i++) yield Buffer.alloc(1 << 20);
  })();
  await expect(pipeline(source, channel.stdin)).rejects.toThrow(
    /ended before it read|write after end|premature/i,
  );
  expect(await channel.ended).toEqual({ type: 'exited', exitCode: 4 });
});

test('further programs wait for a free channel, or for the end of the connection', async () => {
  const host = await connect('gpu', { maxChannels: 2 });
  const first = await host.open('cat');
  await host.open('cat');
  const third = host.open('echo third');
  first.close();
  const channel = await third;
  expect(await first.ended).toEqual({ type: 'unknown', reason: 'the channel was closed here' });
  channel.stderr.resume();
  expect((await buffer(channel.stdout)).toString()).toBe('third\n');
  await host.open('cat');
  const refused = expect(host.open('true')).rejects.toMatchObject({ stage: 'run', message: 'closed' });
  await host.close();
  await refused;
  expect(await host.closed).toBe('closed');
});

test('giving a channel up leaves its program running', async () => {
  await using host = await connect('gpu');
  const channel = await host.open('cat >/dev/null; echo done >given-up');
  channel.close();
  expect((await channel.ended).type).toBe('unknown');
  await until(() => readFile(join(gpu.homeDir, 'given-up'), 'utf8'));
});

test('a connection that drops leaves the outcome unknown, and no uncaught error', async () => {
  const host = await connect('gpu');
  const busy = await host.open('echo begun; exec sleep 1000');
  const [begun] = (await Promise.race([onceData(busy.stdout), busy.ended])) as [Buffer];
  expect(begun.toString()).toBe('begun\n');
  busy.stderr.resume();
  const cut = await host.open('kill -KILL $PPID'); // the sshd of this connection
  cut.stdout.resume();
  cut.stderr.resume();
  expect(await busy.ended).toMatchObject({ type: 'unknown', reason: expect.stringContaining('connection') });
  expect((await cut.ended).type).toBe('unknown');
  expect(await host.closed).toContain(gpu.address);
  await expect(host.open('true')).rejects.toMatchObject({ name: 'RemoteError', stage: 'run' });
});

test('a machine that falls silent is noticed', async () => {
  await using host = await connect('gpu', { keepaliveIntervalMs: 100 });
  const busy = await host.open('echo $PPID; exec sleep 1000');
  busy.stderr.resume();
  const [server] = (await onceData(busy.stdout)) as [Buffer];
  try {
    // Idle is not silent: it answers pings for ten times as long as silence may last.
    const idleUntil = Date.now() + 3_000;
    await until(() => Date.now() > idleUntil);
    expect((await runOver(host, 'echo still here')).stdout).toBe('still here\n');
    await gpu.exec(`kill -STOP ${Number(server.toString())}`, { asRoot: true });
    expect(await host.closed).toMatch(/nothing heard from .* for 0.3 s/);
    expect((await busy.ended).type).toBe('unknown');
  } finally {
    await gpu.exec(`kill -CONT ${Number(server.toString())}`, { asRoot: true });
  }
});

test('a network that is cut is noticed, also behind a jump host', async () => {
  if (!hosts.capabilities.cutNetwork) {
    console.warn('these test hosts cannot be cut off: only the refused connection is tested');
  }
  const fickle = hosts.get('fickle');
  const direct = await connect('fickle', { keepaliveIntervalMs: 100 });
  const behind = await connectSsh(entry('fickle', { proxyJump: 'gate' }), {
    ...options,
    keepaliveIntervalMs: 100,
  });
  const channel = await behind.open('exec sleep 1000');
  channel.stdout.resume();
  channel.stderr.resume();
  if (hosts.capabilities.cutNetwork) {
    await fickle.cut();
    const waiting = behind.open('true');
    await expect(waiting).rejects.toMatchObject({
      stage: 'run',
      message: expect.stringContaining('nothing heard'),
    });
    expect(await direct.closed).toContain('nothing heard');
    expect((await channel.ended).type).toBe('unknown');
    await expect(connect('fickle', { connectTimeoutMs: 300 })).rejects.toThrow(/did not answer within 0.3 s/);
    const through = connectSsh(entry('fickle', { proxyJump: 'gate' }), { ...options, connectTimeoutMs: 300 });
    await expect(through).rejects.toThrow(/did not answer within 0.3 s/);
    await fickle.heal();
  }
  await direct.close();
  await behind.close();
  await fickle.refuse(); // where hosts stand behind a relay, that one accepts and hangs up
  await expect(connect('fickle')).rejects.toThrow(
    /connection refused by .*is sshd running there|closed the connection/,
  );
  await fickle.restartSshd();
  await (await connect('fickle')).close();
});

test('goes through a jump host, which is checked and logged in to as well', async () => {
  await using host = await connectSsh(entry('gpu', { proxyJump: 'gate' }), options);
  const { stdout } = await runOver(host, 'echo $SSH_CONNECTION');
  expect(stdout.split(' ')[0]).toBe(hosts.get('gate').address);
  expect(host.traffic.sentBytes).toBeGreaterThan(1000);
  await using twice = await connectSsh(entry('gpu', { proxyJump: 'fickle,gate' }), options);
  expect((await runOver(twice, 'exec cat', 'far away')).stdout).toBe('far away');
});

test('a jump host that leads nowhere is named', async () => {
  const shut = connectSsh(entry('gpu', { proxyJump: 'shut' }), options);
  await expect(shut).rejects.toThrow(
    new RegExp(`jump host ${hosts.get('shut').address} does not allow connections to ${gpu.address}`),
  );
  const nobody = connectSsh(entry('gpu', { proxyJump: 'gate', port: 9 }), options);
  await expect(nobody).rejects.toThrow(/port 9 from jump host .*refused/i);
});

test('sshd\u2019s limits on programs and logins are waited out', async () => {
  const all = await Promise.all(Array.from({ length: 12 }, () => connect('narrow')));
  for (const one of all.slice(1)) await one.close();
  const [host] = all;
  if (host === undefined) throw new Error('no connection');
  const runs = await Promise.all(Array.from({ length: 40 }, () => runOver(host, 'true')));
  for (const { end } of runs) expect(end).toEqual({ type: 'exited', exitCode: 0 });
  await host.close();
});

test('a limit that stays is an error that names it', async () => {
  await using host = await connect('narrow', { openRetryMs: 100 });
  await host.open('cat');
  await host.open('cat');
  await expect(host.open('true')).rejects.toThrow(/refuses to start another program .*MaxSessions/);
});

test('adds a new host key once, plain or hashed, and says so', async () => {
  await using folder = await scratch();
  for (const hash of ['no', 'yes']) {
    const knownHosts = join(folder.path, `ssh-${hash}`, 'known_hosts');
    const configFile = await folder.write('config', configFor(gpu, knownHosts, `HashKnownHosts ${hash}`));
    const messages: string[] = [];
    const onNewHostKey = (message: string) => messages.push(message);
    const all = Array.from({ length: 12 }, () =>
      connectSsh(entry('it'), { ...options, configFile, onNewHostKey }),
    );
    await Promise.all((await Promise.all(all)).map((host) => host.close()));
    expect(messages[0]).toMatch(
      /^new host key of .* port \d+: ssh-ed25519 SHA256:\S+, added to .*known_hosts$/,
    );
    expect((await readFile(knownHosts, 'utf8')).trim().split('\n')).toHaveLength(1);
    const name = gpu.port === 22 ? gpu.address : `[${gpu.address}]:${gpu.port}`;
    expect((await runCommand('ssh-keygen', ['-F', name, '-f', knownHosts])).stdout).toContain(
      'found: line 1',
    );
    messages.length = 0;
    await (
      await connectSsh(entry('it', { hostKeyChecking: 'strict' }), { ...options, configFile, onNewHostKey })
    ).close();
    expect(messages).toEqual([]);
  }
});

test('strict refuses an unknown host; no accepts it and writes nothing', async () => {
  await using folder = await scratch();
  const knownHosts = join(folder.path, 'known_hosts');
  const configFile = await folder.write('config', configFor(gpu, knownHosts));
  await expect(
    connectSsh(entry('it', { hostKeyChecking: 'strict' }), { ...options, configFile }),
  ).rejects.toMatchObject({
    stage: 'host-key',
    message: expect.stringMatching(/unknown host key of .*ssh-ed25519 SHA256:/),
  });
  await (await connectSsh(entry('it', { hostKeyChecking: 'no' }), { ...options, configFile })).close();
  await expect(readFile(knownHosts)).rejects.toThrow('ENOENT');
});

test('a changed host key is refused with both keys, its place and the way out', async () => {
  await using folder = await scratch();
  await using own = await TestHosts.start([{ name: 'reborn' }]);
  const host = own.get('reborn');
  const knownHosts = await folder.write('known_hosts', `# mine\n${host.knownHostsLine}\n`);
  await runOrThrow('ssh-keygen', ['-q', '-H', '-f', knownHosts]);
  const configFile = await folder.write('config', configFor(host, knownHosts));
  await host.changeHostKey();
  await expect(connectSsh(entry('it'), { ...options, configFile })).rejects.toMatchObject({
    stage: 'host-key',
    message: expect.stringMatching(
      /changed: known ssh-ed25519 SHA256:\S+ \(\S+known_hosts:2\), now ssh-ed25519 SHA256:.*ssh-keygen -R '.*' -f '/,
    ),
  });
  const messages: string[] = [];
  const accepting = { ...options, configFile, onNewHostKey: (message: string) => messages.push(message) };
  await (await connectSsh(entry('it', { hostKeyChecking: 'no' }), accepting)).close();
  expect(messages).toEqual([expect.stringContaining('differs from')]);
});

test('revoked keys are refused whatever the setting, authorities are no help and named', async () => {
  await using folder = await scratch();
  const key = gpu.knownHostsLine.split(' ').slice(1).join(' ');
  const knownHosts = await folder.write('known_hosts', `@revoked * ${key}\n`);
  const configFile = await folder.write('config', configFor(gpu, knownHosts));
  for (const hostKeyChecking of ['no', 'accept-new', 'strict'] as const) {
    const refused = connectSsh(entry('it', { hostKeyChecking }), { ...options, configFile });
    await expect(refused).rejects.toThrow(/is revoked by .*known_hosts:1/);
  }
  await folder.write('known_hosts', `@cert-authority * ${key}\n`);
  const strict = connectSsh(entry('it', { hostKeyChecking: 'strict' }), { ...options, configFile });
  await expect(strict).rejects.toThrow(/cannot use the host certificate authority of .*known_hosts:1/);
});

test('of several host keys the known one is asked for; a kind that is gone is no new host', async () => {
  await using folder = await scratch();
  await using own = await TestHosts.start([{ name: 'two-keys' }]);
  const host = own.get('two-keys');
  const second = join(dirname(host.hostKeyPath), 'second_host_key');
  await runOrThrow('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', second]);
  const place = host.knownHostsLine.split(' ')[0] ?? '';
  const knownHosts = await folder.write('known_hosts', `${place} ${await readFile(`${second}.pub`, 'utf8')}`);
  const configFile = await folder.write('config', configFor(host, knownHosts));
  const strict = entry('it', { hostKeyChecking: 'strict' });
  await expect(connectSsh(entry('it'), { ...options, configFile })).rejects.toMatchObject({
    stage: 'host-key',
    message: expect.stringMatching(
      /no longer shows a host key of the kind known for it: ecdsa.*known_hosts:1/,
    ),
  });
  // A host in namespaces of its own sees that folder as its /usr/local/etc.
  const seen = own.capabilities.mode === 'namespaces' ? '/usr/local/etc/second_host_key' : second;
  await host.restartSshd([`HostKey ${seen}`]);
  await (await connectSsh(strict, { ...options, configFile })).close();
  await appendFile(knownHosts, `${host.knownHostsLine}\n`);
  await (await connectSsh(strict, { ...options, configFile })).close();
});

test('names that do not exist and servers that are not ssh are told apart', async () => {
  const unknown = connectSsh(entry('no-such-host.invalid'), options);
  await expect(unknown).rejects.toMatchObject({
    stage: 'resolve',
    message: expect.stringContaining('no-such-host.invalid'),
  });
  await using listener = await silentServer();
  const silent = connectSsh(entry('127.0.0.1', { port: listener.port, sshKeyPath: gpu.keyPath }), {
    ...options,
    connectTimeoutMs: 200,
  });
  await expect(silent).rejects.toThrow(/127.0.0.1 port \d+ did not answer within 0.2 s/);
});

async function onceData(stream: NodeJS.ReadableStream): Promise<unknown[]> {
  return new Promise((resolve) => stream.once('data', (...chunk: unknown[]) => resolve(chunk)));
}

async function silentServer(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
