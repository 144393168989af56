/** The command line of `job_queue submit`: what it takes, and what it means. */
import { resolve } from 'node:path';
import { UsageError } from '../../lib/domain/errors.ts';
import type { SubmitRequest } from '../../lib/queue/requests.ts';
import { checkJobName } from '../../lib/runner/job-name.ts';
import { RESOURCE_SWITCHES, RESOURCE_VALUES, readRequest } from '../resource-arguments.ts';
import { readSurvivalOptions, type SurvivalTexts } from '../survival-arguments.ts';
import { parseArray, parseBegin, parseEnv, parseIdRange, parseWhole } from './values.ts';
import { badValue, quoted, type Words } from './words.ts';

export const SUBMIT_HELP = `job_queue submit [flags] SCRIPT ARGS...
job_queue submit [flags] --command 'CMD'
job_queue submit [flags] --command-file FILE
job_queue submit [flags] --run-here SCRIPT ARGS...

Gives jobs to the service and prints one line of JSON for each. Paths in a submit are the server's; SCRIPT and command
files are read here and sent as text. Everything behind SCRIPT belongs to the script: flags stand before it.

  --command 'CMD'          one job: this command, as one quoted word
  --command-file FILE      a job for each line; comments and execute_remote lines as in a file of execute_batch;
                           - reads standard input
  --run-here               SCRIPT runs on the service's machine, for a machine: with JOB_ID, SLAVE_IP, MACHINE_NAME,
                           MACHINE_USER and MACHINE_PORT; one such job per machine at a time
  --machine any|all|NAME   where it runs; all makes one job for each machine [any]

  --name NAME              what names of jobs and results begin with [job]: NAME_17
  --env K=V                a variable for the job; K alone takes its value from here; may be repeated
  --cwd DIR                folder that paths are relative to [this one; with --host the home folder]
  --results DIR            results folder [job_results]
  --stdout F, --stderr F   files for what it prints; %j is the job's id, %a its array index, %x its name
  --copy-forwards P...     paths to send to the machines; -- ends a list
  --share-forwards P...    large inputs, sent once per machine and linked into every job; not to be written to
  --copy-backwards P...    paths to bring back, wildcards allowed [all that the job created or changed]

  --num-cpus N             CPU cores per job [1]
  --memory-required M      memory per job in MB, or 3G [7000]
  --num-gpus N             GPUs per job, all on one machine [1]
  --no-gpu-required        jobs need no GPU
  --gpu-memory-required M  memory on each of its GPUs in MB, or 3G [1000]
  --gpu-utilization S      share of a GPU per job, 0 to 1 [0.75]
  --no-reserve-gpu         let jobs share a GPU
  --reserve                a whole machine per job
  --wait-for-machine       wait for a machine that can hold it, where none can now [refused]

  --priority N             higher ones first [0]
  --hold                   waits until job_queue release
  --depends-on ID[:ID...]  waits for these jobs; aborts when one of them fails
  --depends-on-any         with --depends-on: runs after any end of theirs
  --begin TIME             not before: @SECONDS, 2026-12-24T18:00, 18:00 (the next one), now+2h
  --array 1-100[:STEP][%5] once for each number, at most 5 at a time

  --timeout T              end a job that runs longer: 90, 5m, 1h30m, or 300% of the median so far
  --kill-after T           from TERM to KILL, for a job that is ended [10s]
  --retries N              further attempts for a failed job [0]
  --retry-on R,...         failures worth a retry: oom, timeout, transfer, exit:CODE [all]
  --oom-grow F             ask for so many times the memory that ran out, when tried again [1]
  --max-output M           keep so much of what a job prints, in MB or 3G, on each stream [all]

  --quiet                  print the ids alone

Example: job_queue submit --no-gpu-required --retries 2 --name train train.sh --epochs 10
`;

export const SUBMIT_FLAGS = {
  '--command': 'value',
  '--command-file': 'value',
  '--run-here': 'switch',
  '--machine': 'value',
  '--name': 'value',
  '--env': 'repeated',
  '--cwd': 'value',
  '--results': 'value',
  '--stdout': 'value',
  '--stderr': 'value',
  '--copy-forwards': 'list',
  '--share-forwards': 'list',
  '--copy-backwards': 'list',
  '--num-cpus': 'value',
  '--memory-required': 'value',
  '--gpu-memory-required': 'value',
  '--gpu-utilization': 'value',
  '--num-gpus': 'value',
  '--no-gpu-required': 'switch',
  '--no-reserve-gpu': 'switch',
  '--reserve': 'switch',
  '--wait-for-machine': 'switch',
  '--priority': 'value',
  '--hold': 'switch',
  '--depends-on': 'value',
  '--depends-on-any': 'switch',
  '--begin': 'value',
  '--array': 'value',
  '--timeout': 'value',
  '--kill-after': 'value',
  '--retries': 'value',
  '--retry-on': 'value',
  '--oom-grow': 'value',
  '--max-output': 'value',
  '--quiet': 'switch',
} as const;

const SURVIVAL = ['timeout', 'kill-after', 'retries', 'retry-on', 'oom-grow', 'max-output'] as const;
const LISTS = ['--copy-forwards', '--share-forwards', '--copy-backwards'] as const;
/** What means nothing to a script that runs on the service's machine. */
const NOT_HERE = [
  ...RESOURCE_VALUES.map((name) => `--${name}` as const),
  ...RESOURCE_SWITCHES.map((name) => `--${name}` as const),
  ...LISTS,
  ...(['--stdout', '--stderr', '--max-output', '--wait-for-machine'] as const),
];

type SubmitWords = Words<(keyof typeof SUBMIT_FLAGS | '--host') & string>;

/** What is to be run. */
export type SubmitWork =
  | { readonly type: 'command'; readonly command: string }
  | { readonly type: 'file'; readonly path: string }
  | { readonly type: 'script'; readonly path: string; readonly args: readonly string[] };

/** What the user asked for. */
export interface SubmitArguments {
  readonly work: SubmitWork;
  /** What all jobs have; the work itself is not in it yet. */
  readonly common: Omit<SubmitRequest, 'jobs' | 'script'>;
  readonly quiet: boolean;
}

/** What is around a command line. */
export interface SubmitHere {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Epoch milliseconds. */
  readonly now: number;
}

/** What the words of a submit mean. @throws UsageError */
export function readSubmit(
  words: SubmitWords,
  here: SubmitHere = { cwd: process.cwd(), env: process.env, now: Date.now() },
): SubmitArguments {
  const work = workOf(words);
  const runHere = words.has('--run-here');
  if (runHere) checkRunHere(words, work);
  const survivalTexts: Partial<Record<keyof SurvivalTexts, string>> = {};
  for (const name of SURVIVAL) {
    const text = words.value(`--${name}`);
    if (text !== undefined) survivalTexts[name] = text;
  }
  const { timeout, ...survival } = readSurvivalOptions(survivalTexts, {
    rerunFailed: false,
    keepGoingOnBadMachines: false,
  });
  const dependsOn = words.read('--depends-on', parseParents);
  if (words.has('--depends-on-any') && dependsOn === undefined)
    throw new UsageError(
      '--depends-on-any says nothing without --depends-on ID[:ID...]: after the end of which jobs?',
    );
  const name = words.value('--name');
  if (name !== undefined) checkJobName(name);
  const array = words.read('--array', parseArray);
  if (array !== undefined && words.value('--machine') === 'all')
    throw new UsageError('--array and --machine all contradict each other: give one of them');
  const common: Omit<SubmitRequest, 'jobs' | 'script'> = {
    request: readRequest((flag) => words.value(`--${flag}`) ?? (words.has(`--${flag}`) || undefined)),
    machine: words.value('--machine') ?? 'any',
    ...survival,
    ...(timeout?.type === 'fixed' && { timeoutMs: timeout.ms }),
    ...(timeout?.type === 'of-median' && { timeoutPercent: timeout.percent }),
    ...present({
      runHere: runHere || undefined,
      name,
      env: parseEnvWords(words, here.env),
      cwd: cwdOf(words, here.cwd),
      results: words.value('--results'),
      stdout: words.value('--stdout'),
      stderr: words.value('--stderr'),
      copyForwards: words.values('--copy-forwards'),
      shareForwards: words.values('--share-forwards'),
      copyBackwards: words.values('--copy-backwards'),
      priority: words.read('--priority', (text, flag) => parseWhole(text, flag)),
      hold: words.has('--hold') || undefined,
      dependsOn,
      dependsOnAny: words.has('--depends-on-any') || undefined,
      beginAt: words.read('--begin', (text, flag) => parseBegin(text, flag, here.now)),
      array,
      waitForMachine: words.has('--wait-for-machine') || undefined,
    }),
  };
  return { work, common, quiet: words.has('--quiet') };
}

const EXPECTED = "expected SCRIPT ARGS..., --command 'CMD' or --command-file FILE";

function workOf(words: SubmitWords): SubmitWork {
  const command = words.value('--command');
  const file = words.value('--command-file');
  const [script, ...args] = words.words;
  if (command !== undefined && file !== undefined)
    throw new UsageError('--command and --command-file contradict each other: give one of them');
  if (command !== undefined) {
    if (script !== undefined)
      throw new UsageError(
        `found ${quoted(script)} behind --command: expected the whole command as one quoted word, and no SCRIPT`,
      );
    if (command.trim() === '') throw new UsageError('--command: the command is empty');
    if (command.includes('\0')) throw new UsageError('--command: found a NUL byte, expected text');
    return { type: 'command', command };
  }
  if (file !== undefined) {
    if (script !== undefined)
      throw new UsageError(`found ${quoted(script)} besides --command-file: expected one of them`);
    return { type: 'file', path: file };
  }
  if (script === undefined) {
    const list = LISTS.findLast((flag) => words.has(flag));
    const hint = list === undefined ? '' : `; ${list} takes all words up to the next flag or --`;
    throw new UsageError(`nothing to run: ${EXPECTED}${hint}`);
  }
  if (script === '') throw new UsageError(`SCRIPT is empty: ${EXPECTED}`);
  return { type: 'script', path: script, args };
}

function checkRunHere(words: SubmitWords, { type }: SubmitWork): void {
  if (type !== 'script')
    throw new UsageError('--run-here runs a script: expected job_queue submit --run-here SCRIPT ARGS...');
  const flag = NOT_HERE.find((one) => words.has(one));
  if (flag !== undefined)
    throw new UsageError(
      `${flag} says nothing with --run-here: the script runs on the service's machine, one per machine at a time, and what it prints goes to job_<id>.txt in the log folder`,
    );
}

function parseParents(text: string, flag: string): readonly number[] {
  return [
    ...new Set(
      text.split(':').flatMap((word) => {
        try {
          return parseIdRange(word);
        } catch {
          throw badValue(flag, text, 'ids of jobs such as 17, 17:18 or 17-20');
        }
      }),
    ),
  ];
}

function parseEnvWords(words: SubmitWords, here: NodeJS.ProcessEnv) {
  const texts = words.values('--env');
  return texts === undefined ? undefined : parseEnv(texts, here);
}

/** Where the service is elsewhere, this folder says nothing: its paths are not ours. */
function cwdOf(words: SubmitWords, here: string): string | undefined {
  const named = words.value('--cwd');
  if (named === undefined) return words.has('--host') ? undefined : here;
  // Where the shell has left `~`, the service takes it for its user's home folder.
  if (/^(?:\/|~\/|~$)/.test(named)) return named;
  if (words.has('--host'))
    throw badValue('--cwd', named, 'an absolute path on the host of the service, or one that begins with ~/');
  return resolve(here, named);
}

/** The fields that are there. */
function present<T extends object>(fields: T): { [Field in keyof T]?: Exclude<T[Field], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [Field in keyof T]?: Exclude<T[Field], undefined>; // only what is undefined was left out
  };
}
