/** Puts results on the disk that lie in many folders, before the machines forget them. */
import { statSync } from 'node:fs';
import { FolderSync } from '../util/folder-sync.ts';

/** Syncs each file system that results were written to since the last time. */
export class ResultsSync {
  readonly #byDevice = new Map<number, FolderSync>();
  #written = new Set<string>();

  /** Results were written into this folder. */
  note(folder: string): void {
    this.#written.add(folder);
  }

  /** Settles when all that was written before is on the disk; or after ten seconds. */
  async sync(): Promise<void> {
    const folders = this.#written;
    this.#written = new Set();
    const syncs = new Set<FolderSync>();
    for (const folder of folders) {
      const device = statSync(folder, { throwIfNoEntry: false })?.dev;
      if (device === undefined) continue; // somebody has removed it
      const sync = this.#byDevice.get(device) ?? new FolderSync(folder);
      this.#byDevice.set(device, sync);
      syncs.add(sync);
    }
    await Promise.all([...syncs].map((sync) => sync.sync()));
  }
}
