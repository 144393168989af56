/** A `job_queue` service for the bench: the built command in a process and a data folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DoorClient } from '../src/lib/queue/door-client.ts';
import type { InfoAnswer, MachineRow } from '../src/lib/queue/requests.ts';
import { until } from '../test/rig/until.ts';
import type { TimedCommand } from './timing.ts';

/** Entry point as npm installs it. */
export const JOB_QUEUE = fileURLToPath(new URL('../dist/cli/job-queue.js', import.meta.url));

/** So small that a machine's `max_jobs` is what limits. */
export const SMALL_JOBS = ['--no-gpu-required', '--memory-required', '1', '--num-cpus', '0.001'] as const;

const START_DEADLINE_MS = 90_000;
const STOP_DEADLINE_MS = 30_000;

/** What a service is started with. */
export interface BenchServiceOptions {
  /** Its data folder, and with `-home` behind it the home folder where its own machine keeps runs. */
  readonly dataFolder: string;
  /** Flags of `job_queue start`. @default none: it serves `local` */
  readonly flags?: readonly string[];
}

/** A service that answers. It leaves when it is disposed of; its data folder stays. */
export class BenchService implements AsyncDisposable {
  private constructor(
    readonly dataFolder: string,
    /** At its door, from this process. */
    readonly door: DoorClient,
    /** From the start of the process until `info` was answered. */
    readonly startSeconds: number,
    readonly env: NodeJS.ProcessEnv,
    private readonly child: ChildProcess,
  ) {}

  /** @throws Error with what it said when it ends, or does not answer */
  static async start({ dataFolder, flags = [] }: BenchServiceOptions): Promise<BenchService> {
    const env = { ...process.env, HOME: `${dataFolder}-home` };
    await mkdir(env.HOME, { recursive: true });
    const began = performance.now();
    const args = [JOB_QUEUE, 'start', '--data-dir', dataFolder, ...flags];
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-2000);
    });
    const answering = async () => {
      if (hasEnded(child)) return 'ended';
      const door = await DoorClient.connect(dataFolder);
      await door.call('info', {});
      return door;
    };
    try {
      const door = await until(answering, { deadlineMs: START_DEADLINE_MS, describe: () => said });
      const seconds = (performance.now() - began) / 1000;
      if (door === 'ended') throw new Error(`job_queue start ended: ${said.trim()}`);
      return new BenchService(dataFolder, door, seconds, env, child);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** A command that asks this service, run in a folder. */
  command(cwd: string, ...words: readonly string[]): TimedCommand {
    const args = [JOB_QUEUE, '--data-dir', this.dataFolder, ...words];
    return { program: process.execPath, args, cwd, env: this.env };
  }

  async info(): Promise<InfoAnswer> {
    return (await this.door.call('info', {})) as InfoAnswer; // our own service's answer
  }

  /** Gives its machines nothing more, so that jobs wait. */
  async drain(): Promise<void> {
    await this.door.call('configure', { machine: 'all', maxJobs: 0 });
  }

  /** Settles when so many machines take jobs. */
  async ready(machines: number): Promise<void> {
    const rows = async () => (await this.door.call('machines', {})) as readonly MachineRow[];
    await until(async () => (await rows()).filter(({ state }) => state === 'ready').length === machines, {
      deadlineMs: START_DEADLINE_MS,
      describe: async () => (await rows()).map(({ name, state, reason }) => ({ name, state, reason })),
    });
  }

  /** Ends it as `systemctl stop` does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.door.close();
    if (hasEnded(this.child)) return;
    const exit = once(this.child, 'exit');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), STOP_DEADLINE_MS);
    this.child.kill('SIGTERM');
    await exit;
    clearTimeout(timer);
  }
}

/** A folder below one of the bench's. */
export async function folderIn(...path: readonly [string, ...string[]]): Promise<string> {
  const folder = join(...path);
  await mkdir(folder, { recursive: true });
  return folder;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
