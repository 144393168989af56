/**
 * The runner of one machine: takes attempts, starts them one after the other with a pause between two starts, and tells
 * of their starts and ends.
 */
import type { SchedulerEvent } from '../domain/events.ts';
import type { Attempt, Job, JobOutcome } from '../domain/job.ts';
import type { MachineName, MachineSnapshot, ManagedResources } from '../domain/machine.ts';
import type { FoundAttempt } from '../domain/ports.ts';
import type { Allocation } from '../domain/resources.ts';
import { CACHE_LIMIT_BYTES } from '../files/send.ts';
import type { SourceTree } from '../files/source-part.ts';
import { type QueryOptions, queryMachine } from '../remote/query.ts';
import type { EventStream } from '../util/event-stream.ts';
import type { FolderSync } from '../util/folder-sync.ts';
import { withTimeLimit } from '../util/time-limit.ts';
import { discoverAttempts } from './discover.ts';
import { endVanishedScript } from './end-vanished.ts';
import { jobFolder } from './job-folder.ts';
import { FolderRemover, JobRun, jobScript } from './job-run.ts';
import type { JobSettings } from './job-settings.ts';
import type { MachineLink } from './machine-link.ts';
import { type BatchFacts, manifestOf } from './manifest.ts';
import { OutputReader } from './output-reader.ts';
import { PartsThere } from './parts-there.ts';
import { ResultFiles, removeEmptyPartialFolder } from './result-files.ts';
import type { AttemptPlace, GpuWaitResult } from './supervisor.ts';

/** Where a run's results go and what it takes along. */
export interface RunnerOptions {
  readonly events: EventStream<SchedulerEvent>;
  /** Names the batch in the jobs' environment and manifests. */
  readonly batch: BatchFacts;
  /** Results folder; undefined when nothing is kept. */
  readonly resultsFolder: string | undefined;
  /** Puts the results on the disk before they go from the machine. */
  readonly resultsSync?: Pick<FolderSync, 'sync'> | undefined;
  /** The source tree of a job. */
  readonly treeOf: (job: Job) => Promise<SourceTree>;
  /** Least time between two starts. @default 5 */
  readonly startSpacingMs?: number;
  /** Shell text run before each command. */
  readonly setup?: string | undefined;
  /** Variables that every job on this machine gets. */
  readonly env?: Readonly<Record<string, string>>;
  /** What a job has of its own. Asked before its start, and when it is adopted. @default nothing */
  readonly settingsOf?:
    | ((job: Job, how: { readonly isAdopted: boolean }) => JobSettings | Promise<JobSettings>)
    | undefined;
  /** How often growing output is fetched. @default 400 */
  readonly outputPollMs?: number;
  /** How long a job may take to end after TERM before KILL. @default 10000 */
  readonly killGraceMs?: number;
  /** How long a job may run; its machine keeps the time. @default no limit */
  readonly timeoutMs?: number | undefined;
  /** The most that is kept of a job's `.out`, and of its `.err`. @default no limit */
  readonly maxOutputBytes?: number | undefined;
  /** Hears of each attempt just before its machine does. */
  readonly beforeStart?: ((job: Job, attempt: Attempt, runs: string) => void) | undefined;
  /** Whether `.out` and `.err` in the results folder are an adopted attempt's own. @default they are not */
  readonly ownsOutput?: ((attempt: Attempt) => boolean) | undefined;
  /** Whether an adopted attempt's command is known to have begun. @default it is not */
  readonly hasBegun?: ((attempt: Attempt) => boolean) | undefined;
  /** Whether this is the attempt that counts for its job. @default it is */
  readonly isCurrent?: ((attempt: Attempt) => boolean) | undefined;
  /** Whether an attempt that ended so is its job's last. @default it is */
  readonly isLast?: ((attempt: Attempt, outcome: JobOutcome, machine: MachineName) => boolean) | undefined;
  /** Results cannot be kept on this computer; what is not home stays on its machine. */
  readonly onLocalProblem?: ((error: Error, job: Job) => void) | undefined;
  /** What source trees may take up on the machine before unused ones are removed. @default 20 GiB */
  readonly cacheLimitBytes?: number;
  /** What of the machine is given to jobs, where that is fixed. @default what it has */
  readonly managed?: ManagedResources | undefined;
  /** How long to wait for a reserved GPU's memory after its job. @default 10000 */
  readonly gpuWaitMs?: number;
  /** Hears all output as it comes. */
  readonly onOutput?: ((job: Job, stream: 'out' | 'err', chunk: Buffer) => void) | undefined;
  /** @default Date.now */
  readonly now?: () => number;
}

const NO_TREE: SourceTree = { id: '', parts: [], shared: [], files: 0, bytes: 0, isSmall: false };

/** How much a GPU's free memory may stay below what it was, for drivers that keep a little: MiB. */
const GPU_MEMORY_TOLERANCE_MIB = 64;

/** How much later than asked a machine may answer about its GPUs. */
const GPU_ANSWER_MS = 10_000;
const CLEAN_UP_WITHIN_MS = 20_000;

const KILL_GRACE_MS = 10_000;

/** Starts jobs on one machine, spaced in time. */
export class MachineRunner {
  readonly name: MachineName;
  readonly #link: MachineLink;
  readonly #options: RunnerOptions;
  readonly #reader: Promise<OutputReader>;
  /** Of the first session: later ones have the same. */
  readonly #runs: Promise<string>;
  readonly #remover: FolderRemover;
  readonly #parts: PartsThere;
  #nextStartAt = 0;

  constructor(link: MachineLink, options: RunnerOptions) {
    this.name = link.name;
    this.#link = link;
    this.#options = options;
    this.#remover = new FolderRemover(link, options.resultsSync);
    const { events, cacheLimitBytes = CACHE_LIMIT_BYTES, now = Date.now } = options;
    this.#parts = new PartsThere(link, { events, cacheLimitBytes, now });
    this.#runs = link.session().then(({ folders }) => folders.runs);
    this.#runs.catch(() => {}); // whoever queues hears
    this.#reader = link
      .session()
      .then(
        (session) =>
          new OutputReader(
            (step) => link.retrying((current) => step(current.output)),
            session.folders.runs,
            options.outputPollMs,
          ),
      );
    this.#reader.catch(() => {}); // whoever queues hears
  }

  /** Takes an attempt. Its start waits its turn; the returned run tells the rest. */
  async queueUp(job: Job, attempt: Attempt, allocation: Allocation): Promise<JobRun> {
    return await this.#run(job, attempt, allocation, undefined);
  }

  /** Takes over an attempt that an earlier controller started. */
  async adopt(job: Job, found: FoundAttempt, allocation: Allocation): Promise<JobRun> {
    const { copyBackwards = job.copyBackwards } = found;
    return await this.#run({ ...job, copyBackwards }, found.attempt, allocation, found);
  }

  /** The batch's folder there. */
  runsFolder(): Promise<string> {
    return this.#runs;
  }

  /** Finds what an earlier controller of the same batch left on this machine. */
  async discover(): Promise<readonly FoundAttempt[]> {
    return await this.#link.retrying(async (session) =>
      discoverAttempts(this.name, await session.files(), session.folders.runs, { claim: true }),
    );
  }

  /** Removes what a found attempt left there. */
  discard({ attempt }: FoundAttempt): void {
    this.#remover.add({ folder: jobFolder(attempt.job), number: attempt.number });
  }

  /** Asks the machine what it has, and what of it this batch's own jobs use. @throws RemoteError */
  async query(options: QueryOptions = {}): Promise<MachineSnapshot> {
    const { batch, managed } = this.#options;
    const snapshot = await this.#link.retrying((session) =>
      queryMachine(session.host, { ...options, ownBatch: batch.id }),
    );
    return managed === undefined ? snapshot : { ...snapshot, managed };
  }

  /** Whether the machine can be reached now. */
  get isUp(): boolean {
    return this.#link.isUp;
  }

  /** Ends an attempt that nobody wants and removes what it left there, when the machine can be reached. */
  end({ attempt }: FoundAttempt): void {
    const place: AttemptPlace = { folder: jobFolder(attempt.job), number: attempt.number };
    const ended = new Promise<void>((resolve) => {
      this.#link.adopt(place, (report) => {
        if (report.type === 'started') return;
        this.#link.forget(place);
        this.#remover.add(place);
        resolve();
      });
    });
    this.#ending = Promise.all([this.#ending, ended]);
    this.#link.cancel(place, this.#options.killGraceMs ?? KILL_GRACE_MS);
  }
  /** Settles when all attempts that nobody wants have ended. */
  #ending: Promise<unknown> = Promise.resolve();

  /** Hears of each command that has started. */
  onStarted(listener: (jobName: string) => void): () => void {
    return this.#options.events.on('job:started', (event) => {
      if (event.machine === this.name) listener(event.name);
    });
  }

  /** Hears of each attempt that is over. */
  onEnded(listener: (jobName: string) => void): () => void {
    return this.#options.events.on('job:ended', (event) => {
      if (event.machine === this.name) listener(event.name);
    });
  }

  /**
   * Waits until the GPUs that a job had for itself have their memory back, and says so when they do not in time.
   * `freeMiBBefore`: what each had free before any job of ours.
   */
  async waitForGpuMemory(
    gpus: readonly { readonly gpu: number; readonly freeMiBBefore: number }[],
  ): Promise<void> {
    const { gpuWaitMs = 10_000, now = Date.now, events } = this.#options;
    if (gpus.length === 0) return;
    const began = now();
    const wanted = gpus.map(({ gpu, freeMiBBefore }) => ({
      gpu,
      freeMiB: Math.max(0, freeMiBBefore - GPU_MEMORY_TOLERANCE_MIB),
    }));
    const result = await this.#askForGpuMemory(wanted, gpuWaitMs);
    if (result.type === 'free') return;
    const before = gpus.find(({ gpu }) => gpu === result.gpu)?.freeMiBBefore ?? result.freeMiB;
    events.publish({
      type: 'gpu:still-held',
      at: now(),
      machine: this.name,
      gpu: result.gpu,
      heldMiB: Math.max(0, before - result.freeMiB),
      waitedMs: now() - began,
    });
  }

  /** Asks until somebody answers: when the connection goes, the next one is asked. */
  async #askForGpuMemory(
    wanted: readonly { readonly gpu: number; readonly freeMiB: number }[],
    timeoutMs: number,
  ): Promise<Exclude<GpuWaitResult, { type: 'unknown' }>> {
    const silent: GpuWaitResult = { type: 'held', gpu: wanted[0]?.gpu ?? 0, freeMiB: 0 };
    for (;;) {
      const { supervisor } = await this.#link.session();
      const asking = supervisor.waitForGpuMemory(wanted, timeoutMs);
      const result = await withTimeLimit(asking, timeoutMs + GPU_ANSWER_MS, () => new Error('silent')).catch(
        () => silent,
      );
      if (result.type !== 'unknown') return result;
      await new Promise((resolve) => setTimeout(resolve, 100)); // until the link has noticed
    }
  }

  /** Lets go of the machine, when what is on its way has come. Jobs there run on. Resolves to whether nothing is left there. */
  async close(): Promise<boolean> {
    let isClean = false;
    await this.#reader.then(
      (reader) => reader.close(),
      () => {},
    );
    if (this.#link.isUp) {
      const cleaning = this.#ending
        .then(() => this.#remover.done())
        .then(() => this.#link.session())
        .then((session) => session.removeBatchFolder())
        .then((isGone) => {
          isClean = isGone;
        });
      // A machine that goes away at this moment must not hold us: a later clean-up finds the folders.
      await withTimeLimit(cleaning, CLEAN_UP_WITHIN_MS, () => new Error('too long')).catch(() => {});
    }
    await this.#link.close();
    if (this.#options.resultsFolder !== undefined) removeEmptyPartialFolder(this.#options.resultsFolder);
    return isClean;
  }

  async #run(
    job: Job,
    attempt: Attempt,
    allocation: Allocation,
    found: FoundAttempt | undefined,
  ): Promise<JobRun> {
    const { batch, events, env = {}, setup, onOutput, now = Date.now, treeOf, beforeStart } = this.#options;
    const own: Partial<JobSettings> =
      (await this.#options.settingsOf?.(job, { isAdopted: found !== undefined })) ?? {};
    const {
      killGraceMs = KILL_GRACE_MS,
      timeoutMs,
      maxOutputBytes,
      resultsFolder,
    } = {
      ...this.#options,
      ...own,
    };
    const { ownsOutput = () => false, isLast = () => true, onLocalProblem = () => {} } = this.#options;
    const { hasBegun = () => false, isCurrent } = this.#options;
    // What an earlier controller started works in the tree of then.
    const tree = found === undefined ? await treeOf(job) : { ...NO_TREE, id: found.tree };
    const [reader, runs] = await Promise.all([this.#reader, this.runsFolder()]);
    const cudaVisibleDevices =
      job.request.gpus > 0 && !job.request.reserveMachine ? allocation.gpus.join(',') : undefined;
    const place: AttemptPlace = { folder: jobFolder(job.id), number: attempt.number };
    return new JobRun(
      job,
      attempt,
      {
        link: this.#link,
        reader,
        events,
        place,
        call: {
          parts: tree.parts.map(({ id }) => id),
          isSmallTree: tree.isSmall,
          env: {
            ...env,
            ...own.env,
            ...(cudaVisibleDevices === undefined ? {} : { CUDA_VISIBLE_DEVICES: cudaVisibleDevices }),
            CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
            JOB_NAME: job.name,
            JOB_ID: own.jobId ?? `${batch.id}/${job.id}`,
            JOB_ATTEMPT: String(attempt.number),
            MACHINE_NAME: this.name,
          },
          request: {
            ...job.request,
            gpuIndexes: allocation.gpus,
            job: job.id,
            batch: batch.id,
            command: job.command,
            tree: tree.id,
            copyBackwards: job.copyBackwards,
          },
          script: jobScript(own.commandText ?? job.command, setup),
          ...(timeoutMs === undefined ? {} : { timeoutMs }),
          killGraceMs,
          back: job.copyBackwards === 'changed' ? 'changed' : job.copyBackwards.length > 0 ? 'named' : 'none',
        },
        // The turn comes last: jobs that waited for the same tree must not all start when it is there.
        bringTree: async () => {
          const there = await this.#parts.bring(tree);
          await this.#turnToStart();
          return there;
        },
        forgetPart: (part) => this.#parts.forget(part),
        tree: tree.id,
        results:
          resultsFolder === undefined ? undefined : new ResultFiles(resultsFolder, job.name, own.outputs),
        onOutput: onOutput === undefined ? undefined : (stream, chunk) => onOutput(job, stream, chunk),
        manifestOf: (ended, details) => manifestOf(job, allocation, ended, details, batch),
        cudaVisibleDevices,
        gpus: job.request.gpus > 0 ? allocation.gpus : [],
        killGraceMs,
        maxOutputBytes,
        tellsFailedStart: own.tellsFailedStart === true,
        beforeStart: () => beforeStart?.(job, attempt, runs),
        isCurrent,
        endVanished: (gone) =>
          this.#link.retrying(async (session) => {
            const files = await session.files();
            await files.run(endVanishedScript(batch.id, gone, killGraceMs));
          }),
        isFinal: isLast,
        onLocalProblem: (error) => onLocalProblem(error, job),
        removeFolder: (place) => this.#remover.add(place),
        now,
      },
      {
        adopt: found !== undefined,
        resumeOutput: found !== undefined && ownsOutput(attempt),
        hasBegun: found !== undefined && hasBegun(attempt),
      },
    );
  }

  /** Waits until `startSpacingMs` have passed since the start before. */
  async #turnToStart(): Promise<void> {
    const { startSpacingMs = 5, now = Date.now } = this.#options;
    const at = Math.max(now(), this.#nextStartAt);
    this.#nextStartAt = at + startSpacingMs;
    const waitMs = at - now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}
