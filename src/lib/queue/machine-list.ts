/**
 * The list of the machines that a queue service has, as a file in its data folder: what people added, in their order. It
 * holds no password: a machine file stays where it is, and is read again at each start.
 */
import { isAbsolute, join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { type MachineName, machineName } from '../domain/machine.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import { machineWithoutFile } from '../machine/machine-entry.ts';
import * as check from '../stores/queue-check.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** One machine of the list. */
export interface ListedMachine {
  readonly name: MachineName;
  /** Absolute path of the machine file that has it, its ssh destination, or `local`. */
  readonly from: string;
  /** Variables that its jobs get over those of its machine file. */
  readonly env?: Readonly<Record<string, string>>;
  /** The most jobs of ours at once, in place of what its machine file says; 0: it gets no new ones. */
  readonly maxJobs?: number;
  /** It gets no new jobs, and goes when the last has ended. @default false */
  readonly isLeaving?: boolean;
  /** Nobody has looked whether we can log in there. @default false */
  readonly skipCheck?: boolean;
  /** Nobody named it: it is there for want of others, and goes when a start names some. @default false */
  readonly isDefault?: boolean;
}

const FILE = 'machines.json';

/** What the verbs call all machines, or whichever fits. */
const WORDS: readonly string[] = ['all', 'any'];

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

const name: check.Check = (value, path) => {
  check.filledText(value, path);
  const problem = nameProblem(value as string); // as was checked
  if (problem !== undefined) check.mistake(path, problem, value);
};

const source: check.Check = (value, path) => {
  check.filledText(value, path);
  if (!isSource(value as string))
    check.mistake(path, 'an absolute path of a machine file, [user@]host[:port] or local', value);
};

/** Whether these are variables for jobs. */
export const checkEnvironment: check.Check = (value, path) => {
  check.mapOf(check.text)(value, path);
  for (const [key, one] of Object.entries(value as Record<string, string>)) {
    const problem = variableProblem(key, one);
    if (problem !== undefined) throw new UsageError(`${path}.${key}: ${problem}`);
  }
};

const listed = check.fields(
  { name, from: source },
  {
    env: checkEnvironment,
    maxJobs: check.wholeFrom(0),
    isLeaving: check.truth,
    skipCheck: check.truth,
    isDefault: check.truth,
  },
);

const file = check.fields({ machines: check.listOf(listed) });

/** What a machine's name has to be, where this is none; undefined for a good one. */
export function nameProblem(text: string): string | undefined {
  if (WORDS.includes(text))
    return `another name than ${WORDS.join(' or ')}, which mean more than one machine`;
  return /^\d+$/.test(text) ? 'a name that is no number, since a number means a job' : undefined;
}

/** Why this cannot be a variable of a job's environment; undefined when it can. */
function variableProblem(key: string, value: string): string | undefined {
  if (!VARIABLE.test(key)) return 'expected a name of letters, digits and _, no digit first';
  return value.includes('\0') ? 'expected text without a zero byte' : undefined;
}

/** What a list has to remember of a machine to find it again. */
export function sourceOf({ config }: MachineEntry): string {
  switch (config.source.type) {
    case 'file':
      return config.source.path;
    case 'destination':
      return config.source.destination;
    case 'builtin':
      return 'local';
  }
}

function isSource(text: string): boolean {
  if (isAbsolute(text)) return !text.includes('\0');
  try {
    machineWithoutFile(text, []);
    return true;
  } catch {
    return false;
  }
}

/** Checks a list of machines that people may have edited. @throws UsageError with the path of the first mistake */
export function checkMachines(value: unknown, path: string): readonly ListedMachine[] {
  check.listOf(listed)(value, path);
  const machines = value as readonly ListedMachine[]; // as was checked
  const seen = new Set<string>();
  for (const [index, one] of machines.entries()) {
    if (seen.has(one.name)) check.mistake(`${path}[${index}].name`, 'each name once', one.name);
    seen.add(one.name);
    // A machine that no file names goes by its destination.
    if (!isAbsolute(one.from) && one.name !== one.from)
      check.mistake(`${path}[${index}].name`, `the destination "${one.from}" itself`, one.name);
  }
  return machines.map((one) => ({ ...one, name: machineName(one.name) }));
}

/** The machines of a queue service; every change is on the disk when the call returns. */
export class MachineList {
  readonly #path: string;
  #machines: ReadonlyMap<string, ListedMachine>;

  private constructor(path: string, machines: readonly ListedMachine[]) {
    this.#path = path;
    this.#machines = byName(machines);
  }

  /** Reads the list of a data folder; empty where there is none. @throws UsageError with the place of a mistake */
  static open(folder: string): MachineList {
    const path = join(folder, FILE);
    const value = readJson(path);
    if (value === undefined) return new MachineList(path, []);
    try {
      file(value, '');
      return new MachineList(path, checkMachines((value as { machines: unknown }).machines, 'machines'));
    } catch (error) {
      if (error instanceof UsageError) throw new UsageError(`${path}: ${error.message}`);
      throw error;
    }
  }

  /** In the order in which they were added. */
  get machines(): readonly ListedMachine[] {
    return [...this.#machines.values()];
  }

  get(name: string): ListedMachine | undefined {
    return this.#machines.get(name);
  }

  /** Adds machines; those that have a name of the list take its place. @throws an error of the file system; then nothing has changed */
  set(machines: readonly ListedMachine[]): void {
    this.#write([...byName([...this.machines, ...machines]).values()]);
  }

  /** @throws an error of the file system; then nothing has changed */
  delete(name: string): void {
    this.#write(this.machines.filter((one) => one.name !== name));
  }

  /** For an export; `checkMachines` reads it. */
  toJSON(): readonly ListedMachine[] {
    return this.machines;
  }

  #write(machines: readonly ListedMachine[]): void {
    writePrivateFile(this.#path, `${JSON.stringify({ machines }, null, 2)}\n`);
    this.#machines = byName(machines);
  }
}

function byName(machines: readonly ListedMachine[]): ReadonlyMap<string, ListedMachine> {
  return new Map(machines.map((one) => [one.name, one]));
}

function readJson(path: string): unknown {
  let text: string | undefined;
  try {
    text = readPrivateFile(path);
  } catch (error) {
    throw new UsageError(`cannot read the list of machines ${path}: ${(error as Error).message}`);
  }
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    // The parser's message may quote the file, and so an environment with secrets: its first words say enough.
    const why = /at position \d+( \(line \d+ column \d+\))?/.exec((error as Error).message)?.[0];
    throw new UsageError(
      `${path}: found no JSON${why === undefined ? '' : ` ${why}`}, expected the list of machines`,
    );
  }
}
