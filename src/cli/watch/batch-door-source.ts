/** A batch that another process on this host runs, for the live view: over the door of that process. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type BatchPlace, controllerOf } from '../../lib/batch/batch-place.ts';
import { UsageError } from '../../lib/domain/errors.ts';
import type { OutputItem, Overview, OverviewRequest } from '../../lib/domain/overview.ts';
import { DoorClient } from '../../lib/queue/door-client.ts';
import { checkFolder, factsOf, findDoor } from '../../lib/queue/door-place.ts';
import { DoorError } from '../../lib/queue/door-protocol.ts';
import { unlessAborted } from '../../lib/queue/machine-departures.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { answer } from '../queue/door.ts';
import type { BatchEventsItem, BatchInfo } from './batch-door.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';

/** Which batch, and how it is reached. */
export interface BatchDoorSourceOptions {
  readonly place: BatchPlace;
  /** The batch file, for messages. */
  readonly file: string;
  /** A process that has just begun may take so long until it can be watched. @default 10000 */
  readonly firstWaitMs?: number;
  /** Pause between two tries to reach it. @default 500 */
  readonly pauseMs?: number;
  /** Told once, where it takes so long that somebody should know. */
  readonly onSilence?: (said: string) => void;
  /** From when on that is so. @default 3000 */
  readonly silentMs?: number;
}

/** Watches the runs of one batch on this host, until one ends or the process that runs it is gone. */
export class BatchDoorSource implements WatchSource {
  readonly title: string;
  readonly actions: readonly WatchAction[] = ['kill'];
  readonly over: Promise<string>;
  readonly #options: BatchDoorSourceOptions;
  readonly #listeners = new Set<(events: readonly WatchEvent[]) => void>();
  readonly #stop = new AbortController();
  readonly #ran: Promise<void>;
  #client: DoorClient;
  #events: AsyncIterable<unknown>;
  #away: WatchSource['away'];
  #badLines: number | undefined;
  #settle: (said: string) => void = () => undefined;

  private constructor({ client, events, info }: Connected, options: BatchDoorSourceOptions) {
    this.#client = client;
    this.#events = events;
    this.title = visibleText(info.title);
    this.#options = options;
    this.over = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#ran = this.#run();
  }

  /**
   * Begins to watch a batch that is being run here. Where its process has a door and does not answer, waits for as long as
   * that is so.
   * @throws UsageError when it cannot be watched
   */
  static async open(options: BatchDoorSourceOptions): Promise<BatchDoorSource> {
    const { place, file, firstWaitMs = 10_000, pauseMs = 500, onSilence, silentMs = 3000 } = options;
    const giveUpAt = performance.now() + firstWaitMs;
    const name = visibleText(file);
    const silence = setTimeout(() => {
      const pid = controllerOf(place)?.pid;
      if (pid !== undefined)
        onSilence?.(
          `${name} is run by process ${pid}, which does not answer (it may be stopped); trying on, Ctrl-C leaves it`,
        );
    }, silentMs);
    try {
      for (;;) {
        const controller = controllerOf(place);
        try {
          return new BatchDoorSource(await connect(place), options);
        } catch (error) {
          if (controller === undefined) throw new UsageError(`${name} is not run any more`);
          const code = error instanceof DoorError ? error.code : undefined;
          const why = code === 'no-service' ? 'it has no door' : visibleText((error as Error).message);
          if (code === 'refused' || (code !== 'gone' && performance.now() > giveUpAt))
            throw new UsageError(
              `${name} is held by process ${controller.pid}, which cannot be watched (--leave and --cancel cannot, nor can a run whose results folder takes no sockets): ${why}`,
            );
        }
        await sleep(pauseMs);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  /** How many lines of the batch are without a good result, once it is over; undefined where it was left before its end. */
  get badLines(): number | undefined {
    return this.#badLines;
  }

  get away(): WatchSource['away'] {
    return this.#away;
  }

  async overview({ filter, limit }: OverviewRequest): Promise<Overview> {
    this.#checkHere();
    const request = { limit, ...(filter === undefined || filter === '' ? {} : { filter }) };
    const lists = { machines: 'list', running: 'object', waiting: 'object', ended: 'object' } as const;
    const shape = { at: 'number', counts: 'object', ...lists } as const;
    return answer<Overview>(await this.#client.call('overview', request), shape, 'overview');
  }

  onEvents(listener: (events: readonly WatchEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async *output(id: string, signal: AbortSignal): AsyncGenerator<OutputItem, void, void> {
    this.#checkHere();
    try {
      for await (const item of this.#client.stream('output', { id }, { signal }))
        yield answer<OutputItem>(item, { type: 'string' }, 'output');
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async act(action: WatchAction, id: string): Promise<string> {
    this.#checkHere();
    return visibleText(String(await this.#client.call(action, { id })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#client.close();
    await this.#ran;
  }

  #checkHere(): void {
    if (this.#away !== undefined) throw new Error(`the batch does not answer: ${this.#away.reason}`);
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const last = await this.#follow();
      this.#client.close();
      if (last.isOver) this.#settle(last.text);
      if (last.isOver || signal.aborted) return;
      this.#away = { since: Date.now(), reason: last.text };
      this.#tell(`the batch does not answer: ${last.text}`);
      if (!(await this.#comeBack())) return;
    }
  }

  /** Tells events until the batch ends or nothing is heard of it. Returns what is to be said of that; never rejects. */
  async #follow(): Promise<{ readonly isOver: boolean; readonly text: string }> {
    try {
      for await (const item of this.#events) {
        if (Array.isArray(item)) this.#pass(item as unknown[]);
        else {
          const end = answer<Extract<BatchEventsItem, { over: string }>>(item, { over: 'string' }, 'events');
          const { over, badLines } = end;
          if (Number.isSafeInteger(badLines) && Number(badLines) >= 0) this.#badLines = badLines;
          return { isOver: true, text: visibleText(over) };
        }
      }
      return { isOver: false, text: 'it has said its last word' };
    } catch (error) {
      return { isOver: false, text: visibleText((error as Error).message) };
    }
  }

  #pass(events: readonly unknown[]): void {
    const shape = { at: 'number', text: 'string' } as const;
    const told = events.map((event) => {
      const { at, text } = answer<WatchEvent>(event, shape, 'events');
      return { at, text: visibleText(text) };
    });
    if (told.length > 0) for (const listener of [...this.#listeners]) listener(told);
  }

  /** Returns whether the batch answers again: false once nobody runs it any more, or nobody watches. */
  async #comeBack(): Promise<boolean> {
    const { place, pauseMs = 500 } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const { client, events } = await unlessAborted(this.#reach(), signal);
        this.#client = client;
        this.#events = events;
        this.#away = undefined;
        this.#tell('the batch answers again');
        return true;
      } catch (error) {
        if (controllerOf(place) === undefined) {
          this.#settle(
            'the command that ran the batch has gone without a word; what runs, runs on: the same command goes on with it',
          );
          return false;
        }
        const since = this.#away?.since ?? Date.now();
        this.#away = { since, reason: visibleText((error as Error).message) };
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
    return false;
  }

  async #reach(): Promise<Connected> {
    const connected = await connect(this.#options.place);
    if (this.#stop.signal.aborted) connected.client.close(); // nobody waits for it any more
    return connected;
  }

  #tell(text: string): void {
    this.#pass([{ at: Date.now(), text }]);
  }
}

interface Connected {
  readonly client: DoorClient;
  readonly info: BatchInfo;
  /** All that happens from now on. */
  readonly events: AsyncIterable<unknown>;
}

/** @throws DoorError when nobody opens, or it is not ours */
async function connect({ door }: BatchPlace): Promise<Connected> {
  const facts = factsOf(door);
  // Others may write beside it, and whoever has the door draws what we see.
  if (facts !== undefined) checkFolder(door, facts, process.getuid?.() ?? 0);
  // By its socket: of that only our own is taken, whatever has become of the folder meanwhile.
  const client = await DoorClient.connect(findDoor(door).socketPath);
  try {
    const info = answer<BatchInfo>(await client.call('info'), { title: 'string' }, 'info');
    const events = client.stream('events');
    await events.next(); // an empty one, to say that the others will come
    return { client, info, events };
  } catch (error) {
    client.close();
    throw error;
  }
}
