/** Makes a folder and those above it. */
import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/**
 * As `mkdirSync` with `recursive`, which never returns where the system says ENOENT below a folder that is there, as /proc
 * and automounted folders do (seen in Node 20.20).
 * @throws the system's error for the first folder that cannot be made
 */
export function makeFolder(path: string, mode = 0o777): void {
  for (let tries = 1; ; tries++) {
    const error = tryAll(resolve(path), mode);
    if (error === undefined) return;
    // Others may remove an empty folder that was just made, or is about to be gone through.
    if (error.code !== 'ENOENT' || tries === TRIES) throw error;
  }
}

const TRIES = 5;

function tryAll(path: string, mode: number): NodeJS.ErrnoException | undefined {
  const missing: string[] = [];
  for (let folder = path; ; folder = dirname(folder)) {
    const error = tryToMake(folder, mode);
    if (error === undefined) break;
    if (error.code !== 'ENOENT' || isFolder(dirname(folder))) return error;
    missing.push(folder);
  }
  for (const folder of missing.reverse()) {
    const error = tryToMake(folder, mode);
    if (error !== undefined) return error;
  }
  return undefined;
}

/** Returns the error; none when it is there already. */
function tryToMake(folder: string, mode: number): NodeJS.ErrnoException | undefined {
  try {
    mkdirSync(folder, { mode });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException; // fs errors have one
    if ((code === 'EEXIST' || code === 'EISDIR') && isFolder(folder)) return undefined;
    return error as NodeJS.ErrnoException;
  }
  return undefined;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
