/**
 * `--joblog FILE`: GNU parallel's log, so that what reads those reads ours: one line per ended attempt, columns parted
 * by TAB. A line is in the file as soon as its job has ended.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { UsageError } from '../../lib/domain/errors.ts';
import type { JobEnded, SchedulerEvent } from '../../lib/domain/events.ts';
import type { JobOutcome } from '../../lib/domain/job.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import type { TextOut } from './text-out.ts';

const HEADER = 'Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n';

/** What `openJoblog` needs besides the file. */
export interface JoblogOptions {
  /** Where `-` goes. */
  readonly stdout: TextOut;
  /** Hears once, in one line, why the log stops; the batch goes on. */
  readonly onError: (message: string) => void;
}

/** An open job log. */
export interface Joblog {
  /** Takes every event; writes at `job:ended`. */
  report(event: SchedulerEvent): void;
  close(): void;
}

/**
 * Opens a job log. `FILE` is written anew, `+FILE` is appended to (the header only when it is new), `-` is stdout.
 * @throws UsageError when the file cannot be opened.
 */
export function openJoblog(target: string, options: JoblogOptions): Joblog {
  if (target === '-') return stdoutLog(options.stdout);
  const append = target.startsWith('+');
  const path = append ? target.slice(1) : target;
  let file: number | undefined = openFile(path, 'a');

  // The first error ends the log, and is the only one told: a full disk would repeat it with every line and at close.
  const attempt = (action: (open: number) => void): void => {
    if (file === undefined) return;
    try {
      action(file);
    } catch (error) {
      const open = file;
      file = undefined;
      options.onError(`--joblog: cannot write ${visibleText(path)}, the log ends here: ${messageOf(error)}`);
      closeQuietly(open);
    }
  };
  const write = (text: string): void => attempt((open) => writeWhole(open, text));

  return {
    report: (event) => {
      // Begun anew only when something is run: a batch that is refused loses no earlier log.
      if (event.type === 'batch:started' && event.jobs > event.skipped) {
        attempt((open) => {
          if (!append) ftruncateSync(open);
          if (fstatSync(open).size === 0) writeWhole(open, HEADER);
        });
      }
      if (event.type === 'job:ended') write(joblogLine(event, event.command));
    },
    close: () =>
      attempt((open) => {
        closeSync(open);
        file = undefined;
      }),
  };
}

/** One line of the log. Newlines in the command become NUL, which is how GNU parallel writes and reads them. */
export function joblogLine(ended: JobEnded, command: string): string {
  const { exitValue, signal } = exitColumns(ended.outcome);
  const columns = [
    ended.line,
    ended.machine.replaceAll(/[\s\p{Cc}]/gu, '_'),
    ((ended.startedAt ?? ended.at) / 1000).toFixed(3),
    (ended.durationMs / 1000).toFixed(3).padStart(10),
    ended.sentBytes,
    ended.returnedBytes,
    exitValue,
    signal,
    command.replaceAll('\n', '\0'),
  ];
  return `${columns.join('\t')}\n`;
}

/** Exitval and Signal: both 0 for a success and for nothing else, as `parallel --retry-failed` reads them. */
function exitColumns(outcome: JobOutcome): { exitValue: number; signal: number } {
  const SIGTERM = 15;
  switch (outcome.type) {
    case 'exited':
      return { exitValue: outcome.exitCode, signal: 0 };
    case 'timed-out':
    case 'cancelled':
      return { exitValue: -1, signal: SIGTERM };
    case 'out-of-memory':
    case 'transfer-failed':
      // The command may have exited 0 all the same, but the line has no good result.
      return { exitValue: outcome.exitCode || -1, signal: 0 };
    case 'lost':
    case 'never-fits':
      return { exitValue: -1, signal: 0 };
  }
}

function stdoutLog(stdout: TextOut): Joblog {
  stdout.write(HEADER);
  return {
    report: (event) => {
      if (event.type !== 'job:ended') return;
      // On a terminal nobody parses it, but a command may hold escape sequences.
      stdout.write(joblogLine(event, stdout.isTTY ? visibleText(event.command) : event.command));
    },
    close: () => {},
  };
}

function openFile(path: string, mode: 'a' | 'w'): number {
  try {
    return openSync(path, mode);
  } catch (error) {
    throw new UsageError(
      `--joblog: cannot open ${JSON.stringify(path)} for writing: ${messageOf(error)}; expected a file in a folder that exists, + before it to append, or -`,
      { cause: error },
    );
  }
}

function closeQuietly(file: number): void {
  try {
    closeSync(file);
  } catch {
    // What is wrong with the file has been told already.
  }
}

function writeWhole(file: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}

function messageOf(error: unknown): string {
  return visibleText(error instanceof Error ? error.message : String(error));
}
