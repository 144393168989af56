/** A test host where rights are few: sshd as the current account on a loopback port, with a home folder of its own. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandResult, runCommand } from './command.ts';
import { findProgram } from './find-program.ts';
import { readProcesses } from './process-list.ts';
import type { Relay } from './relay.ts';
import { type HostFacts, type HostProcess, TestHost } from './test-host.ts';
import { until } from './until.ts';

/** Where a host lives, beyond what every host knows. */
export interface LoopbackFacts extends HostFacts {
  readonly folder: string;
  /** In front of the server: the only network there is to cut. */
  readonly relay: Relay;
  /** What every session's environment holds; TEST_HOST among it marks the host's processes. */
  readonly environment: Readonly<Record<string, string>>;
}

/** A host on this machine's loopback. */
export class LoopbackHost extends TestHost {
  readonly #facts: LoopbackFacts;

  constructor(facts: LoopbackFacts) {
    super(facts);
    this.#facts = facts;
  }

  exec(command: string): Promise<CommandResult> {
    const env = { ...process.env, ...this.#facts.environment };
    return runCommand('/bin/bash', ['-c', 'cd && eval "$1"', 'exec', command], { env });
  }

  processes(): Promise<HostProcess[]> {
    const mark = `TEST_HOST=${this.#facts.environment.TEST_HOST}`;
    return readProcesses('/proc', (environment) => environment.split('\0').includes(mark));
  }

  cut(): Promise<void> {
    this.#facts.relay.cut();
    return Promise.resolve();
  }

  heal(): Promise<void> {
    this.#facts.relay.heal();
    return Promise.resolve();
  }

  powerOff(): Promise<void> {
    return Promise.reject(new Error('powerOff needs test hosts in namespaces (see capabilities)'));
  }

  boot(): Promise<void> {
    return Promise.reject(new Error('boot needs test hosts in namespaces (see capabilities)'));
  }

  fillDisk(): Promise<void> {
    return Promise.reject(new Error('fillDisk needs test hosts in namespaces (see capabilities)'));
  }

  freeDisk(): Promise<void> {
    return Promise.reject(new Error('freeDisk needs test hosts in namespaces (see capabilities)'));
  }

  async startSshd(): Promise<void> {
    const args = ['-f', this.sshdConfigPath, '-E', this.sshdLogPath];
    const { exitCode, stderr } = await runCommand(findProgram('sshd'), args);
    const log = () => readFile(this.sshdLogPath, 'utf8').catch(() => '');
    if (exitCode !== 0) throw new Error(`sshd of ${this.name} does not start: ${stderr} ${await log()}`);
    // The parent returns before its child listens; the child writes its id once it does, or ends.
    await until(() => this.#sshdPid(), { describe: async () => `sshd of ${this.name}: ${await log()}` });
  }

  protected async stopSshd(): Promise<void> {
    const pid = await this.#sshdPid();
    if (pid === 0) return;
    process.kill(pid, 'SIGTERM');
    // sshd closes its port, then removes this file, then ends.
    await until(async () => (await this.#sshdPid()) === 0, { describe: `the end of sshd of ${this.name}` });
  }

  async #sshdPid(): Promise<number> {
    return Number(await readFile(join(this.#facts.folder, 'sshd.pid'), 'utf8').catch(() => '0'));
  }
}
