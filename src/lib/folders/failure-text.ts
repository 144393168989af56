/** Errors of the file system as one line for people. */
import { visibleText } from '../util/terminal-text.ts';

const MEANINGS: Readonly<Record<string, string>> = {
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the disk is read-only',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENAMETOOLONG: 'the name is too long for the disk',
  EMFILE: 'too many open files',
  EIO: 'the disk failed to read or write',
  EEXIST: 'something has appeared there meanwhile',
  ENOENT: 'it has vanished meanwhile',
};

/** What an error means, without the path. */
export function failureText(error: unknown): string {
  if (!(error instanceof Error)) return visibleText(String(error));
  const { code } = error as NodeJS.ErrnoException;
  return (code === undefined ? undefined : MEANINGS[code]) ?? visibleText(error.message);
}
