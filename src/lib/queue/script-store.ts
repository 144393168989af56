/**
 * Job scripts: their texts, each once, in files named by their SHA-256, and the shell text that runs one. A text comes to
 * its name by a rename when it is on the disk, so what has a name is whole; whoever reads it checks that all the same.
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync } from 'node:fs';
import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SchedulerError, UsageError } from '../domain/errors.ts';
import type { QueueJobSpec } from '../domain/queue.ts';
import { toBytePath } from '../files/byte-path.ts';
import { syncFolder } from '../files/kept-folders.ts';
import { MAX_NAME_BYTES } from '../runner/job-name.ts';
import { makeFolder } from '../util/make-folder.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { formatBytes } from '../util/size.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';

/** A script is sent to its machine as shell text, which bash reads slowly: large data belongs into files. */
export const MAX_SCRIPT_BYTES = 1024 * 1024;

/** One that runs in place is copied as a file. */
export const MAX_IN_PLACE_SCRIPT_BYTES = 4 * MAX_SCRIPT_BYTES;

const ID = /^[0-9a-f]{64}$/;
/** The text has a name, and the job that asked for it has not been written yet. */
const SETTLE_MS = 10 * 60_000;

/** A script's text is not in the store, or is damaged there. */
export class ScriptMissingError extends SchedulerError {
  override readonly name = 'ScriptMissingError';
}

/** How a store behaves. */
export interface ScriptStoreOptions {
  /** For so long a text that was kept stays, whether or not it is in use. @default 10 minutes */
  readonly settleMs?: number;
}

/** The scripts of one data folder, which this process has for itself. */
export class ScriptStore {
  readonly #folder: string;
  readonly #settleMs: number;
  /** When this process kept them, by `performance.now`. */
  readonly #keptAt = new Map<string, number>();
  readonly #keeping = new Map<string, Promise<void>>();

  /** Makes the folder where it is not there, closed to all others. */
  constructor(folder: string, { settleMs = SETTLE_MS }: ScriptStoreOptions = {}) {
    makeFolder(folder, 0o700);
    chmodSync(folder, 0o700);
    this.#folder = folder;
    this.#settleMs = settleMs;
  }

  /**
   * Puts a text on the disk. Resolves to its id, the SHA-256 of its UTF-8, or of its bytes as they are.
   * @throws UsageError for a text that is too long or is no Unicode text
   */
  async keep(text: string | Buffer, maxBytes = MAX_SCRIPT_BYTES): Promise<string> {
    const bytes = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
    if (bytes.length > maxBytes) {
      const limit = formatBytes(maxBytes);
      throw new UsageError(`the script has ${bytes.length} bytes: expected at most ${limit}`);
    }
    // Half a surrogate pair would become another character.
    if (typeof text === 'string' && bytes.toString('utf8') !== text)
      throw new UsageError('the script is no valid Unicode text');
    const id = idOf(bytes);
    const isNew = !this.#keptAt.has(id);
    this.#keptAt.set(id, performance.now());
    if (isNew || this.#keeping.has(id)) await this.#keepOnce(id, bytes);
    return id;
  }

  /** The text with this id. What is no UTF-8 becomes replacement characters. @throws ScriptMissingError */
  async text(id: string): Promise<string> {
    return (await this.bytes(id)).toString('utf8');
  }

  /** The same as it was kept. @throws ScriptMissingError */
  async bytes(id: string): Promise<Buffer> {
    const path = this.path(id);
    const bytes = await readFile(path).catch((error: unknown) => {
      throw new ScriptMissingError(`cannot read the script ${path}: ${(error as Error).message}`, {
        cause: error,
      });
    });
    if (idOf(bytes) !== id)
      throw new ScriptMissingError(`the script ${path} was changed: its SHA-256 is not its name any more`);
    return bytes;
  }

  /** Several texts, by id. @throws ScriptMissingError */
  async texts(ids: Iterable<string>): Promise<ReadonlyMap<string, string>> {
    const texts = new Map<string, string>();
    for (const id of new Set(ids)) texts.set(id, await this.text(id));
    return texts;
  }

  /** Removes all texts but these, and what a crash left. Resolves to how many texts that were. */
  async removeExcept(inUse: Iterable<string>): Promise<number> {
    const used = new Set(inUse);
    let removed = 0;
    for (const name of await readdir(this.#folder)) {
      const [id = ''] = name.split('.');
      if (!ID.test(id) || this.#keeping.has(id)) continue;
      if (name === id) {
        const keptAt = this.#keptAt.get(id);
        if (used.has(id) || (keptAt !== undefined && performance.now() - keptAt < this.#settleMs)) continue;
        this.#keptAt.delete(id);
        removed += 1;
      }
      await rm(join(this.#folder, name), { force: true });
    }
    return removed;
  }

  #keepOnce(id: string, bytes: Buffer): Promise<void> {
    const known = this.#keeping.get(id);
    if (known !== undefined) return known;
    const keeping = this.#write(id, bytes)
      .catch((error: unknown) => {
        this.#keptAt.delete(id);
        throw error;
      })
      .finally(() => this.#keeping.delete(id));
    this.#keeping.set(id, keeping);
    return keeping;
  }

  /** Also where it is there: an earlier service may have been killed before the name was on the disk. */
  async #write(id: string, bytes: Buffer): Promise<void> {
    const partial = `${this.path(id)}.partial-${randomBytes(6).toString('hex')}`;
    try {
      const file = await open(partial, 'wx', 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(partial, this.path(id));
    } catch (error) {
      await rm(partial, { force: true });
      throw new SchedulerError(
        `cannot keep the script in ${visibleText(this.#folder)}: ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
    await syncFolder(toBytePath(this.#folder));
  }

  /** The file with this id. @throws ScriptMissingError for what is no id: they come from files that people may edit */
  path(id: string): string {
    if (!ID.test(id))
      throw new ScriptMissingError(`'${visibleText(id).slice(0, 80)}' is no script's id: expected a SHA-256`);
    return join(this.#folder, id);
  }
}

function idOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A script and its arguments. */
export interface ScriptCall {
  /** Its file's name, without folders. */
  readonly name: string;
  readonly text: string;
  readonly args: readonly string[];
}

/**
 * Refuses a name that a script's file cannot have.
 * @throws UsageError
 */
export function checkScriptName(name: string): void {
  const found = `the script's name '${cutToWidth(visibleText(name), 60)}'`;
  if (name === '' || name === '.' || name === '..' || name.includes('/'))
    throw new UsageError(`${found} names no file: expected a file's name without folders`);
  if (/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u.test(name)) throw new UsageError(`${found} contains a control character`);
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES)
    throw new UsageError(`${found} has ${bytes} bytes: expected at most ${MAX_NAME_BYTES}`);
}

/** Whether a job runs this script with exactly these arguments. */
export function sameScript(
  { script }: QueueJobSpec,
  wanted: { readonly script: string; readonly args: readonly string[] },
): boolean {
  return (
    script !== undefined &&
    script.name === wanted.script &&
    script.args.length === wanted.args.length &&
    script.args.every((arg, at) => arg === wanted.args[at])
  );
}

/**
 * Shell text for bash, run by a supervisor: writes the script to a folder beside the job's working folder and becomes
 * it. The working directory stays as it is. A script without `#!` runs under bash.
 * `before`: shell text that comes between the two.
 * @throws UsageError for a name or an argument that cannot be
 */
export function scriptCommand({ name, text, args }: ScriptCall, before = ''): string {
  checkScriptName(name);
  for (const arg of args)
    if (arg.includes('\0')) throw new UsageError(`an argument of the script ${name} contains a NUL`);
  // A shell's word holds no NUL, but a format can make one.
  const pieces = text.split('\0');
  const format = pieces.map(() => '%s').join('\\0');
  const interpreter = text.startsWith('#!') ? '' : 'bash ';
  // By $0, the command's own file: a machine's setup line may have changed to another folder. In the positional
  // parameters, since any variable of ours may be one of the job's environment.
  return `set -- "\${0%/*}/script-file/"${shellQuote(name)} ${args.map(shellQuote).join(' ')}
(umask 077 && mkdir -p -- "\${1%/*}" && printf ${shellQuote(format)} ${pieces.map(shellQuote).join(' ')} >"$1" && chmod 700 -- "$1") || {
  printf 'cannot write the script %s\\n' "$1" >&2
  exit 126
}
${before}
exec ${interpreter}"$@"`;
}
