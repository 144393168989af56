/**
 * The life of one attempt on one machine, from its source tree to its published result.
 *
 *     sending -> starting -> running -> collecting -> published
 *        \           \          \            \
 *         `-----------`----------`------------`--> not published (transfer-failed, lost, cancelled before its start)
 *
 * The processes are gone when `collecting` begins: `freed` settles then, since the next job may start while this one's
 * results are on their way home.
 */

import type { JobEnded, SchedulerEvent } from '../domain/events.ts';
import type { Attempt, Job, JobOutcome } from '../domain/job.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import { type FetchResult, fetchFiles } from '../files/fetch.ts';
import type { EventStream } from '../util/event-stream.ts';
import { removeAttempts } from './job-folder.ts';
import type { MachineLink } from './machine-link.ts';
import type { OutputReader } from './output-reader.ts';
import type { TreeThere } from './parts-there.ts';
import type { ResultFiles } from './result-files.ts';
import type { AttemptPlace, AttemptReport, StartCall } from './supervisor.ts';

/** What a run needs besides its job. */
export interface JobRunContext {
  readonly link: MachineLink;
  readonly reader: OutputReader;
  readonly events: EventStream<SchedulerEvent>;
  readonly place: AttemptPlace;
  /** All but the links, which are known when the tree is there. */
  readonly call: Omit<StartCall, 'links' | 'request'> & { readonly request: object };
  /** Name of the job's source tree; empty when it starts with nothing. */
  readonly tree: string;
  /** Makes sure that the job's source tree is on the machine. */
  readonly bringTree: () => Promise<TreeThere>;
  /** A part of the tree was found missing: the next `bringTree` sends it again. */
  readonly forgetPart: (part: string) => void;
  /** Where the result goes; undefined when nothing is kept. */
  readonly results: ResultFiles | undefined;
  /** Hears the output as it comes, besides the result files. */
  readonly onOutput: ((stream: 'out' | 'err', chunk: Buffer) => void) | undefined;
  /** What the manifest says besides what the run itself knows. */
  readonly manifestOf: (ended: JobEnded, details: RunDetails) => object;
  readonly cudaVisibleDevices: string | undefined;
  readonly gpus: readonly number[];
  readonly killGraceMs: number;
  /** Removes attempt folders whose results are home. */
  readonly removeFolder: (place: AttemptPlace) => void;
  readonly now: () => number;
}

/** What only the manifest tells. */
export interface RunDetails {
  readonly outBytes: number;
  readonly errBytes: number;
  readonly files: number;
  readonly tree: string;
  /** What went forward and was gone when the command had ended. */
  readonly deleted: readonly string[];
  readonly warnings: readonly string[];
}

/** Why an attempt was never given to its machine: its files could not be sent, or it was cancelled before. */
interface NotStarted {
  readonly type: 'unsent' | 'withdrawn';
  readonly reason: string;
}

const SEND_TRIES = 3;

type EndReport = Extract<AttemptReport, { type: 'ended' }>;

/** One attempt under way. */
export class JobRun implements RunningAttempt {
  readonly ended: Promise<JobOutcome>;
  /** Settles when the command and all that it left behind are gone, or were never there. */
  readonly freed: Promise<void>;
  /** Settles when the command has started, or never will. */
  readonly started: Promise<void>;
  readonly #job: Job;
  readonly #context: JobRunContext;
  #markFreed: () => void = () => {};
  #markStarted: () => void = () => {};
  #startedAt: number | undefined;
  #cancelReason: string | undefined;
  #isHandedOver = false;
  #problem: Error | undefined;
  #sentBytes = 0;

  constructor(
    job: Job,
    readonly attempt: Attempt,
    context: JobRunContext,
    options: { readonly adopt: boolean },
  ) {
    this.#job = job;
    this.#context = context;
    this.freed = new Promise((resolve) => {
      this.#markFreed = resolve;
    });
    this.started = new Promise((resolve) => {
      this.#markStarted = resolve;
    });
    this.ended = this.#live(options.adopt)
      .catch((error: unknown): JobOutcome => ({ type: 'transfer-failed', reason: (error as Error).message }))
      .finally(() => {
        context.link.forget(context.place);
        context.reader.forget(context.place);
        this.#markStarted();
        this.#markFreed();
      });
  }

  cancel(reason: string): void {
    if (this.#cancelReason !== undefined) return;
    this.#cancelReason = reason;
    if (this.#isHandedOver) this.#context.link.cancel(this.#context.place, this.#context.killGraceMs);
  }

  async #live(adopt: boolean): Promise<JobOutcome> {
    const report = adopt ? await this.#handOver(undefined) : await this.#sendAndStart();
    this.#markFreed();
    switch (report.type) {
      case 'ended':
        return await this.#collect(report);
      case 'failed':
        // It may have run and printed before its machine's disk was full.
        await this.#context.reader
          .finish(this.#context.place, { hasOutput: true, hasErrors: true })
          .catch(() => {});
        return this.#over({
          type: 'transfer-failed',
          reason: report.reason,
          ...(report.exitCode === undefined ? {} : { exitCode: report.exitCode }),
        });
      case 'lacks':
        return this.#over({
          type: 'transfer-failed',
          reason: 'its source tree vanishes there again and again',
        });
      case 'unsent':
        return this.#over({ type: 'transfer-failed', reason: report.reason });
      case 'withdrawn':
        return this.#over({ type: 'cancelled', reason: report.reason });
      case 'refused':
        return this.#over({
          type: 'lost',
          reason: 'its folder on the machine belongs to another controller',
        });
      case 'unstarted':
        return this.#over({ type: 'lost', reason: 'the connection went before it was started' });
      case 'lost':
        return this.#over({ type: 'lost', reason: 'its processes are gone without an exit record' });
      case 'started':
        throw new Error('Internal error: a start is no end');
    }
  }

  /** Starts the job when its tree is there, and hears how it ends. */
  async #sendAndStart(): Promise<AttemptReport | NotStarted> {
    for (let tries = 1; ; tries++) {
      let there: TreeThere;
      try {
        there = await this.#context.bringTree();
      } catch (error) {
        return { type: 'unsent', reason: (error as Error).message };
      }
      this.#sentBytes += there.sentBytes;
      if (this.#cancelReason !== undefined) return { type: 'withdrawn', reason: this.#cancelReason };
      const report = await this.#handOver(there);
      // Another controller may have pruned a part while the machine was away: nothing was started yet.
      if (report.type !== 'lacks' || tries === SEND_TRIES) return report;
      this.#context.forgetPart(report.part);
    }
  }

  /** Gives the attempt to the machine, to start from this tree or to adopt, and hears how it ends. */
  #handOver(there: TreeThere | undefined): Promise<AttemptReport> {
    const { link, place, call } = this.#context;
    return new Promise((resolve) => {
      const hear = (heard: AttemptReport) => {
        if (heard.type !== 'started') return resolve(heard);
        try {
          this.#onStarted();
        } catch (error) {
          // Its output has nowhere to go (disk full, no such folder). It runs on: the next run of the batch brings it home.
          this.#problem ??= error as Error;
        }
      };
      this.#isHandedOver = true;
      if (there === undefined) {
        link.adopt(place, hear);
      } else {
        const { links, shares } = there;
        link.start(place, { ...call, links, request: { ...call.request, shares } }, hear);
      }
    });
  }

  #onStarted(): void {
    if (this.#startedAt !== undefined) return;
    const { link, reader, results, onOutput, place, events, gpus, cudaVisibleDevices } = this.#context;
    const at = this.#context.now();
    this.#startedAt = at;
    results?.openOutputs();
    const sink = (stream: 'out' | 'err') => (chunk: Buffer) => {
      results?.append(stream, chunk);
      onOutput?.(stream, chunk);
    };
    reader.follow(place, { out: sink('out'), err: sink('err') });
    const { id, name, line, command, request } = this.#job;
    events.publish({
      type: 'job:started',
      at,
      job: id,
      name,
      line,
      command,
      machine: link.name,
      attempt: this.attempt.number,
      gpus,
      request,
      ...(cudaVisibleDevices === undefined ? {} : { cudaVisibleDevices }),
    });
    this.#markStarted();
  }

  async #collect(report: EndReport): Promise<JobOutcome> {
    if (this.#problem === undefined) this.#onStarted(); // an attempt adopted after its end was never heard to start
    const { link, reader, results, place } = this.#context;
    const exited: JobOutcome =
      this.#cancelReason === undefined
        ? { type: 'exited', exitCode: report.exitCode }
        : { type: 'cancelled', reason: this.#cancelReason };
    if (this.#problem !== undefined) {
      const reason = `its output cannot be written here: ${this.#problem.message}`;
      return this.#over({ type: 'transfer-failed', reason, exitCode: report.exitCode }, report);
    }
    let ended: JobEnded;
    let fetched: FetchResult = { files: 0, bytes: 0, warnings: [], deleted: [] };
    try {
      const { outBytes, errBytes } = await reader.finish(place, report);
      const wanted = this.#job.copyBackwards;
      const isFetched =
        results !== undefined && (report.hasFiles || report.hasDeletions) && wanted.length > 0;
      if (isFetched) {
        fetched = await link.retrying(async (session) => {
          const into = await results.makePartialFolder();
          const attemptFolder = `${session.folders.runs}/${place.folder}/${place.number}`;
          return await fetchFiles(link.name, await session.files(), { attemptFolder, paths: wanted, into });
        });
      }
      const { files, warnings, deleted } = fetched;
      ended = this.#endedEvent(exited, report, outBytes + errBytes + fetched.bytes);
      const details = { outBytes, errBytes, files, tree: this.#context.tree, deleted, warnings };
      const folder = isFetched ? 'received' : wanted.length > 0 ? 'empty' : 'none';
      results?.publish(this.#context.manifestOf(ended, details), folder);
      this.#context.removeFolder(place);
    } catch (error) {
      await results?.dropPartialFolder().catch(() => {}); // the reason below matters more
      const reason = `${(error as Error).message}; its files stay on ${link.name}`;
      return this.#over({ type: 'transfer-failed', reason, exitCode: report.exitCode }, report);
    }
    for (const message of fetched.warnings) {
      const { id, name, line } = this.#job;
      this.#context.events.publish({ type: 'job:warned', at: ended.at, job: id, name, line, message });
    }
    this.#context.events.publish(ended);
    return exited;
  }

  /** Ends the attempt without a result. */
  #over(outcome: JobOutcome, report?: EndReport): JobOutcome {
    this.#context.events.publish(this.#endedEvent(outcome, report, 0));
    return outcome;
  }

  #endedEvent(outcome: JobOutcome, report: EndReport | undefined, returnedBytes: number): JobEnded {
    const { id, name, line, command } = this.#job;
    return {
      type: 'job:ended',
      at: this.#context.now(),
      job: id,
      name,
      line,
      command,
      machine: this.#context.link.name,
      attempt: this.attempt.number,
      outcome,
      ...(this.#startedAt === undefined ? {} : { startedAt: this.#startedAt }),
      durationMs: report?.durationMs ?? 0,
      sentBytes: this.#sentBytes,
      returnedBytes,
      leftBehind: report?.leftBehind ?? 0,
    };
  }
}

/** The shell text that bash runs: the machine's `setup` line first, where there is one, then the command as it stands. */
export function jobScript(command: string, setup: string | undefined): string {
  return setup === undefined ? command : `${setup}\n${command}`;
}

/** Folders removed with one call, and the longest that one waits to be. */
const REMOVED_AT_ONCE = 500;
const REMOVED_AFTER_MS = 10_000;

/**
 * Removes attempt folders in large groups, or when the machine is let go of. Not one by one: besides the calls, ext4
 * makes every new file look at all inodes freed in the last five seconds.
 */
export class FolderRemover {
  readonly #link: MachineLink;
  readonly #places: AttemptPlace[] = [];
  #timer: NodeJS.Timeout | undefined;
  #removing: Promise<void> = Promise.resolve();

  constructor(link: MachineLink) {
    this.#link = link;
  }

  /** Takes note of a folder whose results are home. */
  add(place: AttemptPlace): void {
    this.#places.push(place);
    if (this.#places.length >= REMOVED_AT_ONCE) void this.done();
    this.#timer ??= setTimeout(() => void this.done(), REMOVED_AFTER_MS).unref();
  }

  /** Removes what waits. */
  done(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const places = this.#places.splice(0);
    if (places.length > 0) {
      // A machine that is gone for good keeps its folders: a later clean-up finds them.
      this.#removing = this.#removing.then(() => this.#remove(places)).catch(() => {});
    }
    return this.#removing;
  }

  async #remove(places: readonly AttemptPlace[]): Promise<void> {
    await this.#link.retrying(async (session) => {
      const files = await session.files();
      await files.run(removeAttempts(session.folders.runs, places));
    });
  }
}
