import { type ChildProcess, spawn } from 'node:child_process';
import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { MachineConfig } from '../../src/lib/machine/config.ts';
import { Secret } from '../../src/lib/machine/config.ts';
import { listAgentKeys } from '../../src/lib/remote/agent-keys.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { runOrThrow } from '../rig/command.ts';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { entry, runOver, scratch } from './run-over.ts';

const PASSPHRASE = 'open sesame';
const PASSWORD = 'pass word';

let hosts: TestHosts;
let folder: Awaited<ReturnType<typeof scratch>>;
let gpu: TestHost;
let locked: string;
let agent: Agent;

beforeAll(async () => {
  // Accounts with passwords need namespaces; a host that offers none elsewhere still refuses them.
  hosts = await TestHosts.start([
    { name: 'gpu' },
    { name: 'worded', password: PASSWORD, sshd: ['PasswordAuthentication yes', 'GSSAPIAuthentication yes'] },
  ]);
  folder = await scratch();
  gpu = hosts.get('gpu');
  locked = join(folder.path, 'locked');
  await runOrThrow('ssh-keygen', ['-q', '-t', 'ed25519', '-N', PASSPHRASE, '-f', locked]);
  await authorize(`${locked}.pub`);
  agent = await startAgent(join(folder.path, 'agent'));
});
afterAll(async () => {
  agent.process.kill();
  await hosts.close();
  await folder[Symbol.asyncDispose]();
});

interface Agent {
  readonly process: ChildProcess;
  readonly socket: string;
}

async function startAgent(socket: string): Promise<Agent> {
  const process = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
  await until(() => listAgentKeys(socket).then(() => true));
  return { process, socket };
}

/** Lets a public key in, for all hosts in loopback mode. */
async function authorize(publicKeyFile: string): Promise<void> {
  const own = hosts.capabilities.mode === 'namespaces';
  const file = own ? join(gpu.homeDir, '.ssh', 'authorized_keys') : join(hosts.folder, 'authorized_keys');
  await appendFile(file, await readFile(publicKeyFile, 'utf8'));
}

function configFor(host: TestHost, ...lines: string[]): string {
  const { address, port, user } = host;
  const block = [`HostName ${address}`, `Port ${port}`, `User ${user}`, ...lines];
  const everywhere = `Host *\n  UserKnownHostsFile ${hosts.knownHostsPath}\n  GlobalKnownHostsFile none\n`;
  return `Host it\n${block.map((line) => `  ${line}\n`).join('')}${everywhere}`;
}

/** Logs in with this configuration and tells who we are. */
async function logIn(
  host: TestHost,
  lines: readonly string[],
  more: Partial<MachineConfig> = {},
  socket = '',
): Promise<string> {
  const configFile = await folder.write(`config-${Math.random()}`, configFor(host, ...lines));
  const env = { ...process.env, SSH_AUTH_SOCK: socket };
  await using connection = await connectSsh(entry('it', more), { configFile, env });
  return (await runOver(connection, 'whoami')).stdout.trim();
}

const addToAgent = async (path: string) => {
  const askpass = await folder.write('askpass', `#!/bin/sh\necho '${PASSPHRASE}'\n`);
  await runOrThrow('chmod', ['700', askpass]);
  const env = {
    ...process.env,
    SSH_AUTH_SOCK: agent.socket,
    SSH_ASKPASS: askpass,
    SSH_ASKPASS_REQUIRE: 'force',
  };
  await runOrThrow('ssh-add', ['-q', path], { env });
};
const emptyAgent = () =>
  runOrThrow('ssh-add', ['-q', '-D'], { env: { ...process.env, SSH_AUTH_SOCK: agent.socket } });

test('the key that the machine file names opens the door, and so does one of ssh\u2019s configuration', async () => {
  expect(await logIn(gpu, [], { sshKeyPath: gpu.keyPath })).toBe(gpu.user);
  expect(await logIn(gpu, [`IdentityFile ${gpu.keyPath}`])).toBe(gpu.user);
});

test('a jump host takes its own key, or the machine\u2019s', async () => {
  const gate = hosts.get('worded');
  const own = join(folder.path, 'own');
  await runOrThrow('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', own]);
  await authorize(`${own}.pub`); // opens the machine, but, between hosts of their own, not the gate
  const jumpTo = (key: string) => {
    const { address, port, user } = gate;
    const jump = `ProxyJump gate\nHost gate\n  HostName ${address}\n  Port ${port}\n  User ${user}\n  ${key}`;
    return [jump];
  };
  expect(await logIn(gpu, jumpTo(`IdentityFile ${gate.keyPath}`), { sshKeyPath: own })).toBe(gpu.user);
  expect(await logIn(gpu, jumpTo('IdentityFile none'), { sshKeyPath: gpu.keyPath })).toBe(gpu.user);
});

test('keys of every common kind work', async () => {
  for (const type of ['rsa', 'ecdsa', 'ed25519']) {
    const path = join(folder.path, `kind-${type}`);
    await runOrThrow('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', path]);
    await authorize(`${path}.pub`);
    expect(await logIn(gpu, [], { sshKeyPath: path })).toBe(gpu.user);
  }
});

test('a named key that is missing, or is no private key, is told at once', async () => {
  await expect(logIn(gpu, [], { sshKeyPath: '/nonexistent/key' })).rejects.toThrow(
    'key file /nonexistent/key does not exist',
  );
  await expect(logIn(gpu, [], { sshKeyPath: `${gpu.keyPath}.pub` })).rejects.toThrow('is a public key');
  const odd = await folder.write('odd', 'nothing like a key\n');
  await expect(logIn(gpu, [], { sshKeyPath: odd })).rejects.toThrow(
    'is not a private key that the ssh library knows',
  );
});

test('a key with a passphrase: with it, without it, with a wrong one, in the agent', async () => {
  await emptyAgent();
  expect(await logIn(gpu, [], { sshKeyPath: locked, passphrase: new Secret(PASSPHRASE) })).toBe(gpu.user);
  await expect(logIn(gpu, [], { sshKeyPath: locked })).rejects.toMatchObject({
    stage: 'login',
    message: `key ${locked} needs a passphrase: run 'ssh-add ${locked}' or give its passphrase in the machine file`,
  });
  const wrong = logIn(gpu, [], { sshKeyPath: locked, passphrase: new Secret('wrong') });
  await expect(wrong).rejects.toThrow(/does not open with the passphrase given(?!.*wrong)/);
  await addToAgent(locked);
  expect(await logIn(gpu, [], { sshKeyPath: locked }, agent.socket)).toBe(gpu.user);
  expect(await logIn(gpu, [], {}, agent.socket)).toBe(gpu.user);
  expect(await logIn(gpu, [`IdentityAgent ${agent.socket}`])).toBe(gpu.user);
  await expect(logIn(gpu, [`IdentityAgent none`], { sshKeyPath: locked }, agent.socket)).rejects.toThrow(
    'needs a passphrase',
  );
});

test('an agent with many keys offers the named one first, and only that with IdentitiesOnly', async () => {
  await emptyAgent();
  for (let i = 0; i < 8; i++) {
    const path = join(folder.path, `other-${i}`);
    await runOrThrow('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path]);
    await addToAgent(path);
  }
  await expect(logIn(gpu, [], {}, agent.socket)).rejects.toThrow(
    /too many attempts.*name the right key with ssh_key_path/,
  );
  await addToAgent(locked);
  expect(await logIn(gpu, [`IdentityFile ${locked}`], {}, agent.socket)).toBe(gpu.user);
  expect(await logIn(gpu, [`IdentityFile ${locked}`, 'IdentitiesOnly yes'], {}, agent.socket)).toBe(gpu.user);
  const other = join(folder.path, 'other-0');
  const refused = logIn(gpu, [`IdentityFile ${other}`, 'IdentitiesOnly yes'], {}, agent.socket);
  await expect(refused).rejects.toThrow(
    new RegExp(`refused; tried key ${other}; the server takes publickey`),
  );
});

test('an agent that is not there does not stop the keys that are', async () => {
  const gone = join(folder.path, 'no-agent');
  expect(await logIn(gpu, [`IdentityFile ${gpu.keyPath}`], {}, gone)).toBe(gpu.user);
  await expect(logIn(gpu, ['IdentityFile /nonexistent/key'], {}, gone)).rejects.toThrow(
    /tried nothing.*no agent answers at/,
  );
});

test('a password opens the door where the server takes one, and is never shown', async () => {
  const worded = hosts.get('worded');
  const password = new Secret(PASSWORD);
  if (hosts.capabilities.ownAccounts) expect(await logIn(worded, [], { password })).toBe(worded.user);
  else console.warn('test hosts have no accounts of their own here: only the refused password is tested');
  const wrong = logIn(worded, ['IdentityFile none'], { password: new Secret('not that') });
  await expect(wrong).rejects.toThrow(/tried password(?!.*not that)/);
  await expect(logIn(gpu, ['IdentityFile none'], { password: new Secret('s3cret') })).rejects.not.toThrow(
    's3cret',
  );
});

test('a password is never sent to a server whose key differs from the known one, also with checking off', async () => {
  const worded = hosts.get('worded');
  const other = (await readFile(`${gpu.hostKeyPath}.pub`, 'utf8')).split(' ').slice(0, 2).join(' ');
  const name = worded.port === 22 ? worded.address : `[${worded.address}]:${worded.port}`;
  const known = await folder.write('known-differently', `${name} ${other}\n`);
  const config = [`UserKnownHostsFile ${known}`, 'StrictHostKeyChecking no', 'IdentityFile none'];
  await expect(logIn(worded, config, { password: new Secret(PASSWORD) })).rejects.toThrow(
    /tried nothing.*no password is sent/,
  );
});

test('a password is given to a server that asks for it as a question', async () => {
  if (!hosts.capabilities.ownAccounts)
    return console.warn('test hosts have no accounts of their own here: not asked');
  const lines = ['UsePAM yes', 'KbdInteractiveAuthentication yes', 'PasswordAuthentication no'];
  await using own = await TestHosts.start([{ name: 'asking', password: PASSWORD, sshd: lines }]);
  const host = own.get('asking');
  const config = [`UserKnownHostsFile ${own.knownHostsPath}`, 'IdentityFile none'];
  expect(await logIn(host, config, { password: new Secret(PASSWORD) })).toBe(host.user);
  const wrong = logIn(host, config, { password: new Secret('not that') });
  await expect(wrong).rejects.toThrow(/tried password \(keyboard-interactive\)(?!.*not that)/);
});

test('both a key and a password where the server wants both', async () => {
  if (!hosts.capabilities.ownAccounts)
    return console.warn('test hosts have no accounts of their own here: not asked');
  const lines = ['AuthenticationMethods publickey,password', 'PasswordAuthentication yes'];
  await using own = await TestHosts.start([{ name: 'careful', password: PASSWORD, sshd: lines }]);
  const host = own.get('careful');
  const config = [`UserKnownHostsFile ${own.knownHostsPath}`];
  expect(await logIn(host, config, { sshKeyPath: host.keyPath, password: new Secret(PASSWORD) })).toBe(
    host.user,
  );
  await expect(logIn(host, config, { sshKeyPath: host.keyPath })).rejects.toThrow(
    /tried key .*; the server takes password/,
  );
});

test('what the ssh library cannot do is said: certificates, FIDO keys, GSSAPI', async () => {
  await emptyAgent();
  const [ca, own] = [join(folder.path, 'ca'), join(folder.path, 'certified')];
  for (const path of [ca, own]) await runOrThrow('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path]);
  await runOrThrow('ssh-keygen', ['-q', '-s', ca, '-I', 'me', '-n', gpu.user, `${own}.pub`]);
  const certified = logIn(gpu, [`IdentityFile ${own}`]);
  await expect(certified).rejects.toThrow(`certificate ${own}-cert.pub cannot be used by the ssh library`);
  await addToAgent(own);
  await expect(logIn(gpu, [], {}, agent.socket)).rejects.toThrow(
    /the agent's certificate '.*' cannot be used/,
  );

  // The public half of a FIDO key stands in for the token that made it.
  const type = 'sk-ssh-ed25519@openssh.com';
  const field = (data: string | Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    return Buffer.concat([length, Buffer.from(data)]);
  };
  const blob = Buffer.concat([field(type), field(Buffer.alloc(32, 7)), field('ssh:')]);
  const token = await folder.write('id_token', 'opaque\n');
  await folder.write('id_token.pub', `${type} ${blob.toString('base64')} me\n`);
  await expect(logIn(gpu, [`IdentityFile ${token}`])).rejects.toThrow(
    `${token} is a FIDO key, which the ssh library cannot use`,
  );
  const kerberos = logIn(hosts.get('worded'), [`IdentityFile ${own}`, 'GSSAPIAuthentication yes']);
  await expect(kerberos).rejects.toThrow(
    /gssapi-with-mic.*GSSAPI \(Kerberos\) is configured, which the ssh library cannot use/,
  );
});
