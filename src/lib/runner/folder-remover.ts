/** Removes the folders of attempts whose results are home. */
import type { FolderSync } from '../util/folder-sync.ts';
import { removeAttempts } from './job-folder.ts';
import type { MachineLink } from './machine-link.ts';
import type { AttemptPlace } from './supervisor.ts';

/** Folders removed with one call, and the longest that one waits to be. */
const REMOVED_AT_ONCE = 500;
const REMOVED_AFTER_MS = 10_000;

/**
 * Removes attempt folders in large groups, or when the machine is let go of. Not one by one: besides the calls, ext4
 * makes every new file look at all inodes freed in the last five seconds.
 */
export class FolderRemover {
  readonly #link: MachineLink;
  readonly #results: Pick<FolderSync, 'sync'> | undefined;
  readonly #places: AttemptPlace[] = [];
  #timer: NodeJS.Timeout | undefined;
  #removing: Promise<void> = Promise.resolve();

  /** `results`: where the results are, which a power cut must not take once they are gone from the machine. */
  constructor(link: MachineLink, results: Pick<FolderSync, 'sync'> | undefined) {
    this.#link = link;
    this.#results = results;
  }

  /** Takes note of a folder whose results are home. */
  add(place: AttemptPlace): void {
    this.#places.push(place);
    if (this.#places.length >= REMOVED_AT_ONCE) void this.done();
    this.#timer ??= setTimeout(() => void this.done(), REMOVED_AFTER_MS).unref();
  }

  /** Removes what waits. */
  done(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const places = this.#places.splice(0);
    if (places.length > 0) {
      // A machine that is gone for good keeps its folders: a later clean-up finds them.
      this.#removing = this.#removing.then(() => this.#remove(places)).catch(() => {});
    }
    return this.#removing;
  }

  async #remove(places: readonly AttemptPlace[]): Promise<void> {
    await this.#results?.sync();
    await this.#link.retrying(async (session) => {
      const files = await session.files();
      await files.run(removeAttempts(session.folders.runs, places));
    });
  }
}
