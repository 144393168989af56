/** The batch that this process runs, for the live view. */
import type { BatchRun } from '../../lib/batch/batch-run.ts';
import type { OutputItem, Overview, OverviewRequest } from '../../lib/domain/overview.ts';
import type { BatchEvents } from './batch-events.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';

/** How a batch is over for those who watch it. */
export interface BatchEnd {
  /** What is to be said of it. */
  readonly text: string;
  /** How many of its lines are without a good result; absent where it was left before its end. */
  readonly badLines?: number;
}

/** What a view needs besides the batch. */
export interface BatchSourceOptions {
  readonly title: string;
  readonly events: BatchEvents;
  /** Settles when the batch has ended or is left. Never rejects. */
  readonly over: Promise<BatchEnd>;
}

/** Why a job that somebody ends from a view has ended. */
export const KILLED_BY_HAND = 'ended by hand in --watch';

/** What is watched, for the first line of a view. */
export function batchTitle(file: string, results: string): string {
  return `batch ${file}, results in ${results}`;
}

/** Watches a batch of this process. */
export class BatchSource implements WatchSource {
  readonly title: string;
  readonly actions: readonly WatchAction[] = ['kill'];
  readonly away = undefined;
  readonly over: Promise<string>;
  readonly #batch: BatchRun;
  readonly #events: BatchEvents;

  constructor(batch: BatchRun, { title, events, over }: BatchSourceOptions) {
    this.title = title;
    this.over = over.then(({ text }) => text);
    this.#batch = batch;
    this.#events = events;
  }

  overview(request: OverviewRequest): Promise<Overview> {
    return this.#batch.watch.overview(request);
  }

  onEvents(listener: (events: readonly WatchEvent[]) => void): () => void {
    return this.#events.onEvents(listener);
  }

  output(id: string, signal: AbortSignal): AsyncIterable<OutputItem> {
    return this.#batch.watch.output(id, signal);
  }

  async act(action: WatchAction, id: string): Promise<string> {
    if (action !== 'kill') return `a job of a batch cannot be ${action === 'hold' ? 'held' : 'released'}`;
    return this.#batch.watch.kill(id, KILLED_BY_HAND);
  }

  /** The batch is its owner's to end. */
  async [Symbol.asyncDispose](): Promise<void> {}
}
