/** A thread that copies what it is sent, a list at a time. */
import { parentPort, workerData } from 'node:worker_threads';
import { type CopyWork, EntryCopier } from './copy-entry.ts';
import { failureText } from './failure-text.ts';
import type { PlannedEntry } from './plan.ts';

/** What a thread answers to a list: done, with what it did in all so far, or the first failure. */
export type CopyAnswer =
  | { readonly type: 'done'; readonly linked: number; readonly copiedInstead: number }
  | { readonly type: 'failed'; readonly path: string; readonly reason: string };

// `copy-all.ts` starts this thread, with exactly that.
const copier = new EntryCopier(workerData as CopyWork);

parentPort?.on('message', (entries: readonly PlannedEntry[]) => {
  parentPort?.postMessage(answerTo(entries));
});

function answerTo(entries: readonly PlannedEntry[]): CopyAnswer {
  for (const entry of entries) {
    try {
      copier.copy(entry);
    } catch (error) {
      return { type: 'failed', path: entry.as, reason: failureText(error) };
    }
  }
  return { type: 'done', ...copier.tally };
}
