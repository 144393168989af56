/** `--outdir DIR`: what each machine prints, in a file of its own. */
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { SchedulerError, UsageError } from '../../../lib/domain/errors.ts';
import type { MachineName } from '../../../lib/domain/machine.ts';
import type { HostResult } from '../../../lib/fanout/host-result.ts';
import { hostFileName } from '../../../lib/fanout/host-results.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';

// 500 hosts with two files each would not fit into the usual limit of 1024.
const MOST_OPEN_FILES = 64;

/**
 * `DIR/HOST` gets a machine's stdout as it comes, bytes unchanged, and `DIR/HOST.err` its stderr if there is any.
 *
 * What an earlier command left for a machine is removed when the machine prints for the first time, or when it ends having
 * printed nothing. A machine where the command never began gets no file, and keeps an old one, as do machines that are not
 * meant. A symbolic link at either
 * place is removed, not followed; a folder there is an error.
 */
export class OutDir implements Disposable {
  readonly #folder: string;
  readonly #begun = new Set<MachineName>();
  readonly #made = new Set<string>();
  /** The file used last is last. */
  readonly #open = new Map<string, number>();
  #hasFailed = false;

  /**
   * Makes the folder, and those above it, where it is missing.
   * @throws UsageError when it cannot be made or written to, when two machines would share a file, when a folder stands at
   *   a file's place, and when a name is too long for the file system.
   */
  constructor(folder: string, machines: readonly MachineName[]) {
    this.#folder = folder;
    const owners = new Map<string, MachineName>();
    for (const machine of machines) {
      for (const name of [fileName(machine, 'out'), fileName(machine, 'err')]) {
        const other = owners.get(name);
        if (other !== undefined && other !== machine)
          throw new UsageError(
            `--outdir: ${visibleText(other)} and ${visibleText(machine)} would both write the file ${visibleText(name)}`,
          );
        owners.set(name, machine);
      }
    }
    try {
      makeFolders(resolve(folder));
      // Permissions alone do not tell: a file system may be read-only, or full.
      rmdirSync(mkdtempSync(join(folder, '.execute_to-')));
    } catch (error) {
      throw new UsageError(
        `--outdir ${visibleText(folder)}: cannot be made or written to: ${(error as Error).message}`,
        { cause: error },
      );
    }
    // Found out here, and not when the command has run everywhere.
    for (const name of owners.keys()) checkPlace(join(folder, name));
  }

  /** Appends. @throws SchedulerError when a file cannot be written, once: what comes afterwards is dropped. */
  write(machine: MachineName, stream: 'out' | 'err', chunk: Buffer): void {
    this.#attempt(machine, stream, () => {
      this.#begin(machine);
      const file = this.#file(join(this.#folder, fileName(machine, stream)));
      for (let written = 0; written < chunk.length; ) written += writeSync(file, chunk, written);
    });
  }

  /** Makes the empty file of a machine that printed nothing. @throws SchedulerError as `write` does. */
  end({ machine, startedAt }: HostResult): void {
    this.#attempt(machine, 'out', () => {
      if (startedAt !== undefined) this.#begin(machine);
      for (const stream of ['out', 'err'] as const)
        this.#close(join(this.#folder, fileName(machine, stream)));
    });
  }

  close(): void {
    for (const path of [...this.#open.keys()]) this.#close(path);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #attempt(machine: MachineName, stream: 'out' | 'err', action: () => void): void {
    if (this.#hasFailed) return;
    try {
      action();
    } catch (error) {
      this.#hasFailed = true;
      const path = visibleText(join(this.#folder, fileName(machine, stream)));
      throw new SchedulerError(`--outdir: cannot write ${path}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /** Puts an empty file in place of those of an earlier command. */
  #begin(machine: MachineName): void {
    if (this.#begun.has(machine)) return;
    this.#begun.add(machine);
    const [out, err] = [fileName(machine, 'out'), fileName(machine, 'err')];
    for (const name of [out, err]) rmSync(join(this.#folder, name), { force: true });
    this.#file(join(this.#folder, out));
  }

  #file(path: string): number {
    let file = this.#open.get(path);
    // Taken out and put back: the first of the map is then the one not used for longest.
    this.#open.delete(path);
    if (file === undefined) {
      const oldest = this.#open.keys().next();
      if (this.#open.size >= MOST_OPEN_FILES && !oldest.done) this.#close(oldest.value);
      // Whoever may write to the folder could have put a link there meanwhile.
      const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
      const create = this.#made.has(path) ? 0 : O_CREAT | O_EXCL;
      file = openSync(path, O_WRONLY | O_APPEND | O_NOFOLLOW | create, 0o666);
      this.#made.add(path);
    }
    this.#open.set(path, file);
    return file;
  }

  #close(path: string): void {
    const file = this.#open.get(path);
    this.#open.delete(path);
    if (file !== undefined) closeSync(file);
  }
}

function fileName(machine: MachineName, stream: 'out' | 'err'): string {
  return stream === 'out' ? hostFileName(machine) : `${hostFileName(machine)}.err`;
}

/** One by one: node's own way with `recursive` never returns where the kernel says ENOENT for a child of a folder, as in /proc. */
function makeFolders(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path) makeFolders(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    // Another command may make it at the same time.
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}

function checkPlace(path: string): void {
  let isFolder: boolean | undefined;
  try {
    isFolder = lstatSync(path, { throwIfNoEntry: false })?.isDirectory();
  } catch (error) {
    throw new UsageError(`--outdir: cannot write ${visibleText(path)}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (isFolder) throw new UsageError(`--outdir: cannot write ${visibleText(path)}: a folder is there`);
}
