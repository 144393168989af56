/** Puts what was written below a folder on the disk, for good. Node has no syncfs(2), and an fsync for each file is far slower. */
import { spawn } from 'node:child_process';

const WITHIN_MS = 10_000;

/** Of calls that come while one is under way, the next one does for all. */
export class FolderSync {
  readonly #folder: string;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Settles when all that was written before the call is on the disk; or after ten seconds, or where there is no sync(1). */
  sync(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = runSync(this.#folder).finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.sync();
    });
    return this.#next;
  }
}

function runSync(folder: string): Promise<void> {
  return new Promise((resolve) => {
    // That file system alone, where sync can: others may have much to write.
    const args = process.platform === 'linux' ? ['-f', folder] : [];
    const child = spawn('sync', args, { stdio: 'ignore' });
    const timer = setTimeout(resolve, WITHIN_MS);
    const settle = () => {
      clearTimeout(timer);
      resolve();
    };
    child.on('error', settle);
    child.on('exit', settle);
    child.unref();
  });
}
