/** The reporter of text mode: plain lines, with the live footer below them where there is a terminal for it. */
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import { Footer } from './footer.ts';
import { canDrawFooter, type FooterStreams } from './live-footer.ts';
import { textReport } from './text.ts';
import { GatheredOut, type TextOut } from './text-out.ts';

/** Options of `terminalReport`. */
export interface TerminalReportOptions extends FooterStreams {
  /** @default false */
  readonly verbose?: boolean;
  /** The results folder as the user wrote it. @default 'job_results' */
  readonly results?: string;
  /** @default process.env */
  readonly environment?: NodeJS.ProcessEnv;
}

/** A reporter and the two streams through which all else that is written meanwhile has to go, in whole lines. */
export interface TerminalReport extends Disposable {
  report(event: SchedulerEvent): void;
  readonly stdout: TextOut;
  readonly stderr: TextOut;
  /** Takes the footer off the screen until `resume`. */
  pause(): void;
  resume(): void;
  /** Takes the footer off the screen; call it on every way out. */
  close(): void;
}

/** Reports in text; the footer is there only where `canDrawFooter` says so, and no escape code is written elsewhere. */
export function terminalReport(options: TerminalReportOptions): TerminalReport {
  const footer = canDrawFooter(options, options.environment) ? new Footer(options) : undefined;
  // Where there is no footer to keep lines apart from, lines are gathered, unless a person watches them.
  const gathered = options.stdout.isTTY ? undefined : new GatheredOut(options.stdout);
  // Before a line on stderr what was said earlier on stdout goes out: both may go to the same place.
  const after: TextOut = {
    write: (line) => {
      gathered?.flush();
      return options.stderr.write(line);
    },
  };
  const { stdout, stderr } = footer ?? { stdout: gathered ?? options.stdout, stderr: after };
  const text = textReport({ ...options, stdout, stderr });
  const close = (): void => {
    footer?.close();
    gathered?.flush();
  };
  return {
    report: (event) => {
      footer?.report(event);
      text(event);
    },
    stdout,
    stderr,
    pause: () => footer?.pause(),
    resume: () => footer?.resume(),
    close,
    [Symbol.dispose]: close,
  };
}
