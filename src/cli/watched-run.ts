/** `execute_batch --watch`: the live view of a batch, for those in front of this terminal and for others on this host. */
import { hostname } from 'node:os';
import { batchPlace, controllerOf } from '../lib/batch/batch-place.ts';
import type { BatchRun } from '../lib/batch/batch-run.ts';
import { UsageError } from '../lib/domain/errors.ts';
import type { BatchEnded } from '../lib/domain/events.ts';
import { visibleText } from '../lib/util/terminal-text.ts';
import type { BatchArguments } from './batch-arguments.ts';
import type { Report } from './report/report.ts';
import { writeNote } from './report/text-out.ts';
import type { BatchDoorSource, BatchDoorSourceOptions } from './watch/batch-door-source.ts';
import { BatchEvents } from './watch/batch-events.ts';
import { BatchSource, type BatchSourceOptions, batchTitle } from './watch/batch-source.ts';
import { canDraw } from './watch/screen.ts';
import { watch } from './watch/watch.ts';

type WatchArguments = Pick<BatchArguments, 'file' | 'results' | 'machines' | 'verbose'>;

/**
 * Watches a batch that another process on this host runs; resolves to the exit code when somebody has left the view, or the
 * batch has ended. Undefined when nobody runs it, so that this command is to.
 * @throws UsageError when nobody runs it and no machine is named, when it is run on another host, or cannot be watched
 */
export async function watchOther({ file, results, machines }: WatchArguments): Promise<number | undefined> {
  const place = batchPlace(file, results);
  const controller = controllerOf(place);
  // Whoever names machines wants a run. Without a terminal there may be a script, which must not take this for its end.
  const isRunWanted = machines.length > 0 && !canDraw(process);
  if (controller === undefined || isRunWanted) {
    if (machines.length > 0) return undefined;
    throw new UsageError(
      `nobody runs ${visibleText(file)} with its results in ${visibleText(results)}: --watch alone shows a batch that is being run; to run it, add --machines`,
    );
  }
  if (controller.host !== hostname())
    throw new UsageError(
      `${visibleText(file)} is being run by process ${controller.pid} on ${visibleText(controller.host)}: --watch shows it there`,
    );
  await using source = await openSource({ place, file });
  const { stdin, stdout, stderr } = process;
  const said = await watch(source, { stdin, stdout });
  if (said !== undefined) writeNote(stderr, said);
  return 0;
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
  readonly #source: BatchSourceOptions;
  readonly #events: BatchEvents;
  #settle: (said: string) => void = () => undefined;
  #said = 'the command that ran the batch was ended; what runs, runs on: the same command goes on with it';
  #viewing: Promise<void> | undefined;
  #isOver = false;

  constructor(args: WatchArguments, report: Report) {
    const { file, results } = args;
    this.#args = args;
    this.#events = new BatchEvents(results);
    const over = new Promise<string>((resolve) => {
      this.#settle = resolve;
    });
    this.#source = { title: batchTitle(file, results), events: this.#events, over };
    this.report = {
      ...report,
      warn: (message) => {
        report.warn(message);
        this.#events.note(message);
      },
    };
  }

  /** Lets others on this host watch the batch until this is disposed of; where that is impossible it is run all the same. */
  open(batch: BatchRun): AsyncDisposable {
    batch.events.subscribe((event) => {
      if (event.type === 'batch:ended') this.#said = endedText(event);
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
    this.#viewing = watch(new BatchSource(batch, this.#source), { stdin, stdout, onInterrupt }).then(
      () => {
        letGo();
        if (!this.#isOver && !left.isLeft) report.warn('the view is closed, and the batch runs on');
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
    this.#settle(this.#said);
    await this.#viewing;
  }
}

function endedText({ done, failed, skipped, notRun }: BatchEnded): string {
  return `the batch has ended: ${done} done, ${failed} failed, ${skipped} skipped, ${notRun} not run`;
}
