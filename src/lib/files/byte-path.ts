/**
 * Paths as the file system has them. A name is any bytes but `/` and NUL, so a path is held as latin1, one character per
 * byte: names that are no UTF-8 stay what they are, and `<` is the order of bytes.
 */

const BEYOND_ASCII = /[^\0-\x7f]/;

/** A path as the user wrote it, byte by byte. */
export function toBytePath(path: string): string {
  return BEYOND_ASCII.test(path) ? Buffer.from(path, 'utf8').toString('latin1') : path;
}

/** A path as a person reads it; bytes that are no UTF-8 show as U+FFFD. */
export function fromBytePath(path: string): string {
  return BEYOND_ASCII.test(path) ? Buffer.from(path, 'latin1').toString('utf8') : path;
}

/** What functions of `node:fs` take for a path held as bytes. Strings are faster than buffers there, by a third. */
export function fsPath(path: string): string | Buffer {
  return BEYOND_ASCII.test(path) ? Buffer.from(path, 'latin1') : path;
}

/** `path` below `folder`; the empty folder is the one that paths are relative to. */
export function below(folder: string, path: string): string {
  if (folder === '' || path === '') return folder === '' ? path : folder;
  return folder.endsWith('/') ? `${folder}${path}` : `${folder}/${path}`;
}

/** The folders above a path, the topmost first: `a`, `a/b` for `a/b/c`. */
export function foldersAbove(path: string): string[] {
  const above: string[] = [];
  for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1)) above.push(path.slice(0, at));
  return above;
}
