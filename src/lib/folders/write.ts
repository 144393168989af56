/**
 * Carries out a plan. The order is what makes an interrupted run completable: first the note of what folders are to
 * become, then folders, files, and last the modes and times of folders, the deepest first.
 */
import { chmodSync, mkdirSync, rmdirSync, unlinkSync, utimesSync } from 'node:fs';
import { type CopyAllOptions, copyAll } from './copy-all.ts';
import { type CopyTally, timeOf } from './copy-entry.ts';
import { removeJournal, writeJournal } from './journal.ts';
import type { Plan, PlannedFolder } from './plan.ts';
import { systemPath } from './tree-path.ts';

/** Whether a plan changes anything at all. */
export function changesNothing({ entries, folders, leftovers }: Plan): boolean {
  return entries.length === 0 && folders.length === 0 && leftovers.length === 0;
}

/**
 * Makes DEST and the note in it; from here on an error leaves DEST incomplete.
 * @throws Error of the file system; DEST is then as it was.
 */
export function beginWriting(plan: Plan, dest: string): void {
  const [top] = plan.folders;
  const folder = systemPath(dest, '');
  const made = mkdirSync(folder, { recursive: true, mode: (top?.mode ?? 0o777) | 0o700 });
  try {
    writeJournal(dest, plan.folders);
  } catch (error) {
    if (made !== undefined) rmdirSync(folder);
    throw error;
  }
}

/** Writes all that is planned. @throws Error of the file system or SchedulerError: the same plan made anew completes it */
export async function write(plan: Plan, options: CopyAllOptions): Promise<CopyTally> {
  const { dest } = options;
  for (const path of plan.leftovers) unlinkSync(systemPath(dest, path));
  const [top, ...inner] = plan.folders;
  for (const { path, isNew } of inner) if (isNew) mkdirSync(systemPath(dest, path), { mode: 0o700 });
  const tally = await copyAll(plan.entries, options);
  for (const folder of inner.reverse()) endFolder(dest, folder);
  removeJournal(dest);
  if (top !== undefined) endFolder(dest, top);
  return tally;
}

function endFolder(dest: string, { path, mode, mtimeMs }: PlannedFolder): void {
  const folder = systemPath(dest, path);
  // The mode comes last: a folder that nobody may enter takes no time stamp.
  utimesSync(folder, timeOf(mtimeMs), timeOf(mtimeMs));
  if (mode !== undefined) chmodSync(folder, mode);
}
