/** What one job of a batch prints, while it does: from the files in the results folder. */
import { setTimeout as sleep } from 'node:timers/promises';
import { SchedulerError } from '../domain/errors.ts';
import type { OutputItem } from '../domain/overview.ts';
import { GrowingFiles, type GrowingPaths } from '../util/growing-files.ts';
import { visibleText } from '../util/terminal-text.ts';
import type { JobEnd } from './batch-progress.ts';

/** How far a job is. */
export type JobStanding =
  | { readonly type: 'waiting' }
  | { readonly type: 'running'; readonly attempt: number }
  | ({ readonly type: 'ended' } & JobEnd);

/** Which output is read. */
export interface BatchOutputOptions {
  readonly paths: GrowingPaths;
  /** `running` from the moment on when the files are those of that attempt. */
  readonly standing: () => JobStanding;
  readonly signal?: AbortSignal;
  /** How often the files are looked at while they do not grow. @default 300 */
  readonly pollMs?: number;
  /** Of what was printed before, so much of each stream is told. @default 1 MiB */
  readonly tailBytes?: number;
}

const TAIL_BYTES = 1024 * 1024;

/**
 * What a job printed and prints, piece by piece, until it has ended or the signal aborts; one that waits is waited for. Of
 * much that was printed before only the end is told. A failed attempt's last words may be missing where another one follows: its files are put beside at its end.
 * @throws SchedulerError when a file cannot be read
 */
export async function* batchOutput(options: BatchOutputOptions): AsyncGenerator<OutputItem, void, void> {
  const { paths, standing, signal, pollMs = 300, tailBytes = TAIL_BYTES } = options;
  const files = new GrowingFiles({ tailBytes });
  let attempt: number | undefined;
  while (signal?.aborted !== true) {
    // Looked at before the files: whatever the job printed until it ended is in them then.
    const now = standing();
    let hasRead = false;
    if (now.type !== 'waiting') {
      if (attempt !== undefined && attempt !== now.attempt) {
        files.restart();
        yield { type: 'restarted', attempt: now.attempt };
      }
      attempt = now.attempt;
      try {
        for await (const piece of files.read(paths)) {
          hasRead = true;
          yield piece;
        }
      } catch (error) {
        const why = visibleText((error as Error).message);
        throw new SchedulerError(`cannot read what the job printed: ${why}`, { cause: error });
      }
    }
    if (now.type === 'ended') {
      yield { type: 'end', state: now.state, ...(now.outcome === undefined ? {} : { outcome: now.outcome }) };
      return;
    }
    if (!hasRead) await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
  }
}
