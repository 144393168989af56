/**
 * The note in DEST of what folders are to become. A folder has to be writable and gets a new time stamp while things are
 * put into it; its own mode and time come last. A run that is killed before leaves this note, and the next run goes by it.
 */
import { readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { SchedulerError } from '../domain/errors.ts';
import type { PlannedFolder } from './plan.ts';
import { JOURNAL, type SystemPath, shownPath, systemPath, temporaryName } from './tree-path.ts';

/** What a folder is to have in the end; without a mode it keeps the one it has. */
export type FolderEnd = Pick<PlannedFolder, 'mode' | 'mtimeMs'>;

const VERSION = 1;

/** Writes the note, at once and whole. */
export function writeJournal(dest: string, folders: readonly PlannedFolder[]): void {
  const records = folders.map(({ path, mode, mtimeMs }) => [path, mode ?? null, mtimeMs]);
  const temporary = systemPath(dest, temporaryName());
  try {
    writeFileSync(temporary, JSON.stringify({ version: VERSION, folders: records }), {
      mode: 0o600,
      flag: 'wx',
    });
    renameSync(temporary, systemPath(dest, JOURNAL));
  } catch (error) {
    removeIfThere(temporary);
    throw error;
  }
}

/** Removes the note: all folders are as they should be. */
export function removeJournal(dest: string): void {
  removeIfThere(systemPath(dest, JOURNAL));
}

/** Reads the note of a run that was killed; empty when there is none. @throws SchedulerError when the file is something else */
export function readJournal(dest: string): ReadonlyMap<string, FolderEnd> {
  const file = systemPath(dest, JOURNAL);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
  const ends = parse(text);
  if (ends !== undefined) return ends;
  const name = shownPath(file);
  throw new SchedulerError(
    `${name} is not what an interrupted combine_folders leaves behind: look at it, and remove it to go on`,
  );
}

function parse(text: string): ReadonlyMap<string, FolderEnd> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('folders' in value) || !('version' in value)) return;
  if (value.version !== VERSION || !Array.isArray(value.folders)) return undefined;
  const ends = new Map<string, FolderEnd>();
  for (const record of value.folders as readonly unknown[]) {
    if (!Array.isArray(record)) return undefined;
    const [path, mode, mtimeMs] = record as readonly unknown[];
    if (typeof path !== 'string' || typeof mtimeMs !== 'number') return undefined;
    if (mode !== null && typeof mode !== 'number') return undefined;
    ends.set(path, mode === null ? { mtimeMs } : { mode: mode & 0o1777, mtimeMs });
  }
  return ends;
}

function removeIfThere(file: SystemPath): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
