/** Puts the live view together: a source, a terminal where there is one, else plain text. */
import type { ReadStream, WriteStream } from 'node:tty';
import { isInForeground } from './foreground.ts';
import { LiveView } from './live-view.ts';
import { plainLines } from './plain.ts';
import { JOBS_ASKED } from './refresher.ts';
import { canDraw } from './screen.ts';
import type { WatchSource } from './source.ts';

/** Between which streams the view stands, and how it behaves. */
export interface WatchOptions {
  /** Of the process: both a terminal, or the table is printed. */
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  /** Prints the table, on a terminal as well. @default false */
  readonly isOnce?: boolean;
  /**
   * Called at each Ctrl-C; the view stays, and SIGINT is the caller's as well.
   * @default Ctrl-C and SIGINT end the view, and SIGINT the process unless somebody else listens
   */
  readonly onInterrupt?: () => void;
  /** Only jobs that have this text are shown, until another filter is typed. @default all */
  readonly filter?: string | undefined;
  /**
   * Where this process is not in the terminal's foreground, the view ends as with q, in place of the terminal stopping the
   * process; and Ctrl-Z does not stop it. For a process that does more than show: stdin is of no use afterwards. @default false
   */
  readonly leavesBackground?: boolean;
  /** Ends the view, as the user does with q. */
  readonly signal?: AbortSignal;
  /** NO_COLOR and TERM count. @default process.env */
  readonly environment?: NodeJS.ProcessEnv;
  /** From an answer of the source to the next question, when something has happened. @default 500 */
  readonly busyMs?: number;
  /** The same, when nothing has. @default 2000 */
  readonly idleMs?: number;
  /** From a question on until the view says that there is no answer. @default 5000 */
  readonly silentMs?: number;
  /** From an action on until the view says that there is no answer. @default 10_000 */
  readonly actMs?: number;
}

/**
 * Shows the source until the user quits, the source is over or the terminal goes; where there is no terminal, prints tables
 * once. Resolves to what the source said when it was over, else to undefined; the terminal is as it was then. While it is shown nobody
 * else may write to the terminal. SIGTERM and SIGHUP end it, and the process unless somebody else listens. The source stays open.
 * @throws Error where tables are asked for and the source does not answer
 */
export async function watch(source: WatchSource, options: WatchOptions): Promise<string | undefined> {
  const { environment = process.env, isOnce = false, signal } = options;
  if (isOnce || !canDraw(options, environment)) {
    await print(source, options);
    return undefined;
  }
  const { leavesBackground = false } = options;
  if (signal?.aborted || (leavesBackground && !isInForeground())) return undefined;
  using view = new LiveView(source, {
    stdin: options.stdin as ReadStream, // `canDraw` has seen that both are terminals
    stdout: options.stdout as WriteStream,
    hasColours: !environment.NO_COLOR,
    filter: options.filter,
    ...{ onInterrupt: options.onInterrupt, leavesBackground },
    ...{ busyMs: options.busyMs, idleMs: options.idleMs, silentMs: options.silentMs, actMs: options.actMs },
  });
  let stop = (): void => {};
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  signal?.addEventListener('abort', stop);
  try {
    const said = await Promise.race([source.over, view.ended, stopped]);
    return said ?? undefined;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

async function print(source: WatchSource, { stdout, filter = '' }: WatchOptions): Promise<void> {
  const overview = await source.overview({ limit: JOBS_ASKED, ...(filter !== '' && { filter }) });
  const text = `${plainLines(overview, Date.now(), filter).join('\n')}\n`;
  // Resolves also when nobody reads it any more: that is told by the stream's own 'error'.
  await new Promise<void>((resolve) => stdout.write(text, () => resolve()));
}
