/** Puts the reporters together that a command line asks for. */
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import type { Job } from '../../lib/domain/job.ts';
import { HeldScreen } from './held-screen.ts';
import { type Joblog, openJoblog } from './joblog.ts';
import { jsonReport } from './json.ts';
import type { TerminalStream } from './live-footer.ts';
import { LiveOutput } from './live-output.ts';
import { terminalReport } from './terminal.ts';
import { GatheredOut, type TextOut, writeNote } from './text-out.ts';

/** What decides which reporters there are. */
export interface ReportOptions {
  readonly json: boolean;
  readonly verbose: boolean;
  readonly joblog: string | undefined;
  readonly results: string;
  /** Something else may have the terminal at times. @default false */
  readonly isWatched?: boolean;
}

/** All that a command tells goes through here. */
export interface Report {
  readonly report: (event: SchedulerEvent) => void;
  /** One line for people, on stderr. */
  readonly warn: (message: string) => void;
  /** One line for users, on stdout; on stderr where stdout is for programs. */
  readonly say: (line: string) => void;
  /** One line of an answer, on stdout in any case. */
  readonly print: (line: string) => void;
  readonly onOutput: ((job: Job, stream: 'out' | 'err', chunk: Buffer) => void) | undefined;
  /**
   * Something else has the terminal, until the function returned is called: there notes wait, and all else is not printed. To be
   * called only where the report was opened with `isWatched`.
   */
  hold(): () => void;
  /** Call on every way out. */
  close(): void;
}

/** Opens the reporters. @throws UsageError when the job log cannot be opened */
export function openReport({ json, verbose, joblog, results, isWatched = false }: ReportOptions): Report {
  const screen = isWatched ? new HeldScreen(process) : undefined;
  const { stdout, stderr } = screen ?? process;
  const text = json ? undefined : terminalReport({ stdout, stderr, verbose, results });
  const forPrograms = new GatheredOut(stdout);
  const outs: { readonly stdout: TextOut; readonly stderr: TextOut } = text ?? { stdout: stderr, stderr };
  const warn = (message: string) => writeNote(outs.stderr, message);
  const log: Joblog | undefined =
    joblog === undefined ? undefined : openJoblog(joblog, { stdout: outs.stdout, onError: warn });
  // What jobs print is in their files, and a view shows it: none of it has to wait.
  const whenFree = (out: TextOut, stream: TerminalStream): TextOut => ({
    write: (lines) => (screen?.holds(stream) === true ? undefined : out.write(lines)),
  });
  const live = verbose
    ? new LiveOutput(whenFree(outs.stdout, stdout), whenFree(outs.stderr, stderr))
    : undefined;
  const tell = text === undefined ? jsonReport(forPrograms) : (event: SchedulerEvent) => text.report(event);
  return {
    report: (event) => {
      live?.report(event);
      tell(event);
      log?.report(event);
    },
    warn,
    say: (line) => outs.stdout.write(`${line}\n`),
    print: (line) => (json ? forPrograms : outs.stdout).write(`${line}\n`),
    onOutput: live === undefined ? undefined : (job, stream, chunk) => live.write(job, stream, chunk),
    hold: () => {
      text?.pause();
      const letGo = screen?.hold();
      return () => {
        letGo?.();
        text?.resume();
      };
    },
    close: () => {
      log?.close();
      text?.close();
      forPrograms.flush();
    },
  };
}
