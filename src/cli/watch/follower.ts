/** Reads a job's output for as long as somebody looks at it. */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../../lib/domain/errors.ts';
import type { OutputItem } from '../../lib/domain/overview.ts';
import { outcomeText } from '../report/outcome-text.ts';
import { FollowedOutput } from './followed-output.ts';
import { STATE_WORDS } from './job-lines.ts';
import type { WatchSource } from './source.ts';

const AGAIN_MS = 2000;

/** What is followed, and who is told. */
export interface FollowerOptions {
  readonly source: Pick<WatchSource, 'output'>;
  readonly id: string;
  readonly onChange: () => void;
  /** From a failure to the next try. @default 2000 */
  readonly againMs?: number;
}

/** Reads from its making until the job has ended or `close()`, or there is no such job; when the source was away, again from the beginning. */
export class Follower {
  readonly output = new FollowedOutput();
  /** Resolves when nothing more is read. Never rejects. */
  readonly ended: Promise<void>;
  readonly #options: FollowerOptions;
  readonly #closing = new AbortController();

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.ended = this.#read();
  }

  close(): void {
    this.#closing.abort();
  }

  async #read(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#readOnce(signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        // What was asked for is wrong, and stays so: there is no such job.
        if (error instanceof UsageError) {
          this.output.note((error as Error).message);
          this.#options.onChange();
          return;
        }
        this.output.note(`${(error as Error).message}; trying again`);
        this.#options.onChange();
      }
      await sleep(this.#options.againMs ?? AGAIN_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #readOnce(signal: AbortSignal): Promise<void> {
    const { source, id, onChange } = this.#options;
    let isFirst = true;
    for await (const item of source.output(id, signal)) {
      if (signal.aborted) return;
      if (isFirst) this.output.clear();
      isFirst = false;
      this.#take(item);
      onChange();
      // Keys have their turn however fast a job prints.
      await nextTurn();
    }
  }

  #take(item: OutputItem): void {
    switch (item.type) {
      case 'chunk':
        this.output.add(item);
        break;
      case 'left-out':
        this.output.isCut = true;
        break;
      case 'restarted':
        this.output.note(`attempt ${item.attempt} begins`);
        break;
      case 'end': {
        const how = item.outcome === undefined ? '' : `: ${outcomeText(item.outcome)}`;
        this.output.note(`${STATE_WORDS[item.state]}${how}`);
        break;
      }
    }
  }
}
