/**
 * Paths below a folder, held as latin1: one character per byte, so that names which are no UTF-8 stay what they are.
 * Files of our own that stand beside the user's while folders are combined are known by their names here.
 */
import { randomBytes } from 'node:crypto';

/** A path as the functions of the file system take it. */
export type SystemPath = string | Buffer;

const ASCII = /^[\0-\x7f]*$/;

/**
 * A path below a folder as the system takes it: bytes, or for ASCII the text itself, which costs less. The root is the
 * folder's path as latin1; an empty path is the folder itself.
 */
export function systemPath(root: string, path: string): SystemPath {
  const whole = path === '' ? root : `${root}/${path}`;
  return ASCII.test(whole) ? whole : Buffer.from(whole, 'latin1');
}

/** A usual path as latin1. */
export function latin1Path(path: string): string {
  return Buffer.from(path).toString('latin1');
}

/** A latin1 path as people read it; bytes that are no UTF-8 become U+FFFD. */
export function readablePath(path: string): string {
  return Buffer.from(path, 'latin1').toString();
}

/** A path of the system as people read it. */
export function shownPath(path: SystemPath): string {
  return path.toString();
}

/** A path one name further down. */
export function below(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}

/** The folder that holds a path: empty for one at the top. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** Where DEST keeps what unfinished folders are to become; it is gone when a run has ended well. */
export const JOURNAL = '.combine-folders.json';

const OWN_NAME = /^\.combine-folders\.(?:[0-9a-f]{16}|json)$/;

/** A new name for a file that is still being written. */
export function temporaryName(): string {
  return `.combine-folders.${randomBytes(8).toString('hex')}`;
}

/** Whether a name is one that only this command gives: a half file of a killed run, or the journal. */
export function isOwnName(name: string): boolean {
  return name.startsWith('.combine-folders.') && OWN_NAME.test(name);
}
