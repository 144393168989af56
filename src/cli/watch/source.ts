/** Where the live view gets what it shows: a queue service, or a batch. */
import type { OutputItem, Overview, OverviewRequest } from '../../lib/domain/overview.ts';

/** What can be done to a job. */
export type WatchAction = 'hold' | 'release' | 'kill';

/** Something that has happened, as one line for people, fit for a terminal. */
export interface WatchEvent {
  /** Epoch milliseconds. */
  readonly at: number;
  readonly text: string;
  /** Has to be seen: it stays until another such event comes, or a key is pressed a while later. */
  readonly isImportant?: true;
}

/** One who can be watched. It connects again by itself when it was away. */
export interface WatchSource extends AsyncDisposable {
  /** What is watched, for the first line. */
  readonly title: string;
  /** What can be done to its jobs. */
  readonly actions: readonly WatchAction[];
  /** Why nothing is heard of it now, for people; undefined while it answers. */
  readonly away: { readonly since: number; readonly reason: string } | undefined;
  /** Settles when there is nothing more to watch, with what is to be said of it. Never rejects. */
  readonly over: Promise<string>;
  /** @throws Error while it is away */
  overview(request: OverviewRequest): Promise<Overview>;
  /** Tells what happens from now on, and nothing twice; also that it went away and is back. Returns the way to stop hearing. */
  onEvents(listener: (events: readonly WatchEvent[]) => void): () => void;
  /** What a job has printed and prints, until it has ended or the signal aborts. @throws Error while it is away */
  output(id: string, signal: AbortSignal): AsyncIterable<OutputItem>;
  /** Resolves to what came of it, one line for people. @throws Error while it is away */
  act(action: WatchAction, id: string): Promise<string>;
}
