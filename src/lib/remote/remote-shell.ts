/**
 * A POSIX shell that stays open on a machine, so that a small step there costs a line on an open channel and not a
 * new channel (which costs sshd a fork and the user's login shell its start files).
 *
 * Scripts are sent on the shell's standard input. dash and busybox read that ahead in blocks, so nothing that runs in
 * the shell may read standard input: every request gets /dev/null. Data goes up through channels of its own.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { RemoteError } from '../domain/errors.ts';
import type { Channel, OpenOptions, RemoteHost } from './remote-host.ts';

/** Takes bytes as they come; a promise holds the machine back until it settles. */
export type ByteSink = (chunk: Buffer) => void | Promise<void>;

const LOGIN_NOISE_LIMIT_BYTES = 1024 * 1024;
const DROPPED_LIMIT_BYTES = 256 * 1024 * 1024;

/** A channel with a plain shell on it, past whatever the login start files printed. */
export interface OpenShell {
  readonly channel: Channel;
  /** Bytes that came behind the greeting already. */
  readonly rest: Buffer;
}

/** How to open a shell. */
export interface OpenShellOptions {
  /** What the login shell is asked to run. @default 'exec /bin/sh' */
  readonly shell?: string;
  /** How long it may stay silent. @default 20000 */
  readonly timeoutMs?: number;
  /** As `RemoteHost.open` has it. @default false */
  readonly isOptional?: boolean;
}

/**
 * Opens a plain shell on a machine and skips what a login prints before it (banners, `echo` in a .bashrc).
 * @throws RemoteError when the shell ends or stays silent.
 */
export async function openShell(host: RemoteHost, options: OpenShellOptions = {}): Promise<OpenShell> {
  const { shell = 'exec /bin/sh', timeoutMs = 20_000, isOptional = false } = options;
  const channel = await host.open(shell, { isOptional });
  channel.stdin.on('error', () => {}); // the end of the channel is told by `ended`
  channel.stderr.resume();
  const greeting = `ready-${randomBytes(12).toString('hex')}`;
  // In two parts, so that a shell that echoes its input does not greet us with our own line.
  channel.stdin.write(`printf '%s%s\\n' '${greeting.slice(0, 9)}' '${greeting.slice(9)}'\n`);
  const mark = Buffer.from(`${greeting}\n`);
  let seen = Buffer.alloc(0);
  return await new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      clearTimeout(timer);
      channel.close();
      reject(
        new RemoteError(host.name, 'run', `${host.name}: no shell: ${reason}`, {
          brief: `no shell: ${reason}`,
        }),
      );
    };
    const timer = setTimeout(
      () => fail(`no answer within ${timeoutMs / 1000} s (does the login shell wait for something?)`),
      timeoutMs,
    );
    const onData = (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      const at = seen.indexOf(mark);
      if (at >= 0) {
        clearTimeout(timer);
        channel.stdout.off('data', onData);
        channel.stdout.pause();
        resolve({ channel, rest: seen.subarray(at + mark.length) });
      } else if (seen.length > LOGIN_NOISE_LIMIT_BYTES) {
        fail('the login shell prints without end');
      }
    };
    channel.stdout.on('data', onData);
    void channel.ended.then((end) => {
      fail(
        end.type === 'unknown'
          ? end.reason
          : `the login shell ended at once (${end.type === 'exited' ? `exit ${end.exitCode}` : end.signal})`,
      );
    });
  });
}

interface Request {
  readonly mark: Buffer;
  readonly sink: ByteSink;
  /** Why the sink took no more; the rest of the output is read and dropped, so that the shell stays usable. */
  refusal: Error | undefined;
  droppedBytes: number;
  readonly resolve: (exitCode: number) => void;
  readonly reject: (error: Error) => void;
}

/**
 * A remote shell for requests: a script each, its output as bytes, its exit code. Requests may be sent ahead; they run
 * one after the other. Output of unknown length ends at a random mark that the machine learns with the request.
 */
export class RequestShell implements AsyncDisposable {
  readonly #host: RemoteHost;
  readonly #channel: Channel;
  readonly #waiting: Request[] = [];
  #broken: Error | undefined;

  static async open(host: RemoteHost, options: Omit<OpenShellOptions, 'shell'> = {}): Promise<RequestShell> {
    const { channel, rest } = await openShell(host, options);
    return new RequestShell(host, channel, rest);
  }

  private constructor(host: RemoteHost, channel: Channel, rest: Buffer) {
    this.#host = host;
    this.#channel = channel;
    void this.#read(rest).catch((error: unknown) => this.#break(error as Error));
    void channel.ended.then((end) =>
      this.#break(
        new RemoteError(
          host.name,
          'run',
          `${host.name}: the shell there ended${end.type === 'unknown' ? `: ${end.reason}` : ''}`,
        ),
      ),
    );
  }

  /** The shell is gone, mostly with its connection. */
  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  /**
   * Runs a script and gives its standard output to `sink`. Resolves to its exit code. The script must be complete shell
   * text: a string, or bytes where it holds names that are no UTF-8.
   */
  run(script: string | Buffer, sink: ByteSink = () => {}): Promise<number> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const nonce = randomBytes(16).toString('hex');
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        mark: Buffer.from(`\n${nonce} `),
        sink,
        refusal: undefined,
        droppedBytes: 0,
        resolve,
        reject,
      });
      this.#channel.stdin.write(
        Buffer.concat([
          Buffer.from('{ '),
          Buffer.from(script),
          Buffer.from(`\n} </dev/null\nprintf '\\n%s %d\\n' ${nonce} $?\n`),
        ]),
      );
    });
  }

  /** Runs a script and returns its output as text; at most `limitBytes` of it are accepted. */
  async text(
    script: string | Buffer,
    limitBytes = 1024 * 1024,
  ): Promise<{ readonly exitCode: number; readonly output: string }> {
    const chunks: Buffer[] = [];
    let size = 0;
    const exitCode = await this.run(script, (chunk) => {
      size += chunk.length;
      if (size > limitBytes) {
        throw new RemoteError(
          this.#host.name,
          'run',
          `${this.#host.name}: answered with more than ${limitBytes} bytes`,
        );
      }
      chunks.push(Buffer.from(chunk));
    });
    return { exitCode, output: Buffer.concat(chunks).toString('utf8') };
  }

  close(): void {
    this.#channel.stdin.end();
    this.#channel.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #break(error: Error): void {
    this.#broken ??= error;
    for (const request of this.#waiting.splice(0)) request.reject(this.#broken);
    this.#channel.close();
  }

  async #read(rest: Buffer): Promise<void> {
    let buffer = rest;
    for (;;) {
      buffer = await this.#consume(buffer);
      const next = this.#channel.stdout.read() as Buffer | null; // a byte stream: never an object
      if (next !== null) buffer = buffer.length === 0 ? next : Buffer.concat([buffer, next]);
      else if (this.#channel.stdout.readableEnded || this.#channel.stdout.destroyed) return;
      else await Promise.race([once(this.#channel.stdout, 'readable'), this.#channel.ended]);
    }
  }

  /** Gives away what belongs to the first waiting requests; returns what cannot be told yet. */
  async #consume(buffer: Buffer): Promise<Buffer> {
    let left = buffer;
    for (;;) {
      const request = this.#waiting[0];
      if (request === undefined || left.length === 0) return left;
      const at = left.indexOf(request.mark);
      if (at < 0) {
        // The mark may have come in part: keep that many bytes back.
        const sure = left.length - (request.mark.length - 1);
        if (sure <= 0) return left;
        await this.#give(request, left.subarray(0, sure));
        return left.subarray(sure);
      }
      const lineEnd = left.indexOf(0x0a, at + request.mark.length);
      if (lineEnd < 0) {
        if (left.length - at > request.mark.length + 8)
          throw new Error(`${this.#host.name}: malformed answer`);
        if (at > 0) await this.#give(request, left.subarray(0, at));
        return left.subarray(at);
      }
      if (at > 0) await this.#give(request, left.subarray(0, at));
      const exitCode = Number(left.toString('latin1', at + request.mark.length, lineEnd));
      left = left.subarray(lineEnd + 1);
      this.#waiting.shift();
      if (request.refusal === undefined) request.resolve(exitCode);
      else request.reject(request.refusal);
    }
  }

  async #give(request: Request, chunk: Buffer): Promise<void> {
    if (request.refusal === undefined) {
      try {
        await request.sink(chunk);
      } catch (error) {
        request.refusal = error as Error;
      }
    } else {
      request.droppedBytes += chunk.length;
      if (request.droppedBytes > DROPPED_LIMIT_BYTES) throw request.refusal;
    }
  }
}

/**
 * Runs a script on a channel of its own and feeds it bytes on standard input. The script travels in the command line
 * that the user's login shell reads, whichever that is, so it may hold no quote, backslash, `!` or newline.
 */
export async function runWithInput(
  host: RemoteHost,
  script: string,
  feed: (stdin: Channel['stdin']) => Promise<void>,
  options: OpenOptions = {},
): Promise<{ readonly exitCode: number | undefined; readonly stderr: string }> {
  if (/['\\!\n\r]/.test(script)) throw new Error(`Internal error: unsafe for a login shell: ${script}`);
  const channel = await host.open(`exec /bin/sh -c '${script}'`, options);
  channel.stdout.resume();
  let stderr = '';
  channel.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < 4096) stderr += chunk.toString('utf8');
  });
  channel.stdin.on('error', () => {});
  const feeding = feed(channel.stdin).then(
    () => undefined,
    (error: unknown) => {
      channel.close(); // the program there sees its input break off
      return error as Error;
    },
  );
  const end = await channel.ended;
  channel.close(); // ends a feed that nobody reads any more
  const feedError = await feeding;
  if (feedError !== undefined && end.type === 'exited' && end.exitCode === 0) throw feedError;
  return { exitCode: end.type === 'exited' ? end.exitCode : undefined, stderr: stderr.trim().slice(0, 1000) };
}
