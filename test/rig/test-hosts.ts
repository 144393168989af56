/**
 * Real OpenSSH servers that a test starts and stops itself: `await using hosts = await TestHosts.start([...])`.
 * Nothing of the project's own ssh code is used, so that the two can prove each other.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostSpec, RigCapabilities, RigMode, RigOptions } from './host-spec.ts';
import { startLoopbackRig } from './loopback-rig.ts';
import { canUseNamespaces, startNamespaceRig } from './namespace-rig.ts';
import type { Rig } from './rig.ts';
import { makeKey, type TestHost } from './test-host.ts';

export type { CommandResult } from './command.ts';
export type * from './host-spec.ts';
export type { HostProcess, TestHost } from './test-host.ts';

/** A set of hosts that know each other by name. Everything ends with `close`, or with the process that started it. */
export class TestHosts implements AsyncDisposable {
  readonly hosts: readonly TestHost[];
  /** What the hosts can do on this machine. */
  readonly capabilities: RigCapabilities;
  /** The rig's folder, gone after `close`. */
  readonly folder: string;
  readonly knownHostsPath: string;
  /** A configuration for `ssh -F` that knows every host by its name. */
  readonly sshConfigPath: string;
  readonly #rig: Rig;

  private constructor(rig: Rig, folder: string, knownHostsPath: string, sshConfigPath: string) {
    this.#rig = rig;
    this.hosts = rig.hosts;
    this.capabilities = rig.capabilities;
    this.folder = folder;
    this.knownHostsPath = knownHostsPath;
    this.sshConfigPath = sshConfigPath;
  }

  /** Starts the hosts, all at once; they answer when this resolves. @throws Error saying which host fails and why. */
  static async start(specs: readonly HostSpec[], options: RigOptions = {}): Promise<TestHosts> {
    checkSpecs(specs);
    const mode = await chooseMode(options);
    const folder = await mkdtemp(join(tmpdir(), 'test-hosts-'));
    try {
      const keyPath = join(folder, 'client_key');
      const knownHostsPath = join(folder, 'known_hosts');
      const sshConfigPath = join(folder, 'ssh_config');
      await makeKey(keyPath, 'test client');
      const authorizedKey = await readFile(`${keyPath}.pub`, 'utf8');
      const rigFolder = { path: folder, keyPath, authorizedKey, knownHostsPath };
      const start = mode === 'namespaces' ? startNamespaceRig : startLoopbackRig;
      const rig = await start(rigFolder, specs);
      const keys = await Promise.all(rig.hosts.map((host) => host.rememberKey()));
      await writeFile(knownHostsPath, keys.map((line) => `${line}\n`).join(''));
      await writeFile(sshConfigPath, rig.hosts.map((host) => configBlock(host, knownHostsPath)).join(''));
      return new TestHosts(rig, folder, knownHostsPath, sshConfigPath);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** The host of that name. @throws Error when there is none. */
  get(name: string): TestHost {
    const host = this.hosts.find((one) => one.name === name);
    if (!host)
      throw new Error(`No test host '${name}': there are ${this.hosts.map((one) => one.name).join(', ')}`);
    return host;
  }

  /** Ends every process, mount, link and file of the hosts. Calling it again does nothing. */
  close(): Promise<void> {
    return this.#rig.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function chooseMode(options: RigOptions): Promise<RigMode> {
  const wanted = options.mode ?? process.env.TEST_HOSTS;
  if (wanted === 'loopback' || wanted === 'namespaces') return wanted;
  if (wanted) throw new Error(`TEST_HOSTS is '${wanted}': expected 'namespaces' or 'loopback'`);
  return (await canUseNamespaces()) ? 'namespaces' : 'loopback';
}

function checkSpecs(specs: readonly HostSpec[]): void {
  const names = specs.map((spec) => spec.name);
  for (const spec of specs) {
    if (!/^[a-z0-9][a-z0-9-]*$/i.test(spec.name)) throw new Error(`'${spec.name}' is no host name`);
    if (names.indexOf(spec.name) !== names.lastIndexOf(spec.name))
      throw new Error(`Two hosts '${spec.name}'`);
    const owner = specs.find((one) => one.name === spec.sharedHome);
    if (spec.sharedHome !== undefined && (!owner || owner.sharedHome !== undefined)) {
      throw new Error(
        `Host ${spec.name} cannot share the home of '${spec.sharedHome}', which has none of its own`,
      );
    }
  }
}

function configBlock(host: TestHost, knownHostsPath: string): string {
  const lines = [`HostName ${host.address}`, `Port ${host.port}`, `User ${host.user}`];
  lines.push(
    `IdentityFile ${host.keyPath}`,
    'IdentitiesOnly yes',
    'BatchMode yes',
    'StrictHostKeyChecking yes',
  );
  lines.push(`UserKnownHostsFile ${knownHostsPath}`, 'GlobalKnownHostsFile none');
  return `Host ${host.name}\n${lines.map((line) => `  ${line}\n`).join('')}`;
}
