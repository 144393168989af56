/** Plain files at paths that others chose: what lies there may as well be a pipe or a device. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/**
 * Works on a plain file that is open for reading. Undefined for what is not there, and for pipes and devices, which would
 * never end or never open.
 * @throws what the system says of a file that is there and cannot be opened, and what `work` throws
 */
export async function withPlainFile<T>(
  path: string,
  work: (file: FileHandle) => Promise<T>,
): Promise<T | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['ENOENT', 'ENOTDIR', 'ENXIO'].includes(code)) return undefined;
    throw error;
  }
  try {
    return (await file.stat()).isFile() ? await work(file) : undefined;
  } finally {
    await file.close();
  }
}
