/**
 * A few lines on stderr that stay below everything else while a command works. The footer owns both standard streams,
 * because on one terminal a line on stdout would land in the middle of it: each line is written where the footer was,
 * and the footer is drawn anew below. What the lines say is the caller's.
 */
import { fstatSync } from 'node:fs';
import type { createLogUpdate } from 'log-update';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { writeNote } from './text-out.ts';

/** Ten times a second. */
const REDRAW_MS = 100;
/** What is over by then pays nothing for the drawing library (about 0.1 s to load). */
const FIRST_DRAW_AFTER_MS = 500;
const DEFAULT_ROWS = 24;

/** Takes whole lines, as text or as bytes; bytes are not copied, so they must not change afterwards. */
export interface LineOut {
  write(data: string | Uint8Array): unknown;
  /** Resolves when there is room for more. @default there always is */
  ready?(): Promise<void>;
  /** Whether a terminal shows it. */
  readonly isTTY?: boolean;
}

/** A standard stream or what writes to one, with what says whether and how a terminal is behind it. */
export interface TerminalStream extends LineOut {
  readonly columns?: number;
  readonly rows?: number;
  readonly fd?: number;
}

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

/** The streams a footer stands between, and its time. */
export interface FooterStreams {
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
  /** @default the system's */
  readonly clock?: FooterClock;
}

/** Options of `LiveFooter`. */
export interface LiveFooterOptions extends FooterStreams {
  /** What to draw now; no line may be wider than `columns`, and something must stay free of the terminal's `rows`. */
  readonly lines: (now: number, columns: number, rows: number) => readonly string[];
  /** What begins a line for people on stderr. @default 'execute_batch: ' */
  readonly prefix?: string;
}

/**
 * Whether a live footer can be drawn: stderr is a terminal that can move the cursor, and stdout is not a pipe, since
 * what reads it (`| tee log`) may write to the same terminal at any time.
 */
export function canDrawFooter(
  { stdout, stderr }: FooterStreams,
  environment: NodeJS.ProcessEnv = process.env,
): boolean {
  // A pseudo-terminal of unknown size has 0 columns.
  if (stderr.isTTY !== true || !stderr.columns || environment.TERM === 'dumb') return false;
  if (stdout.isTTY === true) return true;
  if (stdout.fd === undefined) return false;
  const target = fstatSync(stdout.fd);
  return target.isFile() || target.isCharacterDevice();
}

/** Draws nothing before `start()`, and nothing after `close()`. */
export class LiveFooter implements Disposable {
  /** Use these in place of the streams given, for whole lines. */
  readonly stdout: LineOut;
  readonly stderr: LineOut;

  readonly #options: LiveFooterOptions;
  readonly #terminal: TerminalStream;
  readonly #clock: FooterClock;
  #log: ReturnType<typeof createLogUpdate> | undefined;
  #state: 'idle' | 'ticking' | 'loading' | 'closed' = 'idle';
  #stopTicking = (): void => {};
  #startedAt = 0;
  /** The width and the lines on the screen; empty when there are none. */
  #frame = '';
  #drawnAt = 0;
  #isPaused = false;
  #held: { readonly to: TerminalStream; readonly data: string | Uint8Array }[] = [];

  constructor(options: LiveFooterOptions) {
    const { stdout, stderr, clock = systemClock } = options;
    this.#options = options;
    this.#terminal = stderr;
    this.#clock = clock;
    // What goes into a file cannot hurt the footer.
    this.stdout = stdout.isTTY ? { write: (data) => this.#write(stdout, data), isTTY: true } : stdout;
    this.stderr = { write: (data) => this.#write(stderr, data), isTTY: true };
  }

  /** From now on the footer is there, after half a second. Without effect the second time, and once it is closed. */
  start(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'ticking';
    this.#startedAt = this.#clock.now();
    this.#stopTicking = this.#clock.every(REDRAW_MS, () => this.#tick());
  }

  /** Takes the footer off the screen until `resume`: something else has the terminal. */
  pause(): void {
    this.#writeHeld();
    this.#isPaused = true;
  }

  /** The footer comes back. */
  resume(): void {
    this.#isPaused = false;
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

  #write(to: TerminalStream, data: string | Uint8Array): void {
    if (this.#frame === '') {
      to.write(data);
      return;
    }
    // Clearing and drawing for each of hundreds of lines a second would flicker: they go out together, ten times a second.
    this.#held.push({ to, data });
    if (this.#clock.now() - this.#drawnAt >= REDRAW_MS) this.#draw();
  }

  #tick(): void {
    if (this.#log) this.#draw();
    else if (this.#state === 'ticking') this.#loadWhenDue();
  }

  #loadWhenDue(): void {
    if (this.#clock.now() - this.#startedAt < FIRST_DRAW_AFTER_MS) return;
    this.#state = 'loading';
    import('log-update').then(
      (library) => {
        // The cursor is never hidden, so that no way of ending the process can leave it hidden.
        this.#log = library.createLogUpdate(asStream(this.#terminal), { showCursor: true });
        this.#draw();
      },
      (error: unknown) =>
        writeNote(this.#terminal, `no live footer: ${visibleText(String(error))}`, this.#options.prefix),
    );
  }

  #draw(): void {
    if (this.#state === 'closed' || this.#isPaused || !this.#log) return;
    const now = this.#clock.now();
    const columns = this.#terminal.columns ?? 0;
    // One column stays free: some terminals wrap a line that is just full.
    const lines = this.#options.lines(now, columns - 1, this.#terminal.rows ?? DEFAULT_ROWS);
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
    for (const { to, data } of held) to.write(data);
  }
}

/** The drawing library asks for a whole stream, but only writes to it and looks at its size. */
function asStream(terminal: TerminalStream): NodeJS.WritableStream {
  return terminal as unknown as NodeJS.WritableStream;
}
