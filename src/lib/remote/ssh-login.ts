/** One login on one server: the socket, the handshake with its host key check, and the authentication. */
import { connect as connectSocket, isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { NodeSSH } from 'node-ssh';
import type { AuthHandlerMiddleware, Client } from 'ssh2';
import type { HostKeyChecking } from '../machine/config.ts';
import { type Credentials, LoginPlan } from './auth.ts';
import { isLostHandshake } from './connect-failure.ts';
import { HostKeyCheck } from './host-key-check.ts';
import type { SshTarget } from './ssh-config.ts';

/** What a login needs beside its target. */
export interface LoginOptions {
  readonly credentials: Credentials;
  readonly hostKeyChecking: HostKeyChecking;
  /** For TCP, handshake and authentication together. */
  readonly timeoutMs: number;
  /** Between two pings on the finished connection; 0 for none. */
  readonly pingIntervalMs: number;
  readonly onNewHostKey?: (message: string) => void;
}

/** Pings are sent for liveness.ts, which judges by itself whether anything comes back. */
const NEVER_GIVE_UP = 2 ** 31;

/** Opens a TCP connection, with small packets sent at once: Nagle's algorithm would cost 40 ms per program. */
export function openSocket(host: string, port: number, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ host, port, noDelay: true });
    let isLookedUp = isIP(host) !== 0;
    socket.once('lookup', () => {
      isLookedUp = true;
    });
    const timer = setTimeout(() => {
      const code = isLookedUp ? 'ETIMEDOUT' : 'EAI_AGAIN';
      socket.destroy(Object.assign(new Error('Timed out while connecting'), { code }));
    }, timeoutMs);
    // Stays for the socket's life: an error that nobody hears would end the process.
    socket.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

/** What is read before a server is contacted; good for one login. */
export interface PreparedLogin {
  readonly target: SshTarget;
  readonly hostKey: HostKeyCheck;
  readonly plan: LoginPlan;
}

/**
 * Reads the known hosts and keys, and asks the agent.
 * @throws RemoteError (`login`) when the key that the machine file names cannot be used
 */
export async function prepareLogin(target: SshTarget, options: LoginOptions): Promise<PreparedLogin> {
  const hostKey = await HostKeyCheck.prepare(target, options.hostKeyChecking);
  return { target, hostKey, plan: await LoginPlan.prepare(target, options.credentials) };
}

/**
 * Logs in over an open stream. The client returned has an `error` listener already, for its whole life.
 * @throws RemoteError for what is understood (host key, login), else the library's error; the stream is closed then
 */
export async function logIn(login: PreparedLogin, stream: Duplex, options: LoginOptions): Promise<Client> {
  const { target, hostKey, plan } = login;
  // ssh2 also takes what its types do not allow: an answer that is returned, and false for "no more".
  const authHandler = ((left: string[] | null) => {
    if (hostKey.isMismatchAccepted) {
      plan.withholdPasswords('no password is sent, as its host key differs from the known one');
    }
    return plan.next(left);
  }) as unknown as AuthHandlerMiddleware;
  const ssh = new NodeSSH();
  let isShaken = false;
  const client = await new Promise<Client>((resolve, reject) => {
    const connecting = ssh.connect({
      host: target.host,
      port: target.port,
      username: target.user,
      sock: stream,
      readyTimeout: options.timeoutMs,
      keepaliveInterval: options.pingIntervalMs,
      keepaliveCountMax: NEVER_GIVE_UP,
      algorithms: { serverHostKey: hostKey.algorithms },
      hostVerifier: (key: Buffer) => hostKey.verify(key),
      authHandler,
    });
    const { connection } = ssh;
    if (connection === null) {
      connecting.then(() => reject(new Error('Internal error: no client')), reject);
      return;
    }
    // node-ssh gives up at any error and then stops listening; an agent's error only means the next method's turn.
    connecting.catch((error: unknown) => {
      if (!isAgentError(error)) reject(error instanceof Error ? error : new Error(String(error)));
    });
    connection.on('error', (error: Error) => {
      if (isAgentError(error)) plan.note(`the agent did not sign (${error.message})`);
      else reject(error);
    });
    connection.once('handshake', () => {
      isShaken = true;
    });
    connection.once('close', () => reject(new Error('Connection lost before the login')));
    connection.once('ready', () => resolve(connection));
  }).catch((error: unknown) => {
    stream.destroy();
    throw explained(error, isShaken, hostKey, plan);
  });
  client.setNoDelay(true);
  const message = await hostKey.record();
  if (message !== undefined) options.onNewHostKey?.(message);
  return client;
}

function explained(error: unknown, isShaken: boolean, hostKey: HostKeyCheck, plan: LoginPlan): unknown {
  if (hostKey.refusal !== undefined) return hostKey.refusal;
  const text = error instanceof Error ? error.message : String(error);
  if (text.includes('no matching host key format') && hostKey.isLimited) return hostKey.noKnownType();
  if (/too many authentication failures/i.test(text)) return plan.tooManyKeys();
  if (text === 'All configured authentication methods failed') return plan.failure();
  if (isShaken && (isLostHandshake(error) || text === 'Connection lost before the login')) {
    // It says so when it has heard enough of keys: this one was killed, or lost its network, and may do better soon.
    return plan.failure('the server closed the connection during the login', 'connect');
  }
  return error;
}

function isAgentError(error: unknown): boolean {
  return error instanceof Error && 'level' in error && error.level === 'agent';
}
