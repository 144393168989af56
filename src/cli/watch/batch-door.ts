/** The door of a batch that runs: through it others on this host watch it. It goes when the batch ends. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BatchPlace } from '../../lib/batch/batch-place.ts';
import type { BatchRun } from '../../lib/batch/batch-run.ts';
import type { OverviewRequest } from '../../lib/domain/overview.ts';
import type { Verb } from '../../lib/queue/door-connection.ts';
import { checkFolder, factsOf } from '../../lib/queue/door-place.ts';
import { DoorServer } from '../../lib/queue/door-server.ts';
import * as check from '../../lib/stores/queue-check.ts';
import { TOOL_VERSION } from '../../lib/util/tool-version.ts';
import type { BatchEvents } from './batch-events.ts';
import { type BatchEnd, type BatchSourceOptions, KILLED_BY_HAND } from './batch-source.ts';
import type { WatchEvent } from './source.ts';

/** An item of the stream `events`: what has happened, or, as the last, what is said of the batch's end. */
export type BatchEventsItem = readonly WatchEvent[] | { readonly over: string; readonly badLines?: number };

/** The answer to `info`. */
export interface BatchInfo {
  readonly version: string;
  readonly pid: number;
  readonly title: string;
}

const MOST_EVENTS_KEPT = 10;
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
   * @throws Error where there can be none: no sockets in that file system, no path that is short enough, another's folder
   */
  static async open(batch: BatchRun, place: BatchPlace, options: BatchSourceOptions): Promise<BatchDoor> {
    const listening = new Set<Promise<void>>();
    makeFolder(place.door);
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

/** Others may write beside it: what is there already counts only where it is a folder of ours, and no link to one. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  checkFolder(path, factsOf(path), process.getuid?.() ?? 0);
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
  const end: EndHeard = { end: undefined, wakers: new Set() };
  void over.then((how) => {
    events.flush();
    end.end = how;
    for (const wakeUp of end.wakers) wakeUp();
  });
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
      return eventStream(events, end, signal, isHeard);
    },
  };
}

/** The end of the batch, and whom to tell of it: a promise would remember each one who ever watched. */
interface EndHeard {
  end: BatchEnd | undefined;
  readonly wakers: Set<() => void>;
}

function idOf(args: unknown): string {
  jobFields(args, '');
  return (args as { readonly id: string }).id; // checked on the line before
}

async function* eventStream(
  events: BatchEvents,
  end: EndHeard,
  signal: AbortSignal,
  onEnded: () => void,
): AsyncGenerator<BatchEventsItem, void, void> {
  // Of one who reads slowly only the newest wait: the older ones are of no use any more.
  let gathered: readonly WatchEvent[] = [];
  let wake: () => void = () => undefined;
  const wakeUp = () => wake();
  const stopHearing = events.onEvents((more) => {
    gathered = [...gathered, ...more].slice(-MOST_EVENTS_KEPT);
    wakeUp();
  });
  end.wakers.add(wakeUp);
  signal.addEventListener('abort', wakeUp);
  try {
    yield []; // whoever reads this hears all that comes from now on
    while (!signal.aborted) {
      if (gathered.length > 0) {
        const items = gathered;
        gathered = [];
        yield items;
      } else if (end.end !== undefined) {
        const { text, badLines } = end.end;
        yield { over: text, ...(badLines === undefined ? {} : { badLines }) };
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stopHearing();
    end.wakers.delete(wakeUp);
    signal.removeEventListener('abort', wakeUp);
    onEnded();
  }
}
