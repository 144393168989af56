/** This machine as a RemoteHost: programs are started here, with plain pipes. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { homedir } from 'node:os';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { Channel, ChannelEnd, RemoteHost } from './remote-host.ts';

/** How programs are started here. */
export interface LocalHostOptions {
  /** Folder that programs start in. @default the user's home folder, as after a login */
  readonly home?: string;
  /** Environment of the programs. @default this process's */
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs programs on this machine. Each is in a session of its own, so a Ctrl-C on the terminal does not reach it. */
export class LocalHost implements RemoteHost {
  readonly name: MachineName;
  readonly traffic = { sentBytes: 0, receivedBytes: 0 } as const;
  readonly closed: Promise<string>;
  readonly #home: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #channels = new Set<LocalChannel>();
  #settleClosed: (reason: string) => void = () => undefined;
  #isClosed = false;

  constructor(name: MachineName, options: LocalHostOptions = {}) {
    this.name = name;
    this.#home = options.home ?? homedir();
    this.#env = options.env ?? process.env;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
  }

  async open(commandLine: string): Promise<Channel> {
    if (this.#isClosed) throw new RemoteError(this.name, 'run', 'this connection is closed');
    const child = spawn('/bin/sh', ['-c', commandLine], { cwd: this.#home, env: this.#env, detached: true });
    try {
      await once(child, 'spawn');
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new RemoteError(this.name, 'run', `cannot start /bin/sh in ${this.#home}: ${reason}`, {
        cause: error,
      });
    }
    const channel = new LocalChannel(child);
    this.#channels.add(channel);
    void channel.ended.then(() => this.#channels.delete(channel));
    if (this.#isClosed) channel.close(); // closed while the program was starting
    return channel;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const channel of this.#channels) channel.close();
    this.#settleClosed('closed');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

class LocalChannel implements Channel {
  readonly stdin;
  readonly stdout;
  readonly stderr;
  readonly ended: Promise<ChannelEnd>;
  readonly #child: ChildProcessWithoutNullStreams;
  #giveUp: (end: ChannelEnd) => void = () => undefined;

  constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.stdin = child.stdin;
    this.stdout = child.stdout;
    this.stderr = child.stderr;
    // A program may end without reading its input. Who writes hears of it; without a listener Node would crash.
    child.stdin.on('error', () => undefined);
    child.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      this.#giveUp = resolve;
      child.on('close', (exitCode, signal) => {
        if (exitCode !== null) resolve({ type: 'exited', exitCode });
        else resolve({ type: 'signalled', signal: signal ?? 'unknown' });
      });
    });
  }

  close(): void {
    this.stdin.end();
    this.stdout.destroy();
    this.stderr.destroy();
    this.#child.unref(); // it may outlive us
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#giveUp({ type: 'unknown', reason: 'the channel was closed here' });
    }
  }
}
