/**
 * A folder of its own on one machine, for one command of many machines: the files that go there first come out of the
 * store that jobs use too (`trees/`), and what the command made is brought home from it. The machine needs `sh`, tar and
 * coreutils or busybox: no bash and no supervisor.
 *
 *     REMOTE_DIR/to/ID-RANDOM/work/    a private copy of the tree, where the command runs
 *
 * RANDOM is drawn for each machine, since several may share one home folder.
 */
import { randomBytes } from 'node:crypto';
import { RemoteError } from '../domain/errors.ts';
import { type FetchResult, fetchFiles } from '../files/fetch.ts';
import { CACHE_LIMIT_BYTES, type PartStore, pruneStores, sendParts } from '../files/send.ts';
import type { SourceTree } from '../files/source-part.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { RequestShell } from '../remote/remote-shell.ts';
import { remoteBase } from '../runner/machine-session.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { withTimeLimit } from '../util/time-limit.ts';
import { copyParts, makeFolder } from './host-folder-script.ts';

/** Where a folder is made and what is put into it. */
export interface HostFolderOptions {
  /** Folder for everything of ours there, as the machine file has it. @default `~/.cache/ssh-scheduler` */
  readonly remoteDir?: string | undefined;
  /** Names this call: hex digits. */
  readonly id: string;
  /** What the command finds in its folder; may be empty. Its shared inputs are left out. */
  readonly tree: SourceTree;
  /** What the stores there may hold before unused parts are removed. @default 20480 */
  readonly cacheLimitMiB?: number | undefined;
  /** How long the machine may take to give a shell, and once more to make the folder. @default 20000 */
  readonly timeoutMs?: number;
  /** Breaks off what goes there or comes home when it is aborted. */
  readonly signal?: AbortSignal;
  /** How often the folder is marked as in use, so that no later call takes it for a leftover. @default 12 hours */
  readonly renewMs?: number;
}

const RENEW_MS = 12 * 3_600_000;
/** How often a part is brought again that was removed there between its arrival and its use. */
const MOST_TRIES = 3;
const TIMEOUT_MS = 20_000;
/** A machine whose disk hangs must not hold us. */
const REMOVE_WITHIN_MS = 15_000;

/** A folder of its own on one machine for one command. */
export class HostFolder {
  /** The absolute path on the machine where the command runs. */
  readonly work: string;
  readonly #host: RemoteHost;
  /** For what may take long: its programs end with the signal. */
  readonly #abortable: RemoteHost;
  readonly #timeoutMs: number;
  readonly #place: Place;
  readonly #renewal: NodeJS.Timeout;
  #shell: Promise<RequestShell> | undefined;
  #renewing: Promise<void> | undefined;
  #isBroken: () => boolean = () => false;
  #sentBytes = 0;

  /**
   * Opens a shell on the machine, makes the folder, brings the tree there and copies it into `work`. In the background
   * there, folders are removed that killed controllers left more than seven days ago.
   * @throws RemoteError, stage `run` without a shell, else `send`: no room there, a file that changed here. Then nothing
   *   of the folder is left there.
   */
  static async open(host: RemoteHost, options: HostFolderOptions): Promise<HostFolder> {
    const { timeoutMs = TIMEOUT_MS, tree } = options;
    if (!/^[0-9a-f]+$/.test(options.id)) throw new Error(`Internal error: a call is named '${options.id}'`);
    const { signal } = options;
    const opening = RequestShell.open(signal === undefined ? host : endingWith(signal, host), { timeoutMs });
    try {
      const making = opening.then((shell) => makePlace(host, shell, options));
      // A login that hangs is told by the shell itself, before this.
      const place = await withTimeLimit(making, 2 * timeoutMs, () =>
        sendFailure(host, `no folder within ${timeoutMs / 1000} s (does its disk or its login hang?)`),
      );
      const folder = new HostFolder(host, await opening, place, options);
      if (tree.parts.length > 0) await folder.#fill(tree, options.cacheLimitMiB);
      return folder;
    } catch (error) {
      void opening.then(
        (shell) => shell.close(),
        () => {},
      );
      throw error;
    }
  }

  private constructor(host: RemoteHost, shell: RequestShell, place: Place, options: HostFolderOptions) {
    const { renewMs = RENEW_MS, timeoutMs = TIMEOUT_MS, signal } = options;
    this.#host = host;
    this.#abortable = signal === undefined ? host : endingWith(signal, host);
    this.#timeoutMs = timeoutMs;
    this.#place = place;
    this.work = `${place.folder}/work`;
    this.#use(shell);
    this.#renewal = setInterval(() => {
      this.#renewing ??= this.#renew().finally(() => {
        this.#renewing = undefined;
      });
    }, renewMs).unref();
  }

  /** Bytes that crossed the network for the tree. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /**
   * Brings home what `paths` match into `into`, an existing empty folder here. They are patterns relative to `work`,
   * expanded there; one that matches nothing is a warning. After an error `into` may hold a part.
   * @throws RemoteError (stage `fetch`, or the shell's when the connection goes)
   */
  async fetch(paths: readonly string[], into: string): Promise<FetchResult> {
    // A shell of its own, which the signal ends.
    const shell = await RequestShell.open(this.#abortable, { timeoutMs: this.#timeoutMs });
    try {
      return await fetchFiles(this.#host.name, shell, { attemptFolder: this.#place.folder, paths, into });
    } finally {
      shell.close();
    }
  }

  /** Removes the folder there; never rejects. What stays since the machine is gone, a later call removes. */
  async remove(): Promise<void> {
    clearInterval(this.#renewal);
    const { folder, base, suffix } = this.#place;
    const quoted = shellQuote(folder);
    // The command may have left read-only folders behind (package caches do).
    const script = `{ rm -rf ${quoted} || { chmod -R u+rwx ${quoted}; rm -rf ${quoted}; }; rm -f ${shellQuote(`${base}/leases`)}/*.${suffix}; } 2>/dev/null`;
    // A renewal gives its shell up at its end: it must not be the one that removes.
    const removing = (this.#renewing ?? Promise.resolve())
      .then(() => this.#openShell())
      .then((shell) => shell.run(script));
    const tooLong = () => new Error('it takes too long');
    await withTimeLimit(removing, REMOVE_WITHIN_MS, tooLong).catch(() => {}); // the connection is gone, or the disk hangs
  }

  /** Gives the shell up. What is asked later opens another one. */
  close(): void {
    const shell = this.#shell;
    this.#shell = undefined;
    void shell?.then(
      (one) => one.close(),
      () => {},
    );
  }

  async #fill(tree: SourceTree, cacheLimitMiB: number | undefined): Promise<void> {
    const { base, suffix } = this.#place;
    const leases = `${base}/leases`;
    const store: PartStore = { kind: 'trees', folder: `${base}/trees`, leases, leaseSuffix: suffix };
    try {
      const shell = await this.#openShell(); // the first one: the signal ends it
      let isNew = false;
      for (let tries = 1; ; tries++) {
        const there = await sendParts(this.#abortable, shell, store, tree.parts);
        for (const part of there.values()) {
          this.#sentBytes += part.sentBytes;
          if (part.newBytes > 0) isNew = true;
        }
        const names = tree.parts.map(({ id }) => there.get(id)?.name ?? id);
        const { output } = await shell.text(copyParts({ store: store.folder, work: this.work, names }));
        const said = output.trim();
        if (said === 'copied') break;
        if (said !== 'lacking' || tries === MOST_TRIES)
          throw sendFailure(this.#host, oneLine(said) || 'the copy there failed');
      }
      const limitBytes = cacheLimitMiB === undefined ? CACHE_LIMIT_BYTES : cacheLimitMiB * 1024 * 1024;
      if (isNew) await pruneStores(shell, base, leases, limitBytes);
    } catch (error) {
      await this.remove();
      this.close();
      throw error;
    }
  }

  #openShell(): Promise<RequestShell> {
    if (this.#shell !== undefined && !this.#isBroken()) return this.#shell;
    const opening = RequestShell.open(this.#host, { timeoutMs: this.#timeoutMs });
    this.#shell = opening;
    this.#isBroken = () => false;
    opening.then(
      (shell) => {
        if (this.#shell === opening) this.#use(shell);
        else shell.close(); // given up meanwhile
      },
      () => {
        if (this.#shell === opening) this.#shell = undefined;
      },
    );
    return opening;
  }

  #use(shell: RequestShell): void {
    this.#shell = Promise.resolve(shell);
    this.#isBroken = () => shell.isBroken;
  }

  async #renew(): Promise<void> {
    const isOpen = this.#shell !== undefined;
    try {
      const shell = await this.#openShell();
      await shell.run(`touch -c ${shellQuote(this.#place.folder)} 2>/dev/null`);
    } catch {
      // there is no room for a shell beside the command, or the connection is gone
    }
    if (!isOpen) this.close();
  }
}

/** Folders on the machine, absolute. */
interface Place {
  /** The folder that holds all of ours. */
  readonly base: string;
  readonly folder: string;
  /** Ends the names of our leases. */
  readonly suffix: string;
}

async function makePlace(host: RemoteHost, shell: RequestShell, options: HostFolderOptions): Promise<Place> {
  const random = randomBytes(6).toString('hex');
  const name = `${options.id}-${random}`;
  const { output } = await shell.text(makeFolder(remoteBase(options.remoteDir), name));
  const base = /(?:^|\n)ready (\/.*)\n$/s.exec(output)?.[1];
  if (base === undefined) throw sendFailure(host, oneLine(output) || 'cannot make our folder there');
  // Text that is no UTF-8 would name another folder when it is sent back.
  if (/[\p{Cc}\ufffd]/u.test(base))
    throw sendFailure(host, `the folder ${visibleText(base)} there has a name that cannot be used`);
  return { base, folder: `${base}/to/${name}`, suffix: `${options.id}.${random}` };
}

/** The host, but what is opened there ends with the signal. */
function endingWith(signal: AbortSignal, host: RemoteHost): RemoteHost {
  return {
    name: host.name,
    closed: host.closed,
    traffic: host.traffic,
    open: async (commandLine, options) => {
      signal.throwIfAborted();
      const channel = await host.open(commandLine, options);
      const end = () => channel.close();
      if (signal.aborted) end();
      signal.addEventListener('abort', end, { once: true });
      void channel.ended.then(() => signal.removeEventListener('abort', end));
      return channel;
    },
    close: () => host.close(),
    [Symbol.asyncDispose]: () => host.close(),
  };
}

function sendFailure(host: RemoteHost, reason: string): RemoteError {
  // The rest of such a line holds names that differ from machine to machine.
  const brief = /No space left on device|[Qq]uota exceeded/.exec(reason)?.[0] ?? reason;
  return new RemoteError(host.name, 'send', `${host.name}: cannot send files: ${reason}`, {
    brief: `cannot send files: ${brief}`,
  });
}

/** The first line of what a machine said, fit for a message. */
function oneLine(text: string): string {
  return cutToWidth(visibleText(text.trim().split('\n')[0] ?? ''), 300);
}
