/** `execute_batch --watch`: the live view of a batch, for those in front of this terminal and for others on this host. */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { fileBytes } from '../lib/batch/batch-file.ts';
import { batchPlace, controllerOf } from '../lib/batch/batch-place.ts';
import type { BatchRun } from '../lib/batch/batch-run.ts';
import { UsageError } from '../lib/domain/errors.ts';
import type { BatchEnded } from '../lib/domain/events.ts';
import { visibleText } from '../lib/util/terminal-text.ts';
import type { BatchArguments } from './batch-arguments.ts';
import { exitCodeOf } from './exit-codes.ts';
import type { Report } from './report/report.ts';
import { writeNote } from './report/text-out.ts';
import type { BatchDoorSource, BatchDoorSourceOptions } from './watch/batch-door-source.ts';
import { BatchEvents } from './watch/batch-events.ts';
import { type BatchEnd, BatchSource, type BatchSourceOptions, batchTitle } from './watch/batch-source.ts';
import { isInForeground } from './watch/foreground.ts';
import { canDraw } from './watch/screen.ts';
import { watch } from './watch/watch.ts';

type WatchArguments = Pick<
  BatchArguments,
  'file' | 'results' | 'machines' | 'verbose' | 'failedLines' | 'joblog'
>;

/** The exit code of a command that was to run a batch, and watched it only, without its end. */
const LEFT = 1;

/**
 * Watches a batch that another process on this host runs; resolves to the exit code when somebody has left the view, or the
 * batch has ended: where machines are named the batch was to be run, so the code is that of its run, and not 0 where its end
 * was not seen. Undefined when nobody runs it, so that this command is to.
 * @throws UsageError when nobody runs it and no machine is named, when it is run on another host, or cannot be watched
 */
export async function watchOther(args: WatchArguments): Promise<number | undefined> {
  const { file, results, machines } = args;
  const place = batchPlace(file, results);
  const controller = controllerOf(place);
  const isRunWanted = machines.length > 0;
  // Without a terminal there may be a script, which must not take this for its end.
  if (controller === undefined || (isRunWanted && !canDraw(process))) {
    if (isRunWanted) return undefined;
    if (!existsSync(file)) await fileBytes(file); // says what is wrong with it
    throw new UsageError(
      `nobody runs ${visibleText(file)} with its results in ${visibleText(results)}: --watch alone shows a batch that is being run; to run it, add --machines`,
    );
  }
  if (controller.host !== hostname())
    throw new UsageError(
      `${visibleText(file)} is being run by process ${controller.pid} on ${visibleText(controller.host)}: --watch shows it there`,
    );
  const { stdin, stdout, stderr } = process;
  const say = (message: string) => writeNote(stderr, message);
  const flags = [args.failedLines !== undefined && '--failed-lines', args.joblog !== undefined && '--joblog'];
  const given = flags.filter((flag) => flag !== false);
  if (given.length > 0)
    say(
      `process ${controller.pid} runs this batch, and its own command line counts: ${given.join(' and ')} of this one is not written`,
    );
  await using source = await openSource({ place, file, onSilence: say });
  const said = await watch(source, { stdin, stdout });
  if (said !== undefined) say(said);
  if (!isRunWanted) return 0;
  if (said === undefined) {
    say(`the batch goes on in process ${controller.pid}: this was a view of it alone`);
    return LEFT;
  }
  return source.badLines === undefined ? LEFT : exitCodeOf(source.badLines);
}

/** By itself, since TypeScript 6.0 leaves the ending of an imported file's name as it is beside an `await using`. */
async function openSource(options: BatchDoorSourceOptions): Promise<BatchDoorSource> {
  const { BatchDoorSource: Source } = await import('./watch/batch-door-source.ts');
  return await Source.open(options);
}

/** A run of a batch that can be watched. */
export class WatchedRun {
  /** The command's report, of which those who watch hear, too. */
  readonly report: Report;
  readonly #args: WatchArguments;
  readonly #warn: Report['warn'];
  readonly #source: BatchSourceOptions;
  readonly #events: BatchEvents;
  #settle: (end: BatchEnd) => void = () => undefined;
  #end: BatchEnd = {
    text: 'the command that ran the batch was ended; what runs, runs on: the same command goes on with it',
  };
  #viewing: Promise<void> | undefined;
  #isOver = false;

  constructor(args: WatchArguments, report: Report) {
    const { file, results } = args;
    this.#args = args;
    this.#warn = report.warn;
    this.#events = new BatchEvents(results);
    const over = new Promise<BatchEnd>((resolve) => {
      this.#settle = resolve;
    });
    this.#source = { title: batchTitle(file, results), events: this.#events, over };
    this.report = { ...report, warn: (message) => this.say(message) };
  }

  /** Tells people. What has to be seen at once comes with a few `short` words for a view, where it stays for a while. */
  say(message: string, short?: string): void {
    this.#warn(message);
    this.#events.note(short ?? message, short !== undefined);
  }

  /** Lets others on this host watch the batch until this is disposed of; where that is impossible it is run all the same. */
  open(batch: BatchRun): AsyncDisposable {
    batch.events.subscribe((event) => {
      if (event.type === 'batch:ended')
        this.#end = { text: endedText(event), badLines: badLines(batch, event) };
      this.#events.report(event);
    });
    const { file, results, verbose } = this.#args;
    // Nobody waits for it: a batch of a moment is not to take longer for those who might watch.
    const opening = import('./watch/batch-door.ts')
      .then(({ BatchDoor }) => BatchDoor.open(batch, batchPlace(file, results), this.#source))
      .catch((error: unknown) => {
        if (verbose) this.report.warn(`nobody else can watch this batch: ${(error as Error).message}`);
      });
    return {
      [Symbol.asyncDispose]: async () => {
        await this.end();
        const door = await opening;
        await door?.close();
      },
    };
  }

  /** Shows the batch on this terminal, where it can be drawn on, until it ends or somebody leaves the view. */
  show(batch: BatchRun, left: { readonly isLeft: boolean }): void {
    if (batch.toRun.length === 0 || !canDraw(process)) return;
    const { report } = this;
    const letGo = report.hold();
    const { stdin, stdout, pid } = process;
    const onInterrupt = () => process.kill(pid, 'SIGINT');
    this.#viewing = watch(new BatchSource(batch, this.#source), {
      ...{ stdin, stdout, onInterrupt },
      leavesBackground: true,
    }).then(
      () => {
        letGo();
        if (this.#isOver || left.isLeft) return;
        report.warn(
          isInForeground()
            ? 'the view is closed, and the batch runs on'
            : 'there is no view in the background: the batch goes on with lines',
        );
      },
      (error: unknown) => {
        letGo();
        report.warn(`there is no view: ${(error as Error).message}`);
      },
    );
    process.once('exit', letGo); // after Ctrl-C three times
  }

  /** The batch has ended or is left: takes the view off the terminal, and tells those who watch. */
  async end(): Promise<void> {
    this.#isOver = true;
    this.#settle(this.#end);
    await this.#viewing;
  }
}

function endedText({ done, failed, skipped, notRun }: BatchEnded): string {
  return `the batch has ended: ${done} done, ${failed} failed, ${skipped} skipped, ${notRun} not run`;
}

function badLines(batch: BatchRun, { done }: BatchEnded): number {
  return batch.jobs.length - done - batch.skipped.filter(({ isGood }) => isGood).length;
}
