import { homedir, userInfo } from 'node:os';
import { expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { isDefaultKey, parseDestination, resolveSsh } from '../../src/lib/remote/ssh-config.ts';
import { parseSshG } from '../../src/lib/remote/ssh-g.ts';
import { resolveRoute } from '../../src/lib/remote/ssh-route.ts';
import { entry, scratch } from './run-over.ts';

const home = userInfo().homedir;
const m = machineName('m');

test('an alias means what it means to ssh', async () => {
  await using folder = await scratch();
  const configFile = await folder.write(
    'config',
    `Host gpu
  HostName 10.1.1.1
  Port 2200
  User ann
  ProxyJump bob@gate:2222,inner
  IdentityFile ~/.ssh/key_%h_%r
  IdentityFile "/tmp/with space/key"
  IdentitiesOnly yes
  IdentityAgent $MY_AGENT
  CertificateFile ~/x-cert.pub
  StrictHostKeyChecking yes
  HashKnownHosts yes
  HostKeyAlias the-gpu
  UserKnownHostsFile ~/kh "/tmp/a b/kh"
  GlobalKnownHostsFile none
  ConnectTimeout 7
`,
  );
  const target = await resolveSsh(entry('gpu'), {
    configFile,
    env: { ...process.env, MY_AGENT: '/run/agent' },
  });
  expect(target).toMatchObject({
    host: '10.1.1.1',
    port: 2200,
    user: 'ann',
    jumps: ['bob@gate:2222', 'inner'],
    identityFiles: [`${home}/.ssh/key_10.1.1.1_ann`, '/tmp/with space/key'],
    identitiesOnly: true,
    agentSocket: '/run/agent',
    certificateFiles: [`${home}/x-cert.pub`],
    hostKeyChecking: 'strict',
    hashKnownHosts: true,
    hostKeyAlias: 'the-gpu',
    userKnownHosts: [`${home}/kh`, '/tmp/a b/kh'],
    globalKnownHosts: [],
    connectTimeoutMs: 7000,
  });
});

test('what the machine file says stands', async () => {
  await using folder = await scratch();
  const configFile = await folder.write(
    'config',
    'Host gpu\n  HostName 10.1.1.1\n  Port 2200\n  User ann\n  StrictHostKeyChecking yes\n  ProxyCommand nc %h %p\n',
  );
  const told = entry('gpu', { username: 'eve', port: 2, hostKeyChecking: 'no', proxyJump: 'none' });
  const target = await resolveSsh(told, { configFile });
  expect(target).toMatchObject({ host: '10.1.1.1', user: 'eve', port: 2, hostKeyChecking: 'no', jumps: [] });
  expect(target.proxyCommand).toBeUndefined();
});

test('without an ssh program the entry and OpenSSH\u2019s defaults count', async () => {
  await using folder = await scratch();
  const options = { sshPath: '/nonexistent/ssh', home: folder.path, env: { SSH_AUTH_SOCK: '/run/agent' } };
  const target = await resolveSsh(entry('gpu'), options);
  expect(target).toMatchObject({
    host: 'gpu',
    port: 22,
    user: userInfo().username,
    agentSocket: '/run/agent',
    jumps: [],
  });
  expect(target.identityFiles).toContain(`${folder.path}/.ssh/id_ed25519`);
  expect(target.userKnownHosts[0]).toBe(`${folder.path}/.ssh/known_hosts`);
  expect(target.hostKeyChecking).toBeUndefined();
});

test('a mistake in ssh\u2019s configuration is told with its place', async () => {
  await using folder = await scratch();
  const configFile = await folder.write('config', 'Host gpu\n  Nonsense yes\n');
  await expect(resolveSsh(entry('gpu'), { configFile })).rejects.toMatchObject({
    stage: 'resolve',
    message: expect.stringMatching(/ssh -G gpu failed: .*config.*line 2.*nonsense/i),
  });
});

test('agents can be switched off', async () => {
  await using folder = await scratch();
  const configFile = await folder.write('config', 'IdentityAgent none\n');
  const target = await resolveSsh(entry('gpu'), {
    configFile,
    env: { ...process.env, SSH_AUTH_SOCK: '/run/agent' },
  });
  expect(target.agentSocket).toBeUndefined();
});

test('a ProxyCommand is refused at once, unless the machine file replaces it', async () => {
  await using folder = await scratch();
  const configFile = await folder.write('config', 'Host gpu\n  ProxyCommand nc %h %p\n');
  await expect(resolveRoute(entry('gpu'), { configFile })).rejects.toThrow(
    /gpu .*ProxyCommand \(nc %h %p\).*cannot use/,
  );
  expect(await resolveRoute(entry('gpu', { proxyJump: 'none' }), { configFile })).toHaveLength(1);
});

test('jump hosts are resolved themselves; the first one\u2019s own jump hosts count', async () => {
  await using folder = await scratch();
  const configFile = await folder.write(
    'config',
    'Host gpu\n  ProxyJump inner\nHost inner\n  HostName 10.0.0.2\n  ProxyJump ann@gate:2222\nHost gate\n  HostName gate.lab\n',
  );
  const route = await resolveRoute(entry('gpu'), { configFile });
  expect(route.map(({ user, host, port }) => `${user}@${host}:${port}`)).toEqual([
    'ann@gate.lab:2222',
    `${userInfo().username}@10.0.0.2:22`,
    `${userInfo().username}@gpu:22`,
  ]);
  const listed = await resolveRoute(entry('gpu', { proxyJump: 'other,inner' }), { configFile });
  expect(listed.map(({ host }) => host)).toEqual(['other', '10.0.0.2', 'gpu']);
});

test('a ring of jump hosts is an error', async () => {
  await using folder = await scratch();
  const configFile = await folder.write('config', 'Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n');
  await expect(resolveRoute(entry('a'), { configFile })).rejects.toThrow(/circle/);
});

test('destinations are read in all their forms', () => {
  expect(parseDestination(m, 'host')).toEqual({ host: 'host' });
  expect(parseDestination(m, 'ann@host:2222')).toEqual({ host: 'host', user: 'ann', port: 2222 });
  expect(parseDestination(m, '[fe80::1]:22')).toEqual({ host: 'fe80::1', port: 22 });
  expect(parseDestination(m, 'ssh://ann@host:1/')).toEqual({ host: 'host', user: 'ann', port: 1 });
  for (const bad of ['', 'a b@', 'host:99999', 'host:x', '@host']) {
    expect(() => parseDestination(m, bad)).toThrow('expected [user@]host[:port]');
  }
});

test('ssh -G answers are read line by line', () => {
  const settings = parseSshG('user ann\nidentityfile ~/.ssh/a b\nidentityfile c\nodd\n');
  expect(settings.get('identityfile')).toEqual(['~/.ssh/a b', 'c']);
  expect(settings.get('odd')).toBeUndefined();
  expect(isDefaultKey(`${homedir()}/.ssh/id_ed25519`, homedir())).toBe(true);
  expect(isDefaultKey(`${homedir()}/.ssh/lab`, homedir())).toBe(false);
});
