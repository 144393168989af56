/**
 * A machine that we can run programs on: over ssh, or this one. All that is above this layer speaks to machines
 * through it, so that a further transport (the system's `ssh`) is one more implementation.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { MachineName } from '../domain/machine.ts';

/** How a remote program ended. `unknown`: the connection went first; that is neither success nor failure. */
export type ChannelEnd =
  | { readonly type: 'exited'; readonly exitCode: number }
  | { readonly type: 'signalled'; readonly signal: string }
  | { readonly type: 'unknown'; readonly reason: string };

/** One remote program with its three streams of bytes. */
export interface Channel {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles after both output streams have ended. Never rejects. */
  readonly ended: Promise<ChannelEnd>;
  /** Gives the channel up; the remote program is not signalled. */
  close(): void;
}

/** How to start a program. */
export interface OpenOptions {
  /**
   * The program is a help, not a need: give up at once where it would have to wait or take the last room that there is
   * for another. @default false
   */
  readonly isOptional?: boolean;
}

/** An open way to a machine. */
export interface RemoteHost extends AsyncDisposable {
  readonly name: MachineName;
  /**
   * Starts a program. The command line is read by the user's login shell, whatever that is: keep it to
   * `exec /bin/sh` or to words without quotes, backslashes, `!` and newlines, and send scripts on stdin.
   * @throws RemoteError when the connection is gone or the machine refuses.
   */
  open(commandLine: string, options?: OpenOptions): Promise<Channel>;
  /**
   * Connects to a Unix socket there. The stream ends with the connection. Absent where there is no such way.
   * @throws RemoteError when the connection is gone or the machine refuses, for whichever reason: sshd does not tell it
   */
  openSocket?(path: string): Promise<Duplex>;
  /** Settles with the reason when the connection is gone, also after `close()`. Never rejects. */
  readonly closed: Promise<string>;
  /** Bytes sent and received on the wire so far; 0 where there is none. */
  readonly traffic: { readonly sentBytes: number; readonly receivedBytes: number };
  close(): Promise<void>;
}
