/** Ctrl-C, counted as key presses. */

/**
 * Signals that come so soon one after another are one key press. A terminal sends SIGINT to all programs of a job, and
 * some of them send it on: under `timeout 60 COMMAND`, one Ctrl-C reaches COMMAND up to three times within milliseconds.
 */
export const SAME_PRESS_MS = 100;

/** What the counting goes by. */
export interface InterruptOptions {
  /** A clock in milliseconds that never goes back. @default the process's own */
  readonly now?: () => number;
  /** What emits 'SIGINT'. @default the process */
  readonly signals?: Pick<NodeJS.EventEmitter, 'on'>;
}

/**
 * Calls `handler` at each Ctrl-C from now on until the process ends, with 1 for the first, 2 for the second and so on.
 * SIGINTs within `SAME_PRESS_MS` of the last one that counted are left out. SIGINT ends the process no longer by itself.
 */
export function onInterrupt(handler: (count: number) => void, options: InterruptOptions = {}): void {
  const { now = () => performance.now(), signals = process } = options;
  let count = 0;
  let countedAt = Number.NEGATIVE_INFINITY;
  signals.on('SIGINT', () => {
    if (now() - countedAt <= SAME_PRESS_MS) return;
    count += 1;
    try {
      handler(count);
    } finally {
      // A repetition that came meanwhile is only heard of after the handler, however long that took.
      countedAt = now();
    }
  });
}
