/** What a command needs so that only words are lost when its terminal closes, or whoever read them goes away. */
import { closeSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_STREAMS = [0, 1, 2] as const;

/** Call it once, before anything is written. Writing into nothing is no error from then on (EPIPE, EIO). */
export function outliveTerminal(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  const terminals = STANDARD_STREAMS.filter((fd) => isatty(fd));
  process.on('exit', () => {
    // Node 20 aborts at its very end when it cannot put a terminal's settings back (EIO). Closed ones it leaves alone.
    for (const fd of terminals) {
      if (!isatty(fd)) closeSync(fd);
    }
  });
}
