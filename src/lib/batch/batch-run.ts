/**
 * One run of a batch: reads its file, sees what is left to do, opens the machines, refuses what can never run, and has
 * the engine run the rest. Everything that can be wrong is found before the first job starts.
 */
import { resolve } from 'node:path';
import type { MachinePool } from '../allocator/machine-pool.ts';
import { type OpenPoolOptions, openPool } from '../allocator/open-pool.ts';
import type { Placement } from '../allocator/virtual-resources.ts';
import { UsageError } from '../domain/errors.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import { isSuccess, type Job, type JobOutcome } from '../domain/job.ts';
import type { FoundAttempt, Reservation } from '../domain/ports.ts';
import { DEFAULT_REQUEST } from '../domain/request-defaults.ts';
import { type ResourceRequest, requestKey } from '../domain/resources.ts';
import { Engine } from '../engine/engine.ts';
import { notesText } from '../files/source-notes.ts';
import { SourceTrees } from '../files/source-trees.ts';
import type { FoundMachines } from '../machine/find-machines.ts';
import { noteLeftovers } from '../runner/end-leftovers.ts';
import { jobFolder } from '../runner/job-folder.ts';
import type { RunnerOptions } from '../runner/machine-runner.ts';
import { type BatchRecord, takeBatch } from '../stores/batch-record.ts';
import { MemoryStore } from '../stores/memory.ts';
import {
  type OpenedResults,
  openResultFolder,
  readResultFolder,
  type SkippedJob,
} from '../stores/result-folder.ts';
import { EventStream } from '../util/event-stream.ts';
import { type JobDefaults, jobNameStem, readBatchFile } from './batch-file.ts';
import { sortFound } from './found-attempts.ts';
import { gitState } from './git-state.ts';
import { checkShellSyntax, lineNoteText } from './line-checks.ts';
import { TOOL_VERSION } from './tool-version.ts';
import { changedTreeText, copiesText } from './tree-notes.ts';

/** What a batch is and where it runs. */
export interface BatchOptions {
  /** The batch file as the user named it. */
  readonly file: string;
  readonly machines: FoundMachines;
  /** What a line gets that does not say otherwise. */
  readonly defaults: JobDefaults;
  /** Results folder. @default 'job_results' */
  readonly results?: string;
  /** Folder that relative paths start from. @default the working directory */
  readonly cwd?: string;
  readonly placement?: Placement;
  /** Only plan: query the machines and start nothing. @default false */
  readonly dryRun?: boolean;
  /** Hears of things a person should know before anything starts. One line each. */
  readonly onWarning?: (message: string) => void;
  readonly onOutput?: RunnerOptions['onOutput'];
  /** Time limits and the like, for tests and unusual networks. */
  readonly tuning?: Pick<OpenPoolOptions, 'ssh' | 'query'> &
    Partial<Pick<RunnerOptions, 'outputPollMs' | 'killGraceMs' | 'gpuWaitMs'>>;
}

/** How a batch came out. */
export interface BatchSummary {
  /** Lines that are jobs. */
  readonly jobs: number;
  /** Lines with a good result now, from this run or an earlier one. */
  readonly good: number;
}

/** Where a line would start if the batch were run now. */
export type PlannedStart =
  | { readonly type: 'starts'; readonly job: Job; readonly machine: string; readonly gpus: readonly number[] }
  | { readonly type: 'waits'; readonly job: Job }
  | { readonly type: 'never-fits'; readonly job: Job; readonly reasons: readonly string[] };

/** A batch whose file is read and whose results folder is looked through. */
export class BatchRun implements AsyncDisposable {
  /** Everything that happens; subscribe before `connect`. */
  readonly events = new EventStream<SchedulerEvent>();
  /** Names the batch in events, in manifests and on the machines: the same for every run of it with these results. */
  readonly id: string;
  readonly jobs: readonly Job[];
  readonly toRun: readonly Job[];
  readonly skipped: readonly SkippedJob[];
  readonly #options: BatchOptions;
  readonly #results: string;
  readonly #record: BatchRecord | undefined;
  #pool: MachinePool | undefined;
  #engine: Engine | undefined;
  /** What earlier runs left on the machines: attempts to go on with, and the highest number of each job's. */
  #found: ReturnType<typeof sortFound> = { toAdopt: [], noted: [], toDiscard: [], strange: [] };

  /**
   * Reads the batch file and the results folder, and checks every line.
   * @throws UsageError with one clear message for the first kind of mistake found.
   */
  static async open(options: BatchOptions): Promise<BatchRun> {
    const {
      file,
      defaults,
      cwd = process.cwd(),
      results = 'job_results',
      onWarning,
      dryRun = false,
    } = options;
    const { lines, warnings } = await readBatchFile({ path: file, defaults });
    const jobs = lines.map(({ job }) => job);
    const notes = [...warnings, ...(await checkShellSyntax(jobs, { path: file }))];
    for (const note of notes) onWarning?.(lineNoteText(note, file));
    const folder = resolve(cwd, results);
    if (dryRun) return new BatchRun(options, folder, jobs, await readResultFolder(folder, jobs), undefined);
    const record = takeBatch(folder, jobFolder(jobNameStem(file)));
    try {
      return new BatchRun(options, folder, jobs, await openResultFolder(folder, jobs), record);
    } catch (error) {
      record.release();
      throw error;
    }
  }

  private constructor(
    options: BatchOptions,
    results: string,
    jobs: readonly Job[],
    opened: OpenedResults,
    record: BatchRecord | undefined,
  ) {
    this.#options = options;
    this.#results = results;
    this.#record = record;
    this.id = record?.id ?? '';
    this.jobs = jobs;
    this.toRun = opened.toRun;
    this.skipped = opened.skipped;
  }

  /**
   * Lists what goes forward and opens the machines, both at once.
   * @throws UsageError when a line can never run on any of them, with what is short on each.
   */
  async connect(): Promise<void> {
    const {
      machines,
      defaults,
      placement,
      dryRun = false,
      cwd = process.cwd(),
      tuning = {},
      onOutput,
    } = this.#options;
    const trees = new SourceTrees({ cwd, results: this.#results, machines: machines.machines });
    const { ssh, query, ...limits } = tuning;
    const listing = trees.listAll(this.toRun);
    const opening = gitState(cwd).then(async (git) =>
      openPool({
        machines: machines.machines,
        events: this.events,
        typicalRequest: defaults.request,
        ...(placement === undefined ? {} : { placement }),
        ...(ssh === undefined ? {} : { ssh }),
        ...(query === undefined ? {} : { query }),
        runner: dryRun
          ? undefined
          : {
              batch: { id: this.id, toolVersion: TOOL_VERSION, git },
              resultsFolder: this.#results,
              treeOf: (job) => trees.of(job),
              onOutput,
              ...limits,
            },
      }),
    );
    const [listed, opened] = await Promise.allSettled([listing, opening]);
    if (opened.status === 'fulfilled') this.#pool = opened.value;
    if (listed.status === 'rejected') throw listed.reason;
    if (opened.status === 'rejected') throw opened.reason;
    if (this.#record?.isNew === false) await this.#find(opened.value);
    for (const line of notesText(listed.value)) this.#options.onWarning?.(line);
    if (this.toRun.length > 0) {
      const tellings = [changedTreeText(this.skipped, this.toRun, trees), copiesText(this.toRun, trees)];
      for (const telling of tellings) {
        const line = await telling;
        if (line !== undefined) this.#options.onWarning?.(line);
      }
    }
    if (!dryRun) this.#refuseImpossible(opened.value);
    this.#hintAtDefaults(opened.value);
  }

  /** Runs what is left. Returns when all has ended, or, once stopped, when what runs has ended. */
  async run(): Promise<BatchSummary> {
    const beganAt = Date.now();
    const { file } = this.#options;
    this.events.publish({
      type: 'batch:started',
      at: beganAt,
      batch: this.id,
      file,
      jobs: this.jobs.length,
      skipped: this.skipped.length,
    });
    for (const { job, reason, isGood } of this.skipped) {
      this.events.publish({
        type: 'job:skipped',
        at: beganAt,
        job: job.id,
        name: job.name,
        line: job.line,
        reason,
        isGood,
      });
    }
    const outcomes = new Map<string, JobOutcome>();
    if (this.toRun.length > 0) {
      const store = new MemoryStore(this.toRun);
      this.#engine = new Engine(store, this.#openPool());
      for (const attempt of this.#found.noted) store.noteAttempt(attempt);
      for (const { job, found } of this.#found.toAdopt) {
        store.resume(found.attempt);
        const running = this.#openPool().adopt(job, found);
        this.#engine.adopt(job, running);
        if (found.state === 'ending') running.cancel('an earlier run had asked for its end');
      }
      if (this.#isStopped) this.#engine.stop();
      await this.#engine.run();
      for (const job of this.toRun) {
        const outcome = store.outcomeOf(job.id);
        if (outcome !== undefined) outcomes.set(job.id, outcome);
      }
    }
    const done = [...outcomes.values()].filter(isSuccess).length;
    const endedAt = Date.now();
    this.events.publish({
      type: 'batch:ended',
      at: endedAt,
      batch: this.id,
      done,
      failed: outcomes.size - done,
      skipped: this.skipped.length,
      notRun: this.toRun.length - outcomes.size,
      durationMs: endedAt - beganAt,
    });
    return { jobs: this.jobs.length, good: done + this.skipped.filter(({ isGood }) => isGood).length };
  }

  /** Where each line that is left would go now, in order, until nothing more fits. */
  plan(): readonly PlannedStart[] {
    const pool = this.#openPool();
    const reservations: Reservation[] = [];
    const planned = this.toRun.map((job): PlannedStart => {
      const placed = pool.reserve(job);
      if (placed.type === 'reserved') {
        reservations.push(placed);
        return {
          type: 'starts',
          job,
          machine: placed.machine,
          gpus: job.request.gpus > 0 ? placed.gpus : [],
        };
      }
      return placed.everFits
        ? { type: 'waits', job }
        : { type: 'never-fits', job, reasons: reasonsOf(pool, job.request) };
    });
    for (const reservation of reservations) pool.release(reservation);
    return planned;
  }

  /** Starts nothing more; what runs runs to its end. */
  stop(): void {
    this.#isStopped = true;
    this.#engine?.stop();
  }
  #isStopped = false;

  /**
   * Ends what runs, with all its processes; what it wrote is still brought home. What runs on a machine that cannot be
   * reached is noted, and ended at the next contact; resolves to what that is, once all else has ended.
   */
  async cancelAll(reason: string): Promise<readonly { readonly machine: string; readonly job: string }[]> {
    this.#isStopped = true;
    const engine = this.#engine;
    engine?.cancelAll(reason);
    const pool = this.#pool;
    if (engine === undefined || pool === undefined) return [];
    while (engine.runningCount > 0) {
      const stranded = pool.stranded();
      if (stranded.length >= engine.runningCount) {
        try {
          noteLeftovers(
            this.#results,
            stranded.map((one) => ({ ...one, batch: this.id })),
          );
        } finally {
          engine.leave(); // also where the note cannot be written (disk full): nothing else is left to wait for
        }
        return stranded;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return [];
  }

  /** How many jobs run now. */
  get runningCount(): number {
    return this.#engine?.runningCount ?? 0;
  }

  /** Lets go of the machines. Jobs that run there run on. */
  async close(): Promise<void> {
    try {
      await this.#pool?.close();
    } finally {
      this.#record?.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #openPool(): MachinePool {
    if (this.#pool === undefined) throw new Error('Internal error: connect first');
    return this.#pool;
  }

  /** Looks for what earlier runs of this batch left on the machines. */
  async #find(pool: MachinePool): Promise<void> {
    this.#found = sortFound(await pool.discover(), this.jobs, this.toRun);
    const { toAdopt, toDiscard, strange } = this.#found;
    for (const found of toDiscard) pool.discard(found);
    const count = (state: FoundAttempt['state']) =>
      toAdopt.filter(({ found }) => found.state === state).length;
    const [running, ended] = [count('running'), count('ended')];
    const say = (jobs: number, what: string) => {
      if (jobs > 0)
        this.#options.onWarning?.(`${jobs} job${jobs === 1 ? '' : 's'} of an earlier run ${what}`);
    };
    say(
      running,
      running === 1 ? 'may still be running: it is followed' : 'may still be running: they are followed',
    );
    say(
      ended,
      ended === 1 ? 'has ended: its results are brought home' : 'have ended: their results are brought home',
    );
    say(
      strange.length,
      `belong to no line as it is now, and stay where they are (${[...new Set(strange.map(({ machine }) => machine))].join(', ')})`,
    );
  }

  #refuseImpossible(pool: MachinePool): void {
    const kinds = new Map<string, Job[]>();
    const adopted = new Set(this.#found.toAdopt.map(({ job }) => job.id));
    for (const job of this.toRun) {
      if (adopted.has(job.id)) continue;
      if (pool.canEverFit(job.request)) continue;
      const { id, name, line, command, request } = job;
      const shortfalls = pool.explainEver(request);
      this.events.publish({
        type: 'job:never-fits',
        at: Date.now(),
        job: id,
        name,
        line,
        command,
        request,
        shortfalls,
      });
      const key = requestKey(request);
      const kind = kinds.get(key);
      if (kind === undefined) kinds.set(key, [job]);
      else kind.push(job);
    }
    if (kinds.size === 0) return;
    const text = [...kinds.values()].slice(0, KINDS_SHOWN).flatMap((jobs) => impossibleText(pool, jobs));
    if (kinds.size > KINDS_SHOWN) text.push(`and lines with ${kinds.size - KINDS_SHOWN} other requests`);
    const { request } = this.#options.defaults;
    const hints = [
      ...memoryHint(pool, request),
      ...gpuHint(pool, request),
      ...busyHint(pool, kinds.values()),
    ];
    throw new UsageError([...text, ...hints].join('\n'));
  }

  #hintAtDefaults(pool: MachinePool): void {
    const { request } = this.#options.defaults;
    const waiting = this.toRun.filter((job) => job.request === request).length;
    const atOnce = countFits(pool, request);
    if (waiting <= atOnce || atOnce === 0) return;
    const hint = [...memoryHint(pool, request), ...utilizationHint(pool, request)][0];
    if (hint !== undefined) this.#options.onWarning?.(hint);
  }
}

const KINDS_SHOWN = 5;

/** Says that some lines with one request can never run, and what is short on each machine. */
function impossibleText(pool: MachinePool, jobs: readonly Job[]): string[] {
  const [first] = jobs;
  if (first === undefined) return [];
  const lines = jobs.length === 1 ? `line ${first.line}` : `${jobs.length} lines, first line ${first.line},`;
  return [
    `${lines} can never run on these machines:`,
    ...reasonsOf(pool, first.request).map((reason) => `  ${reason}`),
  ];
}

/** What is short on each machine, a line each. */
function reasonsOf(pool: MachinePool, request: ResourceRequest): string[] {
  return pool
    .explainEver(request)
    .map(
      ({ machine, shortfalls }) =>
        `${machine}: ${shortfalls.map((shortfall) => shortfall.message).join('; ')}`,
    );
}

function countFits(pool: MachinePool, request: ResourceRequest): number {
  return pool.machines.reduce((sum, { resources }) => sum + resources.countFits(request), 0);
}

/** Says that the default of `--memory-required` is what holds jobs back, when it is. */
function memoryHint(pool: MachinePool, request: ResourceRequest): string[] {
  if (request.memoryMiB !== DEFAULT_REQUEST.memoryMiB) return [];
  const now = countFits(pool, request);
  const without = countFits(pool, { ...request, memoryMiB: 1 });
  if (without <= now) return [];
  return [
    `hint: the default --memory-required ${request.memoryMiB} lets ${now} jobs run at once; with less memory each, up to ${without} would`,
  ];
}

/** Says that cores are short only because others use them now. */
function busyHint(pool: MachinePool, kinds: Iterable<readonly Job[]>): string[] {
  const isBusyOnly = [...kinds].some(([job]) =>
    job === undefined
      ? false
      : pool
          .explainEver(job.request)
          .some(({ shortfalls }) => shortfalls.every(({ resource }) => resource === 'cpuCores')),
  );
  if (!isBusyOnly) return [];
  return [
    'hint: a machine is only busy with the work of others: try again later, or ask for less with --num-cpus',
  ];
}

/** Says that a GPU is asked for by default, where no machine has one. */
function gpuHint(pool: MachinePool, request: ResourceRequest): string[] {
  if (request.gpus !== DEFAULT_REQUEST.gpus || pool.machines.some(({ snapshot }) => snapshot.gpus.length > 0))
    return [];
  return ['hint: a job asks for one GPU by default; --no-gpu-required is for jobs that need none'];
}

/** Says that the default of `--gpu-utilization` is what keeps GPUs from being shared, when it is. */
function utilizationHint(pool: MachinePool, request: ResourceRequest): string[] {
  if (request.gpus === 0 || request.reserveGpu || request.gpuUtilization !== DEFAULT_REQUEST.gpuUtilization)
    return [];
  const now = countFits(pool, request);
  const without = countFits(pool, { ...request, gpuUtilization: 0.1 });
  if (without <= now) return [];
  return [
    `hint: the default --gpu-utilization ${request.gpuUtilization} lets ${now} jobs share the GPUs at once; at 0.1 each, ${without} would`,
  ];
}
