/** The door of a batch that runs: through it others on this host watch it. It goes when the batch ends. */
import { once } from 'node:events';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BatchPlace } from '../../lib/batch/batch-place.ts';
import type { BatchRun } from '../../lib/batch/batch-run.ts';
import type { OverviewRequest } from '../../lib/domain/overview.ts';
import type { Verb } from '../../lib/queue/door-connection.ts';
import { DoorServer } from '../../lib/queue/door-server.ts';
import * as check from '../../lib/stores/queue-check.ts';
import { TOOL_VERSION } from '../../lib/util/tool-version.ts';
import { type BatchSourceOptions, KILLED_BY_HAND } from './batch-source.ts';
import type { WatchEvent } from './source.ts';

/** An item of the stream `events`: what has happened, or, as the last, what is said of the batch's end. */
export type BatchEventsItem = readonly WatchEvent[] | { readonly over: string };

/** The answer to `info`. */
export interface BatchInfo {
  readonly version: string;
  readonly pid: number;
  readonly title: string;
}

/** What may gather for one who reads slowly; older lines go first. */
const MOST_EVENTS_KEPT = 1000;
/** How long those who watch get to hear of the end. */
const LAST_WORDS_MS = 1000;
/** The most jobs of a list that anybody can ask for. */
const MOST_JOBS = 200;

/** Lets others watch a batch of this process, until `close`. */
export class BatchDoor implements AsyncDisposable {
  readonly #server: DoorServer;
  readonly #place: BatchPlace;
  readonly #listening: ReadonlySet<Promise<void>>;

  private constructor(server: DoorServer, place: BatchPlace, listening: ReadonlySet<Promise<void>>) {
    this.#server = server;
    this.#place = place;
    this.#listening = listening;
  }

  /**
   * Opens it, in the place of a batch that this process has for itself. What a dead one left is taken over.
   * @throws Error where there can be none: no sockets in that file system, no path that is short enough
   */
  static async open(batch: BatchRun, place: BatchPlace, options: BatchSourceOptions): Promise<BatchDoor> {
    const listening = new Set<Promise<void>>();
    mkdirSync(place.door, { recursive: true, mode: 0o700 });
    try {
      const verbs = verbsOf(batch, options, listening);
      const server = await DoorServer.open({ dataFolder: place.door, verbs });
      return new BatchDoor(server, place, listening);
    } catch (error) {
      removeFolders(place);
      throw error;
    }
  }

  /** Lets those who watch go, once they have heard of the end if it has come, and removes what stood for the door. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST_WORDS_MS);
    });
    await Promise.race([Promise.all(this.#listening), limit]);
    clearTimeout(timer);
    await this.#server.close();
    removeFolders(this.#place);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function removeFolders({ door }: BatchPlace): void {
  try {
    for (const folder of [join(door, 'door'), door]) rmdirSync(folder);
  } catch {
    // somebody put something there: it stays
  }
}

const overviewFields = check.fields({ limit: check.wholeFrom(0) }, { filter: check.text });
const jobFields = check.fields({ id: check.filledText });

function verbsOf(
  batch: BatchRun,
  { title, events, over }: BatchSourceOptions,
  listening: Set<Promise<void>>,
): { readonly [verb: string]: Verb } {
  return {
    info: (): BatchInfo => ({ version: TOOL_VERSION, pid: process.pid, title }),
    overview: (args) => {
      overviewFields(args, '');
      const { limit, ...rest } = args as OverviewRequest; // checked on the line before
      return batch.watch.overview({ ...rest, limit: Math.min(limit, MOST_JOBS) });
    },
    output: (args, { signal }) => batch.watch.output(idOf(args), signal),
    kill: (args) => batch.watch.kill(idOf(args), KILLED_BY_HAND),
    events: (_args, { signal }) => {
      let heard: () => void = () => undefined;
      const ended = new Promise<void>((resolve) => {
        heard = resolve;
      });
      listening.add(ended);
      const isHeard = () => {
        listening.delete(ended);
        heard();
      };
      return eventStream({ events, over, signal }, isHeard);
    },
  };
}

function idOf(args: unknown): string {
  jobFields(args, '');
  return (args as { readonly id: string }).id; // checked on the line before
}

async function* eventStream(
  { events, over, signal }: Pick<BatchSourceOptions, 'events' | 'over'> & { readonly signal: AbortSignal },
  onEnded: () => void,
): AsyncGenerator<BatchEventsItem, void, void> {
  let gathered: WatchEvent[] = [];
  let wake: () => void = () => undefined;
  let end: string | undefined;
  const stopHearing = events.onEvents((more) => {
    gathered.push(...more);
    if (gathered.length > MOST_EVENTS_KEPT) gathered = gathered.slice(-MOST_EVENTS_KEPT);
    wake();
  });
  void over.then((text) => {
    end = text;
    wake();
  });
  const aborted = once(signal, 'abort').catch(() => undefined);
  try {
    yield []; // whoever reads this hears all that comes from now on
    while (!signal.aborted) {
      if (gathered.length > 0) {
        const items = gathered;
        gathered = [];
        yield items;
      } else if (end !== undefined) {
        yield { over: end };
        return;
      } else {
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        await Promise.race([woken, aborted]);
      }
    }
  } finally {
    stopHearing();
    onEnded();
  }
}
