/**
 * The live footer: a few lines on stderr that stay below everything else while a batch runs. It owns both standard
 * streams, because on one terminal a line on stdout would land in the middle of it: each line is written where the
 * footer was, and the footer is drawn anew below.
 */
import { fstatSync } from 'node:fs';
import type { createLogUpdate } from 'log-update';
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { footerLines } from './footer-lines.ts';
import { Progress } from './progress.ts';
import { type TextOut, writeNote } from './text-out.ts';

/** Ten times a second. */
const REDRAW_MS = 100;
/** A batch that is over by then pays nothing for the drawing library (about 0.1 s to load). */
const FIRST_DRAW_AFTER_MS = 500;
const DEFAULT_ROWS = 24;

/** A standard stream, with what says whether and how a terminal is behind it. */
export type TerminalStream = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  readonly fd?: number;
};

/** Time, so that tests can tell it. */
export interface FooterClock {
  /** Epoch milliseconds. */
  now(): number;
  /** Runs the action again and again, without keeping the process alive. Returns the way to stop it. */
  every(periodMs: number, action: () => void): () => void;
}

const systemClock: FooterClock = {
  now: Date.now,
  every: (periodMs, action) => {
    const timer = setInterval(action, periodMs);
    timer.unref();
    return () => clearInterval(timer);
  },
};

/** Options of `Footer`. */
export interface FooterOptions {
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
  /** @default the system's */
  readonly clock?: FooterClock;
}

/**
 * Whether a live footer can be drawn: stderr is a terminal that can move the cursor, and stdout is not a pipe, since
 * what reads it (`| tee log`) may write to the same terminal at any time.
 */
export function canDrawFooter(
  { stdout, stderr }: FooterOptions,
  environment: NodeJS.ProcessEnv = process.env,
): boolean {
  // A pseudo-terminal of unknown size has 0 columns.
  if (stderr.isTTY !== true || !stderr.columns || environment.TERM === 'dumb') return false;
  if (stdout.isTTY === true) return true;
  if (stdout.fd === undefined) return false;
  const target = fstatSync(stdout.fd);
  return target.isFile() || target.isCharacterDevice();
}

/** Draws nothing before `batch:started`, and nothing after `batch:ended` or `close()`. */
export class Footer implements Disposable {
  /** Use these in place of the streams given, for whole lines. */
  readonly stdout: TextOut;
  readonly stderr: TextOut;

  readonly #terminal: TerminalStream;
  readonly #clock: FooterClock;
  readonly #progress = new Progress();
  #log: ReturnType<typeof createLogUpdate> | undefined;
  #state: 'idle' | 'ticking' | 'loading' | 'closed' = 'idle';
  #stopTicking = (): void => {};
  /** The width and the lines on the screen; empty when there are none. */
  #frame = '';
  #drawnAt = 0;
  #held: { readonly to: TerminalStream; readonly text: string }[] = [];

  constructor({ stdout, stderr, clock = systemClock }: FooterOptions) {
    this.#terminal = stderr;
    this.#clock = clock;
    // What goes into a file cannot hurt the footer.
    this.stdout = stdout.isTTY ? { write: (text) => this.#write(stdout, text), isTTY: true } : stdout;
    this.stderr = { write: (text) => this.#write(stderr, text), isTTY: true };
  }

  /** Takes every event, before the reporters that write lines about it. */
  report(event: SchedulerEvent): void {
    this.#progress.report(event);
    if (event.type === 'batch:started' && this.#state === 'idle') {
      this.#state = 'ticking';
      this.#stopTicking = this.#clock.every(REDRAW_MS, () => this.#tick());
    }
    if (event.type === 'batch:ended') this.close();
  }

  /** Takes the footer off the screen for good; lines still held are written. Call it before the process exits. */
  close(): void {
    this.#state = 'closed';
    this.#stopTicking();
    this.#writeHeld();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #write(to: TerminalStream, text: string): void {
    if (this.#frame === '') {
      to.write(text);
      return;
    }
    // Clearing and drawing for each of hundreds of lines a second would flicker: they go out together, ten times a second.
    this.#held.push({ to, text });
    if (this.#clock.now() - this.#drawnAt >= REDRAW_MS) this.#draw();
  }

  #tick(): void {
    if (this.#log) this.#draw();
    else if (this.#state === 'ticking') this.#loadWhenDue();
  }

  #loadWhenDue(): void {
    if (this.#clock.now() - (this.#progress.startedAt ?? 0) < FIRST_DRAW_AFTER_MS) return;
    this.#state = 'loading';
    import('log-update').then(
      (library) => {
        // The cursor is never hidden, so that no way of ending the process can leave it hidden.
        this.#log = library.createLogUpdate(this.#terminal, { showCursor: true });
        this.#draw();
      },
      (error: unknown) => writeNote(this.#terminal, `no live footer: ${visibleText(String(error))}`),
    );
  }

  #draw(): void {
    if (this.#state === 'closed' || !this.#log) return;
    const now = this.#clock.now();
    const columns = this.#terminal.columns ?? 0;
    // One column stays free: some terminals wrap a line that is just full.
    const lines = footerLines(this.#progress, now, columns - 1, this.#terminal.rows ?? DEFAULT_ROWS);
    const frame = columns === 0 ? '' : `${columns}\n${lines.join('\n')}`;
    if (frame === this.#frame && this.#held.length === 0) return;
    // Always whole frames: log-update 7.2 patches a frame in place, and where the number of lines changes it leaves out
    // the unchanged ones below.
    this.#writeHeld();
    this.#drawnAt = now;
    if (columns === 0) return;
    this.#log(lines.join('\n'));
    this.#frame = frame;
  }

  #writeHeld(): void {
    if (this.#frame !== '') this.#log?.clear();
    this.#frame = '';
    const held = this.#held;
    this.#held = [];
    for (const { to, text } of held) to.write(text);
  }
}
