/**
 * Notices that a connection has gone silent. ssh2's own keepalive counts unanswered pings, and on a slow line answers
 * wait behind megabytes of data; here any byte from the machine is a sign of life, and ssh2 only sends the pings.
 */
import type { Readable } from 'node:stream';

/** When a connection counts as silent. */
export interface LivenessOptions {
  /** Time between two looks, and between two pings. */
  readonly intervalMs: number;
  /** Looks in a row that may find nothing heard. */
  readonly countMax: number;
}

/**
 * Calls `onSilent` once when `countMax + 1` looks in a row found nothing heard: after at most
 * `(countMax + 2) * intervalMs`. Returns the way to stop. Looks are counted, not clock time: a laptop that wakes up
 * gets its chance to hear first.
 */
export function watchLiveness(stream: Readable, options: LivenessOptions, onSilent: () => void): () => void {
  let isHeard = true;
  let misses = 0;
  const hear = () => {
    isHeard = true;
  };
  const stop = () => {
    clearInterval(timer);
    stream.off('data', hear);
  };
  const timer = setInterval(() => {
    misses = isHeard ? 0 : misses + 1;
    isHeard = false;
    if (misses <= options.countMax) return;
    stop();
    onSilent();
  }, options.intervalMs);
  stream.on('data', hear);
  return stop;
}
