/** A command that runs on a machine, over a channel of its own: past what the login prints, with its output, its end. */
import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { RemoteError } from '../domain/errors.ts';
import type { Channel, ChannelEnd, RemoteHost } from '../remote/remote-host.ts';
import { RequestShell } from '../remote/remote-shell.ts';
import { visibleText } from '../util/terminal-text.ts';
import type { Left } from './host-result.ts';
import {
  type CommandProcess,
  type CommandStart,
  endScript,
  readLeft,
  readProcess,
  startLine,
  waitingShell,
} from './remote-command.ts';

/** How to wait for a shell. */
export interface CommandShellOptions {
  /** How long a login shell may take. */
  readonly timeoutMs: number;
  readonly onOutput: (stream: 'out' | 'err', chunk: Buffer) => void;
}

const LOGIN_NOISE_LIMIT_BYTES = 1024 * 1024;
/** How long the shell that ends a command may take beside the time that it gives the command. */
const END_TIMEOUT_MS = 15_000;

/** How long an end may take. */
export interface EndLimits {
  /** From TERM to KILL. */
  readonly killGraceMs: number;
  /** What a login may take at least. */
  readonly connectTimeoutMs: number;
}

/** A shell that waits for its command and then becomes it. */
export class CommandChannel {
  readonly #channel: Channel;
  readonly #mark: string;
  readonly #process: CommandProcess;

  /**
   * Opens the shell; nothing runs there before `begin`.
   * @throws RemoteError when there is none: the login shell ends, hangs or prints without end.
   */
  static async open(host: RemoteHost, options: CommandShellOptions): Promise<CommandChannel> {
    const mark = randomBytes(12).toString('hex');
    const channel = await host.open(waitingShell(mark));
    channel.stdin.on('error', () => {}); // the end of the channel is told by `ended`
    try {
      return new CommandChannel(channel, mark, await passLogin(host, channel, mark, options));
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  private constructor(channel: Channel, mark: string, process: CommandProcess) {
    this.#channel = channel;
    this.#mark = mark;
    this.#process = process;
  }

  /**
   * Begins the command. `input` goes to its standard input; without it that is empty. An input that fails never ends:
   * a command must not take a part of it for all.
   */
  begin(start: CommandStart, input: Readable | undefined, onInputError: (error: Error) => void): void {
    const { stdin } = this.#channel;
    stdin.write(startLine(this.#mark, start));
    if (input === undefined) {
      stdin.end();
      return;
    }
    // Input goes there as fast as the command takes it. What it has not read at its end is nobody's.
    input.on('error', onInputError);
    stdin.on('close', () => input.destroy());
    if (stdin.destroyed)
      input.destroy(); // it has ended already
    else input.pipe(stdin);
  }

  /** How it ended, after all of its output. Never rejects. */
  get ended(): Promise<ChannelEnd> {
    return this.#channel.ended;
  }

  /**
   * Ends it with its descendants, over another channel of the connection, or over another connection where that has no
   * room or is gone. Never rejects.
   */
  async end(
    host: RemoteHost,
    connect: () => Promise<RemoteHost>,
    { killGraceMs, connectTimeoutMs }: EndLimits,
  ): Promise<Left> {
    const script = endScript(this.#mark, this.#process, killGraceMs);
    const limits = { killGraceMs, shellMs: Math.max(END_TIMEOUT_MS, connectTimeoutMs) };
    try {
      return await askLeft(host, script, limits);
    } catch {
      try {
        await using other = await connect();
        return await askLeft(other, script, limits);
      } catch (error) {
        return { unknown: (error as Error).message };
      }
    }
  }

  /** Reads no more of its output until `resume`. */
  pause(): void {
    this.#channel.stdout.pause();
    this.#channel.stderr.pause();
  }

  resume(): void {
    this.#channel.stdout.resume();
    this.#channel.stderr.resume();
  }

  /** Hears nothing more of it. */
  close(): void {
    this.#channel.close();
  }
}

async function askLeft(
  host: RemoteHost,
  script: string,
  { killGraceMs, shellMs }: { readonly killGraceMs: number; readonly shellMs: number },
): Promise<Left> {
  const shell = await RequestShell.open(host, { timeoutMs: shellMs, isOptional: true });
  const timer = setTimeout(() => shell.close(), killGraceMs + END_TIMEOUT_MS);
  try {
    const { output } = await shell.text(script, 65_536);
    const left = readLeft(output);
    if (left === undefined) throw new RemoteError(host.name, 'run', 'the machine does not say what is left');
    return left === 0 ? 'nothing' : { processes: left };
  } finally {
    clearTimeout(timer);
    shell.close();
  }
}

/** Drops what a login prints on both streams, up to the mark; what follows goes to `onOutput`. */
function passLogin(
  host: RemoteHost,
  channel: Channel,
  mark: string,
  { timeoutMs, onOutput }: CommandShellOptions,
): Promise<CommandProcess> {
  return new Promise((resolve, reject) => {
    const noise = { out: new Noise(mark), err: new Noise(mark) };
    let isOver = false;
    const fail = (reason: string) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      const said = noise.err.lastLine || noise.out.lastLine;
      const full = said === '' ? reason : `${reason}; it said: ${said}`;
      reject(new RemoteError(host.name, 'run', `no shell: ${full}`, { brief: `no shell: ${reason}` }));
    };
    const timer = setTimeout(
      () => fail(`no answer within ${timeoutMs / 1000} s (does the login shell wait for something?)`),
      timeoutMs,
    );
    const take = (stream: 'out' | 'err') => (chunk: Buffer) => {
      const before = noise[stream];
      if (before.isPassed) return onOutput(stream, chunk);
      const rest = before.take(chunk);
      if (before.isEndless) return fail('the login shell prints without end');
      if (rest === undefined) return;
      if (stream === 'out' && !isOver) {
        const process = readProcess(before.markLine);
        if (process === undefined) return fail('the machine does not say which process the command is');
        isOver = true;
        clearTimeout(timer);
        resolve(process);
      }
      if (rest.length > 0) onOutput(stream, rest);
    };
    channel.stdout.on('data', take('out'));
    channel.stderr.on('data', take('err'));
    void channel.ended.then((end) => {
      if (end.type === 'unknown') fail(end.reason);
      else
        fail(
          `the login shell ended at once (${end.type === 'exited' ? `exit ${end.exitCode}` : end.signal})`,
        );
    });
  });
}

/** What a stream holds up to the line with the mark. */
class Noise {
  isPassed = false;
  /** What stands behind the mark on its line. */
  markLine = '';
  readonly #mark: Buffer;
  #seen = Buffer.alloc(0);

  constructor(mark: string) {
    this.#mark = Buffer.from(`\n${mark}`);
  }

  get isEndless(): boolean {
    return !this.isPassed && this.#seen.length > LOGIN_NOISE_LIMIT_BYTES;
  }

  /** The last line that was said, for people. */
  get lastLine(): string {
    const lines = this.#seen
      .toString('utf8', Math.max(0, this.#seen.length - 400))
      .trim()
      .split('\n');
    return visibleText(lines.at(-1) ?? '');
  }

  /** Returns what follows the line with the mark, once that is there. */
  take(chunk: Buffer): Buffer | undefined {
    this.#seen = Buffer.concat([this.#seen, chunk]);
    const at = this.#seen.indexOf(this.#mark);
    const lineEnd = at < 0 ? -1 : this.#seen.indexOf(0x0a, at + 1);
    if (lineEnd < 0) return undefined;
    this.isPassed = true;
    this.markLine = this.#seen.toString('latin1', at + this.#mark.length, lineEnd);
    const rest = this.#seen.subarray(lineEnd + 1);
    this.#seen = Buffer.alloc(0);
    return rest;
  }
}
