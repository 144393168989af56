/** One command on one of many machines, from the connection to the end. */
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { SourceTree } from '../files/source-part.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import { connectMachine } from '../remote/connect.ts';
import type { ChannelEnd, RemoteHost } from '../remote/remote-host.ts';
import type { SshOptions } from '../remote/ssh-host.ts';
import { CommandChannel } from './command-channel.ts';
import type { HostFolder } from './host-folder.ts';
import type { FanoutEvent, HostOutcome, HostResult, HostState, Left, Reason } from './host-result.ts';
import type { HostResults } from './host-results.ts';
import type { InputSpool } from './input-spool.ts';

/** What is the same on all machines. */
export interface HostRunContext {
  /** Names this call: hex digits. */
  readonly id: string;
  readonly command: string;
  readonly ssh: SshOptions;
  /** For the connection and login of each hop, and for the shell after that. */
  readonly connectTimeoutMs: number;
  /** How long the command may run. */
  readonly timeoutMs: number | undefined;
  /** From TERM to KILL. */
  readonly killGraceMs: number;
  /** Of each stream, kept for the result. */
  readonly keepBytes: number;
  readonly input: InputSpool | undefined;
  /** Undefined when nothing goes there or comes home. */
  readonly files:
    | {
        readonly tree: SourceTree;
        readonly back: readonly string[];
        /** Undefined when nothing comes home. */
        readonly results: HostResults | undefined;
      }
    | undefined;
  readonly publish: (event: FanoutEvent) => void;
  readonly now: () => number;
}

/** Why it is ended before it is done. */
type EndCause = { readonly type: 'timed-out' } | { readonly type: 'cancelled'; readonly reason: string };

/** How long the output may stay open after the command's processes are gone. */
const CLOSE_TIMEOUT_MS = 2_000;

/** A command on one machine. */
export class HostRun {
  readonly #entry: MachineEntry;
  readonly #context: HostRunContext;
  readonly #kept: { readonly out: Kept; readonly err: Kept };
  readonly #printedBytes = { out: 0, err: 0 };
  #state: HostState | undefined;
  #stateSince = 0;
  #startedAt: number | undefined;
  #fetchedFiles = 0;
  #host: RemoteHost | undefined;
  #folder: HostFolder | undefined;
  /** The command, from its beginning to its end. */
  #running: CommandChannel | undefined;
  #channel: CommandChannel | undefined;
  #isPaused = false;
  #cause: EndCause | undefined;
  /** Why all was called off, also after a time limit. */
  #cancelled: string | undefined;
  /** Breaks off what goes there or comes home. */
  readonly #transfers = new AbortController();
  #left: Promise<Left> | undefined;
  /** Ends the wait for whatever comes before the command. */
  #giveUp: () => void = () => {};

  constructor(entry: MachineEntry, context: HostRunContext) {
    this.#entry = entry;
    this.#context = context;
    this.#kept = { out: new Kept(context.keepBytes), err: new Kept(context.keepBytes) };
  }

  get machine(): MachineName {
    return this.#entry.config.name;
  }

  /** What it is doing, and since when (epoch milliseconds); undefined before it began and after its end. */
  get state(): { readonly state: HostState; readonly since: number } | undefined {
    return this.#state === undefined ? undefined : { state: this.#state, since: this.#stateSince };
  }

  /** Runs it. Never rejects: whatever happens is the result. */
  async run(): Promise<HostResult> {
    const outcome = await this.#live();
    if (this.#folder !== undefined) {
      this.#enter('ending');
      await this.#folder.remove();
      this.#folder.close();
    }
    await this.#host?.close();
    this.#state = undefined;
    const endedAt = this.#context.now();
    const result: HostResult = {
      machine: this.machine,
      outcome,
      ...(this.#startedAt !== undefined && { startedAt: this.#startedAt }),
      endedAt,
      printedBytes: { ...this.#printedBytes },
      stdout: this.#kept.out.bytes,
      stderr: this.#kept.err.bytes,
      fetchedFiles: this.#fetchedFiles,
    };
    this.#context.publish({ type: 'host:ended', at: endedAt, result });
    return result;
  }

  /** Ends it, wherever it is. What is ending already ends as it does. */
  cancel(reason: string): void {
    if (this.#cause?.type === 'cancelled') return;
    this.#cancelled = reason;
    this.#cause ??= { type: 'cancelled', reason };
    this.#giveUp();
    this.#transfers.abort(new Error(reason));
    if (this.#running !== undefined) void this.#end(this.#running);
  }

  /** Takes no more of what the command prints until `resumeOutput`; the command waits when it prints on. */
  pauseOutput(): void {
    this.#isPaused = true;
    this.#channel?.pause();
  }

  resumeOutput(): void {
    this.#isPaused = false;
    this.#channel?.resume();
  }

  async #live(): Promise<HostOutcome> {
    const { files } = this.#context;
    try {
      this.#enter('connecting');
      const host = await this.#orGivenUp(
        () => this.#connect(),
        (late) => void late.close(),
      );
      if (host === 'given up') return this.#notStarted();
      this.#host = host;
      if (files !== undefined) {
        this.#enter('sending');
        if (this.#cause !== undefined) return this.#notStarted();
        // Not given up: broken off, it clears away what it has made there.
        this.#folder = await this.#openFolder(host, files.tree);
        // Where programs are few, its channel is needed for the command; what is asked of it later opens it again.
        this.#folder.close();
      }
      const shell = await this.#orGivenUp(
        () => this.#openShell(host),
        (late) => late.close(),
      );
      if (shell === 'given up') return this.#notStarted();
      this.#enter('running');
      if (this.#cause !== undefined) {
        shell.close();
        return this.#notStarted();
      }
      this.#begin(shell);
      return await this.#finish(shell);
    } catch (error) {
      if (this.#cause !== undefined) return this.#notStarted();
      const reason = this.#reasonOf(error);
      if (error instanceof RemoteError && error.stage === 'send') {
        return { type: 'transfer-failed', stage: 'send', reason };
      }
      return { type: 'unreachable', reason };
    }
  }

  /** From the beginning of the command to the end of all. Never rejects. */
  async #finish(running: CommandChannel): Promise<HostOutcome> {
    const outcome = await this.#follow(running);
    this.#running = undefined; // there is nothing to end any more
    const isOver =
      outcome.type === 'exited' ||
      outcome.type === 'signalled' ||
      (outcome.type === 'timed-out' && outcome.left === 'nothing');
    return isOver ? await this.#fetch(outcome) : outcome;
  }

  #connect(): Promise<RemoteHost> {
    const { ssh, connectTimeoutMs, publish } = this.#context;
    const { machine } = this;
    return connectMachine(this.#entry, {
      ssh: {
        ...ssh,
        connectTimeoutMs,
        onNewHostKey: (message) => publish({ type: 'host:new-key', machine, message }),
      },
    });
  }

  async #openFolder(host: RemoteHost, tree: SourceTree): Promise<HostFolder> {
    const { HostFolder } = await import('./host-folder.ts'); // archives are loaded by those who send some
    const { remoteDir, cacheLimitMiB } = this.#entry.config;
    const { id, connectTimeoutMs } = this.#context;
    const { signal } = this.#transfers;
    return await HostFolder.open(host, {
      remoteDir,
      cacheLimitMiB,
      id,
      tree,
      signal,
      timeoutMs: connectTimeoutMs,
    });
  }

  #openShell(host: RemoteHost): Promise<CommandChannel> {
    return CommandChannel.open(host, {
      timeoutMs: this.#context.connectTimeoutMs,
      onOutput: (stream, chunk) => this.#take(stream, chunk),
    });
  }

  #begin(shell: CommandChannel): void {
    const { command, input, now } = this.#context;
    const { setup, env, name } = this.#entry.config;
    const folder = this.#folder?.work;
    this.#startedAt = now();
    this.#running = shell;
    this.#channel = shell;
    if (this.#isPaused) shell.pause();
    const start = { command, setup, env: { ...env, MACHINE_NAME: name }, folder };
    shell.begin(start, input?.open(), (error) => this.cancel(error.message));
  }

  #take(stream: 'out' | 'err', chunk: Buffer): void {
    this.#printedBytes[stream] += chunk.length;
    this.#kept[stream].take(chunk);
    this.#context.publish({ type: 'host:output', machine: this.machine, stream, chunk });
  }

  /** The command's end, by itself or by us. */
  async #follow(running: CommandChannel): Promise<HostOutcome> {
    const { timeoutMs } = this.#context;
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            this.#cause ??= { type: 'timed-out' };
            void this.#end(running);
          }, timeoutMs);
    const end = await running.ended;
    clearTimeout(timer);
    const left = await this.#left;
    if (this.#cause === undefined || left === undefined) return outcomeOf(end);
    return this.#cause.type === 'cancelled'
      ? { type: 'cancelled', reason: this.#cause.reason, left }
      : { type: 'timed-out', limitMs: timeoutMs ?? 0, left };
  }

  async #end(running: CommandChannel): Promise<void> {
    if (this.#left !== undefined || this.#host === undefined) return;
    this.#enter('ending');
    const { killGraceMs, connectTimeoutMs } = this.#context;
    this.#left = running.end(this.#host, () => this.#connect(), { killGraceMs, connectTimeoutMs });
    await this.#left;
    running.resume(); // what it printed last is read, whoever waits
    const timer = setTimeout(() => running.close(), CLOSE_TIMEOUT_MS);
    await running.ended;
    clearTimeout(timer);
  }

  /** Brings files home, where any were asked for. */
  async #fetch(outcome: HostOutcome): Promise<HostOutcome> {
    const { back, results } = this.#context.files ?? {};
    if (results === undefined || back === undefined || this.#folder === undefined) return outcome;
    this.#enter('fetching');
    try {
      this.#transfers.signal.throwIfAborted();
      const into = await results.begin(this.machine);
      const { files, warnings } = await this.#folder.fetch(back, into);
      for (const message of warnings) {
        this.#context.publish({ type: 'host:warned', machine: this.machine, message });
      }
      await results.publish(this.machine);
      this.#fetchedFiles = files;
      return outcome;
    } catch (error) {
      await results.discard(this.machine).catch(() => {}); // what failed first is what is told
      if (this.#cancelled !== undefined)
        return { type: 'cancelled', reason: this.#cancelled, left: 'nothing' };
      const reason = this.#reasonOf(error);
      if (outcome.type === 'exited')
        return { type: 'transfer-failed', stage: 'fetch', reason, exitCode: outcome.exitCode };
      const message = `its files were not brought home: ${reason.full}`;
      this.#context.publish({ type: 'host:warned', machine: this.machine, message });
      return outcome;
    }
  }

  #enter(state: HostState): void {
    const at = this.#context.now();
    this.#state = state;
    this.#stateSince = at;
    this.#context.publish({ type: 'host:state', at, machine: this.machine, state });
  }

  #reasonOf(error: unknown): Reason {
    const text = error instanceof Error ? error.message : String(error);
    const prefix = `${this.machine}: `; // the machine is named where this is shown
    const full = text.startsWith(prefix) ? text.slice(prefix.length) : text;
    return { brief: error instanceof RemoteError ? error.brief : full, full };
  }

  #notStarted(): HostOutcome {
    return {
      type: 'not-started',
      reason: this.#cause?.type === 'cancelled' ? this.#cause.reason : 'called off',
    };
  }

  /** What is waited for, unless all is called off before or meanwhile; what comes after that goes to `drop`. */
  async #orGivenUp<T>(begin: () => Promise<T>, drop: (late: T) => void): Promise<T | 'given up'> {
    if (this.#cause !== undefined) return 'given up';
    const work = begin();
    let isGivenUp = false;
    const givenUp = new Promise<'given up'>((resolve) => {
      this.#giveUp = () => {
        isGivenUp = true;
        resolve('given up');
      };
    });
    work.then(
      (late) => {
        if (isGivenUp) drop(late);
      },
      () => {},
    );
    const first = await Promise.race([work, givenUp]);
    if (first === 'given up' || !isGivenUp) return first;
    drop(first); // called off between its end and now
    return 'given up';
  }
}

function outcomeOf(end: ChannelEnd): HostOutcome {
  switch (end.type) {
    case 'exited':
      return { type: 'exited', exitCode: end.exitCode };
    case 'signalled':
      return { type: 'signalled', signal: end.signal.replace(/^SIG/, '') };
    case 'unknown':
      return { type: 'lost', reason: { brief: 'connection lost', full: end.reason } };
  }
}

/** The beginning of a stream. */
class Kept {
  readonly #limitBytes: number;
  readonly #chunks: Buffer[] = [];
  #length = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  take(chunk: Buffer): void {
    const room = this.#limitBytes - this.#length;
    if (room <= 0) return;
    const kept = Buffer.from(chunk.subarray(0, room)); // a chunk may be a small part of a large piece of memory
    this.#chunks.push(kept);
    this.#length += kept.length;
  }
}
