/**
 * Turns the names behind `--machines` into machines: machine files, the built-in `local`, ssh destinations. It reads
 * files and asks no machine anything.
 */
import { readFile, realpath, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { MachineConfigError, UsageError } from '../domain/errors.ts';
import { machineName } from '../domain/machine.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { DEFAULT_START_SPACING_MS, localMachine, type MachineConfig } from './config.ts';
import type { MachineFile } from './machine-file.ts';
import { parseSshDestination } from './ssh-destination.ts';

const MOST_FILE_BYTES = 1024 * 1024;

/** A machine and the way to it. */
export interface MachineEntry {
  readonly kind: 'local' | 'ssh';
  readonly config: MachineConfig;
}

/** What the names stand for. */
export interface FoundMachines {
  readonly machines: readonly MachineEntry[];
  /** One line each. */
  readonly warnings: readonly string[];
  /**
   * Absolute paths of the machine files that were read and of the keys they name (links resolved as well): never to
   * be sent to a machine.
   */
  readonly sensitivePaths: readonly string[];
}

/** Where to look. */
export interface FindMachinesOptions {
  /** @default the working directory */
  readonly cwd?: string;
  /** @default the user's home folder */
  readonly home?: string;
}

/**
 * Finds the machines that names stand for. A name with a slash or ending in `.yaml` is a file and nothing else; another
 * is looked for as NAME.yaml here, as NAME.yaml and NAME in `~/.local/var/`, then is `local` or an ssh destination.
 * @throws UsageError for a name that is none of these, for no names, and for two machines of one name.
 * @throws MachineConfigError for a mistake in a file.
 */
export async function findMachines(
  names: readonly string[],
  options: FindMachinesOptions = {},
): Promise<FoundMachines> {
  const { cwd = process.cwd(), home = homedir() } = options;
  if (names.length === 0) {
    throw new UsageError('found no machine, expected machine files, `local` or user@host behind --machines');
  }
  const machines: MachineEntry[] = [];
  const warnings: string[] = [];
  const sensitivePaths = new Set<string>();
  const filesRead = new Map<string, string>();
  for (const name of names) {
    const { path, searched } = await findFile(name, cwd, home);
    if (path === undefined) {
      machines.push(withoutFile(name, searched));
      continue;
    }
    const real = await realpath(path);
    const twin = filesRead.get(real);
    if (twin !== undefined)
      throw new UsageError(`found the machine file ${path} twice, as ${twin} and as ${name}`);
    filesRead.set(real, name);
    const file = await readMachineFile(path, home);
    warnings.push(...file.warnings);
    machines.push(...file.machines.map((config) => ({ kind: 'ssh', config }) as const));
    const keys = file.machines.flatMap(({ sshKeyPath }) => sshKeyPath ?? []);
    for (const sensitive of [path, ...keys]) sensitivePaths.add(sensitive).add(await realpath(sensitive));
  }
  refuseSameNames(machines.map(({ config }) => config));
  return { machines, warnings, sensitivePaths: [...sensitivePaths] };
}

interface FileSearch {
  readonly path: string | undefined;
  /** The paths that were tried and are no file. */
  readonly searched: readonly string[];
}

async function findFile(name: string, cwd: string, home: string): Promise<FileSearch> {
  if (name.startsWith('ssh://')) return { path: undefined, searched: [] };
  const shared = join(home, '.local', 'var');
  const hasSlash = name.includes('/');
  const isFileName = hasSlash || name.endsWith('.yaml');
  // A quoted `~` reaches us as it stands.
  const here = resolve(cwd, hasSlash ? name.replace(/^~(?=\/)/, () => home) : name);
  const candidates = hasSlash
    ? [here]
    : isFileName
      ? [here, join(shared, name)]
      : [`${here}.yaml`, join(shared, `${name}.yaml`), join(shared, name)];
  for (const path of candidates) if (await isFile(path)) return { path, searched: [] };
  if (!isFileName) return { path: undefined, searched: candidates };
  const places = candidates.map(visibleText).join(' or ');
  throw new UsageError(`found no file ${places}, expected the machine file that --machines names`);
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code; // what stat throws
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG') return false;
    throw unreadable(path, error);
  }
}

async function readMachineFile(path: string, home: string): Promise<MachineFile> {
  // Loaded here, so that a command that names no file does not wait for the YAML parser.
  const { parseMachineFile, warnOfReadableSecrets } = await import('./machine-file.ts');
  const { size } = await stat(path);
  const text = size > MOST_FILE_BYTES ? undefined : await readFile(path, 'utf8').catch(rethrow(path));
  if (text === undefined || text.includes('\0')) {
    throw new MachineConfigError(
      `${path}:1:1: found a file that is no text of at most 1 MiB, expected a machine file`,
    );
  }
  const file = parseMachineFile(text, path, { home });
  const warning = await warnOfReadableSecrets(path, file.machines);
  return {
    machines: file.machines,
    warnings: warning === undefined ? file.warnings : [...file.warnings, warning],
  };
}

function rethrow(path: string): (error: unknown) => never {
  return (error) => {
    throw unreadable(path, error);
  };
}

function unreadable(path: string, cause: unknown): MachineConfigError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MachineConfigError(
    `${path}:1:1: found a file that cannot be read (${why}), expected a machine file`,
    { cause },
  );
}

function withoutFile(name: string, searched: readonly string[]): MachineEntry {
  if (name === 'local') return { kind: 'local', config: localMachine() };
  const destination = parseSshDestination(name);
  if (destination === undefined) {
    const shown = cutToWidth(visibleText(name), 80);
    throw new UsageError(
      `found the machine "${shown}", expected a machine file (ending in .yaml or with a slash), \`local\` or [user@]host[:port]`,
    );
  }
  const config: MachineConfig = {
    ...destination,
    name: machineName(name),
    env: {},
    startSpacingMs: DEFAULT_START_SPACING_MS,
    source: { type: 'destination', destination: name, searched },
  };
  return { kind: 'ssh', config };
}

function refuseSameNames(machines: readonly MachineConfig[]): void {
  const byName = new Map<string, MachineConfig>();
  for (const machine of machines) {
    const other = byName.get(machine.name);
    if (other !== undefined) {
      const places = `${placeOf(other)} and ${placeOf(machine)}`;
      throw new UsageError(
        `found two machines named "${machine.name}": ${places}; expected a name of its own for each (\`name:\` in a machine file gives one)`,
      );
    }
    byName.set(machine.name, machine);
  }
}

function placeOf({ source }: MachineConfig): string {
  switch (source.type) {
    case 'file':
      return `${source.path}:${source.line}`;
    case 'destination':
      return `--machines ${visibleText(source.destination)}`;
    case 'builtin':
      return 'the built-in machine';
  }
}
