/** Names of things on a machine that come from names of ours. */
import { createHash } from 'node:crypto';
import { shellQuote } from '../util/shell-quote.ts';
import type { AttemptPlace } from './supervisor.ts';

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

/** Shell text that removes a batch's folder of runs when no attempt is left in it, and else only what is no attempt's. */
export function removeEmptyBatch(runs: string): string {
  const spares = '.spares || { chmod -R u+w .spares; rm -rf .spares; }';
  return `(cd ${shellQuote(runs)} && { rm -rf ${spares}; rmdir ./*; set -- ./*; [ -e "$1" ] || { rm -f .origin .controller; cd .. && rmdir ${shellQuote(runs)}; }; } 2>/dev/null)`;
}

/** Shell text that removes attempts below a batch's folder of runs, and with its last attempt a job's folder. */
export function removeAttempts(runs: string, places: readonly AttemptPlace[]): string {
  const list = (paths: readonly string[]) => [...new Set(paths)].map(shellQuote).join(' ');
  const folders = list(places.map((place) => `${place.folder}/${place.number}`));
  const parents = list(places.map((place) => place.folder));
  // A job may leave read-only folders behind (package caches do).
  return `(cd ${shellQuote(runs)} && { rm -rf ${folders} || { chmod -R u+w ${folders}; rm -rf ${folders}; }; rmdir ${parents}; } 2>/dev/null)`;
}
