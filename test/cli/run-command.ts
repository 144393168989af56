/**
 * Runs the built commands as a user does: `node dist/cli/...` in a project folder of its own, with a home folder, an ssh
 * configuration and a known_hosts file that belong to the test alone.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { vi } from 'vitest';
import { SAME_PRESS_MS } from '../../src/cli/interrupts.ts';
import { canUseNamespaces } from '../rig/namespace-rig.ts';
import type { TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

const DIST = fileURLToPath(new URL('../../dist/cli/', import.meta.url));
const DEADLINE_MS = 50_000;
// Tests here run several commands each, side by side: on a busy machine that takes a while.
vi.setConfig({ testTimeout: 60_000 });

/** Requests so small that a busy or tiny machine holds many at once. */
export const TINY = ['--memory-required', '10', '--num-cpus', '0.01'] as const;
export const TINY_CPU = [...TINY, '--no-gpu-required'] as const;

/**
 * Whether each test host is a machine of its own. In loopback mode all are one machine to a probe, so that a batch on
 * several of them is refused: tests of those cannot run there.
 */
export const hostsAreMachines = process.env.TEST_HOSTS !== 'loopback' && (await canUseNamespaces());
if (!hostsAreMachines) {
  console.warn('Test hosts have no namespaces of their own here: what needs several machines is not tested.');
}

/** How a command ended. */
export interface CommandEnd {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Surroundings of one command. */
export interface RunOptions {
  /** Folder to run in, relative to the project. @default the project */
  readonly cwd?: string;
  /** Variables beside the project's; undefined takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** A command under way. */
export class RunningCommand {
  readonly ended: Promise<CommandEnd>;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #chunks: { readonly out: Buffer[]; readonly err: Buffer[] } = { out: [], err: [] };

  constructor(program: string, args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv }) {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stdout.on('data', (chunk: Buffer) => this.#chunks.out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => this.#chunks.err.push(chunk));
    // A command that hangs fails its test with what it said, and does not outlive it.
    const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS);
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (exitCode) => {
        clearTimeout(timer);
        resolve({ exitCode, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** What it printed so far. */
  get stdout(): string {
    return this.stdoutBytes.toString();
  }
  get stdoutBytes(): Buffer {
    return Buffer.concat(this.#chunks.out);
  }
  get stderr(): string {
    return Buffer.concat(this.#chunks.err).toString();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Whether it has not ended yet. */
  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Waits until it has printed what the pattern describes. @throws Error with all it printed, after the deadline */
  async says(pattern: RegExp, stream: 'stdout' | 'stderr' = 'stdout', deadlineMs = 15_000): Promise<void> {
    const describe = () => `${pattern} on ${stream}\n${this.stdout}\n${this.stderr}`;
    await until(() => pattern.test(this[stream]), { deadlineMs, describe });
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Ctrl-C once more, when an earlier one has had its effect: late enough to count as another one. */
  async interruptAgain(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 2 * SAME_PRESS_MS));
    this.signal('SIGINT');
  }
}

/** A user's project folder, with everything that the commands read and write. Gone with the test. */
export class Project implements AsyncDisposable {
  readonly path: string;
  readonly home: string;
  readonly sshConfigPath: string;
  readonly knownHostsPath: string;
  readonly #root: string;
  readonly #commands: RunningCommand[] = [];

  /** Makes a project that knows the host keys of `hosts`, with a machine file NAME.yaml for each host. */
  static async start(hosts?: TestHosts): Promise<Project> {
    const project = new Project(await mkdtemp(join(tmpdir(), 'cli-test-')));
    await mkdir(project.path);
    await mkdir(project.home);
    const known = hosts === undefined ? '' : await readFile(hosts.knownHostsPath, 'utf8');
    await writeFile(project.knownHostsPath, known);
    await writeFile(
      project.sshConfigPath,
      `Host *\n  UserKnownHostsFile ${project.knownHostsPath}\n  GlobalKnownHostsFile none\n`,
    );
    for (const host of hosts?.hosts ?? []) await project.machine(host);
    return project;
  }

  private constructor(root: string) {
    this.#root = root;
    this.path = join(root, 'project');
    this.home = join(root, 'home');
    this.sshConfigPath = join(root, 'ssh_config');
    this.knownHostsPath = join(root, 'known_hosts');
  }

  /** Writes the machine file NAME.yaml for a host, with further lines of YAML. */
  async machine(host: TestHost, extra = '', file = `${host.name}.yaml`): Promise<string> {
    return await this.write(file, host.machineFile(extra));
  }

  /** Writes a file and returns its path. An array is a file of lines. */
  async write(name: string, content: string | Buffer | readonly string[], mode = 0o600): Promise<string> {
    const path = join(this.path, name);
    await mkdir(dirname(path), { recursive: true });
    const isText = typeof content === 'string' || Buffer.isBuffer(content);
    await writeFile(path, isText ? content : content.map((line) => `${line}\n`).join(''), { mode });
    return path;
  }

  async read(name: string): Promise<string> {
    return await readFile(join(this.path, name), 'utf8');
  }

  /** A result's manifest; its fields are what the test says they are. */
  async manifest(job: string, results = 'job_results'): Promise<Record<string, unknown>> {
    return JSON.parse(await this.read(join(results, `${job}.json`))) as Record<string, unknown>; // an object, or the test fails
  }

  has(name: string): boolean {
    return existsSync(join(this.path, name));
  }

  /** The names in a folder, sorted, without our own `.batches`; none where there is no folder. */
  async list(name = '.'): Promise<string[]> {
    const names = await readdir(join(this.path, name)).catch(() => []);
    return names.filter((one) => one !== '.batches').sort();
  }

  /** Starts execute_batch. */
  startBatch(args: readonly string[], options?: RunOptions): RunningCommand {
    return this.#start('execute-batch.js', args, options);
  }

  /** Runs execute_batch to its end. */
  batch(...args: readonly string[]): Promise<CommandEnd> {
    return this.startBatch(args).ended;
  }

  /** Starts execute_remote. */
  startRemote(args: readonly string[], options?: RunOptions): RunningCommand {
    return this.#start('execute-remote.js', args, options);
  }

  /** Runs execute_remote to its end. */
  remote(...args: readonly string[]): Promise<CommandEnd> {
    return this.startRemote(args).ended;
  }

  /** Starts execute_to. */
  startTo(args: readonly string[], options?: RunOptions): RunningCommand {
    return this.#start('execute-to.js', args, options);
  }

  /** Starts job_queue. */
  startQueue(args: readonly string[], options?: RunOptions): RunningCommand {
    return this.#start('job-queue.js', args, options);
  }

  /** Runs job_queue to its end. */
  queue(...args: readonly string[]): Promise<CommandEnd> {
    return this.startQueue(args).ended;
  }

  /** Runs execute_to to its end. */
  to(...args: readonly string[]): Promise<CommandEnd> {
    return this.startTo(args).ended;
  }

  /** Runs a line of bash in the project, in which `execute_batch`, `execute_remote` and `execute_to` are the built commands. */
  startShell(line: string, options?: RunOptions): RunningCommand {
    const defined = ['batch', 'remote', 'to'].map(
      (name) =>
        `execute_${name}() { '${process.execPath}' '${join(DIST, `execute-${name}.js`)}' --ssh-config '${this.sshConfigPath}' "$@"; }`,
    );
    return this.#spawn('/bin/bash', ['-c', `${defined.join('\n')}\n${line}`], options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const command of this.#commands) {
      if (command.isRunning) command.signal('SIGKILL');
      await command.ended.catch(() => {});
    }
    await rm(this.#root, { recursive: true, force: true });
  }

  #start(script: string, args: readonly string[], options?: RunOptions): RunningCommand {
    const all = [join(DIST, script), '--ssh-config', this.sshConfigPath, ...args];
    return this.#spawn(process.execPath, all, options);
  }

  #spawn(program: string, args: readonly string[], { cwd = '.', env = {} }: RunOptions = {}): RunningCommand {
    const own = {
      HOME: this.home,
      PATH: process.env.PATH,
      LANG: 'C.UTF-8',
      USER: process.env.USER ?? 'user',
    };
    const command = new RunningCommand(program, args, {
      cwd: join(this.path, cwd),
      env: { ...own, ...env },
    });
    this.#commands.push(command);
    return command;
  }
}

/** The lines of a text, without the empty rest behind the last newline. */
export function linesOf(text: string): string[] {
  return text.split('\n').slice(0, text.endsWith('\n') ? -1 : undefined);
}

/** The text lines of a batch without `(exited 0, gpubox, 0.1s)`, which the seed's lines do not have. */
export function withoutFacts(stdout: string): string[] {
  return linesOf(stdout).map((line) => line.replace(/ \([^()]*, [\d.]+m?s[^()]*\)$/, ''));
}
