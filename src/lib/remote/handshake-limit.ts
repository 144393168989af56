/**
 * sshd drops new connections at random once ten have not logged in yet (MaxStartups 10:30:100). So no more than eight
 * are under way per server at a time, over all machines and batches of this process; a jump host is such a server too.
 */
import PQueue from 'p-queue';

const MAX_HANDSHAKES = 8;
const servers = new Map<string, PQueue>();

/** Runs a connect-and-login when its server (`host:port`) has room for it; first come, first served. */
export async function withHandshakeSlot<T>(server: string, login: () => Promise<T>): Promise<T> {
  const queue = servers.get(server) ?? new PQueue({ concurrency: MAX_HANDSHAKES });
  servers.set(server, queue);
  try {
    return await queue.add(login);
  } finally {
    // Once idle it is forgotten: a long-lived process may meet thousands of servers.
    if (queue.size === 0 && queue.pending === 0 && servers.get(server) === queue) servers.delete(server);
  }
}
