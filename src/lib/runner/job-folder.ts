/** Names of things on a machine that come from names of ours. */
import { createHash } from 'node:crypto';

const FOLDER_NAME_LIMIT = 180;

/**
 * The name of a job's folder on a machine: the job's name with all but plain letters, digits, `.`, `_` and `-` encoded
 * as %XX, so that it needs no quoting and holds no blanks; a long one is cut and made unique by a hash.
 */
export function jobFolder(jobName: string): string {
  const encoded = [...Buffer.from(jobName, 'utf8')]
    .map((byte) => {
      const char = String.fromCharCode(byte);
      return /[A-Za-z0-9._-]/.test(char) ? char : `%${byte.toString(16).padStart(2, '0')}`;
    })
    .join('')
    .replace(/^[.-]/, (char) => `%${char.charCodeAt(0).toString(16)}`);
  if (encoded.length <= FOLDER_NAME_LIMIT) return encoded;
  return `${encoded.slice(0, FOLDER_NAME_LIMIT - 17)}-${createHash('sha256').update(jobName).digest('hex').slice(0, 16)}`;
}

/** A short key for a machine's identity, for a folder name. */
export function machineKey(identity: string): string {
  return createHash('sha256').update(identity).digest('hex').slice(0, 16);
}
