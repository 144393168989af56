/** Starts hosts in namespaces, joined by a bridge that only this rig has: needs root and CAP_SYS_ADMIN. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { runCommand, runOrThrow } from './command.ts';
import { findProgram } from './find-program.ts';
import { LAB_ID, makeBusyboxFolder, makeEtc, makeHome, makeLocal } from './host-folders.ts';
import type { HostSpec, RigCapabilities } from './host-spec.ts';
import { NamespaceHost } from './namespace-host.ts';
import { Relay } from './relay.ts';
import type { Rig, RigFolder } from './rig.ts';

const SCRIPTS = fileURLToPath(new URL('scripts/', import.meta.url));

/** All of it in throw-away namespaces, so that trying leaves nothing behind. */
const PROBE =
  'ip link add br0 type bridge && ip link add name v0 type veth peer name v1 && mount -t tmpfs none /mnt && mount -t proc proc /proc';

/** Whether this process may make such hosts, found out by trying. */
export async function canUseNamespaces(): Promise<boolean> {
  if (process.getuid?.() !== 0) return false;
  const args = ['-m', '-n', '-p', '-u', '-f', '--kill-child', '--', '/bin/sh', '-c', PROBE];
  const probe = await runCommand('unshare', args).catch(() => undefined);
  return probe?.exitCode === 0;
}

/** Starts all hosts at once. The guard removes `rigFolder.path` when the rig is closed or this process dies. */
export async function startNamespaceRig(rigFolder: RigFolder, specs: readonly HostSpec[]): Promise<Rig> {
  const { guard, guardPid, subnet, uplink } = await startGuard(rigFolder.path);
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
    const places = specs.map((spec, index) => ({
      spec,
      address: `${subnet}.${index + 10}`,
      mac: `02:00:00:00:00:${(index + 10).toString(16).padStart(2, '0')}`,
    }));
    // Known for ever, so that a host that is cut off or powered off is silent: without it, the kernel finds out
    // after some seconds that nobody has the address, and says so to the client.
    const neighbours = places.map(
      ({ address, mac }) => `neigh add ${address} lladdr ${mac} dev ${uplink} nud permanent\n`,
    );
    await runOrThrow(findProgram('ip'), ['-batch', '-'], { input: neighbours.join('') });
    const names = places.map(({ spec, address }) => `${address} ${spec.name}`);
    const hosts = await Promise.all(
      places.map(async ({ spec, address, mac }, index) => {
        const folder = join(rigFolder.path, spec.name);
        const homesFolder = join(rigFolder.path, spec.sharedHome ?? spec.name, 'disk');
        await mkdir(folder);
        const [local] = await Promise.all([
          makeLocal(join(folder, 'local'), spec, [
            'PidFile /run/sshd.pid',
            'HostKey /usr/local/etc/host_key',
          ]),
          makeEtc(join(folder, 'etc'), spec, names),
          ...['tmp', 'var-tmp'].map((name) => makeOpenFolder(join(folder, name))),
          mkdir(join(folder, 'log')),
          spec.busyboxOnly ? makeBusyboxLater(join(folder, 'local')) : undefined,
          spec.sharedHome === undefined
            ? makeHomes(homesFolder, spec, rigFolder.authorizedKey, guardPid)
            : undefined,
        ]);
        // A copy, since the host does not see the project's folder.
        await copyFile(join(SCRIPTS, 'init.sh'), join(folder, 'local', 'lib', 'init.sh'));
        let place = { address, port: 22 };
        if (spec.delayMs !== undefined) {
          const relay = await Relay.listen({
            listenAddress: `${subnet}.1`,
            target: place,
            delayMs: spec.delayMs,
          });
          relays.push(relay);
          place = { address: `${subnet}.1`, port: relay.port };
        }
        const user = spec.user ?? 'lab';
        const homeOnHost = user === 'root' ? '/root' : '/home/lab';
        const owner = specs.find((one) => one.name === (spec.sharedHome ?? spec.name));
        const seen = owner?.diskMiB === undefined ? homesFolder : `/proc/${guardPid}/root${homesFolder}`;
        return new NamespaceHost({
          spec,
          ...place,
          user,
          homeOnHost,
          homeDir: join(seen, homeOnHost),
          tmpDir: join(folder, 'tmp'),
          keyPath: rigFolder.keyPath,
          knownHostsPath: rigFolder.knownHostsPath,
          hostKeyPath: local.hostKeyPath,
          sshdConfigPath: local.sshdConfigPath,
          sshdLogPath: join(folder, 'log', 'sshd.log'),
          gpuStateDir: local.gpuStateDir,
          guardPid,
          folder,
          homesFolder,
          ownAddress: address,
          mac,
          link: `host${index}`,
        });
      }),
    );
    // After all folders are there: one host may use another's.
    await Promise.all(hosts.map((host) => host.boot()));
    return { hosts, capabilities, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const capabilities: RigCapabilities = {
  mode: 'namespaces',
  cutNetwork: true,
  powerOff: true,
  ownIdentity: true,
  limitedDisk: true,
  ownAccounts: true,
  busyboxOnly: true,
};

/** Starts the guard and claims an unused 10.x.y.0/24: a link's name is taken by one rig only, and names the subnet. */
async function startGuard(rigFolder: string) {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const number = (process.pid * 7919 + attempt * 104_729 + Date.now()) % (120 * 256);
    const subnet = `10.${100 + Math.floor(number / 256)}.${number % 256}`;
    if (isInUse(subnet)) continue;
    const uplink = `rig${subnet.slice(3)}`;
    // Detached: Ctrl-C in the terminal is for the tests, and the guard has to outlive them a moment.
    const guard = spawn('/bin/bash', [join(SCRIPTS, 'guard.sh'), rigFolder, uplink], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    guard.stdin.on('error', () => {}); // it may end first
    const guardPid = await firstNumber(guard);
    guard.stdout.destroy();
    guard.unref();
    const uplinkLines = [
      `link add ${uplink} type veth peer name up0 netns ${guardPid}`,
      `addr add ${subnet}.1/24 dev ${uplink}`,
      `link set ${uplink} up`,
    ];
    const ip = findProgram('ip');
    const made = await runCommand(ip, ['-batch', '-'], { input: `${uplinkLines.join('\n')}\n` });
    if (made.exitCode === 0) {
      await runOrThrow('nsenter', [
        `--net=/proc/${guardPid}/ns/net`,
        ip,
        'link',
        'set',
        'up0',
        'master',
        'br0',
        'up',
      ]);
      return { guard, guardPid, subnet, uplink };
    }
    if (!made.stderr.includes('File exists')) {
      guard.stdin.end();
      throw new Error(`Cannot link test hosts to this machine: ${made.stderr.trim()}`);
    }
    // Another rig was faster. Its link must stay, so this guard may not clean up after itself: it never got to own
    // anything but its namespaces, which go with it.
    guard.kill('SIGKILL');
    process.kill(guardPid, 'SIGKILL');
  }
  throw new Error('Found no unused 10.x.y.0/24 network for test hosts');
}

function isInUse(subnet: string): boolean {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return addresses.some(({ address }) => address.startsWith(`${subnet}.`));
}

async function firstNumber(guard: ChildProcessByStdio<Writable, Readable, null>): Promise<number> {
  let text = '';
  for await (const chunk of guard.stdout.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (text.endsWith('\n')) return Number(text);
  }
  throw new Error('The guard of the test hosts does not start (unshare or ip failed)');
}

async function makeOpenFolder(path: string): Promise<void> {
  await mkdir(path);
  await chmod(path, 0o1777); // as /tmp is
}

async function makeBusyboxLater(localFolder: string): Promise<void> {
  await mkdir(localFolder, { recursive: true });
  await makeBusyboxFolder(join(localFolder, 'busybox'));
}

/** Makes /home/lab and /root, on a file system of their own when the host has a small disk. */
async function makeHomes(folder: string, spec: HostSpec, key: string, guardPid: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  let seen = folder;
  if (spec.diskMiB !== undefined) {
    const options = ['-t', 'tmpfs', '-o', `size=${spec.diskMiB}m,mode=755`, 'tmpfs', folder];
    await runOrThrow('nsenter', ['-t', `${guardPid}`, '-m', '--', 'mount', '-n', ...options]);
    seen = `/proc/${guardPid}/root${folder}`;
  }
  await mkdir(join(seen, 'home'));
  await makeHome(join(seen, 'home', 'lab'), spec, key, LAB_ID);
  await makeHome(join(seen, 'root'), spec, key, 0);
}
