/** How many clients fit into the file descriptors of this process. */
import { readFileSync } from 'node:fs';

/** For the service's own files, and for the jobs that it starts. */
const KEPT_FREE = 256;
const MOST = 2048;
const LEAST = 16;
/** What a process may open on most systems. */
const USUAL_LIMIT = 1024;

/**
 * How many clients may be connected without taking descriptors from the rest of the service.
 * @param limits the text of Linux's /proc/self/limits, with a line such as `Max open files  1024  524288  files`
 */
export function clientsThatFit(limits = ownLimits()): number {
  const [, soft] = /^Max open files\s+(\d+|unlimited)\s/m.exec(limits) ?? [];
  // Node raised the soft limit to the hard one when it began.
  const files =
    soft === undefined ? USUAL_LIMIT : soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
  return Math.max(LEAST, Math.min(MOST, files - KEPT_FREE));
}

function ownLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return ''; // another system
  }
}
