/** What happens on an ssh connection once the login is done: programs, their number, silence, and the end. */
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import { watchLiveness } from './liveness.ts';
import type { Channel, OpenOptions, RemoteHost } from './remote-host.ts';
import { SshChannel } from './ssh-channel.ts';
import type { Hop } from './ssh-hop.ts';

/** How a connection is used and watched; the defaults are connectSsh's. */
export interface SshConnectionOptions {
  /** Between two looks whether anything came back. */
  readonly keepaliveIntervalMs: number;
  /** Looks in a row that may find nothing heard. */
  readonly keepaliveCountMax: number;
  /** Programs at a time; further calls of `open` wait for one to end. */
  readonly maxChannels: number;
  /** How long a machine may refuse a program because it has not yet noticed that others ended. */
  readonly openRetryMs: number;
}

const CLOSE_TIMEOUT_MS = 500;

/** An open connection and the programs that run over it. Owns all hops of its way: they end with it. */
export class SshConnection implements RemoteHost {
  readonly name: MachineName;
  readonly closed: Promise<string>;
  readonly #hops: readonly Hop[];
  readonly #machine: Hop;
  readonly #options: SshConnectionOptions;
  readonly #channels = new Set<SshChannel>();
  /** Streams to sockets there. sshd does not count them among its sessions. */
  readonly #sockets = new Set<Duplex>();
  /** Calls that wait for a free channel. */
  readonly #waiting: (() => void)[] = [];
  /** Calls that wait for the machine's answer. */
  readonly #opening = new Set<(error: Error) => void>();
  readonly #stopWatching: () => void;
  #freeSlots: number;
  #gone: string | undefined;
  #settleClosed: (reason: string) => void = () => undefined;

  constructor(name: MachineName, hops: readonly Hop[], options: SshConnectionOptions) {
    const machine = hops.at(-1);
    if (machine === undefined) throw new Error('Internal error: a route without hosts');
    this.name = name;
    this.#hops = hops;
    this.#machine = machine;
    this.#options = options;
    this.#freeSlots = options.maxChannels;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    for (const { client, target } of hops) {
      client.on('error', (error: Error) => this.#lose(`connection to ${target.host} lost: ${error.message}`));
      client.on('close', () => this.#lose(`${target.host} closed the connection`));
    }
    const watch = { intervalMs: options.keepaliveIntervalMs, countMax: options.keepaliveCountMax };
    const silentMs = watch.intervalMs * (watch.countMax + 1);
    this.#stopWatching = watchLiveness(machine.stream, watch, () =>
      this.#lose(`nothing heard from ${machine.target.host} for ${silentMs / 1000} s`),
    );
  }

  get traffic(): { readonly sentBytes: number; readonly receivedBytes: number } {
    const wire = this.#hops[0]?.stream;
    if (wire === undefined || !('bytesRead' in wire)) return { sentBytes: 0, receivedBytes: 0 };
    return { sentBytes: wire.bytesWritten, receivedBytes: wire.bytesRead };
  }

  async open(commandLine: string, { isOptional = false }: OpenOptions = {}): Promise<Channel> {
    if (isOptional && this.#freeSlots < 2) throw this.#error('no room for another program');
    await this.#takeSlot();
    const giveUpAt = Date.now() + (isOptional ? 0 : this.#options.openRetryMs);
    try {
      for (;;) {
        try {
          return await this.#start(commandLine);
        } catch (error) {
          // ssh2 says so when the stream closed before anybody listened.
          if (error instanceof Error && error.message === 'Not connected')
            this.#lose('the connection is closed');
          if (this.#gone !== undefined) throw this.#error(this.#gone, error);
          if (!isTooMany(error) || Date.now() >= giveUpAt) throw this.#error(refusal(error), error);
        }
        // sshd counts a session until its program is reaped, a moment after the channel closed.
        await delay(5 + Math.random() * 45);
      }
    } catch (error) {
      this.#giveSlot();
      throw error;
    }
  }

  openSocket(path: string): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        this.#opening.delete(fail);
        const reason =
          this.#gone ?? `the machine refuses to connect to its socket ${path} (${error.message})`;
        reject(this.#error(reason, error));
      };
      if (this.#gone !== undefined) return fail(new Error(this.#gone));
      this.#opening.add(fail);
      try {
        this.#machine.client.openssh_forwardOutStreamLocal(path, (error, stream) => {
          if (error) return fail(error);
          this.#opening.delete(fail);
          stream.on('error', () => undefined); // who uses it hears of the end
          this.#sockets.add(stream);
          stream.once('close', () => this.#sockets.delete(stream));
          if (this.#gone !== undefined) stream.destroy();
          resolve(stream);
        });
      } catch (error) {
        fail(error as Error); // ssh2 throws when the stream closed before anybody listened
      }
    });
  }

  async close(): Promise<void> {
    if (this.#gone !== undefined) return;
    this.#markGone('closed');
    for (const { client } of this.#hops.toReversed()) client.end();
    const wire = this.#hops[0]?.stream;
    if (wire === undefined) return;
    const timer = setTimeout(() => wire.destroy(), CLOSE_TIMEOUT_MS);
    await new Promise<void>((resolve) => {
      wire.once('close', () => resolve());
      if ('destroySoon' in wire) wire.destroySoon();
    });
    clearTimeout(timer);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #start(commandLine: string): Promise<Channel> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        this.#opening.delete(fail);
        reject(error);
      };
      this.#opening.add(fail);
      this.#machine.client.exec(commandLine, (error, raw) => {
        if (error) return fail(error);
        this.#opening.delete(fail);
        // Wrapped at once: output and even the exit may come in the same packet as this answer.
        const channel = new SshChannel(raw);
        this.#channels.add(channel);
        void channel.released.then(() => {
          this.#channels.delete(channel);
          this.#giveSlot();
        });
        if (this.#gone !== undefined) channel.lose(this.#gone);
        resolve(channel);
      });
    });
  }

  async #takeSlot(): Promise<void> {
    while (this.#freeSlots === 0 && this.#gone === undefined) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#gone !== undefined) throw this.#error(this.#gone);
    this.#freeSlots--;
  }

  #giveSlot(): void {
    this.#freeSlots++;
    this.#waiting.shift()?.();
  }

  #lose(reason: string): void {
    if (this.#gone !== undefined) return;
    this.#markGone(reason);
    // From the far end, so that each client finds its stream closed; a half-open socket would linger for minutes.
    for (const { stream } of this.#hops.toReversed()) stream.destroy();
  }

  #markGone(reason: string): void {
    this.#gone = reason;
    this.#stopWatching();
    for (const channel of this.#channels) channel.lose(reason);
    for (const socket of this.#sockets) socket.destroy();
    for (const wake of this.#waiting.splice(0)) wake();
    for (const fail of this.#opening) fail(new Error(reason));
    this.#settleClosed(reason);
  }

  #error(message: string, cause?: unknown): RemoteError {
    return new RemoteError(this.name, 'run', message, { cause });
  }
}

/** RFC 4254, 5.1: 2 is SSH_OPEN_CONNECT_FAILED, 4 SSH_OPEN_RESOURCE_SHORTAGE; sshd gives 2 above MaxSessions. */
function isTooMany(error: unknown): boolean {
  return error instanceof Error && 'reason' in error && (error.reason === 2 || error.reason === 4);
}

function refusal(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (isTooMany(error))
    return `the machine refuses to start another program (${text}): is its MaxSessions low?`;
  return `the machine refuses to start programs (${text})`;
}
