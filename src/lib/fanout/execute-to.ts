/** One command on many machines at once. */
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import type { ConnectOptions } from '../remote/connect.ts';
import { checkJobName } from '../runner/job-name.ts';
import { EventStream } from '../util/event-stream.ts';
import { type FanoutEvent, type HostResult, type HostState, isGood } from './host-result.ts';
import { HostRun, type HostRunContext } from './host-run.ts';
import type { InputSpool } from './input-spool.ts';
import { LONGEST_COMMAND_BYTES } from './remote-command.ts';

/** How to run a command on many machines. */
export interface ExecuteToOptions extends ConnectOptions {
  /** Machines at once. @default 64 */
  readonly fanout?: number;
  /** For TCP connection and login of each hop together, and for the login shell after that. @default 10000 */
  readonly connectTimeoutMs?: number;
  /** How long the command may run; then it is ended there with its descendants. @default as long as it likes */
  readonly timeoutMs?: number;
  /** When one machine fails, start nothing more and end what runs elsewhere. @default false */
  readonly failFast?: boolean;
  /** So many machines after one another, the next when all of the last were good. @default all */
  readonly batches?: { readonly count: number } | { readonly percent: number };
  /** What every machine's command reads. @default nothing */
  readonly input?: InputSpool;
  /** Paths to send first; the command then runs in a folder that holds them and nothing else. @default none */
  readonly copyForwards?: readonly string[];
  /** Paths in the command's folder to bring to `RESULTS/JOB-NAME/HOST/`, wildcards allowed; needs `jobName`. */
  readonly copyBackwards?: readonly string[];
  readonly jobName?: string;
  /** Results folder. @default 'job_results' */
  readonly results?: string;
  /** @default the working directory */
  readonly cwd?: string;
  /** How much of each stream a result holds. @default 1 MiB */
  readonly keepBytes?: number;
  /** From TERM to KILL for what is ended. @default 2000 */
  readonly killGraceMs?: number;
  /** Epoch milliseconds. @default Date.now */
  readonly now?: () => number;
}

/** How many machines at once, unless told. */
export const DEFAULT_FANOUT = 64;
export const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
const DEFAULT_KEEP_BYTES = 1024 * 1024;
const DEFAULT_KILL_GRACE_MS = 2_000;

/** A command on its way to many machines. */
export class FanoutRun {
  /** Listen in the same turn in which `executeTo` was called: nothing is told before. */
  readonly events = new EventStream<FanoutEvent>();
  /**
   * One for each machine, in the order given: a machine that fails is a result.
   * Rejects with UsageError when the options make no sense; then nothing was run.
   */
  readonly results: Promise<readonly HostResult[]>;
  readonly #machines: readonly MachineEntry[];
  readonly #options: ExecuteToOptions;
  readonly #running = new Set<HostRun>();
  readonly #now: () => number;
  #isPaused = false;
  /** Why nothing more is started. */
  #stopped: string | undefined;

  constructor(machines: readonly MachineEntry[], command: string, options: ExecuteToOptions) {
    this.#machines = machines;
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.results = Promise.resolve().then(() => this.#run(command));
  }

  /** What the machines that are at it do now, and since when (epoch milliseconds). */
  get running(): readonly {
    readonly machine: MachineName;
    readonly state: HostState;
    readonly since: number;
  }[] {
    return [...this.#running].flatMap((run) => (run.state ? [{ machine: run.machine, ...run.state }] : []));
  }

  /** Takes no more of what the machines print until `resumeOutput`, for a reader that is slower than they are. */
  pauseOutput(): void {
    this.#isPaused = true;
    for (const run of this.#running) run.pauseOutput();
  }

  resumeOutput(): void {
    this.#isPaused = false;
    for (const run of this.#running) run.resumeOutput();
  }

  /** Ends the command everywhere, with all that it started; `results` settles when that is done. */
  cancel(reason: string): void {
    this.#stopped ??= reason;
    for (const run of this.#running) run.cancel(reason);
  }

  async #run(command: string): Promise<readonly HostResult[]> {
    const { fanout = DEFAULT_FANOUT, batches } = this.#options;
    const context = await this.#prepare(command);
    const names = this.#machines.map(({ config }) => config.name);
    this.events.publish({ type: 'fanout:started', at: this.#now(), machines: names });
    const results: HostResult[] = [];
    const size = batchSize(batches, this.#machines.length);
    for (let at = 0; at < this.#machines.length; at += size) {
      const batch = this.#machines.slice(at, at + size);
      const done = await mapLimited(batch, fanout, (entry) => this.#runOn(entry, context));
      results.push(...done);
      const bad = done.filter((result) => !isGood(result)).length;
      if (bad > 0 && batches !== undefined) {
        this.#stopped ??= `${bad} of the ${batch.length} machines before failed`;
      }
    }
    await context.files?.results?.[Symbol.asyncDispose]();
    this.events.publish({ type: 'fanout:ended', at: this.#now() });
    return results;
  }

  async #runOn(entry: MachineEntry, context: HostRunContext): Promise<HostResult> {
    const run = new HostRun(entry, context);
    if (this.#stopped !== undefined) run.cancel(this.#stopped);
    if (this.#isPaused) run.pauseOutput();
    this.#running.add(run);
    const result = await run.run();
    this.#running.delete(run);
    if (this.#options.failFast === true && this.#stopped === undefined && !isGood(result)) {
      this.cancel(`${entry.config.name} failed`);
    }
    return result;
  }

  /** Looks at all that can be wrong before a machine is contacted. */
  async #prepare(command: string): Promise<HostRunContext> {
    const options = this.#options;
    const { copyForwards, copyBackwards, jobName, cwd = process.cwd() } = options;
    checkCommand(command);
    checkOptions(options);
    if (this.#machines.length === 0) throw new UsageError('no machine is named: expected at least one');
    if (copyBackwards !== undefined && jobName === undefined)
      throw new UsageError('--copy-backwards needs --job-name: it names the results');
    if (jobName !== undefined && copyBackwards === undefined)
      throw new UsageError('--job-name needs --copy-backwards: it names what is brought back');
    const resultsFolder = resolve(cwd, options.results ?? 'job_results');
    const needsFiles = copyForwards !== undefined || copyBackwards !== undefined;
    return {
      id: randomBytes(6).toString('hex'),
      command,
      ssh: options.ssh ?? {},
      connectTimeoutMs: options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS,
      timeoutMs: options.timeoutMs,
      killGraceMs: options.killGraceMs ?? DEFAULT_KILL_GRACE_MS,
      keepBytes: options.keepBytes ?? DEFAULT_KEEP_BYTES,
      input: options.input,
      files: needsFiles
        ? {
            tree: await this.#listTree(cwd, resultsFolder, copyForwards ?? []),
            back: copyBackwards ?? [],
            results: jobName === undefined ? undefined : await openResults(resultsFolder, jobName),
          }
        : undefined,
      publish: (event) => this.events.publish(event),
      now: this.#now,
    };
  }

  async #listTree(cwd: string, results: string, copyForwards: readonly string[]) {
    // Loaded by those who send something: listing and hashing are a third of the library.
    const [{ SourceTrees }, { notesText }] = await Promise.all([
      import('../files/source-trees.ts'),
      import('../files/source-notes.ts'),
    ]);
    const trees = new SourceTrees({ cwd, results, machines: this.#machines });
    const wanted = { copyForwards, shareForwards: [] };
    const notes = await trees.listAll([wanted]);
    for (const message of notesText(notes)) this.events.publish({ type: 'fanout:warned', message });
    return await trees.of(wanted);
  }
}

/**
 * Runs a command on many machines at once and returns at once; `results` has one result per machine. A machine needs
 * sshd and `sh`; bash is used where there is one.
 */
export function executeTo(
  machines: readonly MachineEntry[],
  command: string,
  options: ExecuteToOptions = {},
): FanoutRun {
  return new FanoutRun(machines, command, options);
}

async function openResults(resultsFolder: string, jobName: string) {
  const { HostResults } = await import('./host-results.ts');
  return await HostResults.open({ resultsFolder, jobName, checkName: checkJobName });
}

function checkCommand(command: string): void {
  if (command.trim() === '') throw new UsageError('the command is empty');
  if (command.includes('\0'))
    throw new UsageError('the command holds a NUL character, which no shell can take');
  const bytes = Buffer.byteLength(command);
  if (bytes > LONGEST_COMMAND_BYTES) {
    throw new UsageError(
      `the command has ${bytes} bytes, expected at most ${LONGEST_COMMAND_BYTES}: send a script with --copy-forwards and run that`,
    );
  }
}

/** The longest time that a timer can wait, about 24 days. */
export const MOST_TIMER_MS = 2 ** 31 - 1;

function checkOptions(options: ExecuteToOptions): void {
  const { fanout, batches, connectTimeoutMs, timeoutMs, killGraceMs, keepBytes } = options;
  const count = batches !== undefined && 'count' in batches ? batches.count : undefined;
  const percent = batches !== undefined && 'percent' in batches ? batches.percent : undefined;
  const limits: readonly (readonly [name: string, value: number | undefined, least: number, most: number])[] =
    [
      ['fanout', fanout, 1, Number.MAX_SAFE_INTEGER],
      ['batches.count', count, 1, Number.MAX_SAFE_INTEGER],
      ['batches.percent', percent, 1, 100],
      ['connectTimeoutMs', connectTimeoutMs, 1, MOST_TIMER_MS],
      ['timeoutMs', timeoutMs, 1, MOST_TIMER_MS],
      ['killGraceMs', killGraceMs, 0, MOST_TIMER_MS],
      ['keepBytes', keepBytes, 0, Number.MAX_SAFE_INTEGER],
    ];
  for (const [name, value, least, most] of limits) {
    if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) continue;
    throw new UsageError(`${name}: found ${value}, expected a whole number from ${least} to ${most}`);
  }
}

function batchSize(batches: ExecuteToOptions['batches'], machines: number): number {
  if (batches === undefined) return Math.max(1, machines);
  return 'count' in batches ? batches.count : Math.max(1, Math.floor((machines * batches.percent) / 100));
}

/** Runs `work` on all items, at most `limit` at a time. */
async function mapLimited<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) {
      const item = items[i] as T; // i is an index of items
      results[i] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
