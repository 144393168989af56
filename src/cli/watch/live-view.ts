/** The view on a terminal: what is known becomes lines, keys become wishes, and those are carried out. */
import type { ReadStream, WriteStream } from 'node:tty';
import { durationText } from '../../lib/util/duration-text.ts';
import { FOLLOW_FRAME_ROWS } from './follow-lines.ts';
import { Follower } from './follower.ts';
import { helpLines } from './help-lines.ts';
import { type Key, press, type Wish } from './keys.ts';
import { paintLine } from './line.ts';
import { Refresher } from './refresher.ts';
import { Screen } from './screen.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';
import { FIRST_STATE, keepSelection, saying, type WatchState } from './state.ts';
import { type Picture, seenIn, viewLines } from './view.ts';

const TICK_MS = 1000;
const BETWEEN_DRAWS_MS = 40;
const EVENTS_KEPT = 10;
const ACT_MS = 10_000;

/** How the view behaves. */
export interface LiveViewOptions {
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
  /** Called at each Ctrl-C, in place of the end; SIGINT is the caller's then. */
  readonly onInterrupt?: (() => void) | undefined;
  /** Gives way where the process is not in the terminal's foreground; Ctrl-Z does not stop it. @default false */
  readonly leavesBackground?: boolean;
  readonly hasColours: boolean;
  /** At the start. @default none */
  readonly filter?: string | undefined;
  readonly busyMs?: number | undefined;
  readonly idleMs?: number | undefined;
  readonly silentMs?: number | undefined;
  readonly actMs?: number | undefined;
}

/** Has the terminal from its making until it is disposed of, or has ended. */
export class LiveView implements Disposable {
  /** Resolves when the user has quit, or the terminal is gone. */
  readonly ended: Promise<void>;
  readonly #source: WatchSource;
  readonly #options: LiveViewOptions;
  readonly #screen: Screen;
  readonly #refresher: Refresher;
  readonly #stopEvents: () => void;
  readonly #ticks: NodeJS.Timeout;
  #end = (): void => {};
  #state: WatchState;
  #events: readonly WatchEvent[] = [];
  #follower: Follower | undefined;
  #drawTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(source: WatchSource, options: LiveViewOptions) {
    this.#source = source;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    const { stdin, stdout, onInterrupt, filter = '', busyMs, idleMs, leavesBackground } = options;
    this.#state = { ...FIRST_STATE, filter };
    this.#screen = new Screen({
      stdin,
      stdout,
      leavesSigint: onInterrupt !== undefined,
      leavesBackground,
      onKey: (key) => this.#press(key),
      onStale: () => this.#drawSoon(),
      onEnd: () => this.#end(),
    });
    this.#refresher = new Refresher({ source, filter, onChange: () => this.#refreshed(), busyMs, idleMs });
    this.#stopEvents = source.onEvents((events) => {
      this.#events = [...this.#events, ...events].slice(-EVENTS_KEPT);
      const notice = events.findLast(({ isImportant }) => isImportant === true);
      if (notice !== undefined)
        this.#state = { ...this.#state, notice: { text: notice.text, at: Date.now() } };
      this.#refresher.want();
      this.#drawSoon();
    });
    // The clock goes on, and so do the times of jobs.
    this.#ticks = setInterval(() => this.#drawSoon(), TICK_MS);
    this.#drawSoon();
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    clearInterval(this.#ticks);
    clearTimeout(this.#drawTimer);
    this.#stopEvents();
    this.#refresher.close();
    this.#follower?.close();
    this.#screen[Symbol.dispose]();
  }

  #refreshed(): void {
    const { overview } = this.#refresher;
    if (overview !== undefined) this.#state = keepSelection(this.#state, overview);
    this.#drawSoon();
  }

  #press(key: Key): void {
    const { size } = this.#screen;
    const picture = this.#picture();
    const { state, wish } = press(this.#state, key, {
      ...{ overview: picture.overview, actions: picture.actions, now: picture.now },
      seen: seenIn(picture, size),
      page: Math.max(1, size.rows - FOLLOW_FRAME_ROWS),
      helpEnd: Math.max(0, helpLines(size.columns).length - (size.rows - 1)),
      canStop: this.#options.leavesBackground !== true,
      output: { first: this.#follower?.output.first ?? 0, end: this.#follower?.output.end ?? 0 },
    });
    this.#state = state;
    if (wish !== undefined) this.#carryOut(wish);
    this.#drawSoon();
  }

  #carryOut(wish: Wish): void {
    switch (wish.type) {
      case 'quit':
        this.#end();
        break;
      case 'interrupt':
        if (this.#options.onInterrupt === undefined) this.#end();
        else this.#options.onInterrupt();
        break;
      case 'suspend':
        this.#screen.suspend();
        break;
      case 'redraw':
        this.#screen.redraw();
        break;
      case 'filter':
        this.#refresher.refilter(this.#state.filter);
        break;
      case 'follow':
        this.#follower?.close();
        this.#follower = new Follower({
          source: this.#source,
          id: wish.id,
          onChange: () => this.#drawSoon(),
        });
        break;
      case 'unfollow':
        this.#follower?.close();
        this.#follower = undefined;
        break;
      case 'act':
        void this.#act(wish.action, wish.id);
        break;
    }
  }

  async #act(action: WatchAction, id: string): Promise<void> {
    const { actMs = ACT_MS } = this.#options;
    const what = `${action} job ${id}`;
    this.#say(`${what} ...`);
    const late = setTimeout(
      () => this.#say(`${what}: no answer for ${durationText(actMs, 0)}; it may still be carried out`),
      actMs,
    );
    try {
      this.#say(await this.#source.act(action, id));
    } catch (error) {
      this.#say(`${what}: ${(error as Error).message}`);
    }
    clearTimeout(late);
    this.#refresher.want();
  }

  #say(text: string): void {
    this.#state = saying(this.#state, text, Date.now());
    this.#drawSoon();
  }

  /** Many changes at once are one picture. */
  #drawSoon(): void {
    if (this.#isClosed || this.#drawTimer !== undefined) return;
    this.#drawTimer = setTimeout(() => {
      this.#drawTimer = undefined;
      this.#draw();
    }, BETWEEN_DRAWS_MS);
  }

  #picture(): Picture {
    const { title, actions, away } = this.#source;
    const { overview, heardAt, unansweredMs, trouble } = this.#refresher;
    return {
      ...{ title, actions, away, overview, heardAt, unansweredMs, trouble },
      ...{ silentMs: this.#options.silentMs, now: Date.now() },
      ...{ state: this.#state, events: this.#events, output: this.#follower?.output },
    };
  }

  #draw(): void {
    const lines = viewLines(this.#picture(), this.#screen.size);
    this.#screen.draw(lines.map((spans) => paintLine(spans, this.#options.hasColours)));
  }
}
