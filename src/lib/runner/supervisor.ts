/**
 * Our end of the supervisor (supervisor.sh): sends it calls, understands what it says. It knows folders and numbers,
 * not jobs; a connection that goes away ends it, and `ended` tells.
 */
import { readFileSync } from 'node:fs';
import type { RemoteHost } from '../remote/remote-host.ts';
import { openShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';

/** Names an attempt on its machine: the job's folder and the attempt's number. */
export interface AttemptPlace {
  readonly folder: string;
  readonly number: number;
}

/** What the supervisor says of an attempt. Uptimes are seconds on the machine's own clock. */
export type AttemptReport =
  | { readonly type: 'started' }
  | {
      readonly type: 'ended';
      readonly exitCode: number;
      readonly durationMs: number;
      readonly leftBehind: number;
      readonly hasOutput: boolean;
      readonly hasErrors: boolean;
      readonly hasFiles: boolean;
    }
  | { readonly type: 'failed'; readonly reason: string }
  | { readonly type: 'refused' }
  | { readonly type: 'unstarted' }
  | { readonly type: 'lost' };

/** What a start needs. */
export interface StartCall {
  /** Name of the source tree to work in a copy of; empty for an empty folder. */
  readonly tree: string;
  /** Whether copies of the tree may be kept ready. */
  readonly isSmallTree: boolean;
  /** Variables set for this job alone. */
  readonly env: Readonly<Record<string, string>>;
  /** Kept beside the job, so that another controller can count it. */
  readonly request: unknown;
  /** What bash runs. */
  readonly script: string;
  /** Which files will be asked for when it has ended. */
  readonly back: 'changed' | 'named' | 'none';
}

/** Where things are on the machine, and what its tools can do. */
export interface MachineFolders {
  /** This batch's runs. Absolute. */
  readonly runs: string;
  /** Source trees by name. Absolute. */
  readonly trees: string;
  /** The command that copies a tree. */
  readonly copyCommand: string;
  /** `-cnewer`, or `-newer` where find has no other. */
  readonly newerTest: string;
}

/** Whether a GPU's memory came back: free, or what is still held. */
export type GpuWaitResult =
  | { readonly type: 'free' }
  /** Nobody answered. */
  | { readonly type: 'unknown' }
  | { readonly type: 'held'; readonly gpu: number; readonly freeMiB: number };

const script = readFileSync(new URL('./supervisor.sh', import.meta.url), 'utf8');
// What sshd sets for our own session means nothing to a job.
const SESSION_OF_SSHD = 'SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_ORIGINAL_COMMAND SSH_AUTH_SOCK';
// A machine must not be able to fill our memory with one line.
const LINE_LIMIT = 64 * 1024;

/** One supervisor on one machine. */
export class Supervisor {
  /** Settles with the reason when it is gone. Its jobs run on. */
  readonly ended: Promise<string>;
  readonly #write: (text: string | Buffer) => void;
  readonly #close: () => void;
  readonly #gpuWaits = new Map<string, (result: GpuWaitResult) => void>();
  #tokens = 0;
  #isGone = false;
  #isOver = false;

  /** Starts a supervisor. `onReport` hears of every attempt that it starts or adopts. */
  static async open(
    host: RemoteHost,
    folders: Promise<MachineFolders>,
    onReport: (place: AttemptPlace, report: AttemptReport) => void,
  ): Promise<Supervisor> {
    // The login shell waits for it and says so when it is killed: its jobs hold the channel open for as long as they run.
    const { channel, rest } = await openShell(host, { shell: 'bash --norc --noprofile; echo gone' });
    try {
      return new Supervisor(channel, rest, await folders, onReport);
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  private constructor(
    channel: Awaited<ReturnType<typeof openShell>>['channel'],
    rest: Buffer,
    folders: MachineFolders,
    onReport: (place: AttemptPlace, report: AttemptReport) => void,
  ) {
    this.#write = (text) => void channel.stdin.write(text);
    this.#close = () => {
      channel.stdin.end();
      channel.close();
    };
    this.ended = channel.ended.then((end) => {
      this.#isOver = true;
      for (const settle of this.#gpuWaits.values()) settle({ type: 'unknown' });
      return end.type === 'unknown' && !this.#isGone ? end.reason : 'the supervisor ended';
    });
    this.#write(
      `R=${shellQuote(folders.runs)}\nT=${shellQuote(folders.trees)}\nCOPY=${shellQuote(folders.copyCommand)}\nNEWER=${shellQuote(folders.newerTest)}\n${script}\n`,
    );
    let pending = rest.toString('latin1');
    const take = (text: string) => {
      pending += text;
      let from = 0;
      for (let at = pending.indexOf('\n'); at >= 0; at = pending.indexOf('\n', from)) {
        this.#hear(pending.slice(from, at), onReport);
        from = at + 1;
      }
      pending = pending.slice(from);
      if (pending.length > LINE_LIMIT) this.#close();
    };
    take('');
    channel.stdout.on('data', (chunk: Buffer) => take(chunk.toString('latin1')));
    channel.stdout.resume(); // it was paused behind the greeting
  }

  /** Sets the environment that every job started from now on gets before its own. */
  setJobEnvironment(exports: Buffer): void {
    this.#write(
      Buffer.concat([Buffer.from(`job_env() {\nunset ${SESSION_OF_SSHD}\n`), exports, Buffer.from('\n}\n')]),
    );
  }

  /** Starts an attempt, unless somebody else has. */
  start(place: AttemptPlace, call: StartCall): void {
    const exports = Object.entries(call.env)
      .map(([name, value]) => `export ${name}=${shellQuote(value)}`)
      .join('\n');
    const words = [
      place.folder,
      String(place.number),
      call.isSmallTree ? `small:${call.tree}` : call.tree,
      exports,
      JSON.stringify(call.request),
      call.script,
      call.back,
    ];
    this.#write(`job ${words.map(shellQuote).join(' ')} end\n`);
  }

  /** Watches an attempt that another supervisor started; one that never started is kept from ever starting. */
  adopt(place: AttemptPlace): void {
    this.#write(`adopt ${shellQuote(place.folder)} ${place.number} end\n`);
  }

  /** Ends an attempt's processes: TERM, and after the grace KILL. */
  cancel(place: AttemptPlace, graceMs: number): void {
    this.#write(`cancel ${shellQuote(place.folder)} ${place.number} ${Math.ceil(graceMs / 100)} end\n`);
  }

  /** Waits until each GPU has so much memory free again, at most `timeoutMs`. */
  waitForGpuMemory(
    wanted: readonly { readonly gpu: number; readonly freeMiB: number }[],
    timeoutMs: number,
  ): Promise<GpuWaitResult> {
    if (this.#isOver) return Promise.resolve({ type: 'unknown' });
    const token = String(++this.#tokens);
    const list = wanted.map(({ gpu, freeMiB }) => `${gpu}:${Math.floor(freeMiB)}`).join(' ');
    return new Promise((resolve) => {
      this.#gpuWaits.set(token, resolve);
      this.#write(`gpu_wait ${token} ${Math.ceil(timeoutMs / 1000)} end ${list}\n`);
    });
  }

  /** Lets the supervisor end. Jobs run on. */
  close(): void {
    this.#close();
  }

  #hear(line: string, onReport: (place: AttemptPlace, report: AttemptReport) => void): void {
    const words = line.split(' ');
    const [verb, first = '', second = ''] = words;
    if (verb === 'gone') {
      this.#isGone = true;
      this.#close();
      return;
    }
    if (verb === 'gpu-free' || verb === 'gpu-held') {
      const settle = this.#gpuWaits.get(first);
      this.#gpuWaits.delete(first);
      settle?.(
        verb === 'gpu-free'
          ? { type: 'free' }
          : { type: 'held', gpu: Number(second), freeMiB: Number(words[3]) || 0 },
      );
      return;
    }
    const report = reportOf(verb, words.slice(3));
    const number = Number(second);
    if (report !== undefined && Number.isSafeInteger(number)) onReport({ folder: first, number }, report);
  }
}

function reportOf(verb: string | undefined, words: readonly string[]): AttemptReport | undefined {
  switch (verb) {
    case 'started':
    case 'refused':
    case 'unstarted':
    case 'lost':
      return { type: verb };
    case 'failed':
      return {
        type: 'failed',
        reason: Buffer.from(words.join(' '), 'latin1').toString('utf8').slice(0, 1000),
      };
    case 'ended': {
      const [code, began, end, left, flags = ''] = words;
      const exitCode = Number(code);
      const durationMs = Math.round((Number(end) - Number(began)) * 1000);
      if (!Number.isInteger(exitCode) || !Number.isFinite(durationMs)) return undefined;
      return {
        type: 'ended',
        exitCode,
        durationMs: Math.max(0, durationMs),
        leftBehind: Number(left) || 0,
        hasOutput: flags.includes('o'),
        hasErrors: flags.includes('e'),
        hasFiles: flags.includes('w'),
      };
    }
    default:
      return undefined;
  }
}
