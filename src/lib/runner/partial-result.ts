/**
 * What is not whole yet, in `job_results/.partial/`, and what a crash left there: how far each result had come tells what
 * to do with it. `result-files` has the table.
 */
import {
  chmodSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { makeFolder } from '../util/make-folder.ts';

/** Folder below the results folder for what is not whole yet. */
export const PARTIAL_FOLDER = '.partial';

/** Where a result is made before it has its place. */
export function partialPaths(resultsFolder: string, name: string) {
  const base = join(resultsFolder, PARTIAL_FOLDER, name);
  return { folder: base, manifest: `${base}.json` };
}

/** Writes a file in the folder for partial results, which another batch removes when it sees it empty. */
export function writeBeside(path: string, text: string): void {
  for (let tries = 1; ; tries++) {
    makeFolder(dirname(path));
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
