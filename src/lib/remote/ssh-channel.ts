/**
 * One program on an ssh connection. Wraps ssh2's channel, which is one stream for both directions, never calls back
 * a write that comes after the remote end closed, and ends alike whether the program ended or the connection broke.
 */
import { Readable, Writable } from 'node:stream';
import type { ClientChannel } from 'ssh2';
import type { Channel, ChannelEnd } from './remote-host.ts';

type RemoteExit = Exclude<ChannelEnd, { readonly type: 'unknown' }>;

/** A program started over ssh. `stdout` and `stderr` share one window: leave neither unread. */
export class SshChannel implements Channel {
  readonly stdin: Writable;
  readonly ended: Promise<ChannelEnd>;
  /** Settles when the connection has room for another channel in this one's place. Never rejects. */
  readonly released: Promise<void>;
  readonly #raw: ClientChannel;
  readonly #stdout: Output;
  readonly #stderr: Output;
  #exit: RemoteExit | undefined;
  #lost: string | undefined;
  #isOver = false;
  #settleOver: () => void = () => undefined;
  #settleReleased: () => void = () => undefined;

  constructor(raw: ClientChannel) {
    this.#raw = raw;
    this.#stdout = new Output(raw);
    this.#stderr = new Output(raw.stderr);
    this.stdin = new Writable({
      write: (chunk: Buffer, _encoding, done) => void raw.write(chunk, done),
      final: (done) => void raw.end(done),
    });
    // Who writes hears of errors through the stream; without a listener Node would crash.
    this.stdin.on('error', () => undefined);
    raw.on('error', () => undefined);
    raw.on('exit', (code: number | null, signal?: string) => {
      this.#exit =
        code === null
          ? { type: 'signalled', signal: signal ?? 'unknown' }
          : { type: 'exited', exitCode: code };
    });
    this.released = new Promise((resolve) => {
      this.#settleReleased = resolve;
    });
    const over = new Promise<void>((resolve) => {
      this.#settleOver = resolve;
    });
    raw.once('close', () => {
      this.#end();
      this.#settleReleased();
    });
    this.ended = Promise.all([over, this.#stdout.drained, this.#stderr.drained]).then(() => {
      if (this.#lost !== undefined) return { type: 'unknown', reason: this.#lost };
      return (
        this.#exit ?? { type: 'unknown', reason: 'the machine closed the channel without an exit status' }
      );
    });
  }

  get stdout(): Readable {
    return this.#stdout;
  }

  get stderr(): Readable {
    return this.#stderr;
  }

  close(): void {
    if (this.#isOver) return;
    this.#raw.close();
    this.#cut('the channel was closed here');
    this.#stdout.destroy();
    this.#stderr.destroy();
  }

  /** The connection is gone: output ends with what has arrived. */
  lose(reason: string): void {
    if (!this.#isOver) this.#cut(reason);
    this.#settleReleased();
  }

  #cut(reason: string): void {
    // An exit status may overtake output. It counts only when the machine had said that the output was complete.
    if (this.#exit === undefined || !allArrived(this.#raw)) this.#lost = reason;
    this.#stdout.cut();
    this.#stderr.cut();
    this.#end();
  }

  #end(): void {
    this.#isOver = true;
    this.#settleOver();
    if (this.stdin.writableFinished || this.stdin.destroyed) return;
    this.stdin.destroy(new Error('the remote program ended before it read all of its input'));
  }
}

/** A Readable over one of ssh2's, that can be destroyed or ended at any time; the rest is then read and dropped. */
class Output extends Readable {
  /** Settles when the stream has been read to its end or destroyed. */
  readonly drained: Promise<void>;
  readonly #source: Readable;
  #isComplete = false;
  readonly #take = (chunk: Buffer) => {
    if (!this.push(chunk)) this.#source.pause();
  };
  readonly #finish = () => {
    this.#isComplete = true;
    this.push(null);
  };

  constructor(source: Readable) {
    super();
    this.#source = source;
    source.on('data', this.#take).once('end', this.#finish).pause();
    source.on('error', () => undefined);
    this.drained = new Promise((resolve) => this.once('close', resolve));
  }

  /** Ends with what has arrived. */
  cut(): void {
    if (this.destroyed || this.#isComplete) return;
    this.#letGo();
    for (let chunk: unknown = this.#source.read(); chunk !== null; chunk = this.#source.read())
      this.push(chunk);
    this.#finish();
    this.#source.resume();
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#letGo();
    this.#source.resume();
    done(error);
  }

  #letGo(): void {
    this.#source.off('data', this.#take).off('end', this.#finish);
  }
}

/** ssh2 keeps what the server said of its direction in a field that its types leave out. */
function allArrived(raw: object): boolean {
  const incoming = 'incoming' in raw ? raw.incoming : undefined;
  return (
    typeof incoming === 'object' && incoming !== null && 'state' in incoming && incoming.state !== 'open'
  );
}
