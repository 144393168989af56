/** A queue service as the live view sees it, over its door. It outlives the service: connects again when that is back. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { OutputItem, Overview, OverviewRequest } from '../../lib/domain/overview.ts';
import type { DoorClient } from '../../lib/queue/door-client.ts';
import { unlessAborted } from '../../lib/queue/machine-departures.ts';
import type { OverviewAnswer } from '../../lib/queue/overview.ts';
import type { EventsRequest, InfoAnswer, JobAnswer, OutputRequest } from '../../lib/queue/requests.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { allRows, answer, rowsOf } from '../queue/door.ts';
import { eventText, type StreamedEvent } from '../queue/event-text.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';

/** How a service is reached. */
export interface QueueSourceOptions {
  /** Connects to it; called again when the service was away, never twice at the same time. What comes too late is closed. */
  readonly connect: () => Promise<DoorClient>;
  /** Pauses between two tries to reach it again; each is longer than the one before. @default 1000, 5000 */
  readonly pauses?: { readonly firstMs: number; readonly longestMs: number };
}

const PAUSES = { firstMs: 1000, longestMs: 5000 };
const PAUSE_GROWTH = 1.5;
/** More events than a person can read are not worth their traffic; nor is what a job printed screens ago. */
const NEWEST_EVENTS = 10;
const TAIL_BYTES = 1024 * 1024;
const LIST = { jobs: 'list', count: 'number' } as const;
const JOB = { id: 'string', name: 'string', command: 'string', state: 'string' } as const;

/** Watches one service, for as long as somebody wants. */
export class QueueSource implements WatchSource {
  readonly actions: readonly WatchAction[] = ['hold', 'release', 'kill'];
  /** A service may always come back. */
  readonly over = new Promise<string>(() => {});
  readonly #options: QueueSourceOptions;
  readonly #listeners = new Set<(events: readonly WatchEvent[]) => void>();
  readonly #stop = new AbortController();
  readonly #ran: Promise<void>;
  #client: DoorClient;
  #about: Pick<InfoAnswer, 'id' | 'host' | 'dataFolder'>;
  #away: WatchSource['away'];
  /** The number of the last event that was told, or that there was at the start. */
  #last: number;
  #fresh: WatchEvent[] = [];

  private constructor(client: DoorClient, { about, last }: Found, options: QueueSourceOptions) {
    this.#client = client;
    this.#about = about;
    this.#last = last;
    this.#options = options;
    this.#ran = this.#run();
  }

  /** Begins to watch a service that has to be there. @throws as `connect` does, DoorError when it does not answer as one */
  static async open(options: QueueSourceOptions): Promise<QueueSource> {
    const client = await options.connect();
    try {
      return new QueueSource(client, await lookAt(client), options);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  get title(): string {
    return `queue on ${visibleText(this.#about.host)} (${visibleText(this.#about.dataFolder)})`;
  }

  get away(): WatchSource['away'] {
    return this.#away;
  }

  async overview(request: OverviewRequest): Promise<Overview> {
    this.#checkHere();
    return overviewOf(await this.#client.call('overview', request));
  }

  onEvents(listener: (events: readonly WatchEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async *output(id: string, signal: AbortSignal): AsyncGenerator<OutputItem, void, void> {
    this.#checkHere();
    const request: OutputRequest = { id: Number(id), follow: true, tailBytes: TAIL_BYTES };
    try {
      for await (const item of this.#client.stream('output', request, { signal }))
        yield answer<OutputItem>(item, { type: 'string' }, 'output');
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async act(action: WatchAction, id: string): Promise<string> {
    this.#checkHere();
    const shape = { id: 'number', isDone: 'boolean', message: 'string' } as const;
    const [done] = await allRows<JobAnswer>(this.#client, action, { ids: [Number(id)] }, shape);
    return `job ${visibleText(id)}: ${visibleText(done?.message ?? 'the service says nothing of it')}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#client.close();
    await this.#ran;
  }

  #checkHere(): void {
    if (this.#away !== undefined) throw new Error(`the service does not answer: ${this.#away.reason}`);
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const reason = await this.#follow();
      this.#client.close();
      if (signal.aborted) return;
      this.#away = { since: Date.now(), reason };
      this.#tell(Date.now(), `the service is away: ${reason}`);
      await this.#comeBack();
    }
  }

  /** Tells events until the service goes. Returns why it went; never rejects. */
  async #follow(): Promise<string> {
    try {
      const shape = { type: 'string', sequence: 'number' } as const;
      const request: EventsRequest = { after: this.#last, newest: NEWEST_EVENTS };
      for await (const event of rowsOf<StreamedEvent>(this.#client, 'events', request, shape)) {
        this.#last = event.sequence;
        const told = toldOf(event, Date.now());
        if (told !== undefined) this.#tell(told.at, told.text);
      }
      return 'it has ended';
    } catch (error) {
      return visibleText((error as Error).message);
    }
  }

  /** Returns when the service is there again, or nobody watches any more. */
  async #comeBack(): Promise<void> {
    const { signal } = this.#stop;
    const { firstMs, longestMs } = this.#options.pauses ?? PAUSES;
    for (let pauseMs = firstMs; !signal.aborted; pauseMs = Math.min(longestMs, pauseMs * PAUSE_GROWTH)) {
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        // A host that is away may take long to be known as that: whoever leaves does not wait for it.
        this.#goOnWith(await unlessAborted(this.#reach(), signal));
        return;
      } catch (error) {
        if (signal.aborted) return;
        const since = this.#away?.since ?? Date.now();
        this.#away = { since, reason: visibleText((error as Error).message) };
      }
    }
  }

  /** Connects once more. */
  async #reach(): Promise<Found> {
    const client = await this.#options.connect();
    this.#client = client; // from now on closed by whoever leaves
    try {
      this.#stop.signal.throwIfAborted();
      return await lookAt(client);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  #goOnWith({ about, last }: Found): void {
    const isAnother = about.id !== this.#about.id;
    this.#about = about;
    // A data folder that was put back from a copy has seen less than we have.
    this.#last = isAnother ? last : Math.min(this.#last, last);
    this.#away = undefined;
    const text = isAnother ? 'another service is here now, with jobs of its own' : 'the service is back';
    this.#tell(Date.now(), text);
  }

  #tell(at: number, text: string): void {
    this.#fresh.push({ at, text: visibleText(text) });
    if (this.#fresh.length > 1) return;
    // Thousands may come at once: they are told together.
    setImmediate(() => {
      const events = this.#fresh;
      this.#fresh = [];
      for (const listener of [...this.#listeners]) listener(events);
    });
  }
}

/** Undefined for an event that says nothing to people, or that is not as it should be: one such is no reason to stop. */
function toldOf(event: StreamedEvent, now: number): WatchEvent | undefined {
  const at = typeof event.at === 'number' ? event.at : now; // not all have a time of their own
  try {
    const text = eventText(event);
    return text === undefined ? undefined : { at, text };
  } catch {
    return undefined;
  }
}

interface Found {
  readonly about: Pick<InfoAnswer, 'id' | 'host' | 'dataFolder'>;
  readonly last: number;
}

/** Which service answers, and how many events there have been. */
async function lookAt(client: DoorClient): Promise<Found> {
  const shape = { id: 'string', host: 'string', dataFolder: 'string' } as const;
  const about = answer<InfoAnswer>(await client.call('info', {}), shape, 'info');
  const { lastEvent } = answer<OverviewAnswer>(
    await client.call('overview', { limit: 0 }),
    { lastEvent: 'number' },
    'overview',
  );
  return { about, last: lastEvent };
}

/** @throws DoorError `version` when it is none */
function overviewOf(value: unknown): Overview {
  const lists = { machines: 'list', running: 'object', waiting: 'object', ended: 'object' } as const;
  const overview = answer<Overview>(value, { at: 'number', counts: 'object', ...lists }, 'overview');
  for (const machine of overview.machines)
    answer(machine, { name: 'string', state: 'string', jobs: 'number' }, 'overview');
  for (const list of [overview.running, overview.waiting, overview.ended])
    for (const job of answer<Overview['running']>(list, LIST, 'overview').jobs) answer(job, JOB, 'overview');
  return overview;
}
