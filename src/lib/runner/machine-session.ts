/**
 * What we hold open on one machine over one connection: the supervisor, a shell for output, a shell for files. A session
 * ends with its connection; the machine's link then makes another.
 */
import { RemoteError } from '../domain/errors.ts';
import { readLoginEnvironment } from '../remote/login-environment.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { withTimeLimit } from '../util/time-limit.ts';
import { removeEmptyBatch } from './job-folder.ts';
import { type AttemptPlace, type AttemptReport, type MachineFolders, Supervisor } from './supervisor.ts';

/** Where a session works and what it does there. */
export interface SessionOptions {
  /** Folder for everything of ours. @default `~/.cache/ssh-scheduler` */
  readonly remoteDir?: string | undefined;
  /** Tells machines that share a home folder apart: letters and digits. A promise, so that the rest need not wait for it. */
  readonly machineKey: string | Promise<string>;
  /** Names the batch's folder. */
  readonly batch: string;
  /**
   * Who controls the batch: its computer, and the folder and the batch file there. Noted beside the jobs for whoever
   * finds them. Without it this session does not count as the batch's controller.
   */
  readonly origin?: BatchOrigin;
  /** Whether jobs get the user's login environment; the built-in machine's jobs have the caller's own. */
  readonly loginEnvironment: boolean;
  /** How long the machine may take to be ready. @default 20000 */
  readonly timeoutMs?: number;
  /** One job alone: its files and its output come over the same shell, which spares a channel. @default false */
  readonly isForOneJob?: boolean;
  readonly onReport: (place: AttemptPlace, report: AttemptReport) => void;
  /** Something about the machine that a person should know. */
  readonly onWarning: (message: string) => void;
}

/** Where a batch comes from. */
export interface BatchOrigin {
  /** The computer's own name for itself. */
  readonly host: string;
  /** Tells computers of one name apart; empty or absent where it is not known. */
  readonly machineId?: string;
  /** The results folder and the batch file there, absolute. They are the last run's, since a project may be moved. */
  readonly folder: string;
  readonly file: string;
}

/** The open shells on one machine. */
export class MachineSession {
  readonly #options: SessionOptions;
  #files: Promise<RequestShell> | undefined;
  #filesBroken: () => boolean = () => false;
  #store: Promise<RequestShell> | undefined;
  #storeBroken: () => boolean = () => false;

  /**
   * Opens a session: makes our folders there and starts the supervisor, all at once.
   * @throws RemoteError when the machine lacks bash or tar, or our folder cannot be made.
   */
  static async open(host: RemoteHost, options: SessionOptions): Promise<MachineSession> {
    const output = RequestShell.open(host);
    const folders = output.then((shell) => prepareFolders(host, shell, options));
    const supervisor = Supervisor.open(host, folders, options.onReport);
    const environment = options.loginEnvironment ? readLoginEnvironment(host) : undefined;
    const { timeoutMs = 20_000 } = options;
    try {
      await withTimeLimit(Promise.all([output, folders, supervisor, environment]), timeoutMs, () => {
        const reason = `no shell within ${timeoutMs / 1000} s (does its disk or its login hang?)`;
        return new RemoteError(host.name, 'run', `${host.name}: ${reason}`);
      });
    } catch (error) {
      void output.then(
        (shell) => shell.close(),
        () => {},
      );
      void supervisor.then(
        (one) => one.close(),
        () => {},
      );
      throw error;
    }
    const session = new MachineSession(host, await output, await supervisor, await folders, options);
    const read = await environment;
    if (read?.problem !== undefined) options.onWarning(read.problem);
    if (read !== undefined) session.supervisor.setJobEnvironment(read.exports);
    return session;
  }

  private constructor(
    readonly host: RemoteHost,
    /** For output alone, so that a large result does not hold live output up. */
    readonly output: RequestShell,
    readonly supervisor: Supervisor,
    readonly folders: SessionFolders,
    options: SessionOptions,
  ) {
    this.#options = options;
  }

  /** One of the shells is gone, so the session has to be made anew. */
  get isBroken(): boolean {
    return this.output.isBroken || this.#filesBroken() || this.#storeBroken();
  }

  /**
   * For the store of source parts, so that a send need not wait behind a large result; opened when it is first asked for.
   * On a machine that allows few channels it is the shell for files.
   */
  store(): Promise<RequestShell> {
    if (this.#options.isForOneJob) return Promise.resolve(this.output);
    this.#store ??= this.#openStore();
    return this.#store;
  }

  async #openStore(): Promise<RequestShell> {
    try {
      const shell = await RequestShell.open(this.host, { isOptional: true });
      this.#storeBroken = () => shell.isBroken;
      return shell;
    } catch {
      return await this.files();
    }
  }

  /** Gives the store's channel back, for a machine that has too few: from now on the shell for files serves it too. */
  async mergeStore(): Promise<void> {
    const [store, files] = await Promise.all([this.store(), this.files()]);
    this.#store = Promise.resolve(files);
    this.#storeBroken = () => false; // it is the files' shell now
    if (store !== files && !this.#options.isForOneJob) store.close();
  }

  /** For files and folders; opened when it is first asked for. */
  files(): Promise<RequestShell> {
    if (this.#options.isForOneJob) return Promise.resolve(this.output);
    this.#files ??= this.#openFiles();
    return this.#files;
  }

  async #openFiles(): Promise<RequestShell> {
    try {
      const shell = await RequestShell.open(this.host);
      this.#filesBroken = () => shell.isBroken;
      return shell;
    } catch (error) {
      this.#filesBroken = () => true;
      throw error;
    }
  }

  /** Removes an empty rest of this batch's folder: what still holds a job stays. Resolves to whether all is gone. */
  async removeBatchFolder(): Promise<boolean> {
    const shell = await this.files();
    const leases = `${shellQuote(this.folders.leases)}/*.${this.folders.leaseSuffix}`;
    const runs = shellQuote(this.folders.runs);
    return (
      (await shell.run(`${removeEmptyBatch(this.folders.runs)}; rm -f ${leases}; [ ! -e ${runs} ]`)) === 0
    );
  }

  async close(): Promise<void> {
    this.supervisor.close();
    this.output.close();
    for (const opening of [this.#files, this.#store]) {
      await opening?.then(
        (shell) => shell.close(),
        () => {},
      );
    }
  }
}

/** All that is ours on a machine. */
export interface SessionFolders extends MachineFolders {
  /** The folder that holds the others. Absolute. */
  readonly base: string;
  /** Large inputs that jobs share. Absolute. */
  readonly shares: string;
}

async function prepareFolders(
  host: RemoteHost,
  shell: RequestShell,
  options: SessionOptions,
): Promise<SessionFolders> {
  const base = remoteBase(options.remoteDir);
  const machineKey = await options.machineKey;
  const { origin } = options;
  const noteOrigin =
    origin === undefined
      ? ''
      : `origin=${shellQuote(JSON.stringify(origin))}; known=; { read -r known <"$runs/.origin"; } 2>/dev/null
[ "$known" = "$origin" ] || { printf '%s\\n' "$origin" >"$runs/.try" && mv -f "$runs/.try" "$runs/.origin"; } 2>/dev/null`;
  const { exitCode, output } = await shell.text(`(
for tool in bash tar; do command -v $tool >/dev/null 2>&1 || { echo "no $tool there"; exit 3; }; done
base=${base}
runs="$base/runs/${machineKey}/${options.batch}"
mkdir -p "$base/trees" "$base/shares" "$base/leases" "$runs" 2>&1 && chmod 700 "$base" && cd "$base" 2>&1 || exit 4
: >"$runs/.try" || { echo "cannot write to $runs"; exit 5; }
if cp -a --reflink=auto "$runs/.try" "$runs/.try2" 2>/dev/null; then copy='cp -a --reflink=auto'; else copy='cp -a'; fi
rm -f "$runs/.try" "$runs/.try2"
${noteOrigin}
printf 'ready\\n%s\\n%s\\n' "$PWD" "$copy")`);
  const lines = output.split('\n');
  const at = lines.lastIndexOf('ready');
  const [where = '', copyCommand = ''] = lines.slice(at + 1);
  if (exitCode !== 0 || at < 0 || !where.startsWith('/')) {
    throw new RemoteError(host.name, 'run', `${host.name}: ${lines[0] || 'cannot make our folder there'}`);
  }
  return {
    base: where,
    runs: `${where}/runs/${machineKey}/${options.batch}`,
    trees: `${where}/trees`,
    shares: `${where}/shares`,
    leases: `${where}/leases`,
    leaseSuffix: `${options.batch}.${machineKey}`,
    copyCommand: copyCommand.includes('reflink') ? 'cp -a --reflink=auto' : 'cp -a',
    isController: origin !== undefined,
  };
}

/** Our folder on a machine, as a word of its shell. */
export function remoteBase(remoteDir: string | undefined): string {
  return remoteDir === undefined ? '"$HOME/.cache/ssh-scheduler"' : remotePath(remoteDir);
}

function remotePath(path: string): string {
  return path.startsWith('~/') ? `"$HOME"/${shellQuote(path.slice(2))}` : shellQuote(path);
}
