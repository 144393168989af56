/** Asks a machine what it is and what it has free: one probe over one channel, within a time limit. */
import { randomBytes } from 'node:crypto';
import { StringDecoder } from 'node:string_decoder';
import { RemoteError } from '../domain/errors.ts';
import {
  hasHostFacts,
  isProbeComplete,
  type ProbedMachine,
  ProbeError,
  parseProbe,
  probeScript,
} from '../machine/probe.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import type { Channel, ChannelEnd, RemoteHost } from './remote-host.ts';

// Some 200 bytes for each process of our own jobs, of which there may be thousands.
const MOST_OUTPUT_LENGTH = 4 * 1024 * 1024;
const KEPT_STDERR_LENGTH = 4096;
// The rest of the time is for the channel, the login shell's start files and the answer.
const GPU_SHARE_OF_TIMEOUT = 0.7;

/** How to ask. */
export interface QueryOptions {
  /** How long the machine may take for the whole answer. @default 10000 */
  readonly timeoutMs?: number;
  /** The time over which CPU use is measured. @default 250 */
  readonly cpuIntervalMs?: number;
  /** Id of the batch (12 hex digits) whose jobs' use is told apart, as `ownUse`. @default none is looked for */
  readonly ownBatch?: string;
  /** The controller's clock, epoch milliseconds. @default Date.now */
  readonly now?: () => number;
}

/**
 * Asks a machine once. A machine whose nvidia-smi hangs is answered for without GPUs and with a warning.
 * @throws RemoteError of stage `query` when there is no whole answer in time or jobs cannot run there; the message is a
 * reason and does not name the machine.
 */
export async function queryMachine(host: RemoteHost, options: QueryOptions = {}): Promise<ProbedMachine> {
  const { timeoutMs = 10_000, cpuIntervalMs = 250, ownBatch, now = Date.now } = options;
  const nonce = randomBytes(12).toString('hex');
  const script = probeScript({
    nonce,
    cpuIntervalMs,
    gpuTimeoutMs: timeoutMs * GPU_SHARE_OF_TIMEOUT,
    ...(ownBatch === undefined ? {} : { ownBatch }),
  });
  const fail = (reason: string, cause?: unknown) => new RemoteError(host.name, 'query', reason, { cause });

  const answer = new Answer(nonce);
  const end = await answer.collect(host, script, timeoutMs);
  if (!answer.isComplete && end !== 'complete') {
    if (end === 'too-long') throw fail('its answer to the probe is longer than 4 MiB');
    if (end !== 'timeout') throw fail(`the probe ended early: ${describeEnd(end)}${answer.lastComplaint}`);
    if (!answer.hasHostFacts) throw fail(`no answer within ${timeoutMs / 1000} s${answer.timeoutHint}`);
  }
  const probed = readProbe(answer.text, { takenAt: now(), nonce }, fail);
  const [missing] = probed.tools.missing;
  if (missing !== undefined) {
    throw fail(
      `found no ${probed.tools.missing.join(', no ')} there, expected bash, setsid and tar: jobs need them`,
    );
  }
  return probed;
}

function readProbe(
  text: string,
  options: { takenAt: number; nonce: string },
  fail: (reason: string, cause: unknown) => RemoteError,
): ProbedMachine {
  try {
    return parseProbe(text, options);
  } catch (error) {
    throw error instanceof ProbeError ? fail(error.message, error) : error;
  }
}

type AnswerEnd = 'complete' | 'timeout' | 'too-long' | ChannelEnd;

/** What came back so far. */
class Answer {
  readonly #nonce: string;
  #text = '';
  #stderr = '';
  #isOpen = false;

  constructor(nonce: string) {
    this.#nonce = nonce;
  }

  get text(): string {
    return this.#text;
  }

  get isComplete(): boolean {
    return isProbeComplete(this.#text, this.#nonce);
  }

  get hasHostFacts(): boolean {
    return hasHostFacts(this.#text, this.#nonce);
  }

  /** What the machine last wrote on standard error, to follow a reason. */
  get lastComplaint(): string {
    const line = this.#stderr.trim().split('\n').at(-1) ?? '';
    return line === '' ? '' : ` (${cutToWidth(visibleText(line), 200)})`;
  }

  /** What to look at when no answer came. */
  get timeoutHint(): string {
    if (!this.#isOpen) return ': the machine opens no channel';
    const hasBegun = this.#text.includes(`@@${this.#nonce}`);
    return hasBegun ? ': the probe began but did not end' : ': does its login shell wait for something?';
  }

  /** Rejects only when the channel cannot be opened; that is the host's error. */
  async collect(host: RemoteHost, script: string, timeoutMs: number): Promise<AnswerEnd> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<'timeout'>((resolve) => {
      timer = setTimeout(() => resolve('timeout'), timeoutMs);
    });
    const opening = host.open('exec /bin/sh');
    try {
      const channel = await Promise.race([opening, timeout]);
      if (channel === 'timeout') {
        // It may still open; nobody waits for it any more.
        void opening.then((late) => late.close()).catch(() => undefined);
        return channel;
      }
      this.#isOpen = true;
      try {
        return await Promise.race([this.#read(channel, script), timeout]);
      } finally {
        channel.close();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async #read(channel: Channel, script: string): Promise<AnswerEnd> {
    const decoder = new StringDecoder('utf8');
    channel.stdin.on('error', () => undefined); // the end of the channel tells more
    const whole = new Promise<'complete' | 'too-long'>((resolve) => {
      channel.stdout.on('data', (chunk: Buffer) => {
        if (this.#text.length > MOST_OUTPUT_LENGTH) return;
        this.#text += decoder.write(chunk);
        if (this.isComplete) resolve('complete');
        else if (this.#text.length > MOST_OUTPUT_LENGTH) resolve('too-long');
      });
    });
    channel.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-KEPT_STDERR_LENGTH);
    });
    channel.stdin.end(script);
    return await Promise.race([whole, channel.ended]);
  }
}

function describeEnd(end: ChannelEnd): string {
  switch (end.type) {
    case 'exited':
      return `the login shell exited ${end.exitCode}`;
    case 'signalled':
      return `the login shell was ended by ${visibleText(end.signal)}`;
    case 'unknown':
      return end.reason;
  }
}
