/**
 * One command on one machine (`execute_remote`): no allocation and no probe, the machine is asked for nothing but a
 * shell. What the command prints is heard as it comes; results are kept when the job has a name.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import { type Job, type JobOutcome, jobId } from '../domain/job.ts';
import { NO_RESOURCES } from '../domain/request-defaults.ts';
import { notesText } from '../files/source-notes.ts';
import { SourceTrees } from '../files/source-trees.ts';
import type { FoundMachines } from '../machine/find-machines.ts';
import { type ConnectOptions, connectMachine } from '../remote/connect.ts';
import { checkJobName } from '../runner/job-name.ts';
import { MachineLink } from '../runner/machine-link.ts';
import { MachineRunner, type RunnerOptions } from '../runner/machine-runner.ts';
import { EventStream } from '../util/event-stream.ts';
import { TOOL_VERSION } from '../util/tool-version.ts';
import { gitState } from './git-state.ts';

/** What runs where. */
export interface RemoteRunOptions extends ConnectOptions {
  readonly machines: FoundMachines;
  /** Run under bash exactly as it stands. */
  readonly command: string;
  /** Names the results; without it nothing is kept. */
  readonly jobName?: string | undefined;
  /** Paths to send. @default none */
  readonly copyForwards?: readonly string[] | undefined;
  /** Paths to send once per machine and to link instead of copy. @default none */
  readonly shareForwards?: readonly string[] | undefined;
  /** Paths to bring back; needs `jobName`. @default all that the command created or changed, when there is a name */
  readonly copyBackwards?: readonly string[] | undefined;
  /** Results folder. @default 'job_results' */
  readonly results?: string;
  /** @default the working directory */
  readonly cwd?: string;
  readonly onOutput: (stream: 'out' | 'err', chunk: Buffer) => void;
  readonly onWarning?: (message: string) => void;
  /** Ends the command when it is aborted; the reason's message is told. */
  readonly signal?: AbortSignal;
  readonly tuning?: Partial<Pick<RunnerOptions, 'outputPollMs' | 'killGraceMs'>>;
}

/**
 * Runs one command on one machine and returns how it ended.
 * @throws UsageError when results of that name exist; RemoteError when the machine cannot be used.
 */
export async function runRemote(options: RemoteRunOptions): Promise<JobOutcome> {
  const {
    machines,
    command,
    jobName,
    cwd = process.cwd(),
    results = 'job_results',
    onWarning = () => {},
  } = options;
  const [entry, second] = machines.machines;
  if (entry === undefined || second !== undefined) {
    throw new UsageError(`--machine: found ${machines.machines.length} machines, expected one`);
  }
  const folder = resolve(cwd, results);
  if (jobName === undefined) {
    if (options.copyBackwards !== undefined)
      throw new UsageError('--copy-backwards needs --job-name: it names the results');
  } else {
    checkJobName(jobName);
    refuseExisting(folder, jobName);
  }
  const job: Job = {
    id: jobId(jobName ?? 'job'),
    name: jobName ?? 'job',
    line: 1,
    command,
    request: NO_RESOURCES,
    copyForwards: options.copyForwards ?? [],
    shareForwards: options.shareForwards ?? [],
    copyBackwards: jobName === undefined ? [] : (options.copyBackwards ?? 'changed'),
  };
  const trees = new SourceTrees({ cwd, results: folder, machines: machines.machines });
  for (const line of notesText(await trees.listAll([job]))) onWarning(line);
  if (jobName !== undefined) await mkdir(folder, { recursive: true });
  const { config } = entry;
  const id = randomBytes(6).toString('hex');
  const git = jobName === undefined ? undefined : await gitState(cwd);
  const host = await connectMachine(entry, options);
  const link = await MachineLink.open(config.name, host, {
    connect: () => connectMachine(entry, options),
    remoteDir: config.remoteDir,
    machineKey: 'single',
    batch: id,
    loginEnvironment: entry.kind === 'ssh',
    isForOneJob: true,
    onAway: (reason) => onWarning(`${config.name}: connection lost, the command runs on: ${reason}`),
    onBack: () => onWarning(`${config.name}: connected again`),
    onWarning: (message) => onWarning(`${config.name}: ${message}`),
  }).catch(async (error: unknown) => {
    await host.close();
    throw error;
  });
  const events = new EventStream<SchedulerEvent>();
  events.on('job:warned', ({ message }) => onWarning(message));
  const runner = new MachineRunner(link, {
    events,
    batch: { id, toolVersion: TOOL_VERSION, git },
    resultsFolder: jobName === undefined ? undefined : folder,
    treeOf: (one) => trees.of(one),
    setup: config.setup,
    env: config.env,
    startSpacingMs: 0,
    outputPollMs: 100,
    onOutput: (_job, stream, chunk) => options.onOutput(stream, chunk),
    ...options.tuning,
  });
  try {
    const run = await runner.queueUp(
      job,
      { job: job.id, number: 1 },
      { id: 0, request: NO_RESOURCES, gpus: [] },
    );
    const { signal } = options;
    const onAbort = () => run.cancel(signal?.reason instanceof Error ? signal.reason.message : 'cancelled');
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    return await run.ended;
  } finally {
    await runner.close();
  }
}

function refuseExisting(folder: string, name: string): void {
  for (const path of [name, `${name}.json`, `${name}.out`, `${name}.err`].map((file) => join(folder, file))) {
    if (existsSync(path)) {
      throw new UsageError(
        `${path} exists already: results are never replaced; move it away or use another --job-name`,
      );
    }
  }
}
