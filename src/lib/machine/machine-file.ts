/**
 * Reads a machine file: one block, `machines:` with a block for each name, or a list of blocks; beside `machines:` there
 * may be `groups:`. Every mistake is one MachineConfigError that names line and column; a password never gets into a
 * message.
 */
import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isMap, isSeq, LineCounter, parseDocument, type YAMLMap } from 'yaml';
import { MachineConfigError } from '../domain/errors.ts';
import type { MachineConfig } from './config.ts';
import { type HostGroup, readGroups } from './host-groups.ts';
import { readMachine } from './machine-block.ts';
import { kindOf, mistakeAt, YamlBlock, type YamlFile } from './yaml-block.ts';

// Each job gets its own values for these, so one in `env` would have no effect.
const SET_PER_JOB: readonly string[] = [
  'CUDA_VISIBLE_DEVICES',
  'CUDA_DEVICE_ORDER',
  'JOB_NAME',
  'JOB_ID',
  'JOB_ATTEMPT',
  'MACHINE_NAME',
];
// YAML's own messages are shown for these only: others may quote the file, and so a password.
const PLAIN_YAML_ERRORS: ReadonlySet<string> = new Set([
  'BAD_INDENT',
  'BAD_SCALAR_START',
  'BLOCK_AS_IMPLICIT_KEY',
  'DUPLICATE_KEY',
  'MISSING_CHAR',
  'TAB_AS_INDENT',
]);

/** What a machine file says. */
export interface MachineFile {
  readonly machines: readonly MachineConfig[];
  /** Names for lists of hosts. Absent where the file has no `groups:`. */
  readonly groups?: ReadonlyMap<string, HostGroup>;
  /** One line each. */
  readonly warnings: readonly string[];
}

/** How to read one. */
export interface ParseMachineFileOptions {
  /** What `~` means in `ssh_key_path`. @default the user's home folder */
  readonly home?: string;
}

/**
 * Reads the text of a machine file. `path` names it in messages; relative key paths are seen from its folder.
 * @throws MachineConfigError `file:line:column: found ..., expected ...` at the first mistake.
 */
export function parseMachineFile(
  text: string,
  path: string,
  options: ParseMachineFileOptions = {},
): MachineFile {
  const home = options.home ?? homedir();
  const file = parseYaml(text, path);
  const root = file.document.contents;
  const warnings: string[] = [];
  const machines: MachineConfig[] = [];
  const groups = isMap(root) && root.has('groups') ? readGroupsBeside(file, root) : undefined;
  for (const [node, key] of blocksIn(file, root)) {
    if (!isMap(node))
      throw mistakeAt(file, node, kindOf(node), 'a block of `key: value` lines for one machine');
    const machine = readMachine(new YamlBlock(file, node), { key, alone: node === root, home });
    const earlier = machines.find((other) => other.name === machine.name);
    if (earlier?.source.type === 'file') {
      const found = `the machine name "${machine.name}" again (first on line ${earlier.source.line})`;
      throw mistakeAt(file, node, found, 'a name of its own for each machine; `name:` gives one');
    }
    machines.push(machine);
    for (const name of SET_PER_JOB) {
      if (machine.env[name] === undefined) continue;
      warnings.push(`${path}: ${machine.name}: ${name} in env has no effect, each job gets its own`);
    }
  }
  return groups === undefined ? { machines, warnings } : { machines, groups, warnings };
}

/** A warning when the file holds a password or passphrase and others than its owner may read it. */
export async function warnOfReadableSecrets(
  path: string,
  machines: readonly MachineConfig[],
): Promise<string | undefined> {
  if (!machines.some((machine) => machine.password ?? machine.passphrase)) return undefined;
  const { mode } = await stat(path);
  const others = [(mode & 0o040) !== 0 ? 'its group' : '', (mode & 0o004) !== 0 ? 'everybody' : ''].filter(
    Boolean,
  );
  if (others.length === 0) return undefined;
  return `${path} holds a password or passphrase and can be read by ${others.join(' and ')}: run chmod 600 ${path}`;
}

function parseYaml(text: string, path: string): YamlFile {
  const lines = new LineCounter();
  // A document's own pretty errors quote the file.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'silent' });
  const file = { path, document, lines };
  const error = document.errors[0];
  if (error !== undefined) {
    const why = PLAIN_YAML_ERRORS.has(error.code) ? `: ${error.message}` : '';
    const { line, col } = lines.linePos(error.pos[0]);
    throw new MachineConfigError(
      `${path}:${line}:${col}: found what is not YAML${why}, expected \`key: value\` lines`,
    );
  }
  return file;
}

/** The nodes that should be blocks, each with its key in `machines:` where it has one. */
function blocksIn(file: YamlFile, root: unknown): (readonly [node: unknown, key?: string])[] {
  const wanted = 'a block with `ip:`, or `machines:` with a block for each name, or a list of blocks';
  if (isSeq(root)) return listed(file, root, root.items);
  if (!isMap(root)) throw mistakeAt(file, root, root === null ? 'an empty file' : kindOf(root), wanted);
  const top = new YamlBlock(file, root);
  const machines = top.at('machines');
  if (machines === undefined && !root.has('groups')) return [[root]];
  top.refuseUnknownKeys(['machines', 'groups']);
  if (machines === undefined) return [];
  if (isSeq(machines)) return listed(file, machines, machines.items);
  if (!isMap(machines) || machines.items.length === 0) {
    throw top.mistake('machines', isMap(machines) ? 'no machine' : kindOf(machines), 'a block for each name');
  }
  const inner = new YamlBlock(file, machines);
  return machines.items.map(({ key }) => {
    const name = String(key);
    return [inner.at(name), name];
  });
}

function readGroupsBeside(file: YamlFile, root: YAMLMap): ReadonlyMap<string, HostGroup> {
  const [alone] = root.items.filter(({ key }) => !['machines', 'groups'].includes(String(key)));
  if (alone !== undefined && !root.has('machines')) {
    const key = root.items.find((pair) => String(pair.key) === 'groups')?.key;
    throw mistakeAt(
      file,
      key,
      'groups beside the keys of one machine',
      '`machines:` with a block for each name, and `groups:` beside it',
    );
  }
  return readGroups(new YamlBlock(file, root));
}

function listed(file: YamlFile, list: unknown, items: readonly unknown[]): (readonly [node: unknown])[] {
  if (items.length === 0) throw mistakeAt(file, list, 'an empty list', 'a block for each machine');
  return items.map((item) => [item]);
}
