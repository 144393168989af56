/** Copies all planned files and links: a few here, many in threads, each of which takes list after list. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { SchedulerError } from '../domain/errors.ts';
import { type CopyTally, type CopyWork, EntryCopier } from './copy-entry.ts';
import type { CopyAnswer } from './copy-thread.ts';
import { failureText } from './failure-text.ts';
import type { PlannedEntry } from './plan.ts';
import { readablePath } from './tree-path.ts';

/** A thread costs about 40 ms to start: below this, copying is over sooner. */
const FEW_ENTRIES = 1500;
const FEW_BYTES = 32 * 1024 * 1024;
/** More only wait for the same disk. */
const MOST_THREADS = 4;
/** What a thread is given at a time: progress is told, and breaking off is possible, between two lists. */
const LIST_ENTRIES = 512;
const LIST_BYTES = 64 * 1024 * 1024;

/** How to copy. */
export interface CopyAllOptions extends CopyWork {
  /** Called with the files and bytes copied since the last call. */
  readonly onCopied: (files: number, bytes: number) => void;
  /** Called between lists; throws to break off. */
  readonly breathe: () => Promise<void>;
}

/** Copies. @throws SchedulerError with the first path that could not be copied, and why */
export async function copyAll(entries: readonly PlannedEntry[], options: CopyAllOptions): Promise<CopyTally> {
  const bytes = entries.reduce((sum, { size }) => sum + size, 0);
  const lists = listsOf(entries);
  if (entries.length >= FEW_ENTRIES || bytes >= FEW_BYTES) {
    const threads = await startThreads(Math.min(MOST_THREADS, availableParallelism(), lists.length), options);
    if (threads.length > 0) return await copyInThreads(threads, lists, options);
  }
  const copier = new EntryCopier(options);
  for (const list of lists) {
    await options.breathe();
    for (const entry of list) {
      try {
        copier.copy(entry);
      } catch (error) {
        throw failure(entry.as, failureText(error));
      }
    }
    options.onCopied(list.length, bytesOf(list));
  }
  return copier.tally;
}

/** Starts threads; none where they cannot be had: run from TypeScript sources, or bundled into one file. */
async function startThreads(
  count: number,
  { dest, sources, link, freshFolders }: CopyWork,
): Promise<Worker[]> {
  if (!import.meta.url.endsWith('.js')) return [];
  const work: CopyWork = { dest, sources, link, freshFolders };
  const threads = Array.from(
    { length: count },
    () => new Worker(new URL('./copy-thread.js', import.meta.url), { workerData: work }),
  );
  const started = await Promise.allSettled(
    threads.map(
      (thread) =>
        new Promise<Worker>((resolve, reject) => {
          thread.once('online', () => resolve(thread));
          thread.once('error', reject);
        }),
    ),
  );
  return started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

async function copyInThreads(
  threads: readonly Worker[],
  lists: readonly (readonly PlannedEntry[])[],
  { onCopied, breathe }: CopyAllOptions,
): Promise<CopyTally> {
  const waiting = lists.values();
  let isBroken = false;
  const serve = async (thread: Worker): Promise<CopyTally> => {
    let tally: CopyTally = { linked: 0, copiedInstead: 0 };
    for (const list of waiting) {
      if (isBroken) break;
      await breathe();
      const answer = await ask(thread, list);
      if (answer.type === 'failed') throw failure(answer.path, answer.reason);
      tally = answer;
      onCopied(list.length, bytesOf(list));
    }
    return tally;
  };
  try {
    const served = threads.map((thread) =>
      serve(thread).catch((error: unknown) => {
        isBroken = true;
        throw error;
      }),
    );
    // All of them are waited for, so that nothing is written any more when this has failed.
    const ends = await Promise.allSettled(served);
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    const sum = (of: keyof CopyTally) =>
      ends.reduce((total, end) => total + (end.status === 'fulfilled' ? end.value[of] : 0), 0);
    return { linked: sum('linked'), copiedInstead: sum('copiedInstead') };
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

function ask(thread: Worker, list: readonly PlannedEntry[]): Promise<CopyAnswer> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      thread.off('message', onMessage).off('error', onError);
    };
    const onMessage = (answer: CopyAnswer): void => {
      done();
      resolve(answer);
    };
    const onError = (error: Error): void => {
      done();
      reject(error);
    };
    thread.on('message', onMessage).on('error', onError);
    thread.postMessage(list);
  });
}

function listsOf(entries: readonly PlannedEntry[]): PlannedEntry[][] {
  const lists: PlannedEntry[][] = [];
  let list: PlannedEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    list.push(entry);
    bytes += entry.size;
    if (list.length < LIST_ENTRIES && bytes < LIST_BYTES) continue;
    lists.push(list);
    list = [];
    bytes = 0;
  }
  if (list.length > 0) lists.push(list);
  return lists;
}

function bytesOf(list: readonly PlannedEntry[]): number {
  return list.reduce((sum, { kind, size }) => sum + (kind === 'file' ? size : 0), 0);
}

function failure(path: string, reason: string): SchedulerError {
  return new SchedulerError(`${readablePath(path)}: ${reason}`);
}
