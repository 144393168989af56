/** One real ssh server of a rig, and what a test can do to it. Where it lives is the business of the subclasses. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { type CommandResult, runOrThrow } from './command.ts';
import { readGpuLedger, writeGpuFailure, writeGpus } from './gpu-files.ts';
import type { GpuLedgerLine, GpuSpec, HostSpec } from './host-spec.ts';

/** A process that lives on a host, with its id as the host sees it. */
export interface HostProcess {
  readonly pid: number;
  readonly parentPid: number;
  /** The arguments joined by spaces; a kernel name in brackets when it has none. */
  readonly commandLine: string;
}

/** What a host knows from the start. */
export interface HostFacts {
  readonly spec: HostSpec;
  /** Where clients connect. */
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** The account's home and the host's /tmp, as paths that the test can read and write. */
  readonly homeDir: string;
  readonly tmpDir: string;
  /** The home folder's path on the host itself. */
  readonly homeOnHost: string;
  /** The client's private key, which every host of the rig accepts. */
  readonly keyPath: string;
  readonly hostKeyPath: string;
  readonly sshdConfigPath: string;
  readonly sshdLogPath: string;
  /** Holds all hosts' first keys. */
  readonly knownHostsPath: string;
  /** Folder of the GPU stand-ins' state. */
  readonly gpuStateDir: string;
}

/** A running test host. Started by `TestHosts.start`, ended with it. */
export abstract class TestHost {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly homeDir: string;
  readonly tmpDir: string;
  readonly homeOnHost: string;
  readonly keyPath: string;
  readonly hostKeyPath: string;
  readonly sshdLogPath: string;
  readonly gpuStateDir: string;
  readonly #knownHostsPath: string;
  protected readonly sshdConfigPath: string;

  constructor(facts: HostFacts) {
    this.name = facts.spec.name;
    this.address = facts.address;
    this.port = facts.port;
    this.user = facts.user;
    this.homeDir = facts.homeDir;
    this.tmpDir = facts.tmpDir;
    this.homeOnHost = facts.homeOnHost;
    this.keyPath = facts.keyPath;
    this.hostKeyPath = facts.hostKeyPath;
    this.sshdLogPath = facts.sshdLogPath;
    this.gpuStateDir = facts.gpuStateDir;
    this.sshdConfigPath = facts.sshdConfigPath;
    this.#knownHostsPath = facts.knownHostsPath;
  }

  /** Runs a shell line on the host without ssh: as the account, in its home, or as root where the host has its own. */
  abstract exec(command: string, options?: { readonly asRoot?: boolean }): Promise<CommandResult>;
  /** What lives on the host now: all of it in its own namespaces, else what was started through its sshd. */
  abstract processes(): Promise<HostProcess[]>;
  /** The network goes silent: connections hang, new ones get no answer, nobody is told. */
  abstract cut(): Promise<void>;
  abstract heal(): Promise<void>;
  /** Every process dies at once and the network is silent; the disk stays. */
  abstract powerOff(): Promise<void>;
  /** Starts the host again after `powerOff`, with a new boot id. */
  abstract boot(): Promise<void>;
  protected abstract startSshd(): Promise<void>;
  /** Stops the listening server only: sessions that are open stay. */
  protected abstract stopSshd(): Promise<void>;
  /** Fills the host's disk (needs `diskMiB`) to the last byte. */
  abstract fillDisk(): Promise<void>;
  abstract freeDisk(): Promise<void>;

  /** New connections are refused until `restartSshd`; open ones stay. */
  async refuse(): Promise<void> {
    await this.stopSshd();
  }

  /** Starts sshd anew, with these lines in place of those the host was asked for with, if given. */
  async restartSshd(lines?: readonly string[]): Promise<void> {
    await this.stopSshd();
    if (lines) {
      const config = await readFile(this.sshdConfigPath, 'utf8');
      await writeFile(this.sshdConfigPath, withAddedLines(lines, config));
    }
    await this.startSshd();
  }

  /** The host has another key from now on; known_hosts and `knownHostsLine` keep the first. */
  async changeHostKey(): Promise<void> {
    await Promise.all([this.hostKeyPath, `${this.hostKeyPath}.pub`].map((path) => rm(path)));
    await makeKey(this.hostKeyPath, 'another host key');
    await this.restartSshd();
  }

  /** The host's first key as known_hosts writes it. */
  get knownHostsLine(): string {
    return this.#knownHostsLine;
  }

  #knownHostsLine = '';

  /** Called once by the rig, when the key is made. */
  async rememberKey(): Promise<string> {
    const [type, key] = (await readFile(`${this.hostKeyPath}.pub`, 'utf8')).split(' ');
    const place = this.port === 22 ? this.address : `[${this.address}]:${this.port}`;
    this.#knownHostsLine = `${place} ${type} ${key}`;
    return this.#knownHostsLine;
  }

  /** Arguments for the system's `ssh` that reach this host and nothing of the user's own configuration. */
  get sshArguments(): string[] {
    const options = ['BatchMode=yes', `UserKnownHostsFile=${this.#knownHostsPath}`];
    options.push('GlobalKnownHostsFile=none', 'StrictHostKeyChecking=yes', 'IdentitiesOnly=yes');
    const flags = options.flatMap((option) => ['-o', option]);
    return ['-F', 'none', '-i', this.keyPath, ...flags, '-p', `${this.port}`, `${this.user}@${this.address}`];
  }

  /** The text of a machine file for this host, with further lines of YAML. */
  machineFile(extra = ''): string {
    const lines = [`username: ${this.user}`, `ip: ${this.address}`, `port: ${this.port}`];
    lines.push(`ssh_key_path: ${this.keyPath}`);
    return `${lines.join('\n')}\n${extra}${extra === '' || extra.endsWith('\n') ? '' : '\n'}`;
  }

  /** Replaces the GPUs, e.g. because others use more of one. */
  async setGpus(gpus: readonly GpuSpec[]): Promise<void> {
    await writeGpus(this.gpuStateDir, this.name, gpus);
  }

  /** nvidia-smi fails as it does without a driver (exit 9), or works again. */
  async setDriverFailure(failing: boolean): Promise<void> {
    await writeGpuFailure(this.gpuStateDir, 'driver-failure', failing ? '' : undefined);
  }

  /** nvidia-smi prints this text, e.g. `[N/A]`, in place of every memory or utilization; undefined ends it. */
  async setGpuText(what: 'memory' | 'utilization', text: string | undefined): Promise<void> {
    await writeGpuFailure(this.gpuStateDir, `${what}-text`, text);
  }

  /** What stand-in jobs took and gave so far. A killed job's `give` is written at the next query. */
  gpuLedger(): Promise<GpuLedgerLine[]> {
    return readGpuLedger(this.gpuStateDir);
  }
}

const ADDED_END = '# end of the lines that the test added\n';

/** An sshd configuration whose added lines are these. */
export function withAddedLines(lines: readonly string[], config: string): string {
  const end = config.indexOf(ADDED_END);
  const rest = end < 0 ? config : config.slice(end + ADDED_END.length);
  return `${lines.map((line) => `${line}\n`).join('')}${ADDED_END}${rest}`;
}

/** Makes an ed25519 key pair without a passphrase. */
export async function makeKey(path: string, comment: string): Promise<void> {
  await runOrThrow('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', path]);
}
