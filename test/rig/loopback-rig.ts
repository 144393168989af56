/** Starts hosts as the current account on loopback ports: for machines where the tests have no rights to more. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeHome, makeLocal, shellPath } from './host-folders.ts';
import type { HostSpec, RigCapabilities } from './host-spec.ts';
import { LoopbackHost } from './loopback-host.ts';
import { Relay } from './relay.ts';
import type { Rig, RigFolder } from './rig.ts';

const SCRIPTS = fileURLToPath(new URL('scripts/', import.meta.url));
const ADDRESS = '127.0.0.1';

const capabilities: RigCapabilities = {
  mode: 'loopback',
  cutNetwork: true,
  powerOff: false,
  ownIdentity: false,
  limitedDisk: false,
  ownAccounts: false,
  busyboxOnly: false,
};

/** Starts all hosts at once. The guard removes `rigFolder.path` when the rig is closed or this process dies. */
export async function startLoopbackRig(rigFolder: RigFolder, specs: readonly HostSpec[]): Promise<Rig> {
  const guard = spawn('/bin/bash', [join(SCRIPTS, 'loopback-guard.sh'), rigFolder.path], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.unref();
  guard.stdin.on('error', () => {}); // it may end first
  const relays: Relay[] = [];
  const close = async () => {
    for (const relay of relays) relay.close();
    if (guard.exitCode !== null || guard.signalCode !== null) return;
    guard.ref();
    const ended = once(guard, 'exit');
    guard.stdin.end();
    await ended;
  };
  try {
    // sshd run by root wants this folder, which is otherwise made when the system's service starts.
    if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true });
    await copyFile(join(SCRIPTS, 'enter-home.sh'), join(rigFolder.path, 'enter-home.sh'));
    const hosts = await Promise.all(specs.map((spec) => startHost(rigFolder, spec, relays)));
    return { hosts, capabilities, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startHost(rigFolder: RigFolder, spec: HostSpec, relays: Relay[]): Promise<LoopbackHost> {
  const folder = join(rigFolder.path, spec.name);
  const localFolder = join(folder, 'local');
  const homeDir = join(rigFolder.path, spec.sharedHome ?? spec.name, 'home');
  const tmpDir = join(folder, 'tmp');
  const sshdPort = await freePort();
  const environment = {
    HOME: homeDir,
    TMPDIR: tmpDir,
    SHELL: shellPath(spec, localFolder),
    PATH: `${join(localFolder, 'bin')}:/usr/local/bin:/usr/bin:/bin`,
    TEST_HOST: folder,
  };
  await mkdir(tmpDir, { recursive: true });
  // sshd starts a session in the account's real home and with its real shell; the forced command puts that right.
  const local = await makeLocal(localFolder, spec, [
    `ListenAddress ${ADDRESS}:${sshdPort}`,
    `PidFile ${join(folder, 'sshd.pid')}`,
    `HostKey ${join(localFolder, 'etc', 'host_key')}`,
    `AuthorizedKeysFile ${join(rigFolder.path, 'authorized_keys')}`,
    'StrictModes no',
    `SetEnv ${Object.entries(environment)
      .map(([name, value]) => `"${name}=${value}"`)
      .join(' ')}`,
    `ForceCommand exec /bin/sh ${join(rigFolder.path, 'enter-home.sh')}`,
  ]);
  await writeFile(join(rigFolder.path, 'authorized_keys'), rigFolder.authorizedKey);
  if (spec.sharedHome === undefined) await makeHome(homeDir, spec, rigFolder.authorizedKey);
  const relay = await Relay.listen({
    listenAddress: ADDRESS,
    target: { address: ADDRESS, port: sshdPort },
    delayMs: spec.delayMs ?? 0,
  });
  relays.push(relay);
  const host = new LoopbackHost({
    spec,
    address: ADDRESS,
    port: relay.port,
    user: userInfo().username,
    homeDir,
    homeOnHost: homeDir,
    tmpDir,
    keyPath: rigFolder.keyPath,
    knownHostsPath: rigFolder.knownHostsPath,
    hostKeyPath: local.hostKeyPath,
    sshdConfigPath: local.sshdConfigPath,
    sshdLogPath: join(folder, 'sshd.log'),
    gpuStateDir: local.gpuStateDir,
    folder,
    relay,
    environment,
  });
  await host.startSshd();
  return host;
}

/** A port that was free a moment ago; should another take it meanwhile, sshd says so and the start fails. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, ADDRESS);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('Internal error: no port');
  return address.port;
}
