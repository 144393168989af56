/**
 * One run of a batch: reads its file, sees what is left to do, opens the machines, refuses what can never run, and has
 * the engine run the rest. Everything that can be wrong is found before the first job starts.
 */
import { resolve } from 'node:path';
import { watchAbsences } from '../allocator/absence.ts';
import { MachinePool, type PoolMachine } from '../allocator/machine-pool.ts';
import { type OpenPoolOptions, openPool } from '../allocator/open-pool.ts';
import { RemoteError, SchedulerError, UsageError } from '../domain/errors.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import { isSuccess, type Job, type JobOutcome, jobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { Refusal, Reservation, RunningAttempt } from '../domain/ports.ts';
import { isWorthRetry } from '../domain/retry-reason.ts';
import { Engine } from '../engine/engine.ts';
import { MedianTimeout } from '../engine/median-timeout.ts';
import { notesText } from '../files/source-notes.ts';
import { SourceTrees } from '../files/source-trees.ts';
import { originOf } from '../runner/batch-origin.ts';
import { noteLeftovers } from '../runner/end-leftovers.ts';
import { jobFolder, machineKey } from '../runner/job-folder.ts';
import { type BatchRecord, takeBatch } from '../stores/batch-record.ts';
import { historyOf } from '../stores/journal.ts';
import { MemoryStore } from '../stores/memory.ts';
import {
  type OpenedResults,
  openResultFolder,
  readResultFolder,
  type SkippedJob,
} from '../stores/result-folder.ts';
import { EventStream } from '../util/event-stream.ts';
import { FolderSync } from '../util/folder-sync.ts';
import { TOOL_VERSION } from '../util/tool-version.ts';
import { type BatchLine, jobNameStem, readBatchFile } from './batch-file.ts';
import { watchHalt } from './batch-limits.ts';
import type { BatchOptions, BatchSummary, PlannedStart, StrandedJob } from './batch-options.ts';
import { BatchProgress } from './batch-progress.ts';
import { BatchWatch } from './batch-watch.ts';
import { EarlierAttempts } from './earlier-attempts.ts';
import { gitState } from './git-state.ts';
import { checkShellSyntax, lineNoteText } from './line-checks.ts';
import { defaultsHint, impossibleJobsText, reasonsOf } from './request-hints.ts';
import { changedTreeText, copiesText } from './tree-notes.ts';

export type { BatchOptions, BatchSummary, PlannedStart, StrandedJob } from './batch-options.ts';

const KILL_AFTER_MS = 10_000;

/** A batch whose file is read and whose results folder is looked through. */
export class BatchRun implements AsyncDisposable {
  /** Everything that happens; subscribe before `connect`. */
  readonly events = new EventStream<SchedulerEvent>();
  /** Names the batch in events, in manifests and on the machines: the same for every run of it with these results. */
  readonly id: string;
  readonly jobs: readonly Job[];
  readonly toRun: readonly Job[];
  readonly skipped: readonly SkippedJob[];
  /** For somebody who watches. */
  readonly watch: BatchWatch;
  readonly #options: BatchOptions;
  readonly #results: string;
  readonly #record: BatchRecord | undefined;
  readonly #lines: readonly BatchLine[];
  readonly #store: MemoryStore;
  readonly #pool: MachinePool;
  readonly #engine: Engine;
  readonly #earlier: EarlierAttempts;
  readonly #progress: BatchProgress;
  #isStopped = false;
  #isConnected = false;
  /** No machine could be reached, and there was nothing to start. */
  #isOutOfReach = false;
  #hasBegun = false;
  /** Why the batch cannot go on here. */
  #problem: Error | undefined;
  #begin: () => void = () => {};
  readonly #begun = new Promise<void>((resolve) => {
    this.#begin = resolve;
  });
  readonly #stopWatching: (() => void)[] = [];

  /**
   * Reads the batch file and the results folder, and checks every line.
   * @throws UsageError with one clear message for the first kind of mistake found.
   */
  static async open(options: BatchOptions): Promise<BatchRun> {
    const { file, defaults, cwd = process.cwd(), results = 'job_results' } = options;
    const { onWarning, dryRun = false, rerunFailed = false, asked, startsNothing = false } = options;
    const { lines, warnings } = await readBatchFile({ path: file, defaults });
    const jobs = lines.map(({ job }) => job);
    const notes = [...warnings, ...(await checkShellSyntax(jobs, { path: file }))];
    for (const note of notes) onWarning?.(lineNoteText(note, file));
    const folder = resolve(cwd, results);
    const reading = { rerunFailed, rerunCancelled: !startsNothing };
    if (dryRun)
      return new BatchRun(options, folder, lines, await readResultFolder(folder, jobs, reading), undefined);
    const record = takeBatch(folder, jobFolder(jobNameStem(file)));
    try {
      if (asked !== undefined) record.remember({ ...asked, file, cwd });
      const opened = await openResultFolder(folder, jobs, reading);
      for (const { id } of opened.setAside) {
        // What is left of the attempt that had that result must not be taken for a new one.
        const number = record.journal.histories.get(id)?.highest ?? 0;
        record.journal.over({ job: id, number });
      }
      for (const { id } of opened.torn) record.journal.torn(id);
      record.journal.flush();
      return new BatchRun(options, folder, lines, opened, record);
    } catch (error) {
      record.release();
      throw error;
    }
  }

  private constructor(
    options: BatchOptions,
    results: string,
    lines: readonly BatchLine[],
    opened: OpenedResults,
    record: BatchRecord | undefined,
  ) {
    this.#options = options;
    this.#results = results;
    this.#record = record;
    this.#lines = lines;
    this.id = record?.id ?? '';
    this.jobs = lines.map(({ job }) => job);
    this.toRun = opened.toRun;
    this.skipped = opened.skipped;
    const { retries = 0, retryOn, oomGrow = 1, keepGoingOnBadMachines = false } = options;
    const pool = new MachinePool(
      [],
      {
        onQuarantined: (machine, reason) =>
          this.events.publish({ type: 'machine:quarantined', at: Date.now(), machine, reason }),
        onReturned: (job, attempt, machine) => this.#earlier.takeReturned(job, attempt, machine),
      },
      { keepsBadMachines: keepGoingOnBadMachines },
    );
    this.#pool = pool;
    this.#store = new MemoryStore(this.toRun, {
      ...(record === undefined ? {} : { journal: record.journal }),
      onProblem: (error) => this.#leaveBecause(error),
      policy: {
        retries,
        oomGrow,
        isWorth: (outcome) => this.#problem === undefined && isWorthRetry(outcome, retryOn),
        canRun: ({ request }) => pool.canEverFit(request),
        canRunElsewhere: (job) =>
          this.#problem === undefined && !keepGoingOnBadMachines && pool.canRunElsewhere(job),
      },
    });
    this.#progress = new BatchProgress(this.events, this.skipped);
    this.#engine = new Engine(this.#store, pool, {
      onNeverFits: (job, { shortfalls }) => {
        this.#tellNeverFits(job, shortfalls);
        const outcome = this.#store.outcomeOf(job.id);
        if (outcome !== undefined) this.#progress.attemptEnded(job, outcome, true);
      },
      onEnded: (job, outcome) => {
        // Where another attempt is under way already, that one tells how the job stands.
        if (this.#engine.find(job.id) === undefined)
          this.#progress.attemptEnded(job, outcome, this.#store.outcomeOf(job.id) !== undefined);
      },
    });
    this.watch = new BatchWatch({
      ...{ pool, jobs: this.jobs, skipped: this.skipped },
      store: this.#store,
      engine: this.#engine,
      events: this.events,
      progress: this.#progress,
      toRunCount: this.toRun.length,
      names: options.machines.machines.map(({ config }) => config.name),
      results,
      isStopped: () => this.#isStopped,
      freshForMs: options.tuning?.watchFreshForMs,
    });
    this.#earlier = new EarlierAttempts({
      pool,
      store: this.#store,
      engine: this.#engine,
      jobs: this.jobs,
      toRun: this.toRun,
      givesUp: options.machineLostAfterMs !== undefined,
      histories: record?.journal.histories ?? new Map(),
      onTakenBack: async (job, { number }, { name, snapshot, runner }) => {
        const place = { machine: name, machineKey: machineKey(snapshot.identity) };
        record?.journal.given(job, number, { ...place, runs: (await runner?.runsFolder()) ?? '' });
      },
      warn: (message) => options.onWarning?.(message),
    });
    if (record !== undefined)
      this.events.on('job:started', ({ job, attempt: number }) => {
        try {
          record.journal.begun({ job, number });
        } catch (error) {
          this.#leaveBecause(error as Error);
        }
      });
  }

  /**
   * Lists what goes forward and opens the machines, both at once.
   * @throws UsageError when a line can never run on any of them, with what is short on each.
   */
  async connect(): Promise<void> {
    const { startsNothing = false } = this.#options;
    this.#isConnected = true;
    const { machines, dryRun = false, cwd = process.cwd() } = this.#options;
    const trees = new SourceTrees({ cwd, results: this.#results, machines: machines.machines });
    const listing = trees.listAll(startsNothing ? [] : this.toRun);
    const opening = gitState(cwd).then((git) => openPool(this.#pool, this.#poolOptions(trees, git)));
    const [listed, opened] = await Promise.allSettled([listing, opening]);
    if (listed.status === 'rejected') throw listed.reason;
    if (opened.status === 'rejected') {
      if (startsNothing && opened.reason instanceof RemoteError) {
        this.#isOutOfReach = true;
        return;
      }
      if (this.toRun.length > 0) throw opened.reason;
      const reason = (opened.reason as Error).message;
      this.#options.onWarning?.(`what an earlier run left on machines is not cleared up: ${reason}`);
      return;
    }
    const late = this.#record?.isNew === false ? await this.#earlier.find() : [];
    for (const machine of this.#pool.machines) {
      if (!late.includes(machine)) {
        this.#pool.setReady(machine.name);
        continue;
      }
      this.#options.onWarning?.(`${machine.name} does not tell what is there: it gets jobs once it has`);
      void this.#takeLate(machine).then(
        () => this.#pool.setReady(machine.name),
        () => {}, // it was let go of
      );
    }
    if (startsNothing) return;
    if (!dryRun) this.#refuseMoved();
    for (const line of notesText(listed.value)) this.#options.onWarning?.(line);
    if (this.toRun.length > 0) {
      const tellings = [changedTreeText(this.skipped, this.toRun, trees), copiesText(this.toRun, trees)];
      for (const telling of tellings) {
        const line = await telling;
        if (line !== undefined) this.#options.onWarning?.(line);
      }
    }
    if (!dryRun) {
      if (this.#impossible().length > 0) await opened.value.allTried; // a slow machine may be the one that can
      // What earlier runs started is followed and brought home all the same; the others end as never-fits.
      if (!this.#earlier.hasAny) this.#refuseImpossible();
    }
    const { request } = this.#options.defaults;
    const waiting = this.toRun.filter((job) => job.request === request).length;
    const hint = defaultsHint(this.#pool, request, waiting);
    if (hint !== undefined) this.#options.onWarning?.(hint);
  }

  #poolOptions(trees: SourceTrees, git: Awaited<ReturnType<typeof gitState>>): OpenPoolOptions {
    const { file, machines, defaults, placement, dryRun = false, cwd = process.cwd() } = this.#options;
    const { tuning = {}, onOutput, timeout, maxOutputBytes, killAfterMs = KILL_AFTER_MS } = this.#options;
    const { ssh, query, lateJoin, backoff, watchFreshForMs: _, ...limits } = tuning;
    const runner: OpenPoolOptions['runner'] = {
      batch: { id: this.id, toolVersion: TOOL_VERSION, git },
      resultsFolder: this.#results,
      resultsSync: new FolderSync(this.#results),
      treeOf: (job) => trees.of(job),
      onOutput,
      killGraceMs: killAfterMs,
      timeoutMs: timeout?.type === 'fixed' ? timeout.ms : undefined,
      maxOutputBytes,
      ownsOutput: (attempt) => this.#earlier.ownsOutput(attempt),
      hasBegun: (attempt) => this.#earlier.hasBegun(attempt),
      isCurrent: (attempt) => this.#store.isCurrent(attempt),
      isLast: (attempt, outcome, machine) => this.#store.isLast(attempt, outcome, machine),
      onLocalProblem: (error) => this.#leaveBecause(error),
      ...limits,
    };
    return {
      machines: machines.machines,
      events: this.events,
      typicalRequest: defaults.request,
      isResumed: this.#record?.isNew === false,
      origin: originOf(this.#results, resolve(cwd, file)),
      onGiven: (job, { number }, place) => this.#record?.journal.given(job, number, place),
      onLeftoversEnded: (ended) => {
        // They were cancelled: nothing is lost, and their lines run again.
        for (const { batch, job, place } of ended)
          if (batch === this.id) this.#record?.journal.over({ job: jobId(job), number: place.number });
      },
      onLateJoin: (machine) => this.#takeLate(machine),
      ...(placement === undefined ? {} : { placement }),
      ...(ssh === undefined ? {} : { ssh }),
      ...(query === undefined ? {} : { query }),
      ...(lateJoin === undefined ? {} : { lateJoin }),
      ...(backoff === undefined ? {} : { backoff }),
      runner: dryRun ? undefined : runner,
    };
  }

  async #takeLate(machine: PoolMachine): Promise<void> {
    await this.#begun; // until then nothing is under way
    await this.#earlier.takeLate(machine);
  }

  /** Results cannot be kept here any more: starts nothing, and leaves what runs where it is. */
  #leaveBecause(problem: Error): void {
    this.#problem ??= problem;
    this.stop();
    this.#engine.leave();
  }

  /**
   * Runs what is left. Returns when all has ended, or, once stopped, when what runs has ended.
   * @throws SchedulerError when results cannot be kept here any more; what runs then runs on.
   */
  async run(): Promise<BatchSummary> {
    const beganAt = this.#announce();
    if (this.toRun.length > 0) {
      if (this.#isStopped) this.#engine.stop();
      await this.#engine.run();
    }
    const { done, ended } = this.#counts();
    const endedAt = Date.now();
    this.events.publish({
      type: 'batch:ended',
      at: endedAt,
      batch: this.id,
      done,
      failed: ended - done,
      skipped: this.skipped.length,
      notRun: this.toRun.length - ended,
      durationMs: endedAt - beganAt,
    });
    if (this.#problem !== undefined) {
      throw new SchedulerError(
        `results cannot be kept here: ${this.#problem.message}; what runs, runs on, and what is not home stays on its machine: ` +
          'make room, and the same command goes on',
      );
    }
    return { jobs: this.jobs.length, good: done + this.skipped.filter(({ isGood }) => isGood).length };
  }

  /** Starts what fits now, and returns when all that has started, or failed to. The batch is to be closed then. */
  async leave(): Promise<{ readonly started: number; readonly running: number; readonly waiting: number }> {
    this.#announce();
    const started = new Set<string>();
    const begun = new Set<string>();
    const over = new Set<string>();
    let look: () => void = () => {};
    const stopHearing = this.events.subscribe((event) => {
      if (event.type === 'job:started' && event.isAdopted !== true) started.add(event.job);
      if (event.type === 'job:started' && event.hasEnded !== true) begun.add(event.job);
      if (event.type === 'job:ended') over.add(event.job);
      look();
    });
    await this.#engine.placeOnce();
    const placed = [...this.#engine.running()].filter((one) => !this.#earlier.isAwaited(one.attempt.job));
    await new Promise<void>((resolve) => {
      look = () => {
        const isDone = ({ attempt: { job }, machine }: RunningAttempt) =>
          begun.has(job) || over.has(job) || !this.#pool.isUp(machine);
        if (placed.every(isDone)) resolve();
      };
      look();
    });
    stopHearing();
    return {
      started: started.size,
      running: this.#engine.runningCount,
      waiting: this.#store.waitingCount,
    };
  }

  /** Ends all that runs of this batch, and brings home what has ended. Starts nothing. Resolves as `cancelAll` does. */
  async cancelRunning(reason: string): Promise<readonly StrandedJob[]> {
    this.#earlier.endAll();
    if (this.#isOutOfReach) return this.#noteStranded(this.#earlier.all());
    this.stop();
    const running = this.run();
    const stranded = await this.cancelAll(reason);
    await running;
    return stranded;
  }

  /** Tells that the batch begins, and goes on with what earlier runs left. Returns when that was. */
  #announce(): number {
    const at = Date.now();
    this.events.publish({
      type: 'batch:started',
      at,
      batch: this.id,
      file: this.#options.file,
      jobs: this.jobs.length,
      skipped: this.skipped.length,
    });
    for (const { job, reason, isGood } of this.skipped) {
      const { id, name, line } = job;
      this.events.publish({ type: 'job:skipped', at, job: id, name, line, reason, isGood });
    }
    this.#watch();
    if (this.toRun.length > 0) {
      const resumed = this.#earlier.goOn();
      const { running, ended, awaited, orphaned } = resumed;
      if (running + ended + awaited + orphaned > 0)
        this.events.publish({
          type: 'batch:resumed',
          at,
          batch: this.id,
          ...resumed,
          fresh: this.#store.waitingCount,
        });
    }
    this.#hasBegun = true;
    this.#begin();
    return at;
  }

  /** Keeps the limits that the batch was given. */
  #watch(): void {
    const { halt, timeout, machineLostAfterMs } = this.#options;
    if (halt !== undefined)
      this.#stopWatching.push(
        this.events.subscribe(
          watchHalt(halt, ({ when }, failed) => {
            this.#options.onWarning?.(
              `${failed} job${failed === 1 ? ' has' : 's have'} failed: ${when === 'soon' ? 'nothing more is started' : 'what runs is ended'} (--halt)`,
            );
            if (when === 'soon') this.stop();
            else
              void this.cancelAll(`ended by --halt, after ${failed} failed`).catch((error: unknown) =>
                this.#options.onWarning?.((error as Error).message),
              );
          }),
        ),
      );
    if (timeout?.type === 'of-median') {
      const median = new MedianTimeout(timeout.percent);
      this.#stopWatching.push(this.events.subscribe((event) => median.hear(event)));
      median.watch(() => this.#engine.running());
      this.#stopWatching.push(() => median.stop());
    }
    if (machineLostAfterMs !== undefined)
      this.#stopWatching.push(
        watchAbsences({
          machines: () => [
            ...new Set([
              ...this.#options.machines.machines.map(({ config }) => config.name),
              ...this.#earlier.absentMachines,
            ]),
          ],
          isUp: (machine) => this.#pool.isUp(machine),
          lostAfterMs: machineLostAfterMs,
          onLost: (machine, awayMs) => this.#giveUp(machine, awayMs),
        }),
      );
  }

  #giveUp(machine: MachineName, awayMs: number): void {
    const seconds = Math.round(awayMs / 1000);
    const jobs = this.#pool.giveUp(
      machine,
      `${machine} has been away for ${seconds} s (--machine-lost-after)`,
    );
    this.events.publish({ type: 'machine:given-up', at: Date.now(), machine, awayMs, jobs });
  }

  #counts(): { readonly done: number; readonly ended: number } {
    const outcomes = this.toRun
      .map((job) => this.#store.outcomeOf(job.id))
      .filter((outcome): outcome is JobOutcome => outcome !== undefined);
    return { done: outcomes.filter(isSuccess).length, ended: outcomes.length };
  }

  /** The lines, as they stand in the file, whose result is a failure: of this run, or of an earlier one. */
  failedLines(): readonly string[] {
    const bad = new Set(this.skipped.filter(({ isGood }) => !isGood).map(({ job }) => job.id));
    return this.#lines
      .filter(({ job }) => {
        const outcome = this.#store.outcomeOf(job.id);
        return outcome === undefined ? bad.has(job.id) : !isSuccess(outcome);
      })
      .map(({ text }) => text);
  }

  /** Where each line that is left would go now, in order, until nothing more fits. */
  plan(): readonly PlannedStart[] {
    const pool = this.#pool;
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
    if (this.#hasBegun) this.#engine.stop();
  }

  /**
   * Ends what runs, with all its processes; what it wrote is still brought home. What runs on a machine that cannot be
   * reached is noted, and ended at the next contact; resolves to what that is, once all else has ended.
   */
  async cancelAll(reason: string): Promise<readonly StrandedJob[]> {
    this.#isStopped = true;
    await this.#begun; // what earlier runs left is not known before
    const engine = this.#engine;
    engine.cancelAll(reason);
    while (engine.runningCount > 0) {
      const stranded = this.#pool.stranded();
      if (stranded.length >= engine.runningCount) {
        try {
          return this.#noteStranded(
            stranded.map(({ machine, job, attempt }) => ({ machine, job, number: attempt.number })),
          );
        } finally {
          engine.leave(); // also where the note cannot be written (disk full): nothing else is left to wait for
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return [];
  }

  /** Whether there is anything to do on the machines: jobs to run, or leftovers of a run that could not clear up. */
  get needsMachines(): boolean {
    return this.toRun.length > 0 || this.#record?.isUnclean === true;
  }

  /** Takes note of jobs that are to be ended at the next contact with their machines. */
  #noteStranded(
    jobs: readonly { readonly machine: MachineName; readonly job: Job; readonly number: number }[],
  ): readonly StrandedJob[] {
    const histories = this.#record?.journal.histories ?? new Map();
    const notes = jobs.map(({ machine, job, number }) => {
      const key = historyOf(histories, job)?.open?.machineKey;
      const place = { folder: jobFolder(job.id), number };
      return { machine, job: job.name, place, ...(key === undefined ? {} : { machineKey: key }) };
    });
    noteLeftovers(
      this.#results,
      notes.map((one) => ({ ...one, batch: this.id })),
    );
    return notes;
  }

  /** How many jobs run now. */
  get runningCount(): number {
    return this.#engine.runningCount;
  }

  /** Lets go of the machines. Jobs that run there run on. */
  async close(): Promise<void> {
    for (const stop of this.#stopWatching.splice(0)) stop();
    let isClean = this.#record?.isUnclean === false && !this.#isConnected;
    try {
      if (this.#isConnected) isClean = await this.#pool.close();
    } finally {
      this.#record?.release({ isClean });
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #refuseMoved(): void {
    const moved = this.#earlier.moved();
    const [first] = moved;
    if (first === undefined) return;
    const { job, found } = first;
    const more = moved.length > 1 ? ` (and ${moved.length - 1} more)` : '';
    const does = found.state === 'ended' ? 'has run' : 'may still run';
    throw new UsageError(
      `line ${job.line}${more}: its command ${does} as ${found.attempt.job} on ${found.machine}, from when it stood elsewhere in the file, and would run twice: ` +
        'put the lines back in their places, new ones at the end; or end what runs with --cancel',
    );
  }

  #impossible(): readonly Job[] {
    return this.toRun.filter(
      ({ id, request }) => !this.#earlier.isKnown(id) && !this.#pool.canEverFit(request),
    );
  }

  #tellNeverFits({ id, name, line, command, request }: Job, shortfalls: Refusal['shortfalls']): void {
    const about = { job: id, name, line, command, request, shortfalls };
    this.events.publish({ type: 'job:never-fits', at: Date.now(), ...about });
  }

  #refuseImpossible(): void {
    const impossible = this.#impossible();
    for (const job of impossible) this.#tellNeverFits(job, this.#pool.explainEver(job.request));
    if (impossible.length === 0) return;
    throw new UsageError(impossibleJobsText(this.#pool, impossible, this.#options.defaults.request));
  }
}
