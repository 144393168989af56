/** Where machine files are looked for, and what was read of them: each file once. */
import { statSync } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MachineConfigError, UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import type { HostGroup } from './host-groups.ts';
import type { MachineEntry } from './machine-entry.ts';
import type { MachineFile } from './machine-file.ts';

const MOST_FILE_BYTES = 1024 * 1024;

/** A machine file that was read. */
export interface LoadedMachineFile {
  /** Absolute; links are not resolved. */
  readonly path: string;
  readonly machines: readonly MachineEntry[];
  readonly byName: ReadonlyMap<string, MachineEntry>;
  readonly groups: ReadonlyMap<string, HostGroup>;
}

/** What a search for a machine file found. */
export interface FileSearch {
  readonly path: string | undefined;
  /** The paths that were tried and are no file. */
  readonly searched: readonly string[];
}

/** The machine files of one call. */
export class MachineFileStore {
  readonly #loaded = new Map<string, LoadedMachineFile>();
  readonly #searches = new Map<string, FileSearch>();
  readonly #sensitivePaths = new Set<string>();
  /** What is said of the files, one line each. */
  readonly warnings: string[] = [];

  constructor(readonly home: string) {}

  /** Absolute paths of the files that were read and of the keys they name, with links resolved as well. */
  get sensitivePaths(): readonly string[] {
    return [...this.#sensitivePaths];
  }

  /**
   * Looks for the machine file that a name means, seen from a folder. A name with a slash or ending in `.yaml` is a
   * file and nothing else; another is NAME.yaml there, or NAME.yaml or NAME in `~/.local/var/`.
   * @throws MachineConfigError when a folder cannot be looked into.
   */
  find(name: string, here: string): FileSearch {
    const key = `${here}\0${name}`;
    const earlier = this.#searches.get(key);
    if (earlier !== undefined) return earlier;
    const candidates = this.#candidates(name, here);
    const path = candidates.find(isFile);
    const search = { path, searched: path === undefined ? candidates : [] };
    this.#searches.set(key, search);
    return search;
  }

  /**
   * Reads a machine file; one that was read before, by whatever path, is not read again.
   * @throws MachineConfigError for a mistake in it.
   */
  async load(path: string): Promise<LoadedMachineFile> {
    const real = await realpath(path);
    const earlier = this.#loaded.get(real);
    if (earlier !== undefined) return earlier;
    const file = await readMachineFile(path, this.home);
    const machines = file.machines.map((config) => ({ kind: 'ssh', config }) as const);
    const byName = new Map(machines.map((machine) => [machine.config.name as string, machine]));
    const loaded = { path, machines, byName, groups: file.groups ?? new Map() };
    this.#loaded.set(real, loaded);
    this.warnings.push(...file.warnings);
    const keys = file.machines.flatMap(({ sshKeyPath }) => sshKeyPath ?? []);
    for (const sensitive of [path, ...keys])
      this.#sensitivePaths.add(sensitive).add(await realpath(sensitive));
    return loaded;
  }

  #candidates(name: string, here: string): readonly string[] {
    if (name === '' || name.startsWith('ssh://')) return [];
    if (name.includes('/')) return [absolutePath(name, here, this.home)];
    const shared = join(this.home, '.local', 'var');
    if (isFileName(name)) return [resolve(here, name), join(shared, name)];
    return [`${resolve(here, name)}.yaml`, join(shared, `${name}.yaml`), join(shared, name)];
  }
}

/** Whether a name can only mean a machine file. */
export function isFileName(name: string): boolean {
  return !name.startsWith('ssh://') && (name.includes('/') || name.endsWith('.yaml'));
}

/** A path seen from a folder. A quoted `~` reaches us as it stands. */
export function absolutePath(path: string, here: string, home: string): string {
  return resolve(
    here,
    path.replace(/^~(?=\/)/, () => home),
  );
}

/** Nothing has the name that can only mean a file. */
export function noSuchFile(name: string, searched: readonly string[]): UsageError {
  const places = searched.map(visibleText).join(' or ');
  const hint = /\s/.test(name) ? '; with several hosts, commas between them' : '';
  return new UsageError(`found no file ${places}, expected the machine file that --machines names${hint}`);
}

/**
 * A text file of at most 1 MiB; undefined when it is larger or no text.
 * @throws MachineConfigError when it cannot be read. `expected` says what it should be.
 */
export async function readSmallText(path: string, expected: string): Promise<string | undefined> {
  try {
    if ((await stat(path)).size > MOST_FILE_BYTES) return undefined;
    const text = await readFile(path, 'utf8');
    // A pipe has no size to be known before.
    return text.length > MOST_FILE_BYTES || text.includes('\0') ? undefined : text;
  } catch (error) {
    throw unreadable(path, expected, error);
  }
}

// Asked at once, not by a promise: a range of thousands of names asks for three paths each.
function isFile(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code; // what stat throws
    if (code === 'ENOTDIR' || code === 'ENAMETOOLONG' || code === 'ERR_INVALID_ARG_VALUE') return false;
    throw unreadable(path, 'a machine file', error);
  }
}

async function readMachineFile(path: string, home: string): Promise<MachineFile> {
  // Loaded here, so that a command that names no file does not wait for the YAML parser.
  const { parseMachineFile, warnOfReadableSecrets } = await import('./machine-file.ts');
  const text = await readSmallText(path, 'a machine file');
  if (text === undefined) {
    throw new MachineConfigError(
      `${path}:1:1: found a file that is no text of at most 1 MiB, expected a machine file`,
    );
  }
  const file = parseMachineFile(text, path, { home });
  const warning = await warnOfReadableSecrets(path, file.machines);
  return warning === undefined ? file : { ...file, warnings: [...file.warnings, warning] };
}

function unreadable(path: string, expected: string, cause: unknown): MachineConfigError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MachineConfigError(
    `${path}:1:1: found a file that cannot be read (${why}), expected ${expected}`,
    { cause },
  );
}
