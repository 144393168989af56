/** Whether somebody listens at a Unix socket. */
import { connect } from 'node:net';

/** Asks by a connection, which is closed at once. False for a socket that a dead process left, and for none. */
export function isSocketLive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Anything else than a refusal (a full queue) comes from one that lives.
    socket.once('error', ({ code }: NodeJS.ErrnoException) =>
      resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'),
    );
  });
}
