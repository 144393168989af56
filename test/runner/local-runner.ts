/** For tests of what a runner does: a real one on this machine, with a home, a project and a results folder of its own. */
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SchedulerEvent } from '../../src/lib/domain/events.ts';
import { type Job, type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { FoundAttempt } from '../../src/lib/domain/ports.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import type { JobRun } from '../../src/lib/runner/job-run.ts';
import { MachineLink } from '../../src/lib/runner/machine-link.ts';
import { MachineRunner, type RunnerOptions } from '../../src/lib/runner/machine-runner.ts';
import { EventStream } from '../../src/lib/util/event-stream.ts';
import { until } from '../rig/until.ts';

/** A job that asks for next to nothing and sends and keeps nothing, unless said otherwise. */
export function smallJob(name: string, command: string, more: Partial<Job> = {}): Job {
  return {
    id: jobId(name),
    name,
    line: 1,
    command,
    request: {
      memoryMiB: 1,
      cpuCores: 0.1,
      gpus: 0,
      gpuMemoryMiB: 0,
      gpuUtilization: 0,
      reserveGpu: false,
      reserveMachine: false,
    },
    copyForwards: [],
    shareForwards: [],
    copyBackwards: [],
    ...more,
  };
}

/** Surroundings of a runner. */
export interface LocalRunnerOptions extends Partial<RunnerOptions> {
  /** The machine's name. @default 'here' */
  readonly name?: string;
  /** The folder of an earlier runner, whose owner removes it. @default a new one */
  readonly folder?: string;
  /** @default a LocalHost in the folder's own home */
  readonly connect?: () => Promise<RemoteHost>;
  /** Added to the machine's environment. */
  readonly hostEnv?: NodeJS.ProcessEnv;
  readonly remoteDir?: string;
  readonly loginEnvironment?: boolean;
}

/** A runner and all that it needs, in one temporary folder that goes with it. */
export class LocalRunner implements AsyncDisposable {
  readonly events: SchedulerEvent[] = [];

  private constructor(
    /** Holds `home`, `project` and `job_results`. */
    readonly folder: string,
    readonly link: MachineLink,
    readonly runner: MachineRunner,
    readonly stream: EventStream<SchedulerEvent>,
    private readonly isOwner: boolean,
  ) {
    stream.subscribe((event) => this.events.push(event));
  }

  static async open(options: LocalRunnerOptions = {}): Promise<LocalRunner> {
    const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'runner-test-')));
    const path = (inside: string) => join(folder, inside);
    const folders = ['home', 'project', 'job_results'].map(path);
    await Promise.all(folders.map((one) => mkdir(one, { recursive: true })));
    const { connect, hostEnv, remoteDir, loginEnvironment = false, ...runnerOptions } = options;
    const name = machineName(options.name ?? 'here');
    const env = { ...process.env, HOME: path('home'), GRACE_TENTHS: '5', ...hostEnv };
    const local = async () => new LocalHost(name, { home: path('home'), env });
    const stream = new EventStream<SchedulerEvent>();
    const at = () => Date.now();
    const makeHost = connect ?? local;
    const link = await MachineLink.open(name, await makeHost(), {
      connect: makeHost,
      remoteDir,
      machineKey: 'key',
      batch: 'batch',
      loginEnvironment,
      backoff: { firstMs: 50, longestMs: 200 },
      onAway: (reason) => stream.publish({ type: 'machine:away', at: at(), machine: name, reason }),
      onBack: () => stream.publish({ type: 'machine:back', at: at(), machine: name }),
      onWarning: (message) => stream.publish({ type: 'machine:warned', at: at(), machine: name, message }),
    });
    const trees = new SourceTrees({ cwd: path('project'), home: path('home') });
    const runner = new MachineRunner(link, {
      events: stream,
      batch: { id: 'batch', toolVersion: 'test' },
      resultsFolder: path('job_results'),
      treeOf: (job) => trees.of(job),
      outputPollMs: 50,
      ...runnerOptions,
    });
    return new LocalRunner(folder, link, runner, stream, options.folder === undefined);
  }

  /** Queues a job up. */
  async start(job: Job, number = 1, gpus: readonly number[] = []): Promise<JobRun> {
    return await this.runner.queueUp(
      job,
      { job: job.id, number },
      { id: number, request: job.request, gpus },
    );
  }

  /** Runs a job to its end. */
  async run(job: Job, number = 1, gpus: readonly number[] = []): Promise<JobOutcome> {
    return await (await this.start(job, number, gpus)).ended;
  }

  /** Takes over an attempt of a job that an earlier runner started, as soon as it is found in that state. */
  async adopt(job: Job, state: FoundAttempt['state'], number = 1): Promise<JobRun> {
    const found = await until(
      async () =>
        (await this.runner.discover()).find(
          (one) => one.attempt.job === job.id && one.attempt.number === number && one.state === state,
        ),
      { deadlineMs: 15_000, describe: `${job.name} is ${state}` },
    );
    return await this.runner.adopt(job, found, { id: number, request: job.request, gpus: [] });
  }

  /** The names in the results folder that begin so. */
  async resultNames(prefix: string): Promise<string[]> {
    return (await readdir(this.result())).filter((name) => name.startsWith(prefix)).sort();
  }

  /** A path below the project. */
  project(path = ''): string {
    return join(this.folder, 'project', path);
  }

  /** A path below the results folder. */
  result(path = ''): string {
    return join(this.folder, 'job_results', path);
  }

  /** What a result file holds. */
  async read(path: string): Promise<string> {
    return await readFile(this.result(path), 'utf8');
  }

  /** Resolves with the first event of that type that fits. */
  async event<T extends SchedulerEvent['type']>(
    type: T,
    fits: (event: Extract<SchedulerEvent, { type: T }>) => boolean = () => true,
  ): Promise<Extract<SchedulerEvent, { type: T }>> {
    return await until(
      () => this.events.filter((e): e is Extract<SchedulerEvent, { type: T }> => e.type === type).find(fits),
      { deadlineMs: 15_000, describe: () => ({ waitingFor: type, events: this.events }) },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.runner.close();
    // What a failed test left running writes into its folder until it notices that nobody wants it.
    if (this.isOwner) await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}
