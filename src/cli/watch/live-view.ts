/** The view on a terminal: what is known becomes lines, keys become wishes, and those are carried out. */
import type { ReadStream, WriteStream } from 'node:tty';
import { FOLLOW_FRAME_ROWS } from './follow-lines.ts';
import { Follower } from './follower.ts';
import { type Key, press, saying, type Wish } from './keys.ts';
import { paintLine } from './line.ts';
import { Refresher } from './refresher.ts';
import { Screen } from './screen.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';
import { FIRST_STATE, keepSelection, type WatchState } from './state.ts';
import { viewLines } from './view.ts';

const TICK_MS = 1000;
const BETWEEN_DRAWS_MS = 40;
const EVENTS_KEPT = 10;

/** How the view behaves. */
export interface LiveViewOptions {
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
  /** Called at each Ctrl-C, in place of the end; SIGINT is the caller's then. */
  readonly onInterrupt?: (() => void) | undefined;
  readonly hasColours: boolean;
  /** At the start. @default none */
  readonly filter?: string | undefined;
  readonly busyMs?: number | undefined;
  readonly idleMs?: number | undefined;
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
    const { stdin, stdout, onInterrupt, filter = '', busyMs, idleMs } = options;
    this.#state = { ...FIRST_STATE, filter };
    this.#screen = new Screen({
      stdin,
      stdout,
      leavesSigint: onInterrupt !== undefined,
      onKey: (key) => this.#press(key),
      onStale: () => this.#drawSoon(),
      onEnd: () => this.#end(),
    });
    this.#refresher = new Refresher({ source, filter, onChange: () => this.#refreshed(), busyMs, idleMs });
    this.#stopEvents = source.onEvents((events) => {
      this.#events = [...this.#events, ...events].slice(-EVENTS_KEPT);
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
    const { state, wish } = press(this.#state, key, {
      overview: this.#refresher.overview,
      actions: this.#source.actions,
      page: Math.max(1, this.#screen.size.rows - FOLLOW_FRAME_ROWS),
      output: { first: this.#follower?.output.first ?? 0, end: this.#follower?.output.end ?? 0 },
      now: Date.now(),
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
    this.#say(`${action} job ${id} ...`);
    try {
      this.#say(await this.#source.act(action, id));
    } catch (error) {
      this.#say(`${action} job ${id}: ${(error as Error).message}`);
    }
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

  #draw(): void {
    const { title, actions, away } = this.#source;
    const { overview, trouble } = this.#refresher;
    const picture = {
      ...{ title, actions, away, overview, trouble },
      ...{ now: Date.now(), state: this.#state, events: this.#events, output: this.#follower?.output },
    };
    const lines = viewLines(picture, this.#screen.size);
    this.#screen.draw(lines.map((spans) => paintLine(spans, this.#options.hasColours)));
  }
}
