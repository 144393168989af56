/** A small queue in memory behind an sjq door, and clients that speak in bytes. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { SjqOption, SjqQueue } from '../../src/lib/queue/sjq/sjq-queue.ts';
import { visibleText } from '../../src/lib/util/terminal-text.ts';
import { until } from '../rig/until.ts';

const WORDS = ['MEM', 'PROCS', 'DEPENDS', 'STDOUT', 'STDERR', 'ENV', 'CWD', 'NAME', 'UID', 'GID', 'HOLD'];

interface KeptJob {
  readonly options: readonly SjqOption[];
  readonly script: Buffer;
  state: string;
}

/** Keeps jobs, and runs none. */
export class KeptQueue implements SjqQueue {
  readonly jobs = new Map<number, KeptJob>();
  /** Submits wait for it. */
  gate: Promise<void> = Promise.resolve();
  /** What kill, release and status fail with. */
  trouble: Error | undefined;
  /** In place of the lines of all jobs. */
  longStatus: readonly Buffer[] | undefined;
  /** As if something changed all the time: each answer is another array. */
  isChanging = false;
  statusCount = 0;
  submitCount = 0;
  isShutDown = false;
  readonly #mostJobs: number;
  #lastId: number;

  /** The oldest jobs are forgotten when there are more than `mostJobs`. */
  constructor(firstId = 1, mostJobs = Number.POSITIVE_INFINITY) {
    this.#lastId = firstId - 1;
    this.#mostJobs = mostJobs;
  }

  stats(): string {
    return `jobs:${this.jobs.size}`;
  }

  async submit(options: readonly SjqOption[], script: Buffer) {
    this.submitCount++;
    await this.gate;
    const reasons = options
      .filter(({ word }) => !WORDS.includes(word))
      .map(({ word }) => `unknown option ${word}`);
    if (!script.subarray(0, 2).equals(Buffer.from('#!'))) reasons.push('the script does not begin with #!');
    if (reasons.length > 0) return { reasons };
    const id = ++this.#lastId;
    const isHeld = options.some(({ word }) => word === 'HOLD');
    this.jobs.set(id, { options, script, state: isHeld ? 'U' : 'Q' });
    const [oldest] = this.jobs.keys();
    if (this.jobs.size > this.#mostJobs && oldest !== undefined) this.jobs.delete(oldest);
    return { id };
  }

  async kill(id: number): Promise<void> {
    if (this.trouble !== undefined) throw this.trouble;
    const job = this.jobs.get(id);
    if (job !== undefined) job.state = 'K';
  }

  async release(id: number): Promise<void> {
    if (this.trouble !== undefined) throw this.trouble;
    const job = this.jobs.get(id);
    if (job?.state === 'U') job.state = 'Q';
  }

  async status(id?: number): Promise<readonly Buffer[]> {
    this.statusCount++;
    if (this.trouble !== undefined) throw this.trouble;
    if (this.longStatus !== undefined && id === undefined)
      return this.isChanging ? [...this.longStatus] : this.longStatus;
    return [...this.jobs]
      .filter(([known]) => id === undefined || id === known)
      .map(([known, { options, state }]) => {
        const value = (name: string) => visibleText(options.find(({ word }) => word === name)?.value ?? '');
        return Buffer.from(`${known}\t${value('NAME')}\t${state}\t${value('DEPENDS')}\r\n`);
      });
  }

  shutdown(): void {
    this.isShutDown = true;
  }
}

/** A client with nothing between it and the bytes. */
export class RawClient implements Disposable {
  readonly socket: Socket;
  /** The server closed its side. */
  hasEnded = false;
  #held: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#held = Buffer.concat([this.#held, chunk]);
    });
    for (const end of ['end', 'close', 'error'])
      socket.on(end, () => {
        this.hasEnded = true;
      });
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = connect({ path, allowHalfOpen: true });
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }

  /** The next line without its CRLF. */
  async line(): Promise<string> {
    await until(() => this.#held.includes('\r\n') || this.hasEnded, WAIT);
    const end = this.#held.indexOf('\r\n');
    if (end < 0) throw new Error(`no line, but ${JSON.stringify(this.#held.toString())} and the end`);
    const line = this.#held.toString('utf8', 0, end);
    this.#held = this.#held.subarray(end + 2);
    return line;
  }

  async bytes(count: number): Promise<Buffer> {
    await until(() => this.#held.length >= count, WAIT);
    const taken = this.#held.subarray(0, count);
    this.#held = this.#held.subarray(count);
    return taken;
  }

  /** All that comes until the server closes its side. */
  async rest(): Promise<string> {
    await until(() => this.hasEnded, WAIT);
    return this.#held.toString();
  }

  async ask(bytes: string | Buffer): Promise<string> {
    this.send(bytes);
    return this.line();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** Far more than anything takes on a busy machine. */
export const WAIT = { deadlineMs: 20_000, intervalMs: 2 };
