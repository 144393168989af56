/**
 * What one job leaves in the results folder: `NAME.out` and `NAME.err` as they grow, `NAME/` with the files that it
 * made, by one rename, and last `NAME.json`, whose presence says that the result is whole. Nothing that is finished is
 * ever replaced.
 *
 * What a crash leaves tells how far it came, and the next run completes or clears it (`PartialResult`):
 *
 *     1  files arrive in `.partial/NAME/`            cleared
 *     2  the manifest is written, whole or in part,
 *        to `.partial/NAME.json`                     cleared
 *     3  `.partial/NAME/` is renamed to `NAME/`      completed: `.partial/NAME.json` is whole and needs only its rename
 *     4  `.partial/NAME.json` becomes `NAME.json`    finished
 *
 * Writes are synchronous: pieces are small, their order matters, and a slow disk then holds the machine's output back
 * instead of filling our memory.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
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
    await this.dropPartialFolder(); // an earlier try may have left some
    const { folder } = partialPaths(this.#folder, this.#name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /** Throws away what is not published. What lacks only its last rename stays for the next run to complete. */
  async dropPartialFolder(): Promise<void> {
    const partial = findPartial(this.#folder, { name: this.#name, hasFolder: true });
    if (partial.type === 'incomplete') await clearPartial(this.#folder, this.#name);
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
    const partial = partialPaths(this.#folder, this.#name);
    // An empty folder takes the same way as a full one, so that the remains of a crash read the same.
    if (folder === 'empty') mkdirSync(partial.folder, { recursive: true });
    writeBeside(partial.manifest, `${JSON.stringify(manifest, null, 2)}\n`);
    if (folder !== 'none') renameSync(partial.folder, finalFolder);
    renameSync(partial.manifest, finalManifest);
  }
}

/** Where a result is made before it has its place. */
function partialPaths(resultsFolder: string, name: string) {
  const base = join(resultsFolder, PARTIAL_FOLDER, name);
  return { folder: base, manifest: `${base}.json` };
}

/** Writes a file in the folder for partial results, which another batch removes when it sees it empty. */
function writeBeside(path: string, text: string): void {
  for (let tries = 1; ; tries++) {
    mkdirSync(dirname(path), { recursive: true });
    try {
      writeFileSync(path, text);
      return;
    } catch (error) {
      if (tries === 5 || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // fs errors have a code
    }
  }
}

/** What a crash left of a result on its way to its place. */
export type PartialResult =
  /** Everything is there but the last rename. `manifest`: where the whole manifest stands. */
  | { readonly type: 'complete'; readonly manifest: string }
  /** It has to come, or to be made, again. */
  | { readonly type: 'incomplete' }
  | { readonly type: 'none' };

/** Tells what a crash left of a job's result, and changes nothing. `hasFolder`: whether the job's result has one. */
export function findPartial(
  resultsFolder: string,
  { name, hasFolder }: { readonly name: string; readonly hasFolder: boolean },
): PartialResult {
  // Another job may be named `NAME.json`: then that is its folder.
  const partial = partialPaths(resultsFolder, name);
  if (kindOf(partial.folder) === 'folder') return { type: 'incomplete' };
  if (kindOf(partial.manifest) !== 'file') return { type: 'none' };
  // Without a whole manifest a folder of that name is not ours: the folder is renamed after the manifest is written.
  const isComplete =
    isJson(partial.manifest) &&
    (!hasFolder || kindOf(join(resultsFolder, name)) === 'folder') &&
    kindOf(join(resultsFolder, `${name}.json`)) === undefined;
  return isComplete ? { type: 'complete', manifest: partial.manifest } : { type: 'incomplete' };
}

function kindOf(path: string): 'file' | 'folder' | 'other' | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  return stat.isFile() ? 'file' : stat.isDirectory() ? 'folder' : 'other';
}

/** Does the last rename of a result that a crash left complete. */
export function completePartial(resultsFolder: string, name: string): void {
  renameSync(partialPaths(resultsFolder, name).manifest, join(resultsFolder, `${name}.json`));
}

/** Throws away what a crash left of a result. The manifest goes first: without its folder it would look complete. */
export async function clearPartial(resultsFolder: string, name: string): Promise<void> {
  const { folder, manifest } = partialPaths(resultsFolder, name);
  if (kindOf(manifest) === 'file') rmSync(manifest);
  if (kindOf(folder) !== 'folder') return;
  const { default: fsExtra } = await import('fs-extra'); // wanted only where something went wrong
  try {
    fsExtra.removeSync(folder);
  } catch {
    makeRemovable(Buffer.from(folder)); // read-only folders, where it was almost complete
    fsExtra.removeSync(folder);
  }
}

/** Lets the owner write in all folders. Names are bytes. */
function makeRemovable(folder: Buffer): void {
  chmodSync(folder, 0o700);
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' }))
    if (entry.isDirectory()) makeRemovable(Buffer.concat([folder, Buffer.from('/'), entry.name]));
}

function isJson(path: string): boolean {
  try {
    JSON.parse(readFileSync(path, 'utf8'));
    return true;
  } catch {
    return false;
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
