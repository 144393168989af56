/**
 * The life of one attempt on one machine, from its source tree to its published result.
 *
 *     sending -> starting -> running -> collecting -> published, or put beside when another attempt follows
 *        \           \          \            \
 *         `-----------`----------`------------`--> not published (transfer-failed, lost, cancelled before its start,
 *                                                  abandoned, given up)
 *
 * The processes are gone when `collecting` begins: `freed` settles then, since the next job may start while this one's
 * results are on their way home.
 */

import type { JobEnded } from '../domain/events.ts';
import type { Attempt, Job, JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import { type FetchResult, fetchFiles } from '../files/fetch.ts';
import { AttemptOutput } from './attempt-output.ts';
import { exitOutcome, faultOfFailedStart, lastErrorLine } from './evidence.ts';
import { type AttemptFacts, type EndReport, endedEvent, startedEvent } from './job-events.ts';
import type { JobRunContext, JobRunOptions } from './job-run-context.ts';
import { isLocalTrouble } from './local-trouble.ts';
import type { TreeThere } from './parts-there.ts';
import type { AttemptReport } from './supervisor.ts';

export { FolderRemover } from './folder-remover.ts';

/** Why an attempt was never given to its machine: its files could not be sent, or it was cancelled before. */
interface NotStarted {
  readonly type: 'unsent' | 'withdrawn';
  readonly reason: string;
}

const SEND_TRIES = 3;

/** One attempt under way. */
export class JobRun implements RunningAttempt {
  readonly machine: MachineName;
  readonly ended: Promise<JobOutcome>;
  /** Settles when the command and all that it left behind are gone, or were never there. */
  readonly freed: Promise<void>;
  /** Settles when the command has started, or never will. */
  readonly started: Promise<void>;
  readonly #job: Job;
  readonly #context: JobRunContext;
  readonly #options: JobRunOptions;
  readonly #output: AttemptOutput;
  #markFreed: () => void = () => {};
  #markStarted: () => void = () => {};
  #startedAt: number | undefined;
  #cancelReason: string | undefined;
  #abandonReason: string | undefined;
  /** What it was told by `expire`. */
  #expiredAfterMs: number | undefined;
  #stopSending: (stopped: 'stopped') => void = () => {};
  readonly #sendingStopped: Promise<'stopped'>;
  #isHandedOver = false;
  /** The outcome was told; whatever still goes on here has no effect. */
  #isOver = false;
  #isLetGo = false;
  /** Why its output or its results cannot be kept here. */
  #problem: Error | undefined;
  #sentBytes = 0;

  constructor(
    job: Job,
    readonly attempt: Attempt,
    context: JobRunContext,
    options: JobRunOptions,
  ) {
    this.#job = job;
    this.#context = context;
    this.#options = options;
    this.machine = context.link.name;
    const { reader, place, results, onOutput, maxOutputBytes } = context;
    this.#output = new AttemptOutput({
      reader,
      place,
      results,
      onOutput,
      maxBytes: maxOutputBytes,
      onProblem: (error) => this.#onProblem(error),
    });
    this.freed = new Promise((resolve) => {
      this.#markFreed = resolve;
    });
    this.started = new Promise((resolve) => {
      this.#markStarted = resolve;
    });
    this.#sendingStopped = new Promise((resolve) => {
      this.#stopSending = resolve;
    });
    const gaveUp = new Promise<JobOutcome>((resolve) => {
      this.#settleGivenUp = resolve;
    });
    const live = this.#live().catch((error: unknown) =>
      this.#over({ type: 'transfer-failed', reason: (error as Error).message }),
    );
    this.ended = Promise.race([live, gaveUp]).finally(() => this.#letGo());
  }
  #settleGivenUp: (outcome: JobOutcome) => void = () => {};

  cancel(reason: string): void {
    if (this.#isOver || this.#cancelReason !== undefined) return;
    this.#cancelReason = reason;
    this.#stopSending('stopped');
    if (this.#isHandedOver) this.#context.link.cancel(this.#context.place, this.#context.killGraceMs);
  }

  expire(timeoutMs: number): void {
    if (this.#isOver || !this.#isHandedOver) return;
    this.#expiredAfterMs = timeoutMs;
    this.#context.link.expire(this.#context.place, this.#context.killGraceMs);
  }

  abandon(reason: string): void {
    if (this.#isOver || this.#abandonReason !== undefined) return;
    this.#abandonReason = reason;
    this.#output.leave();
    this.cancel(reason);
  }

  /**
   * Waits no longer for a machine that stays away: `ended` settles as `lost` at once. What runs there runs on, and nothing
   * here is touched any more; a later run may adopt the attempt.
   */
  giveUp(reason: string): void {
    if (this.#isOver) return;
    this.#output.leave();
    const lost: JobOutcome = this.#isHandedOver
      ? { type: 'lost', reason }
      : { type: 'lost', reason, neverStarted: true };
    this.#settleGivenUp(this.#over(this.#abandonedOr(lost)));
    this.#letGo();
  }

  /** Once: another run of the same attempt may be known by this place afterwards. */
  #letGo(): void {
    if (this.#isLetGo) return;
    this.#isLetGo = true;
    this.#context.link.forget(this.#context.place);
    this.#context.reader.forget(this.#context.place);
    this.#markStarted();
    this.#markFreed();
  }

  async #live(): Promise<JobOutcome> {
    const report = this.#options.adopt ? await this.#handOver(undefined) : await this.#sendAndStart();
    this.#markFreed();
    if (this.#abandonReason !== undefined) return this.#abandoned(report.type);
    switch (report.type) {
      case 'ended':
        return await this.#collect(report);
      case 'failed':
        return await this.#failed(report);
      case 'lacks':
        return this.#over({
          type: 'transfer-failed',
          reason: 'its source tree vanishes there again and again',
        });
      case 'unsent':
        return this.#over({
          type: 'transfer-failed',
          reason: report.reason,
          ...(this.#problem === undefined ? faultIn(report.reason) : {}),
        });
      case 'withdrawn':
        return this.#over({ type: 'cancelled', reason: report.reason });
      case 'refused':
        return this.#over({
          type: 'lost',
          reason: 'its folder on the machine belongs to another controller',
        });
      case 'unstarted': {
        this.#context.removeFolder(this.#context.place); // late calls of an older connection are refused there
        if (this.#startedAt === undefined && this.#options.hasBegun !== true) {
          const reason = 'the connection went before it was started';
          return this.#over({ type: 'lost', reason, neverStarted: true });
        }
        await this.#context.endVanished(this.#context.place);
        return this.#over({ type: 'lost', reason: 'its folder on the machine is gone' });
      }
      case 'lost': {
        this.#context.removeFolder(this.#context.place);
        const reason =
          report.because === 'rebooted'
            ? 'its machine was started anew'
            : 'its processes are gone without an exit record';
        return this.#over({ type: 'lost', reason });
      }
      case 'started':
        throw new Error('Internal error: a start is no end');
    }
  }

  /** Starts the job when its tree is there, and hears how it ends. */
  async #sendAndStart(): Promise<AttemptReport | NotStarted> {
    for (let tries = 1; ; tries++) {
      let there: TreeThere | 'stopped';
      try {
        // A send that others wait for, too, goes on; this job need not wait for its end.
        there = await Promise.race([this.#context.bringTree(), this.#sendingStopped]);
      } catch (error) {
        return { type: 'unsent', reason: (error as Error).message };
      }
      if (there === 'stopped' || this.#isUnwanted) return this.#withdrawn();
      this.#sentBytes += there.sentBytes;
      // Away just now: the job is given to another machine, or to this one when it is back.
      if (!this.#context.link.isUp) return { type: 'unstarted' };
      try {
        this.#output.open();
        if (tries === 1) await this.#context.beforeStart?.();
      } catch (error) {
        this.#onProblem(error as Error);
        return { type: 'unsent', reason: cannotKeep(error as Error) };
      }
      if (this.#isUnwanted) return this.#withdrawn();
      const report = await this.#handOver(there);
      // Another controller may have pruned a part while the machine was away: nothing was started yet.
      if (report.type !== 'lacks' || tries === SEND_TRIES) return report;
      this.#context.forgetPart(report.part);
    }
  }

  get #isCurrent(): boolean {
    return this.#context.isCurrent?.(this.attempt) ?? true;
  }

  get #isUnwanted(): boolean {
    return this.#isOver || this.#cancelReason !== undefined;
  }

  #withdrawn(): NotStarted {
    return { type: 'withdrawn', reason: this.#cancelReason ?? 'nobody waits for it' };
  }

  /** Gives the attempt to the machine, to start from this tree or to adopt, and hears how it ends. */
  #handOver(there: TreeThere | undefined): Promise<AttemptReport> {
    const { link, place, call } = this.#context;
    return new Promise((resolve) => {
      const hear = (heard: AttemptReport) => {
        if (heard.type === 'started') this.#onStarted(this.#context.now() - heard.agoMs);
        else resolve(heard);
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

  #onStarted(startedAt: number, hasEnded = false): void {
    if (this.#startedAt !== undefined || this.#abandonReason !== undefined || !this.#isCurrent) return;
    const { events, gpus, cudaVisibleDevices } = this.#context;
    const { adopt, resumeOutput = false } = this.#options;
    this.#startedAt = startedAt;
    try {
      if (adopt && resumeOutput) this.#output.resume();
      else if (adopt) this.#output.open();
      this.#output.follow();
    } catch (error) {
      // Its output has nowhere to go (disk full, no such folder). It runs on: the next run of the batch brings it home.
      this.#onProblem(error as Error);
    }
    const at = this.#context.now();
    events.publish(
      startedEvent(this.#facts, { at, startedAt, isAdopted: adopt, hasEnded, gpus, cudaVisibleDevices }),
    );
    this.#markStarted();
  }

  /** Something cannot be written here. That the disk is at fault, and not this job's names, is told once. */
  #onProblem(error: Error): void {
    if (this.#problem !== undefined) return;
    this.#problem = error;
    if (isLocalTrouble(error)) this.#context.onLocalProblem(error);
  }

  async #collect(report: EndReport): Promise<JobOutcome> {
    // An attempt adopted after its end was never heard to start.
    this.#onStarted(this.#context.now() - report.agoMs - report.durationMs, true);
    const { link, results, place } = this.#context;
    const wanted = this.#job.copyBackwards;
    let fetched: FetchResult = { files: 0, bytes: 0, warnings: [], deleted: [] };
    let outcome: JobOutcome;
    let ended: JobEnded;
    try {
      if (this.#problem !== undefined) throw new Error(cannotKeep(this.#problem));
      const { out, err } = await this.#output.finish(report);
      const isFetched =
        results !== undefined && (report.hasFiles || report.hasDeletions) && wanted.length > 0;
      if (isFetched) {
        fetched = await link.retrying((session) =>
          results.receive(async (into) => {
            const attemptFolder = `${session.folders.runs}/${place.folder}/${place.number}`;
            return await fetchFiles(link.name, await session.files(), { attemptFolder, paths: wanted, into });
          }),
        );
      }
      if (this.#isOver || this.#abandonReason !== undefined || !this.#isCurrent)
        return this.#abandoned(report.type);
      const why = this.#failedStart(report, err.bytes);
      if (why !== undefined) {
        this.#context.removeFolder(place);
        return this.#over({ type: 'transfer-failed', reason: why, stage: 'start' }, report);
      }
      // From here to the end of publishing nothing waits, so nothing comes in between.
      outcome = this.#outcomeOf(report);
      const isLast = this.#isLast(outcome);
      const { files, warnings, deleted } = fetched;
      ended = this.#endedEvent(outcome, {
        report,
        returnedBytes: out.fetchedBytes + err.fetchedBytes + fetched.bytes,
        willRetry: !isLast,
      });
      const manifest = this.#context.manifestOf(ended, {
        outBytes: out.bytes,
        errBytes: err.bytes,
        isOutCut: out.fetchedBytes < out.bytes,
        isErrCut: err.fetchedBytes < err.bytes,
        files,
        tree: this.#context.tree,
        deleted,
        warnings,
      });
      const folder = isFetched ? 'received' : wanted.length > 0 ? 'empty' : 'none';
      if (isLast) results?.publish(manifest, folder);
      else results?.publishBeside(manifest, folder);
    } catch (error) {
      if (this.#isOver || this.#abandonReason !== undefined) return this.#abandoned(report.type);
      this.#onProblem(error as Error);
      await results?.drop().catch(() => {}); // the reason below matters more
      const reason = `${(error as Error).message}; its files stay on ${link.name}`;
      return this.#over({ type: 'transfer-failed', reason, exitCode: report.exitCode }, report);
    }
    this.#isOver = true;
    this.#context.removeFolder(place);
    if (ended.willRetry) await results?.drop().catch(() => {}); // the next attempt clears it, too
    for (const message of fetched.warnings) {
      const { id, name, line } = this.#job;
      this.#context.events.publish({ type: 'job:warned', at: ended.at, job: id, name, line, message });
    }
    this.#context.events.publish(ended);
    return outcome;
  }

  /** Why its command could not be started, where that is told by what it printed. */
  #failedStart({ exitCode, endedBy }: EndReport, errBytes: number): string | undefined {
    if (this.#context.tellsFailedStart !== true || exitCode !== 126 || errBytes === 0) return undefined;
    if (endedBy !== undefined) return undefined;
    // Without the name of our file, which bash puts before its messages.
    return (
      lastErrorLine(this.#output.errorTail)?.replace(/^\S*: line \d+: /, '') ?? 'it could not be started'
    );
  }

  #outcomeOf(report: EndReport): JobOutcome {
    const { call } = this.#context;
    if (report.endedBy === 'timeout')
      return { type: 'timed-out', timeoutMs: this.#expiredAfterMs ?? call.timeoutMs ?? report.durationMs };
    // Only the machine knows which came first, its end or our wish for it.
    if (report.endedBy === 'cancel')
      return { type: 'cancelled', reason: this.#cancelReason ?? 'its end was asked for' };
    const { gpus, reserveMachine } = this.#job.request;
    return exitOutcome({ ...report, errorTail: this.#output.errorTail, hasGpus: gpus > 0 || reserveMachine });
  }

  async #failed(report: Extract<AttemptReport, { type: 'failed' }>): Promise<JobOutcome> {
    const { reason, exitCode } = report;
    // It may have run and printed before its machine's disk was full.
    await this.#output.finish({ hasOutput: true, hasErrors: true }).catch(() => {});
    if (this.#abandonReason !== undefined) return this.#abandoned(report.type);
    // Nothing is in it that anybody may want. One whose command has ended is looked at again by the next run.
    if (exitCode === undefined) this.#context.removeFolder(this.#context.place);
    return this.#over({
      type: 'transfer-failed',
      reason,
      ...(exitCode === undefined ? faultIn(reason) : { exitCode }),
    });
  }

  /** Ends an attempt that does not count: whatever it left on its machine goes. */
  #abandoned(how: AttemptReport['type'] | NotStarted['type']): JobOutcome {
    // What was never begun keeps its folder: a call that is still on its way must find it and start nothing.
    if (!this.#isOver && (how === 'ended' || how === 'failed' || how === 'lost'))
      this.#context.removeFolder(this.#context.place);
    return this.#over({ type: 'cancelled', reason: this.#abandonReason ?? 'nobody waits for it' });
  }

  #abandonedOr(outcome: JobOutcome): JobOutcome {
    if (this.#abandonReason === undefined) return outcome;
    return { type: 'cancelled', reason: this.#abandonReason };
  }

  /** Asks once whether this attempt is the job's last. */
  #isLast(outcome: JobOutcome): boolean {
    if (outcome.type === 'cancelled') return true;
    this.#answer ??= this.#context.isFinal(this.attempt, outcome, this.machine);
    return this.#answer;
  }
  #answer: boolean | undefined;

  /** Ends the attempt without a result. */
  #over(outcome: JobOutcome, report?: EndReport): JobOutcome {
    if (this.#isOver) return outcome;
    this.#isOver = true;
    if (this.#context.link.isClosed) return outcome; // the batch was left: the next run tells how it ended
    if (this.#abandonReason !== undefined) return outcome; // what is told is the attempt that counts
    // A result that could not be put beside is not followed by another attempt either.
    const willRetry = this.#answer === undefined && !this.#isLast(outcome);
    this.#context.events.publish(this.#endedEvent(outcome, { report, returnedBytes: 0, willRetry }));
    return outcome;
  }

  #endedEvent(
    outcome: JobOutcome,
    more: {
      readonly report: EndReport | undefined;
      readonly returnedBytes: number;
      readonly willRetry: boolean;
    },
  ): JobEnded {
    return endedEvent(this.#facts, {
      at: this.#context.now(),
      outcome,
      startedAt: this.#startedAt,
      sentBytes: this.#sentBytes,
      errorTail: this.#output.errorTail,
      ...more,
    });
  }

  get #facts(): AttemptFacts {
    return { job: this.#job, attempt: this.attempt, machine: this.machine };
  }
}

function cannotKeep(error: Error): string {
  return `its output cannot be written here: ${error.message}`;
}

function faultIn(reason: string): { readonly machineFault?: string } {
  const machineFault = faultOfFailedStart(reason);
  return machineFault === undefined ? {} : { machineFault };
}

/** The shell text that bash runs: the machine's `setup` line first, where there is one, then the command as it stands. */
export function jobScript(command: string, setup: string | undefined): string {
  return setup === undefined ? command : `${setup}\n${command}`;
}
