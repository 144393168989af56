/** Gets through to one host of a route: directly, or through the host before it. */
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client, ClientChannel } from 'ssh2';
import { connectFailure, isLostHandshake } from './connect-failure.ts';
import { withHandshakeSlot } from './handshake-limit.ts';
import type { SshTarget } from './ssh-config.ts';
import { type LoginOptions, logIn, openSocket, prepareLogin } from './ssh-login.ts';

/** A host that we are logged in to. */
export interface Hop {
  readonly target: SshTarget;
  readonly client: Client;
  /** What the client speaks over: a socket, or a channel of the hop before. */
  readonly stream: Socket | ClientChannel;
}

/** Between two tries of a handshake that the server drops before it began. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Connects and logs in to a host; again, after a random while, when it hung up because too many logged in at once.
 * @throws RemoteError
 */
export async function connectHop(
  target: SshTarget,
  before: Hop | undefined,
  options: LoginOptions,
): Promise<Hop> {
  const { timeoutMs } = options;
  const tryOnce = async (): Promise<Hop> => {
    const login = await prepareLogin(target, options);
    const stream = await (before === undefined
      ? openSocket(target.host, target.port, timeoutMs)
      : forward(before.client, target, timeoutMs));
    return { target, stream, client: await logIn(login, stream, options) };
  };
  const began = performance.now();
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return await withHandshakeSlot(`${target.host}:${target.port}`, tryOnce);
    } catch (error) {
      if (!isLostHandshake(error) || performance.now() - began + pauseMs > timeoutMs) {
        throw connectFailure(error, {
          target,
          timeoutMs,
          ...(before !== undefined && { via: before.target }),
        });
      }
    }
    // Random, so that those who were dropped together do not come back together.
    await delay(pauseMs * (0.5 + Math.random() / 2));
  }
}

/** A stream to a host that another host opens for us. */
function forward(client: Client, target: SshTarget, timeoutMs: number): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      reject(new Error('Timed out while connecting'));
    }, timeoutMs);
    client.forwardOut('127.0.0.1', 0, target.host, target.port, (error, stream) => {
      clearTimeout(timer);
      if (error) return reject(error);
      stream.on('error', () => undefined); // told of by the client that speaks over it
      if (isLate) stream.destroy();
      else resolve(stream);
    });
  });
}
