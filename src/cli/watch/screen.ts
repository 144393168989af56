/** A terminal that is ours for a while: drawn line by line, and left as it was. */
import { emitKeypressEvents, type Interface } from 'node:readline';
import type { ReadStream, WriteStream } from 'node:tty';
import { isInForeground } from './foreground.ts';
import type { Key } from './keys.ts';

const ESC = '\x1b[';
// Another screen, no cursor, no wrapping: where a character is wider than we think, its line ends early and the others stay.
const ENTER = `${ESC}?1049h${ESC}?25l${ESC}?7l`;
const LEAVE = `${ESC}?7h${ESC}?25h${ESC}?1049l`;
const CLEAR = `${ESC}2J`;
// Terminals that know it draw all at once, the others ignore it.
const BEGIN_FRAME = `${ESC}?2026h`;
const END_FRAME = `${ESC}?2026l`;
/** How long an Esc waits for the rest of an arrow key. */
const ESCAPE_MS = 100;
const RESUME_MS = 100;
/** Those that end a process that does nothing about them, apart from SIGINT. */
const ENDING_SIGNALS: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGALRM', 'SIGUSR2'];

/** What a screen stands on and whom it tells. */
export interface ScreenOptions {
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
  /** SIGINT is the caller's. @default false */
  readonly leavesSigint?: boolean;
  /**
   * Ends where the process comes back from a stop and is not in the terminal's foreground, and destroys stdin at its end: the
   * process can go on and exit in the background. @default false
   */
  readonly leavesBackground?: boolean | undefined;
  readonly onKey: (key: Key) => void;
  /** All has to be drawn again: another size, or back from a stop. */
  readonly onStale: () => void;
  /** The terminal is gone, or a signal ended the screen, which is left already. */
  readonly onEnd: () => void;
}

/** Whether a screen can be drawn between these streams. */
export function canDraw(
  { stdin, stdout }: { readonly stdin: unknown; readonly stdout: unknown },
  environment: NodeJS.ProcessEnv = process.env,
): boolean {
  const [input, output] = [stdin as Partial<ReadStream>, stdout as Partial<WriteStream>];
  // A pseudo-terminal of unknown size has 0 columns.
  return input.isTTY === true && output.isTTY === true && !!output.columns && environment.TERM !== 'dumb';
}

/** Takes the terminal when it is made, and gives it back when it is disposed of, when a signal ends it, or the process. */
export class Screen implements Disposable {
  readonly #options: ScreenOptions;
  readonly #ends: (() => void)[] = [];
  #drawn: readonly string[] = [];
  #isEntered = false;
  #isClosed = false;
  #resumeTimer: NodeJS.Timeout | undefined;
  readonly #onStop = (): void => this.suspend();

  constructor(options: ScreenOptions) {
    this.#options = options;
    const { stdin, stdout } = options;
    // Not removed: what was written last may fail when nobody listens any more.
    for (const stream of [stdin, stdout]) stream.on('error', () => this.#gone());
    this.#on(stdin, 'end', () => this.#gone());
    this.#on(stdin, 'close', () => this.#gone());
    this.#on(stdout, 'resize', () => this.redraw());
    this.#on(process, 'exit', () => this.#leave());
    for (const signal of [...ENDING_SIGNALS, ...(options.leavesSigint ? [] : (['SIGINT'] as const))])
      this.#on(process, signal, () => this.#endBy(signal));
    this.#on(process, 'SIGCONT', () => this.#resume());
    process.on('SIGTSTP', this.#onStop);
    // Only this one option is read of the interface; its type asks for a whole one.
    emitKeypressEvents(stdin, { escapeCodeTimeout: ESCAPE_MS } as unknown as Interface);
    this.#on(stdin, 'keypress', (text: string | undefined, key: ReadlineKey) =>
      options.onKey(keyOf(text, key)),
    );
    this.#enter();
    stdin.resume();
  }

  /** Its size now; no columns where the terminal does not tell. */
  get size(): { readonly columns: number; readonly rows: number } {
    const { columns, rows } = this.#options.stdout;
    // One column stays free: some terminals wrap a line that is just full.
    return { columns: Math.max(0, (columns || 0) - 1), rows: rows || 0 };
  }

  /** Draws the lines that changed. They have to fit, and no line may hold a control character but those of its style. */
  draw(lines: readonly string[]): void {
    if (!this.#isEntered) return;
    let changes = '';
    const count = Math.max(lines.length, this.#drawn.length);
    for (let i = 0; i < count; i++) {
      const text = lines[i] ?? '';
      if (text !== this.#drawn[i]) changes += `${ESC}${i + 1};1H${text}${ESC}K`;
    }
    this.#drawn = lines;
    if (changes !== '') this.#options.stdout.write(BEGIN_FRAME + changes + END_FRAME);
  }

  /** Clears the screen and asks for all lines. */
  redraw(): void {
    if (!this.#isEntered) return;
    this.#drawn = [];
    this.#options.stdout.write(CLEAR);
    this.#options.onStale();
  }

  /** Gives the terminal back and stops the process, with those that it was started together with. */
  suspend(): void {
    if (this.#isClosed) return;
    this.#leave();
    process.removeListener('SIGTSTP', this.#onStop);
    process.kill(0, 'SIGTSTP');
    // Where nobody could continue it, the system does not stop it, and SIGCONT never comes.
    clearTimeout(this.#resumeTimer);
    this.#resumeTimer = setTimeout(() => this.#resume(), RESUME_MS);
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#resumeTimer);
    process.removeListener('SIGTSTP', this.#onStop);
    this.#leave();
    for (const end of this.#ends.splice(0)) end();
    this.#options.stdin.pause();
    // While it is open, Node sets the terminal once more when the process exits, and a process in the background is stopped for it.
    if (this.#options.leavesBackground === true) this.#options.stdin.destroy();
  }

  #enter(): void {
    const { stdin, stdout } = this.#options;
    try {
      // A shell may have changed the terminal meanwhile, which is not noticed while raw mode is thought to be on.
      stdin.setRawMode(false);
      stdin.setRawMode(true);
    } catch {
      this.#gone();
      return;
    }
    this.#isEntered = true;
    stdout.write(ENTER + CLEAR);
    this.#drawn = [];
  }

  #leave(): void {
    if (!this.#isEntered) return;
    this.#isEntered = false;
    const { stdin, stdout } = this.#options;
    stdout.write(LEAVE);
    try {
      stdin.setRawMode(false);
    } catch {
      // The terminal is gone.
    }
  }

  #resume(): void {
    if (this.#isClosed) return;
    clearTimeout(this.#resumeTimer);
    process.removeListener('SIGTSTP', this.#onStop);
    process.on('SIGTSTP', this.#onStop);
    if (this.#options.leavesBackground === true && !isInForeground()) {
      this.#giveUp();
      return;
    }
    this.#enter();
    this.#options.onStale();
  }

  /** Ends without a change of the terminal's settings, for which the process would be stopped. */
  #giveUp(): void {
    if (this.#isEntered) this.#options.stdout.write(LEAVE);
    this.#isEntered = false;
    this[Symbol.dispose]();
    this.#options.onEnd();
  }

  #endBy(signal: NodeJS.Signals): void {
    this[Symbol.dispose]();
    // Whoever else listens decides what becomes of the process.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    else this.#options.onEnd();
  }

  #gone(): void {
    if (this.#isClosed) return;
    this[Symbol.dispose]();
    this.#options.onEnd();
  }

  /** Before all other listeners: what those write belongs on the terminal as it was. */
  #on(emitter: NodeJS.EventEmitter, event: string, listener: (...args: never[]) => void): void {
    const heard = listener as (...args: unknown[]) => void;
    emitter.prependListener(event, heard);
    this.#ends.push(() => emitter.removeListener(event, heard));
  }
}

/** A key as node:readline tells it. */
interface ReadlineKey {
  readonly name?: string;
  readonly ctrl?: boolean;
  readonly meta?: boolean;
}

function keyOf(text: string | undefined, { name, ctrl, meta }: ReadlineKey): Key {
  // An Esc alone comes as an Esc with Esc.
  return { name, text, ctrl, meta: meta === true && name !== 'escape' };
}
