/** What every bench of a command starts from: test hosts, their machine files, project folders, the built commands. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TestHosts } from '../test/rig/test-hosts.ts';
import type { TimedCommand } from './timing.ts';

const command = (name: string) => fileURLToPath(new URL(`../dist/cli/${name}.js`, import.meta.url));
/** Entry points as npm installs them. */
export const EXECUTE_BATCH = command('execute-batch');
export const EXECUTE_REMOTE = command('execute-remote');
export const EXECUTE_TO = command('execute-to');

/** So small that a machine's `max_jobs` is what limits a batch. */
const SMALL_REQUEST = ['--no-gpu-required', '--memory-required', '1', '--num-cpus', '0.001'];

/** Test hosts and a folder of the bench's own. Both go with it. */
export class Bench implements AsyncDisposable {
  readonly #projects: string;
  #count = 0;

  /** Starts the hosts `node1` ... `nodeN`. */
  static async open(hostCount: number): Promise<Bench> {
    const names = Array.from({ length: hostCount }, (_, i) => `node${i + 1}`);
    const folder = await mkdtemp(join(tmpdir(), 'bench-'));
    const hosts = await TestHosts.start(names.map((name) => ({ name }))).catch(async (error: unknown) => {
      await rm(folder, { recursive: true, force: true });
      throw error;
    });
    return new Bench(hosts, folder);
  }

  private constructor(
    readonly hosts: TestHosts,
    /** For what belongs to no project. */
    readonly folder: string,
  ) {
    this.#projects = join(folder, 'projects');
  }

  /** Names of the first hosts, as the ssh configuration has them. */
  names(count: number): string[] {
    return this.hosts.hosts.slice(0, count).map(({ name }) => name);
  }

  /** Machine files of the first hosts, which allow so many jobs at a time. */
  async machineFiles(count: number, maxJobs: number): Promise<string[]> {
    return await Promise.all(
      this.names(count).map(async (name) => {
        const file = join(this.folder, `${name}-${maxJobs}.yaml`);
        await writeFile(file, `name: ${name}\nhost: ${name}\nmax_jobs: ${maxJobs}\n`, { mode: 0o600 });
        return file;
      }),
    );
  }

  /** A new project folder that holds a batch file and nothing else. */
  async project(lines: readonly string[]): Promise<string> {
    const folder = join(this.#projects, String(++this.#count));
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'jobs.sh'), lines.map((line) => `${line}\n`).join(''));
    return folder;
  }

  /** `execute_batch` in such a folder, with all options that are not named here as they are by default. */
  batchCommand(project: string, machineFiles: readonly string[], entry = EXECUTE_BATCH): TimedCommand {
    const options = ['--ssh-config', this.hosts.sshConfigPath, ...SMALL_REQUEST];
    const args = [entry, 'jobs.sh', '--machines', ...machineFiles, ...options];
    return { program: process.execPath, args, cwd: project };
  }

  /** The system's `ssh` running a command line on a host. */
  sshCommand(host: string, line: string): TimedCommand {
    return { program: 'ssh', args: ['-F', this.hosts.sshConfigPath, host, line] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hosts.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}
