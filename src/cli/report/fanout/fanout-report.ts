/** What `execute_to` prints, put together from its flags: lines, gathered answers, JSON, files, and the words at the end. */
import type { MachineName } from '../../../lib/domain/machine.ts';
import { type FanoutEvent, type HostResult, isGood } from '../../../lib/fanout/host-result.ts';
import { durationText } from '../../../lib/util/duration-text.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';
import type { OutputArguments } from '../../to-arguments.ts';
import type { ByteOut } from './byte-out.ts';
import { fanoutSummary } from './fanout-summary.ts';
import { Gathered } from './gathered.ts';
import { HostLines } from './host-lines.ts';
import { hostsWithin } from './hosts-text.ts';
import type { OutDir } from './outdir.ts';

/** What to print and where. */
export interface FanoutReportOptions {
  readonly output: OutputArguments;
  readonly machines: readonly MachineName[];
  readonly verbose: boolean;
  readonly stdout: ByteOut;
  readonly stderr: ByteOut;
  /** A failure is told before the end when the others take so much longer. @default 3000 */
  readonly failureDelayMs?: number;
  /** Output cannot be kept or written: told once, nothing is printed of machines then. */
  readonly onProblem: (error: Error) => void;
}

/** So many new host keys are shown each by itself. */
const FEW_KEYS = 3;
const HOSTS_LENGTH = 200;
const FAILURE_DELAY_MS = 3_000;
const NEW_KEY = /^new host key of /;

/** Prints while machines answer, and what is left at the end. */
export class FanoutReport implements Disposable {
  readonly #options: FanoutReportOptions;
  readonly #lines: HostLines | undefined;
  readonly #gathered: Gathered | undefined;
  readonly #outDir: OutDir | undefined;
  readonly #json: typeof import('./host-json.ts') | undefined;
  readonly #newKeys: { readonly machine: MachineName; readonly message: string }[] = [];
  /** The same words of several machines. */
  readonly #warnings = new Map<string, MachineName[]>();
  /** Failures that nobody has been told of yet. */
  #untold: HostResult[] = [];
  #failureTimer: NodeJS.Timeout | undefined;
  /** Objects are written one after another, each as fast as it is read. */
  #written: Promise<void> = Promise.resolve();
  #hasFailed = false;

  /** Loads what the flags need and no more. @throws UsageError when the folder for the files cannot be made */
  static async open(options: FanoutReportOptions): Promise<FanoutReport> {
    const { outdir, form } = options.output;
    const files =
      outdir === undefined ? undefined : new (await import('./outdir.ts')).OutDir(outdir, options.machines);
    return new FanoutReport(options, files, form === 'json' ? await import('./host-json.ts') : undefined);
  }

  private constructor(
    options: FanoutReportOptions,
    outDir: OutDir | undefined,
    json: typeof import('./host-json.ts') | undefined,
  ) {
    const { output, stdout, stderr } = options;
    const { form } = output;
    this.#options = options;
    this.#outDir = outDir;
    this.#json = json;
    if (form === 'lines' || form === 'both')
      this.#lines = new HostLines({ out: stdout, err: stderr }, output);
    if (form !== 'lines') this.#gathered = new Gathered();
  }

  /** Takes every event. */
  report(event: FanoutEvent): void {
    if (this.#hasFailed) return;
    try {
      this.#print(event);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#options.onProblem(error as Error);
  }

  /** Prints what is printed at the end. Rejects when it cannot be read back or written. */
  async finish(results: readonly HostResult[]): Promise<void> {
    const { output, verbose, stdout, stderr } = this.#options;
    clearTimeout(this.#failureTimer);
    await this.#written;
    if (this.#gathered !== undefined && output.form !== 'json' && !this.#hasFailed) {
      const groups = this.#gathered.groups();
      const outs = { out: stdout, err: stderr };
      // Errors of machines were shown as they came, when lines were.
      const silent = { out: stdout, err: { write: () => {} } };
      const shown = output.form === 'both' ? silent : outs;
      if (output.diff) {
        const { printDiff } = await import('./print-diff.ts');
        await printDiff(groups, shown, (message) => this.#tell(message), output);
      } else {
        const { printGathered } = await import('./print-gathered.ts');
        await printGathered(groups, shown, output);
      }
    }
    this.#tellNewKeys();
    for (const [message, machines] of this.#warnings)
      this.#tell(`${hostsWithin(machines, HOSTS_LENGTH)}: ${visibleText(message)}`);
    for (const line of fanoutSummary(results, { verbose })) this.#tell(line);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#failureTimer);
    this.#gathered?.[Symbol.dispose]();
    this.#outDir?.close();
  }

  #print(event: FanoutEvent): void {
    switch (event.type) {
      case 'host:output': {
        const { machine, stream, chunk } = event;
        this.#lines?.write(machine, stream, chunk);
        this.#gathered?.write(machine, stream, chunk);
        this.#outDir?.write(machine, stream, chunk);
        return;
      }
      case 'host:ended':
        this.#end(event.result);
        return;
      case 'host:warned':
        this.#warn(event.machine, event.message);
        return;
      case 'host:new-key':
        if (NEW_KEY.test(event.message)) this.#newKeys.push(event);
        else this.#tell(visibleText(event.message));
        return;
      case 'fanout:warned':
        this.#tell(visibleText(event.message));
        return;
      case 'host:state':
        if (this.#options.verbose && event.state !== 'ending')
          this.#tell(`${visibleText(event.machine)}: ${event.state}`);
        return;
      default:
    }
  }

  #end(result: HostResult): void {
    const { machine, outcome, startedAt, endedAt } = result;
    this.#lines?.end(machine);
    this.#outDir?.end(result);
    this.#gathered?.end(result);
    if (!isGood(result)) this.#tellFailureSoon(result);
    if (this.#json !== undefined && this.#gathered !== undefined)
      this.#writeJson(result, this.#json, this.#gathered);
    if (this.#options.verbose && outcome.type === 'exited' && startedAt !== undefined)
      this.#tell(
        `${visibleText(machine)}: exit ${outcome.exitCode} after ${durationText(endedAt - startedAt, 1)}`,
      );
  }

  /** Whoever waits for long wants to know; of a short run the end tells it all. */
  #tellFailureSoon(result: HostResult): void {
    this.#untold.push(result);
    const { failureDelayMs = FAILURE_DELAY_MS } = this.#options;
    this.#failureTimer ??= setTimeout(() => {
      this.#failureTimer = undefined;
      const untold = this.#untold;
      this.#untold = [];
      for (const line of fanoutSummary(untold, { counts: false })) this.#tell(`so far: ${line}`);
    }, failureDelayMs).unref();
  }

  #writeJson(result: HostResult, { writeHostJson }: typeof import('./host-json.ts'), all: Gathered): void {
    const write = async () => {
      if (this.#hasFailed) return;
      await writeHostJson(result, all.answer(result.machine), this.#options.stdout);
      all.forget(result.machine);
    };
    this.#written = this.#written.then(write).catch((error: unknown) => this.#fail(error));
  }

  /** What is the same for many is told once, at the end. */
  #warn(machine: MachineName, message: string): void {
    const machines = this.#warnings.get(message);
    if (this.#options.verbose) this.#tell(`${visibleText(machine)}: ${visibleText(message)}`);
    else if (machines === undefined) this.#warnings.set(message, [machine]);
    else machines.push(machine);
  }

  /** Many at once, as at the first contact with a cluster, would hide what matters. */
  #tellNewKeys(): void {
    if (this.#options.verbose || this.#newKeys.length <= FEW_KEYS) {
      for (const { message } of this.#newKeys) this.#tell(visibleText(message));
      return;
    }
    const hosts = hostsWithin(
      this.#newKeys.map(({ machine }) => machine),
      HOSTS_LENGTH,
    );
    this.#tell(`new host keys of ${hosts} were accepted and added to known_hosts (--verbose shows them)`);
  }

  #tell(message: string): void {
    this.#options.stderr.write(`execute_to: ${message}\n`);
  }
}
