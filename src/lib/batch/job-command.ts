/**
 * The grammar of one `execute_remote` call, the same for the words of a batch line and for the command's own arguments:
 *
 *   [--flag value | --flag=value | --list word... | --switch]... [--] 'command'
 *
 * A list takes every word up to the next flag or `--`; `--list=word` takes just that one; a repeated list grows; an
 * empty list means none. Everything behind `--` is the command, and a command is exactly one word, so it is quoted.
 */
import { UsageError } from '../domain/errors.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import { checkJobName } from '../runner/job-name.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { parseSizeMiB } from '../util/size.ts';
import { visibleText } from '../util/terminal-text.ts';

/** What one `execute_remote` call says; what it does not say is absent. */
export interface JobCommand {
  /** Run under bash exactly as it stands. */
  readonly command: string;
  /** A machine as the user named it. Without effect in a batch line. */
  readonly machine?: string;
  readonly jobName?: string;
  /** Paths that go to the machine; empty for none. */
  readonly copyForwards?: readonly string[];
  /** Paths that go to the machine once and are linked into the job's folder; empty for none. */
  readonly shareForwards?: readonly string[];
  /** Paths brought home; empty for none. */
  readonly copyBackwards?: readonly string[];
  /** Without effect in a batch line. */
  readonly verbose: boolean;
  /** What the resource flags say; always empty in the cli. */
  readonly request: Partial<ResourceRequest>;
}

/** Where a call stands. In the `cli` it takes no resource flags: it runs on the machine it names, at once. */
export interface JobCommandOptions {
  readonly context: 'line' | 'cli';
}

const LISTS = ['--copy-forwards', '--share-forwards', '--copy-backwards'];
const VALUES = ['--machine', '--job-name'];

/** The resource flags that take a value, each with what it says about a request. */
const RESOURCE_VALUES: Readonly<Record<string, (text: string, flag: string) => Partial<ResourceRequest>>> = {
  '--memory-required': (text, flag) => ({ memoryMiB: parseSize(text, flag) }),
  '--gpu-memory-required': (text, flag) => ({ gpuMemoryMiB: parseSize(text, flag) }),
  '--num-cpus': (text, flag) => ({
    cpuCores: parseNumber(
      text,
      flag,
      (cores) => cores > 0 && cores <= 100_000,
      'a number of cores above 0, such as 2 or 0.5',
    ),
  }),
  '--num-gpus': (text, flag) => ({
    gpus: parseNumber(
      text,
      flag,
      (gpus) => Number.isInteger(gpus) && gpus <= 1024,
      'a whole number from 0 to 1024',
    ),
  }),
  '--gpu-utilization': (text, flag) => ({
    gpuUtilization: parseNumber(
      text,
      flag,
      (share) => share <= 1,
      'a share of one GPU from 0 to 1, such as 0.5',
    ),
  }),
};

const RESOURCE_SWITCHES: Readonly<Record<string, Partial<ResourceRequest>>> = {
  '--no-gpu-required': { gpus: 0 },
  '--no-reserve-gpu': { reserveGpu: false },
  '--reserve': { reserveMachine: true },
};

const NUMBER = /^(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})$/;

function parseSize(text: string, flag: string): number {
  try {
    return parseSizeMiB(text);
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(`${flag}: ${error.message}`, { cause: error });
    throw error;
  }
}

function parseNumber(
  text: string,
  flag: string,
  accepts: (value: number) => boolean,
  expected: string,
): number {
  const value = NUMBER.test(text) ? Number(text) : Number.NaN;
  if (!accepts(value)) throw wrongValue(flag, text, expected);
  return value;
}

function wrongValue(flag: string, text: string, expected: string): UsageError {
  return new UsageError(`${flag}: found ${quoted(text)}, expected ${expected}`);
}

/**
 * What one resource flag says about a request, for any command that takes such flags; a switch has no value.
 * @throws UsageError when it is no resource flag or its value is not what it expects.
 */
export function parseResourceFlag(flag: string, value?: string): Partial<ResourceRequest> {
  const parse = RESOURCE_VALUES[flag];
  if (parse && value !== undefined) return parse(value, flag);
  const meaning = RESOURCE_SWITCHES[flag];
  if (meaning && value === undefined) return meaning;
  if (parse) throw new UsageError(`${flag} needs a value`);
  if (meaning) throw new UsageError(`${flag} takes no value, found ${quoted(value ?? '')}`);
  throw new UsageError(`${flag} is not a resource flag`);
}

/**
 * Reads the words behind `execute_remote`.
 * @throws UsageError with one message that says what was found and what is expected.
 */
export function parseJobCommand(argv: readonly string[], options: JobCommandOptions): JobCommand {
  const lists = new Map<string, string[]>();
  const values = new Map<string, string>();
  const commands: string[] = [];
  let verbose = false;
  let request: Partial<ResourceRequest> = {};
  /** The list that takes the words that follow, if one does. */
  let open: string[] | undefined;

  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--') {
      commands.push(...argv.slice(at + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      (open ?? commands).push(word);
      continue;
    }
    open = undefined;
    const [flag, inline] = splitFlag(word);
    if (LISTS.includes(flag)) {
      const list = lists.get(flag) ?? [];
      lists.set(flag, list);
      if (inline === undefined) open = list;
      else list.push(inline);
    } else if (VALUES.includes(flag) || flag in RESOURCE_VALUES) {
      if (options.context === 'cli' && flag in RESOURCE_VALUES) throw noResourceFlags(flag);
      const value = inline ?? argv[++at];
      if (value === undefined || (inline === undefined && /^-(?!\.?\d)/.test(value))) {
        throw new UsageError(
          `${flag} needs a value, found ${value === undefined ? 'nothing behind it' : quoted(value)}`,
        );
      }
      if (value === '') throw new UsageError(`${flag} needs a value, found an empty one`);
      if (values.has(flag)) throw new UsageError(`${flag} is given twice`);
      values.set(flag, value);
      if (flag in RESOURCE_VALUES) request = { ...request, ...parseResourceFlag(flag, value) };
    } else if (flag in RESOURCE_SWITCHES) {
      if (options.context === 'cli') throw noResourceFlags(flag);
      values.set(flag, ''); // remembered for what contradicts it
      request = { ...request, ...parseResourceFlag(flag, inline) };
    } else if (flag === '--verbose') {
      if (inline !== undefined) throw new UsageError(`--verbose takes no value, found ${quoted(inline)}`);
      verbose = true;
    } else {
      throw unknownFlag(flag, commands, options);
    }
  }

  for (const [flag, list] of lists) {
    if (list.includes('')) throw new UsageError(`${flag} names an empty path`);
  }
  if (values.has('--no-gpu-required') && Number(values.get('--num-gpus') ?? 0) > 0) {
    throw new UsageError('--no-gpu-required and --num-gpus contradict each other: give one of them');
  }
  const jobName = values.get('--job-name');
  if (jobName !== undefined) checkJobName(jobName);
  const machine = values.get('--machine');
  const copyForwards = lists.get('--copy-forwards');
  const shareForwards = lists.get('--share-forwards');
  const copyBackwards = lists.get('--copy-backwards');
  return {
    command: theCommand(commands, lists),
    ...(machine === undefined ? {} : { machine }),
    ...(jobName === undefined ? {} : { jobName }),
    ...(copyForwards === undefined ? {} : { copyForwards }),
    ...(shareForwards === undefined ? {} : { shareForwards }),
    ...(copyBackwards === undefined ? {} : { copyBackwards }),
    verbose,
    request,
  };
}

function splitFlag(word: string): [flag: string, inline: string | undefined] {
  const equals = word.indexOf('=');
  return equals === -1 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)];
}

/** The one command word, or an error that explains what became of it. */
function theCommand(commands: readonly string[], lists: ReadonlyMap<string, readonly string[]>): string {
  const [command, second] = commands;
  if (command !== undefined && second !== undefined) {
    throw new UsageError(
      `found more than one command word (${quoted(command)}, ${quoted(second)}${commands.length > 2 ? ', ...' : ''}): ` +
        'put the whole command in quotes, and flags before it',
    );
  }
  if (command !== undefined) {
    if (command.trim() === '') throw new UsageError('the command is empty');
    return command;
  }
  // A word with a blank is far more often a command than a path; else the last list is the likeliest.
  const filled = [...lists].filter(([, words]) => words.length > 0);
  const swallower = filled.find(([, words]) => /\s/.test(words.at(-1) ?? '')) ?? filled.at(-1);
  if (!swallower)
    throw new UsageError("the command is missing: expected one word in quotes, such as 'python train.py'");
  const [flag, words] = swallower;
  const last = quoted(words.at(-1) ?? '');
  throw new UsageError(
    `the command is missing: ${flag} takes every word up to the next flag, and took ${last} too. ` +
      `If that is the command, put -- or another flag before it: ${flag} ${words.length > 1 ? '... ' : ''}-- ${last}`,
  );
}

function noResourceFlags(flag: string): UsageError {
  return new UsageError(
    `execute_remote takes no resource flags, found ${flag}: it runs on the machine it names, at once. ` +
      'Resources are for execute_batch and for the lines of its file',
  );
}

function unknownFlag(flag: string, commands: readonly string[], options: JobCommandOptions): UsageError {
  const resources = [...Object.keys(RESOURCE_VALUES), ...Object.keys(RESOURCE_SWITCHES)];
  const known = [...LISTS, ...VALUES, '--verbose', ...(options.context === 'line' ? resources : [])];
  const nearest = nearestWord(flag, known);
  const hint = nearest === undefined ? `known flags are ${known.join(' ')}` : `did you mean ${nearest}?`;
  const unquoted =
    commands.length > 0 ? `; if it belongs to the command, put the whole command in quotes` : '';
  return new UsageError(`unknown flag ${visibleText(flag)}: ${hint}${unquoted}`);
}

function quoted(text: string): string {
  return `'${visibleText(text)}'`;
}
