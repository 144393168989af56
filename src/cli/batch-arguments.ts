/** The command line of execute_batch: what it takes, and what it means in the library's words. */
import type { Argv } from 'yargs';
import type { SurvivalOptions } from '../lib/batch/survival-options.ts';
import { UsageError } from '../lib/domain/errors.ts';
import type { Job } from '../lib/domain/job.ts';
import type { ResourceRequest } from '../lib/domain/resources.ts';
import { nearestWord } from '../lib/util/nearest-word.ts';
import { TOOL_VERSION } from '../lib/util/tool-version.ts';
import { MODE_OPTIONS, type Mode, readMode } from './batch-mode.ts';
import { readRequest } from './resource-arguments.ts';
import { readSurvivalOptions, SURVIVAL_OPTIONS } from './survival-arguments.ts';

/** What the user asked for. */
export interface BatchArguments {
  readonly mode: Mode;
  /** Empty where none is named, in modes that need none. */
  readonly file: string;
  /** Empty only in modes that can do with the machines of the last run, and where a batch is watched that runs already. */
  readonly machines: readonly string[];
  /** A live view is wanted. */
  readonly isWatched: boolean;
  readonly copyForwards: Job['copyForwards'];
  readonly shareForwards: Job['shareForwards'];
  readonly copyBackwards: Job['copyBackwards'];
  readonly request: ResourceRequest;
  readonly placement: 'spread' | 'pack';
  readonly results: string;
  readonly dryRun: boolean;
  readonly verbose: boolean;
  readonly joblog: string | undefined;
  readonly json: boolean;
  readonly sshConfig: string | undefined;
  readonly survival: SurvivalOptions;
  /** Where the lines without a good result are written. */
  readonly failedLines: string | undefined;
}

const SURVIVAL_VALUES = [
  'timeout',
  'kill-after',
  'retries',
  'retry-on',
  'oom-grow',
  'halt',
  'machine-lost-after',
  'max-output',
] as const;

/** What runs where, as yargs wants it. */
const RUN_OPTIONS = {
  machines: {
    type: 'string',
    array: true,
    requiresArg: true,
    describe:
      'machine files, `local`, ssh destinations (user@host:port, aliases), or lists of these (gpu[01-12],@rack,!gpu07)',
  },
  'copy-forwards': {
    type: 'string',
    array: true,
    describe:
      'paths to send to the machines [all of the working directory but .git, the results, virtual environments, __pycache__, machine files, and what .jobignore says]',
  },
  'share-forwards': {
    type: 'string',
    array: true,
    describe:
      'large inputs, sent once per machine and linked into every job instead of copied; not to be written to',
  },
  'copy-backwards': {
    type: 'string',
    array: true,
    describe: 'paths to bring back, wildcards allowed [all that the job created or changed]',
  },
  'num-cpus': { type: 'string', requiresArg: true, describe: 'CPU cores per job [1]' },
  'memory-required': {
    type: 'string',
    requiresArg: true,
    describe: 'memory per job in MB, or 3G [7000]',
  },
  'gpu-memory-required': {
    type: 'string',
    requiresArg: true,
    describe: 'memory per job on each of its GPUs in MB, or 3G [1000]',
  },
  'gpu-utilization': {
    type: 'string',
    requiresArg: true,
    describe: 'share of a GPU per job, 0 to 1 [0.75]',
  },
  'num-gpus': { type: 'string', requiresArg: true, describe: 'GPUs per job, all on one machine [1]' },
  'no-gpu-required': { type: 'boolean', describe: 'jobs need no GPU' },
  'no-reserve-gpu': { type: 'boolean', describe: 'let jobs share a GPU' },
  reserve: { type: 'boolean', describe: 'a whole machine per job' },
  placement: {
    type: 'string',
    choices: ['spread', 'pack'],
    default: 'spread',
    describe: 'use the emptiest or the fullest machine that fits',
  },
  results: { type: 'string', requiresArg: true, default: 'job_results', describe: 'results folder' },
  'dry-run': {
    type: 'boolean',
    default: false,
    describe: 'ask the machines, print what would start where, run nothing',
  },
  verbose: {
    type: 'boolean',
    default: false,
    describe: 'also print what the jobs print, and more of what happens',
  },
  joblog: {
    type: 'string',
    requiresArg: true,
    describe: "write GNU parallel's job log (+FILE appends, - is stdout)",
  },
  json: {
    type: 'boolean',
    default: false,
    describe: 'print events as JSON, one a line, instead of text',
  },
  'ssh-config': {
    type: 'string',
    requiresArg: true,
    describe: 'another ssh configuration file, as ssh -F',
  },
} as const;
const OPTIONS = { ...RUN_OPTIONS, ...SURVIVAL_OPTIONS, ...MODE_OPTIONS } as const;

/** Declares the command line. */
function declare(cli: Argv) {
  return (
    cli
      .scriptName('execute_batch')
      .usage(
        '$0 FILE --machines NAME...\n\nRuns each line of FILE as a job, on the machine and GPU where it fits.',
      )
      // `--no-gpu-required` is a flag of its own here, not the negation of `--gpu-required`.
      .parserConfiguration({
        'boolean-negation': false,
        'duplicate-arguments-array': true,
        'parse-positional-numbers': false,
      })
      .command('$0 [file]', false, (command) =>
        command.positional('file', { type: 'string', describe: 'one shell command per line' }),
      )
      .group(Object.keys(RUN_OPTIONS), 'Options:') // before the other groups in --help
      .options(OPTIONS)
      .completion('completion', 'print a script for shell completion')
      .epilogue(
        'Exit code: 0 when every line has a good result; 1-100 lines without one (101: more); 255 anything else; 130 after Ctrl-C twice. Running the same command again goes on where an earlier run was left.',
      )
      .version(TOOL_VERSION)
      .strict()
      .wrap(110)
  );
}

/**
 * Reads the command line. Help, version and completion print and exit themselves.
 * @throws UsageError with one line that says what is wrong.
 */
export async function parseBatchArguments(argv: readonly string[]): Promise<BatchArguments> {
  const { default: yargs } = await import('yargs');
  const parsed = await declare(yargs([...argv]))
    .fail((message, error) => {
      throw error instanceof UsageError ? error : new UsageError(explain(message ?? error.message));
    })
    .parseAsync();
  const text = (value: unknown, flag: string): string | undefined => {
    if (Array.isArray(value))
      throw new UsageError(`--${flag} was given ${value.length} times, expected once`);
    return typeof value === 'string' ? value : undefined;
  };
  const request = readRequest((flag) => {
    const value: unknown = parsed[flag];
    return value === true ? true : text(value, flag);
  });
  const joblog = text(parsed.joblog, 'joblog');
  if (parsed.json && joblog === '-')
    throw new UsageError('--json and --joblog - both write to stdout: give the job log a file');
  const survivalTexts: Partial<Record<(typeof SURVIVAL_VALUES)[number], string>> = {};
  for (const flag of SURVIVAL_VALUES) {
    const value = text(parsed[flag], flag);
    if (value !== undefined) survivalTexts[flag] = value;
  }
  const { file } = parsed as { file?: unknown }; // yargs does not type a default command's positional
  const machines = parsed.machines ?? [];
  const { json, 'dry-run': dryRun } = parsed;
  const mode = readMode(parsed, { file, machines, dryRun, json, joblog });
  return {
    mode,
    file: typeof file === 'string' ? file : '',
    machines,
    isWatched: parsed.watch === true,
    copyForwards: parsed['copy-forwards'] ?? 'working-directory',
    shareForwards: parsed['share-forwards'] ?? [],
    copyBackwards: parsed['copy-backwards'] ?? 'changed',
    request,
    placement: parsed.placement,
    results: text(parsed.results, 'results') ?? 'job_results',
    dryRun,
    verbose: parsed.verbose,
    joblog,
    json,
    sshConfig: text(parsed['ssh-config'], 'ssh-config'),
    survival: readSurvivalOptions(survivalTexts, {
      rerunFailed: parsed['rerun-failed'] === true,
      keepGoingOnBadMachines: parsed['keep-going-on-bad-machines'] === true,
    }),
    failedLines: text(parsed['failed-lines'], 'failed-lines'),
  };
}

/** Says what yargs says, in one line. */
function explain(message: string): string {
  const line = message.replaceAll(/\s*\n\s*/g, ' ').trim();
  const [, unknown] = /^Unknown arguments?: ([^\s,]+)/.exec(line) ?? [];
  if (unknown === undefined) return line;
  const near = nearestWord(unknown, Object.keys(OPTIONS));
  return `unknown flag --${unknown}${near === undefined ? '' : ` (did you mean --${near}?)`}`;
}
