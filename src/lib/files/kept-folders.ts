/** The folders of a kept part. */
import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { below, fsPath } from './byte-path.ts';
import { inTurns } from './in-turns.ts';
import { errorCode } from './kept-files.ts';
import type { SourceEntry } from './source-part.ts';

/** Makes the folders of a part, open to us whatever their modes are in the listing. Returns all, `tree` first. */
export async function makeFolders(tree: string, entries: readonly SourceEntry[]): Promise<string[]> {
  // They stand before what they hold.
  const folders = entries.filter(({ kind }) => kind === 'folder').map(({ path }) => below(tree, path));
  const made = [tree, ...folders];
  await inTurns(made, (path) => mkdirSync(fsPath(path), { mode: 0o700 }));
  return made;
}

/** Has the names in a folder (bytes) on the disk. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(fsPath(path), 'r');
  try {
    await folder.sync();
  } catch (error) {
    // Some disks (over FUSE, say) know no sync of a folder.
    if (errorCode(error) !== 'EINVAL') throw error;
  } finally {
    await folder.close();
  }
}
