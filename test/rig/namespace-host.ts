/** A test host in network, mount, process and uts namespaces of its own: to its clients, a machine. */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type CommandResult, runCommand, runOrThrow } from './command.ts';
import { findProgram } from './find-program.ts';
import { LAB_ID } from './host-folders.ts';
import { readProcesses } from './process-list.ts';
import { type HostFacts, type HostProcess, TestHost } from './test-host.ts';
import { until } from './until.ts';

const BOOT_SCRIPT = fileURLToPath(new URL('scripts/boot-host.sh', import.meta.url));
const BOOT_DEADLINE_MS = 15_000;

/** Where a host lives, beyond what every host knows. */
export interface NamespaceFacts extends HostFacts {
  /** The rig's guard, as this process sees it. */
  readonly guardPid: number;
  /** The host's own folder, and the one that holds `home` and `root`. */
  readonly folder: string;
  readonly homesFolder: string;
  readonly ownAddress: string;
  readonly mac: string;
  /** Name of the host's link on the rig's bridge. */
  readonly link: string;
}

/** A host in its own namespaces. */
export class NamespaceHost extends TestHost {
  readonly #facts: NamespaceFacts;
  #system: ChildProcessByStdio<null, Readable, Readable> | undefined;
  /** Process 1 of the host, as this process sees it. */
  #pid = 0;

  constructor(facts: NamespaceFacts) {
    super(facts);
    this.#facts = facts;
  }

  async boot(): Promise<void> {
    const { folder, homesFolder, ownAddress, mac, link, guardPid, spec } = this.#facts;
    if (this.#system) throw new Error(`Test host ${this.name} is already up`);
    await rm(join(folder, 'run'), { recursive: true, force: true });
    await mkdir(join(folder, 'run', 'sshd'), { recursive: true });
    await mkdir(join(folder, 'run', 'lock'), { mode: 0o1777 });
    await writeFile(join(folder, 'run', 'boot_id'), `${randomUUID()}\n`);

    const enter = ['-t', `${guardPid}`, '-m', '-n', '-p', '--', 'unshare', '-m', '-n', '-u', '--'];
    const args = [folder, homesFolder, spec.name, ownAddress, mac, link, `${guardPid}`];
    const system = spawn('nsenter', [...enter, '/bin/bash', BOOT_SCRIPT, ...args], {
      cwd: '/',
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
      detached: true, // Ctrl-C in the terminal is for the tests
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#system = system;
    this.#pid = await readyPid(system).catch(async (error: Error) => {
      const log = await readFile(this.sshdLogPath, 'utf8').catch(() => '');
      throw new Error(`Test host ${this.name} does not boot: ${error.message} ${log}`.trim());
    });
    // From here on it says nothing and must not keep the tests' process alive.
    system.stdout.destroy();
    system.stderr.destroy();
    system.unref();
  }

  async powerOff(): Promise<void> {
    const system = this.#system;
    if (!system) throw new Error(`Test host ${this.name} is already off`);
    // First the network: what dies must not get to tell its clients.
    await this.cut();
    system.ref();
    const ended = system.exitCode === null && system.signalCode === null ? once(system, 'exit') : undefined;
    process.kill(this.#pid, 'SIGKILL');
    await ended;
    this.#system = undefined;
    // The kernel takes the namespace apart some time later; the name must be free for the next boot. That it may
    // be gone already is no failure.
    await runCommand('nsenter', this.#inGuardNetwork('delete', this.#facts.link));
  }

  async cut(): Promise<void> {
    await runOrThrow('nsenter', this.#inGuardNetwork('set', this.#facts.link, 'down'));
  }

  async heal(): Promise<void> {
    await runOrThrow('nsenter', this.#inGuardNetwork('set', this.#facts.link, 'up'));
  }

  #inGuardNetwork(...args: string[]): string[] {
    return [`--net=/proc/${this.#facts.guardPid}/ns/net`, findProgram('ip'), 'link', ...args];
  }

  exec(command: string, options: { readonly asRoot?: boolean } = {}): Promise<CommandResult> {
    if (!this.#system) return Promise.reject(new Error(`Test host ${this.name} is off`));
    const isRoot = options.asRoot === true || this.user === 'root';
    const id = isRoot ? 0 : LAB_ID;
    const home = isRoot ? '/root' : this.homeOnHost;
    const user = isRoot ? 'root' : this.user;
    const enter = ['-t', `${this.#pid}`, '-m', '-n', '-p', '-u', '-S', `${id}`, '-G', `${id}`, '--'];
    const script = 'cd && eval "$1"';
    const env = {
      HOME: home,
      USER: user,
      LOGNAME: user,
      PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
    };
    return runCommand('nsenter', [...enter, '/bin/bash', '-c', script, 'exec', command], { env, cwd: '/' });
  }

  processes(): Promise<HostProcess[]> {
    if (!this.#system) return Promise.resolve([]);
    return readProcesses(`/proc/${this.#pid}/root/proc`);
  }

  protected async startSshd(): Promise<void> {
    await rm(join(this.#facts.folder, 'run', 'sshd.pid'), { force: true });
    const line = 'exec $(command -v sshd) -f /usr/local/etc/sshd_config -E /var/log/sshd.log';
    const { exitCode, stderr } = await this.exec(line, { asRoot: true });
    const log = () => readFile(this.sshdLogPath, 'utf8');
    if (exitCode !== 0) throw new Error(`sshd of ${this.name} does not start: ${stderr} ${await log()}`);
    await until(() => this.#sshdPid(), { describe: async () => `sshd of ${this.name}: ${await log()}` });
  }

  protected async stopSshd(): Promise<void> {
    const pid = await this.#sshdPid();
    if (pid === 0) return;
    await this.exec(`kill ${pid}`, { asRoot: true });
    // sshd closes its port, then removes this file, then ends.
    await until(async () => (await this.#sshdPid()) === 0, { describe: `the end of sshd of ${this.name}` });
  }

  async #sshdPid(): Promise<number> {
    return Number(await readFile(join(this.#facts.folder, 'run', 'sshd.pid'), 'utf8').catch(() => '0'));
  }

  async fillDisk(): Promise<void> {
    const disk = this.#disk();
    const file = await open(join(disk, 'filler'), 'a');
    try {
      const { bavail, bsize } = await statfs(disk);
      // A write beyond the end is cut short or refused; either way the disk is full afterwards.
      await file.appendFile(Buffer.alloc(bavail * bsize + 1)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOSPC') throw error;
      });
    } finally {
      await file.close();
    }
  }

  async freeDisk(): Promise<void> {
    await rm(join(this.#disk(), 'filler'), { force: true });
  }

  #disk(): string {
    const { spec, guardPid, homesFolder } = this.#facts;
    if (spec.diskMiB === undefined) throw new Error(`Test host ${this.name} was started without diskMiB`);
    return `/proc/${guardPid}/root${homesFolder}`; // mounted where only the rig's own processes see it
  }
}

/** Waits for the boot script's `ready PID`. */
function readyPid(system: ChildProcessByStdio<null, Readable, Readable>): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = '';
    let errors = '';
    const timer = setTimeout(
      () => reject(new Error(`not within ${BOOT_DEADLINE_MS} ms. ${errors}`)),
      BOOT_DEADLINE_MS,
    );
    system.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      const pid = /^ready (\d+)\n/m.exec(output)?.[1];
      if (pid === undefined) return;
      clearTimeout(timer);
      resolve(Number(pid));
    });
    system.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    system.on('error', reject);
    system.on('close', (code) => {
      clearTimeout(timer);
      reject(new Error(`ended with ${code}. ${errors}`));
    });
  });
}
