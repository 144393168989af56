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
  #fds: { readonly out: number; readonly err: number } | undefined;

  /** `folder`: the results folder, which exists. */
  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** Starts `.out` and `.err` anew. */
  openOutputs(): void {
    this.#fds ??= {
      out: openSync(join(this.#folder, `${this.#name}.out`), 'w'),
      err: openSync(join(this.#folder, `${this.#name}.err`), 'w'),
    };
  }

  /** Appends to `.out` or `.err`. */
  append(stream: 'out' | 'err', chunk: Buffer): void {
    this.openOutputs();
    const fd = this.#fds?.[stream];
    if (fd === undefined) return;
    // At explicit positions: a write that failed half-way (disk full) may be made again and doubles nothing.
    const from = this.#lengths[stream];
    for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, chunk.length - at, from + at);
    this.#lengths[stream] += chunk.length;
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

  /** Closes `.out` and `.err`. */
  close(): void {
    if (this.#fds === undefined) return;
    closeSync(this.#fds.out);
    closeSync(this.#fds.err);
    this.#fds = undefined;
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
