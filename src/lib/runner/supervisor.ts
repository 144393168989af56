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
      /** Files were made or changed, or are to be asked for by name. */
      readonly hasFiles: boolean;
      /** Something that went forward was deleted. */
      readonly hasDeletions: boolean;
    }
  /** It could not be started; or it ended, with that exit code, and could not be completed (a full disk there). */
  | { readonly type: 'failed'; readonly reason: string; readonly exitCode?: number }
  /** Nothing was done, since that part is not there: the same attempt may be started again. */
  | { readonly type: 'lacks'; readonly part: string }
  | { readonly type: 'refused' }
  | { readonly type: 'unstarted' }
  | { readonly type: 'lost' };

/** What a start needs. */
export interface StartCall {
  /** Names of source parts, copied into the job's folder one after the other; none for an empty folder. */
  readonly parts: readonly string[];
  /** Whether copies of the tree may be kept ready: it is one part, with few entries, few bytes and no links. */
  readonly isSmallTree: boolean;
  /**
   * Links to make in the job's folder: where (relative, and nothing may be there yet) and to which absolute path on the
   * machine. Both latin1, a character per byte.
   */
  readonly links: readonly { readonly path: string; readonly target: string }[];
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
  /** Source parts by name. Absolute. */
  readonly trees: string;
  /** Leases on what this batch uses, kept fresh: files `PART.SUFFIX`. Absolute. */
  readonly leases: string;
  readonly leaseSuffix: string;
  /** The command that copies a folder. */
  readonly copyCommand: string;
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
    const settings = {
      R: folders.runs,
      T: folders.trees,
      COPY: folders.copyCommand,
      LEASES: folders.leases,
      LEASE_SUFFIX: folders.leaseSuffix,
    };
    for (const [name, value] of Object.entries(settings)) this.#write(`${name}=${shellQuote(value)}\n`);
    this.#write(`${script}\n`);
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
      `${call.isSmallTree ? 'small:' : ''}${call.parts.join('/')}`,
      exports,
      call.links.map(({ path, target }) => `link ${bytesWord(path)} ${bytesWord(target)} || exit`).join('\n'),
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
        reason: Buffer.from(words.slice(1).join(' '), 'latin1').toString('utf8').slice(0, 1000),
        ...(/^\d+$/.test(words[0] ?? '') && { exitCode: Number(words[0]) }),
      };
    case 'lacks':
      return { type: 'lacks', part: words.join(' ') };
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
        hasDeletions: flags.includes('d'),
      };
    }
    default:
      return undefined;
  }
}

/** A word of bash's for bytes (latin1): what is sent stays ASCII. `'a b'` or `$'\xff'`. */
function bytesWord(bytes: string): string {
  if (/^[\x20-\x7e]*$/.test(bytes)) return shellQuote(bytes);
  const escaped = bytes.replace(
    /[^\x20-\x7e]|['\\]/g,
    (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `$'${escaped}'`;
}
