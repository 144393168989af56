/** Tells a disk here that cannot take results from all other reasons why one cannot be kept. */

const LOCAL_TROUBLE = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EACCES']);

/** Whether this computer's disk is at fault: it would be the same for every job. */
export function isLocalTrouble(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && LOCAL_TROUBLE.has(String(error.code))) return true;
  // Told beforehand, by what a transfer announces: no call has failed then.
  return error.message.includes('no space left on device here') || isLocalTrouble(error.cause);
}
