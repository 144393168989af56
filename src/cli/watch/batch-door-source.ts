/** A batch that another process on this host runs, for the live view: over the door of that process. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type BatchPlace, controllerOf } from '../../lib/batch/batch-place.ts';
import { UsageError } from '../../lib/domain/errors.ts';
import type { OutputItem, Overview, OverviewRequest } from '../../lib/domain/overview.ts';
import { DoorClient } from '../../lib/queue/door-client.ts';
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

  /** Begins to watch a batch that is being run here. @throws UsageError when it cannot be watched */
  static async open(options: BatchDoorSourceOptions): Promise<BatchDoorSource> {
    const { place, file, firstWaitMs = 10_000, pauseMs = 500 } = options;
    const giveUpAt = performance.now() + firstWaitMs;
    for (;;) {
      const controller = controllerOf(place);
      try {
        return new BatchDoorSource(await connect(place), options);
      } catch (error) {
        const why = visibleText((error as Error).message);
        if (controller === undefined) throw new UsageError(`${visibleText(file)} is not run any more`);
        if (performance.now() > giveUpAt)
          throw new UsageError(
            `${visibleText(file)} is held by process ${controller.pid}, which cannot be watched (--leave and --cancel cannot, nor can a run whose results folder takes no sockets): ${why}`,
          );
      }
      await sleep(pauseMs);
    }
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
          const { over } = answer<Extract<BatchEventsItem, { over: string }>>(
            item,
            { over: 'string' },
            'events',
          );
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
        const { client, events } = await connect(place);
        this.#client = client;
        this.#events = events;
        if (signal.aborted) client.close();
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

/** @throws DoorError when nobody opens */
async function connect({ door }: BatchPlace): Promise<Connected> {
  const client = await DoorClient.connect(door);
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
