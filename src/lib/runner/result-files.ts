/**
 * What one job leaves in the results folder: `NAME.out` and `NAME.err` as they grow, `NAME/` with the files that it
 * made, by one rename, and last `NAME.json`, whose presence says that the result is whole. Nothing that is finished is
 * ever replaced.
 *
 * Writes are synchronous: pieces are small, their order matters, and a slow disk then holds the machine's output back
 * instead of filling our memory.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { SchedulerError } from '../domain/errors.ts';

/** Folder below the results folder for what is not whole yet. */
export const PARTIAL_FOLDER = '.partial';

/** The files of one job's result. */
export class ResultFiles {
  readonly #folder: string;
  readonly #name: string;
  readonly #lengths = { out: 0, err: 0 };

  /** `folder`: the results folder, which exists. */
  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** Starts `.out` and `.err` anew. */
  openOutputs(): void {
    for (const stream of ['out', 'err'] as const) {
      writeFileSync(this.#path(stream), '');
      this.#lengths[stream] = 0;
    }
  }

  /** Appends to `.out` or `.err`. Opened for each piece: a thousand running jobs must not need as many descriptors. */
  append(stream: 'out' | 'err', chunk: Buffer): void {
    const fd = openSync(this.#path(stream), 'r+');
    try {
      // At explicit positions: a write that failed half-way (disk full) may be made again and doubles nothing.
      const from = this.#lengths[stream];
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, chunk.length - at, from + at);
    } finally {
      closeSync(fd);
    }
    this.#lengths[stream] += chunk.length;
  }

  #path(stream: 'out' | 'err'): string {
    return join(this.#folder, `${this.#name}.${stream}`);
  }

  /** A fresh folder to receive the job's files in. */
  async makePartialFolder(): Promise<string> {
    const { default: fsExtra } = await import('fs-extra'); // wanted only where files come back
    const partial = this.#partialFolder();
    fsExtra.emptyDirSync(partial); // an earlier try may have left some
    return partial;
  }

  /** Throws away a partial folder. */
  async dropPartialFolder(): Promise<void> {
    const { default: fsExtra } = await import('fs-extra');
    fsExtra.removeSync(this.#partialFolder());
  }

  /**
   * Makes the result whole: its folder (the received files, or an empty one, or none), then its manifest. All that
   * needs room on the disk is done first; what is left are two renames.
   */
  publish(manifest: object, folder: 'received' | 'empty' | 'none'): void {
    const finalFolder = join(this.#folder, this.#name);
    const finalManifest = join(this.#folder, `${this.#name}.json`);
    for (const path of folder === 'none' ? [finalManifest] : [finalFolder, finalManifest]) {
      if (existsSync(path)) throw new SchedulerError(`${path} exists already; results are never replaced`);
    }
    const partialManifest = join(this.#folder, `.${this.#name}.json.partial`);
    writeFileSync(partialManifest, `${JSON.stringify(manifest, null, 2)}\n`);
    if (folder === 'received') renameSync(this.#partialFolder(), finalFolder);
    else if (folder === 'empty') mkdirSync(finalFolder);
    renameSync(partialManifest, finalManifest);
  }

  #partialFolder(): string {
    return join(this.#folder, PARTIAL_FOLDER, this.#name);
  }
}

/** Removes the folder for partial results when nothing is in it. */
export function removeEmptyPartialFolder(resultsFolder: string): void {
  try {
    rmdirSync(join(resultsFolder, PARTIAL_FOLDER));
  } catch {
    // it is not there, or another batch uses it
  }
}
