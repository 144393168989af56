/** Keeps two writers of one small file apart, within this process and between processes. */
import { open, stat, unlink } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

const STALE_AFTER_MS = 5_000;
const waiting = new Map<string, Promise<unknown>>();

/**
 * Runs a short task while holding `<file>.lock`. A lock older than 5 s belonged to a process that died and is taken
 * over. Where no lock file can be made (a read-only folder) the task runs all the same and meets its own error.
 */
export async function withFileLock<T>(file: string, task: () => Promise<T>): Promise<T> {
  const before = waiting.get(file) ?? Promise.resolve();
  const mine = before.then(() => locked(`${file}.lock`, task));
  const settled = mine.catch(() => undefined);
  waiting.set(file, settled);
  try {
    return await mine;
  } finally {
    if (waiting.get(file) === settled) waiting.delete(file);
  }
}

async function locked<T>(lockFile: string, task: () => Promise<T>): Promise<T> {
  const held = await take(lockFile);
  try {
    return await task();
  } finally {
    if (held) await unlink(lockFile).catch(() => undefined); // gone already: somebody thought us dead
  }
}

async function take(lockFile: string): Promise<boolean> {
  for (;;) {
    try {
      await (await open(lockFile, 'wx', 0o600)).close();
      return true;
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'EEXIST') return false;
    }
    const madeAt = await stat(lockFile).then(
      (found) => found.mtimeMs,
      () => Date.now(),
    );
    if (Date.now() - madeAt > STALE_AFTER_MS) await unlink(lockFile).catch(() => undefined);
    else await delay(5 + Math.random() * 20);
  }
}
