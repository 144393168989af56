/** For tests of the queue service: one in this process, on this machine, with a home, a project and a data folder of its own. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { QueueJobId, QueueState } from '../../src/lib/domain/queue.ts';
import { DoorClient } from '../../src/lib/queue/door-client.ts';
import type { JobRow, SubmitAnswer, SubmitRequest } from '../../src/lib/queue/requests.ts';
import { QueueService, type ServiceOptions } from '../../src/lib/queue/service.ts';
import { until } from '../rig/until.ts';

/** What next to nothing needs. */
export const TINY_REQUEST = {
  memoryMiB: 10,
  cpuCores: 0.01,
  gpus: 0,
  gpuMemoryMiB: 0,
  gpuUtilization: 0,
  reserveGpu: false,
  reserveMachine: false,
} as const;

/** Folders of one or several services, one after the other. They go when it is disposed of. */
export class ServiceFolders {
  readonly root = mkdtempSync(join(tmpdir(), 'queue-service-'));
  readonly data = join(this.root, 'data');
  readonly project = join(this.root, 'project');
  readonly results = join(this.project, 'job_results');
  readonly #homeBefore = process.env.HOME;

  constructor() {
    for (const folder of [this.project, join(this.root, 'home')]) mkdirSync(folder);
    process.env.HOME = join(this.root, 'home'); // where the built-in machine keeps its runs
  }

  [Symbol.dispose](): void {
    process.env.HOME = this.#homeBefore;
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** A service in this process, and somebody at its door. */
export class RunningService implements AsyncDisposable {
  readonly notes: string[];

  private constructor(
    readonly folders: ServiceFolders,
    readonly service: QueueService,
    readonly door: DoorClient,
    notes: string[],
  ) {
    this.notes = notes;
  }

  static async open(folders: ServiceFolders, more: Partial<ServiceOptions> = {}): Promise<RunningService> {
    const notes: string[] = [];
    const service = await QueueService.open({
      dataFolder: folders.data,
      ...more,
      onNote: (line) => notes.push(line),
      tuning: { outputPollMs: 50, ...more.tuning },
    });
    const door = await DoorClient.connect(service.dataFolder);
    return new RunningService(folders, service, door, notes);
  }

  /** Submits one command; returns its id. */
  async submit(command: string, more: Partial<SubmitRequest> = {}): Promise<QueueJobId> {
    return (await this.submitAll([command], more)).firstId;
  }

  async submitAll(commands: readonly string[], more: Partial<SubmitRequest> = {}): Promise<SubmitAnswer> {
    const request: SubmitRequest = {
      jobs: commands.map((command) => ({ command })),
      request: TINY_REQUEST,
      cwd: this.folders.project,
      copyForwards: [],
      copyBackwards: [],
      ...more,
    };
    return (await this.door.call('submit', request)) as SubmitAnswer;
  }

  async get(id: QueueJobId): Promise<JobRow> {
    return (await this.door.call('get', { id })) as JobRow;
  }

  /** Waits until a job is in that state. */
  async reaches(id: QueueJobId, state: QueueState): Promise<JobRow> {
    return await until(
      async () => {
        const job = await this.get(id);
        return job.state === state && job;
      },
      { deadlineMs: 20_000, describe: async () => this.get(id) },
    );
  }

  /** What a job's result says on standard output. */
  out(name: string): string {
    return readFileSync(join(this.folders.results, `${name}.out`), 'utf8');
  }

  /** Ends the service and leaves its jobs running. */
  async leave(): Promise<void> {
    this.door.close();
    await this.service[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }
}
