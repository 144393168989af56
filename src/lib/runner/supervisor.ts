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

/** One text for a place, to find it by. */
export function placeText({ folder, number }: AttemptPlace): string {
  return `${folder}/${number}`;
}

/** What the supervisor says of an attempt. Uptimes are seconds on the machine's own clock. */
export type AttemptReport =
  /** `agoMs`: how long ago, when it is adopted. */
  | { readonly type: 'started'; readonly agoMs: number }
  | {
      readonly type: 'ended';
      readonly exitCode: number;
      readonly durationMs: number;
      /** How long ago it ended, when it is adopted after that. */
      readonly agoMs: number;
      /** What ended it, besides itself: its time limit, or somebody who asked for its end. */
      readonly endedBy?: 'timeout' | 'cancel';
      /** The kernel killed processes for want of memory meanwhile: in the job's own cgroup, else somewhere on the machine. */
      readonly oomKills?: 'in job' | 'on machine';
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
  /** It ended without an exit record: `rebooted`, its machine was started anew meanwhile. */
  | { readonly type: 'lost'; readonly because: 'rebooted' | 'wrapper gone' };

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
  /** How long it may run: kept on the machine, also without us. @default no limit */
  readonly timeoutMs?: number;
  /** How long it has from TERM to KILL then. */
  readonly killGraceMs: number;
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
  /** Whether the batch's controller is behind it: noted beside the jobs, so that others see that it is there. @default false */
  readonly isController?: boolean;
}

/** Whether a GPU's memory came back: free, or what is still held. */
export type GpuWaitResult =
  | { readonly type: 'free' }
  /** Nobody answered. */
  | { readonly type: 'unknown' }
  | { readonly type: 'held'; readonly gpu: number; readonly freeMiB: number };

const script = readFileSync(new URL('./supervisor.sh', import.meta.url), 'utf8');
/**
 * bash starts itself anew inside a scope of the user's systemd, where that lasts: without lingering all such scopes end
 * with the user's last login. It is tried first, since there is no way back.
 */
const ENTER_SCOPE = `if [ -f "\${LINGER_FOLDER:-/var/lib/systemd/linger}/\${USER:-$LOGNAME}" ] && [ -z "$SSH_SCHEDULER_SCOPE" ]; then
scope='systemd-run --user --scope --quiet --property=Delegate=yes'
if timeout -s KILL 5 $scope true </dev/null >/dev/null 2>&1; then SSH_SCHEDULER_SCOPE=1 exec $scope bash --norc --noprofile; fi
fi
`;
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
  /** The attempts that were started here and not told of yet. */
  readonly #starting = new Set<string>();
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
      CONTROLLER: folders.isController === true ? '1' : '',
    };
    this.#write(ENTER_SCOPE);
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
      .map(([name, value]) => {
        // It becomes shell text: whoever let another name through would have it run there.
        if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
          throw new Error(`Internal error: ${JSON.stringify(name)} is no variable's name`);
        return `export ${name}=${shellQuote(value)}`;
      })
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
      call.timeoutMs === undefined ? '' : String(tenths(call.timeoutMs)),
      String(tenths(call.killGraceMs)),
    ];
    this.#starting.add(placeText(place));
    this.#write(`job ${words.map(shellQuote).join(' ')} end\n`);
  }

  /** Watches an attempt that another supervisor started; one that never started is kept from ever starting. */
  adopt(place: AttemptPlace): void {
    this.#write(`adopt ${shellQuote(place.folder)} ${place.number} end\n`);
  }

  /** Ends an attempt's processes: TERM, and after the grace KILL. */
  cancel(place: AttemptPlace, graceMs: number): void {
    const stage = this.#starting.has(placeText(place)) ? 'starting' : 'begun';
    this.#write(`cancel ${shellQuote(place.folder)} ${place.number} ${tenths(graceMs)} ${stage} end\n`);
  }

  /**
   * Ends an attempt's processes as `cancel` does, since it has run for too long: its report says so. One that does not
   * run is left as it is.
   */
  expire(place: AttemptPlace, graceMs: number): void {
    this.#write(`expire ${shellQuote(place.folder)} ${place.number} ${tenths(graceMs)} end\n`);
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
    if (report === undefined || !Number.isSafeInteger(number)) return;
    const place = { folder: first, number };
    this.#starting.delete(placeText(place));
    onReport(place, report);
  }
}

function reportOf(verb: string | undefined, words: readonly string[]): AttemptReport | undefined {
  switch (verb) {
    case 'refused':
    case 'unstarted':
      return { type: verb };
    case 'started':
      return { type: 'started', agoMs: agoMs(words[0]) };
    case 'lost':
      return { type: 'lost', because: words[0] === 'rebooted' ? 'rebooted' : 'wrapper gone' };
    case 'failed':
      return {
        type: 'failed',
        reason: Buffer.from(words.slice(1).join(' '), 'latin1').toString('utf8').slice(0, 1000),
        ...(/^\d+$/.test(words[0] ?? '') && { exitCode: Number(words[0]) }),
      };
    case 'lacks':
      return { type: 'lacks', part: words.join(' ') };
    case 'ended': {
      const [code = '', began, end, left = '', flags = '', ago] = words;
      const durationMs = Math.round((Number(end) - Number(began)) * 1000);
      if (!/^\d{1,3}$/.test(code) || !Number.isFinite(durationMs)) return undefined;
      const oomKills = flags.includes('k') ? 'in job' : flags.includes('K') ? 'on machine' : undefined;
      // A time limit is noted only where nobody had asked for the end before.
      const endedBy = flags.includes('t') ? 'timeout' : flags.includes('c') ? 'cancel' : undefined;
      return {
        type: 'ended',
        exitCode: Number(code),
        durationMs: Math.max(0, durationMs),
        agoMs: agoMs(ago),
        ...(endedBy !== undefined && { endedBy }),
        ...(oomKills !== undefined && { oomKills }),
        leftBehind: /^\d{1,7}$/.test(left) ? Number(left) : 0,
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

/** Whole seconds, as milliseconds; a clock that was set back may say less than none. */
function agoMs(seconds = ''): number {
  return /^\d{1,12}$/.test(seconds) ? Number(seconds) * 1000 : 0;
}

/** A time for the script: rounded up, at most about 30 years, so that it stays a plain number. */
function tenths(ms: number): number {
  return Math.min(Math.max(0, Math.ceil(ms / 100)), 1e10);
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
