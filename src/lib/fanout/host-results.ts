/**
 * Where files from many machines go: `job_results/NAME/HOST/`, each by one rename when it is whole. `job_results/NAME` is
 * made when the first machine has something, so a call that brings nothing home leaves nothing that is in the way of the
 * next one. Until then files stay in `job_results/.partial/.to-RANDOM/HOST/`: names with a dot are no job's, so a batch
 * that clears up there leaves them alone.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants, existsSync, lstatSync, rmdirSync, statSync } from 'node:fs';
import { access, mkdir, readdir, rename, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { SchedulerError, UsageError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import { clearPartial, PARTIAL_FOLDER, removeEmptyPartialFolder } from '../runner/partial-result.ts';

/** Longer ones are cut: file systems allow 255 bytes, and temporary names need room. */
const LONGEST_FILE_NAME = 200;
/** A percent sign that no two hex digits follow marks what no encoding makes. */
const HASH_MARK = '%-';

/**
 * A machine's name as one file name: plain ASCII without slash, control characters or a dot or dash in front. Two
 * different names never have the same one, but for a collision of SHA-256. All but letters, digits and `._@:-` is
 * written as `%XX`, a byte of its UTF-8 each; an empty name is `%empty`.
 */
export function hostFileName(name: string): string {
  if (name === '') return '%empty';
  const encoded = [...name].map(encodedCharacter).join('').replace(/^[.-]/, percent);
  if (encoded.length <= LONGEST_FILE_NAME) return encoded;
  return `${encoded.slice(0, LONGEST_FILE_NAME - 34)}${HASH_MARK}${hashOf(encoded).slice(0, 32)}`;
}

function encodedCharacter(character: string): string {
  if (/^[A-Za-z0-9._@:-]$/.test(character)) return character;
  // Half of a surrogate pair has no UTF-8, and all of them would become one and the same.
  if (/^\p{Cs}$/u.test(character)) return `%u${character.charCodeAt(0).toString(16)}`;
  return percent(character);
}

function percent(character: string): string {
  return [...Buffer.from(character)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Where results go. */
export interface HostResultsOptions {
  /** `job_results`; need not exist. */
  readonly resultsFolder: string;
  readonly jobName: string;
  /** Refuses a name that no job may have. @throws UsageError */
  readonly checkName: (name: string) => void;
}

/** What a killed controller left in the folder for partial results goes after so long. */
const LEFTOVER_MS = 7 * 86_400_000;
const CALL_FOLDER = '.to-';

/** The files of all machines of one call. */
export class HostResults implements AsyncDisposable {
  /** `job_results/NAME`, which exists once something was published. */
  readonly folder: string;
  readonly #results: string;
  /** The folder of this call for what is not whole, below the one for partial results. */
  readonly #call = `${CALL_FOLDER}${randomBytes(6).toString('hex')}`;
  readonly #fileNames = new Map<MachineName, string>();
  /** In lower case: some file systems take `GPU1` and `gpu1` for the same. */
  readonly #taken = new Set<string>();
  readonly #begun = new Set<MachineName>();
  #made: Promise<void> | undefined;
  #isMade = false;
  #published = 0;
  /** The topmost folder that had to be made for the results folder. */
  #topMade: string | undefined;
  #swept: Promise<void> | undefined;

  /**
   * Looks whether results of that name can be made, and makes nothing.
   * @throws UsageError when the name is bad, results of that name exist or the folder cannot be used
   */
  static async open(options: HostResultsOptions): Promise<HostResults> {
    const { resultsFolder, jobName, checkName } = options;
    checkName(jobName);
    await refuseUnusable(resultsFolder);
    for (const ending of ['', '.json', '.out', '.err']) {
      const path = join(resultsFolder, `${jobName}${ending}`);
      if (isThere(path)) throw new UsageError(existsText(path));
    }
    return new HostResults(resultsFolder, jobName);
  }

  private constructor(resultsFolder: string, jobName: string) {
    this.#results = resolve(resultsFolder);
    this.folder = join(this.#results, jobName);
  }

  /**
   * Makes an empty folder that a machine's files go into, and returns its path. It is to be published or discarded.
   * @throws SchedulerError when another call has made results of that name meanwhile, or the folder cannot be made
   */
  async begin(machine: MachineName): Promise<string> {
    if (this.#begun.has(machine)) throw new Error(`Internal error: ${machine} has a partial result already`);
    if (this.#made === undefined && isThere(this.folder)) throw new SchedulerError(existsText(this.folder));
    this.#begun.add(machine);
    const path = this.#partialPath(machine);
    try {
      const topMade = await mkdir(this.#results, { recursive: true });
      if (topMade !== undefined) this.#topMade = resolve(topMade);
      await mkdir(dirname(path), { recursive: true });
      this.#swept ??= this.#sweep();
      await this.#swept;
      await mkdir(path);
      return path;
    } catch (error) {
      this.#done(machine);
      throw new SchedulerError(`cannot keep the results of ${machine}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /**
   * Puts a machine's files into their place, `job_results/NAME/HOST`.
   * @throws SchedulerError when another call has made results of that name meanwhile, or the disk refuses; then the files
   *   stay where they are until they are discarded
   */
  async publish(machine: MachineName): Promise<void> {
    if (!this.#begun.has(machine)) throw new Error(`Internal error: ${machine} has no partial result`);
    try {
      await this.#make();
      await rename(this.#partialPath(machine), join(this.folder, this.#fileName(machine)));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException; // fs errors have a code
      const reason = code === 'EEXIST' ? existsText(this.folder) : `cannot keep its results: ${message}`;
      throw new SchedulerError(`${machine}: ${reason}`, { cause: error });
    }
    this.#published += 1;
    this.#done(machine);
  }

  /** Removes what did not become whole; nothing where nothing was begun. @throws when the disk refuses */
  async discard(machine: MachineName): Promise<void> {
    if (!this.#begun.has(machine)) return;
    await clearPartial(this.#results, join(this.#call, this.#fileName(machine)));
    this.#done(machine);
  }

  /** Discards all that is not published. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const machine of [...this.#begun]) await this.discard(machine);
  }

  async #make(): Promise<void> {
    this.#made ??= mkdir(this.folder);
    const making = this.#made;
    try {
      await making;
      this.#isMade = true;
    } catch (error) {
      if (this.#made === making) this.#made = undefined; // the next machine may have more luck
      throw error;
    }
  }

  #partialPath(machine: MachineName): string {
    return join(this.#results, PARTIAL_FOLDER, this.#call, this.#fileName(machine));
  }

  #fileName(machine: MachineName): string {
    const known = this.#fileNames.get(machine);
    if (known !== undefined) return known;
    let name = hostFileName(machine);
    if (this.#taken.has(name.toLowerCase()))
      name = `${name.slice(0, LONGEST_FILE_NAME)}${HASH_MARK}${hashOf(machine).slice(0, 32)}`;
    this.#taken.add(name.toLowerCase());
    this.#fileNames.set(machine, name);
    return name;
  }

  /** When nothing is on its way, removes what was made and is empty. At once, so that no `begin` comes in between. */
  #done(machine: MachineName): void {
    this.#begun.delete(machine);
    if (this.#begun.size > 0) return;
    removeEmpty(join(this.#results, PARTIAL_FOLDER, this.#call));
    removeEmptyPartialFolder(this.#results);
    if (this.#published > 0) return;
    if (this.#isMade && removeEmpty(this.folder)) {
      this.#isMade = false;
      this.#made = undefined;
    }
    if (this.#topMade === undefined) return;
    for (let path = this.#results; removeEmpty(path) && path !== this.#topMade; path = dirname(path));
    this.#topMade = undefined;
  }

  async #sweep(): Promise<void> {
    const partial = join(this.#results, PARTIAL_FOLDER);
    for (const name of await readdir(partial).catch((): string[] => [])) {
      if (!name.startsWith(CALL_FOLDER)) continue;
      const found = await stat(join(partial, name)).catch(() => undefined);
      if (found === undefined || Date.now() - found.mtimeMs < LEFTOVER_MS) continue;
      await clearPartial(this.#results, name).catch(() => {}); // it harms nobody
    }
  }
}

/** Asks the nearest folder that exists: better now than when the command has run everywhere. */
async function refuseUnusable(folder: string): Promise<void> {
  const refusal = (reason: string) => new UsageError(`cannot use the results folder ${folder}: ${reason}`);
  let there = resolve(folder);
  while (!existsSync(there)) there = dirname(there);
  if (!statSync(there).isDirectory()) throw refusal(`${there} is no folder`);
  await access(there, constants.W_OK | constants.X_OK).catch((error: Error) => {
    throw refusal(error.message);
  });
}

function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false; // also where a folder above it is none: then nothing can be made there, and that is told
  }
}

function removeEmpty(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch {
    return false;
  }
}

function existsText(path: string): string {
  return `${path} exists already: results are never replaced; move it away or use another --job-name`;
}
