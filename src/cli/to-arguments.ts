/** The command line of execute_to: what it means. */
import { UsageError } from '../lib/domain/errors.ts';
import { DEFAULT_CONNECT_TIMEOUT_MS, DEFAULT_FANOUT, MOST_TIMER_MS } from '../lib/fanout/execute-to.ts';
import { checkJobName } from '../lib/runner/job-name.ts';
import { parseDurationMs } from '../lib/util/duration.ts';
import { behindCommand, type Flag, type Given, LISTS, quoted, readFlags } from './to-flags.ts';

export const HELP = `execute_to [options] HOSTS 'command'
execute_to [options] --machines F... -- [HOSTS] 'command'
execute_to --list HOSTS

Runs a command on many machines at once; each line that it prints comes with the machine's name before it.

  HOSTS                    with commas: machine files, names, ssh destinations (user@host:port, aliases), ranges
                           'gpu[01-12,15]', groups @lab, '^FILE' for the names in a file; '!gpu3' leaves one out.
                           In single quotes where it holds [, ! or ^, which shells read themselves
  --machines F...          machine files; HOSTS then picks among their machines [all of them]
  -x, --exclude HOSTS      leave these out; may be repeated
  --list                   print who is meant, one name per line, and run nothing; takes no command

  -b, --gather             at the end: machines with the same output and exit code under one heading
  -L, --lines-and-gather   lines as they come, and gathered at the end
  --diff                   at the end: only how the output of others differs from the most common one
  -N, --no-names           lines without the machine's name before them
  --json                   one JSON object per machine
  --outdir DIR             what each machine prints, also in a file of its own
  --verbose                tell what happens besides
  -S, --largest-exit-code  exit with the largest exit code instead of a number of machines

  -f, --fanout N           at most N machines at once [${DEFAULT_FANOUT}]
  -t, --connect-timeout T  give up connecting after T: 20, 90s, 5m [10s]
  -u, --timeout T          end the command where it runs longer than T [never]
  --fail-fast              after the first failure start nothing more, and end what runs
  --batches N|P%           so many machines, or percent of them, at a time: the next when all went well
  -n, --no-stdin           do not read standard input [a pipe or a file goes to every machine]; needed in loops
                           that read it themselves
  --ssh-config FILE        another ssh configuration file, as ssh -F

  --copy-forwards P...     paths to send first; the command runs in a folder that holds them
  --copy-backwards P...    paths to bring home to job_results/NAME/HOST/; needs --job-name. In the command's
                           folder, or absolute: /var/log/x comes home under HOST/var/log/x. Wildcards, but no ~
  --job-name NAME          the name for what comes home

  --                       ends a list of values, and the flags
  -h, --help, --version

Flags stand before the command, and the command is one quoted word:

  execute_to 'gpu[01-12]' 'nvidia-smi -L'
  execute_to -b -x gpu3 @lab 'uname -r'
  execute_to --machines lab.yaml --batches 10% -- 'sudo apt-get -y upgrade'
  execute_to gpu1,gpu2 'cat >> notes' < notes
  while read -r name; do execute_to -n @lab "useradd $name"; done < names.txt

Exit code: the number of machines where it failed, 101 for more than 100; 255 when the call is wrong or no machine
was reached.
`;

/** How results are shown. */
export interface OutputArguments {
  /**
   * `lines`: each line as it arrives. `gathered`: at the end, equal answers together. `both`: one, then the other.
   * `json`: one object per machine.
   */
  readonly form: 'lines' | 'gathered' | 'both' | 'json';
  /** Whether gathered answers are shown as differences from the most common one. Only where `form` gathers. */
  readonly diff: boolean;
  /** Whether lines have the machine's name before them; headings always have it. */
  readonly names: boolean;
  /** Folder for one file per machine. */
  readonly outdir?: string;
}

/** Which machines are meant. */
export interface ToHosts {
  /** As written. Absent: all machines of `machineFiles`. */
  readonly hosts?: string;
  readonly machineFiles: readonly string[];
  /** As written, one for each `--exclude`. */
  readonly exclude: readonly string[];
}

/** `--list`: print the names of the machines and run nothing. */
export interface ToList extends ToHosts {
  readonly list: true;
}

/** What the user asked to run; what has no default and was not given is absent. */
export interface ToArguments extends ToHosts {
  readonly command: string;
  readonly output: OutputArguments;
  /** Machines at once. */
  readonly fanout: number;
  readonly connectTimeoutMs: number;
  readonly timeoutMs?: number;
  readonly failFast: boolean;
  /** So many machines at a time, or so many percent of them (1 to 100). */
  readonly batches?: { readonly count: number } | { readonly percent: number };
  readonly copyForwards?: readonly string[];
  /** There if and only if `jobName` is. */
  readonly copyBackwards?: readonly string[];
  readonly jobName?: string;
  readonly verbose: boolean;
  /** Whether a pipe or file at standard input goes to the command. */
  readonly forwardStdin: boolean;
  /** Whether the exit code is the largest one instead of a count. */
  readonly largestExitCode: boolean;
  readonly sshConfig?: string;
}

const MOST_MACHINES = 9999;

/**
 * Reads the words behind `execute_to`. A `--list` is told by its `list`; flags about running change nothing there.
 * @throws UsageError with one message that says what was found and what is expected.
 */
export function parseToArguments(
  argv: readonly string[],
): ToArguments | ToList | { readonly help: string } | { readonly version: true } {
  const { given, words } = readFlags(argv);
  if (given.has('--help')) return { help: HELP };
  if (given.has('--version')) return { version: true };
  const machineFiles = listOf(given, '--machines') ?? [];
  const copyForwards = listOf(given, '--copy-forwards');
  const copyBackwards = listOf(given, '--copy-backwards');
  checkPatterns(copyBackwards ?? []);
  const exclude = given.get('--exclude') ?? [];
  if (given.has('--list')) return { list: true, ...hostsAlone(words, given), machineFiles, exclude };
  const { hosts, command } = hostsAndCommand(words, given);
  const jobName = given.get('--job-name')?.[0];
  if (copyBackwards !== undefined && jobName === undefined) {
    throw new UsageError(
      '--copy-backwards needs --job-name NAME: what comes home goes to job_results/NAME/HOST/',
    );
  }
  if (jobName !== undefined) {
    if (copyBackwards === undefined) {
      throw new UsageError(
        '--job-name says nothing without --copy-backwards P...: name what shall come home',
      );
    }
    checkJobName(jobName);
  }
  const outdir = given.get('--outdir')?.[0];
  const timeoutMs = read(given, '--timeout', parseTime);
  const batches = read(given, '--batches', parseBatches);
  const sshConfig = given.get('--ssh-config')?.[0];
  return {
    ...(hosts === undefined ? {} : { hosts }),
    machineFiles,
    exclude,
    command,
    output: {
      form: outputForm(given),
      diff: given.has('--diff'),
      names: !given.has('--no-names'),
      ...(outdir === undefined ? {} : { outdir }),
    },
    fanout: read(given, '--fanout', parseCount) ?? DEFAULT_FANOUT,
    connectTimeoutMs: read(given, '--connect-timeout', parseTime) ?? DEFAULT_CONNECT_TIMEOUT_MS,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    failFast: given.has('--fail-fast'),
    ...(batches === undefined ? {} : { batches }),
    ...(copyForwards === undefined ? {} : { copyForwards }),
    ...(copyBackwards === undefined ? {} : { copyBackwards }),
    ...(jobName === undefined ? {} : { jobName }),
    verbose: given.has('--verbose'),
    forwardStdin: !given.has('--no-stdin'),
    largestExitCode: given.has('--largest-exit-code'),
    ...(sshConfig === undefined ? {} : { sshConfig }),
  };
}

function listOf(given: Given, flag: Flag): readonly string[] | undefined {
  const values = given.get(flag);
  if (values?.length === 0) throw new UsageError(`${flag} needs at least one value, found none`);
  if (values?.includes('')) throw new UsageError(`${flag}: found an empty value`);
  return values;
}

function checkPatterns(patterns: readonly string[]): void {
  const home = patterns.find((pattern) => /^~(\/|$)/.test(pattern));
  if (home === undefined) return;
  throw new UsageError(
    `--copy-backwards: found ${quoted(home)}: ~ is not expanded there, ` +
      "expected a path in the command's folder, or an absolute one such as /home/user/x",
  );
}

/** What `--list` takes: HOSTS, or none with --machines. */
function hostsAlone(words: readonly string[], given: Given): { hosts?: string } {
  const [hosts, second] = words;
  if (second !== undefined) {
    throw new UsageError(`--list runs nothing: found ${quoted(second)} behind HOSTS, expected no command`);
  }
  if (hosts === undefined && !given.has('--machines')) {
    throw new UsageError(`no machines: expected execute_to --list HOSTS${aboutLists(given)}`);
  }
  if (hosts?.trim() === '') throw new UsageError(EMPTY_HOSTS);
  return hosts === undefined ? {} : { hosts };
}

const EMPTY_HOSTS = 'HOSTS is empty: expected machines';

/** Why a word that was meant for something else may be missing. */
function aboutLists(given: Given): string {
  const list = LISTS.findLast((flag) => given.has(flag));
  return list === undefined ? '' : `; ${list} takes all words up to the next flag or --`;
}

function hostsAndCommand(words: readonly string[], given: Given): { hosts?: string; command: string } {
  const hasMachines = given.has('--machines');
  const [first, second] = words;
  // No command begins with a dash: `--machines F... -- ls -l`.
  const isCommandFirst = hasMachines && second?.startsWith('-');
  const most = isCommandFirst ? 1 : 2;
  if (words.length > most) throw behindCommand(words.slice(most), words.slice(0, most), hasMachines);
  const hint = aboutLists(given);
  if (first === undefined && hasMachines) {
    throw new UsageError(`no command: expected execute_to --machines F... -- [HOSTS] 'command'${hint}`);
  }
  if (first === undefined) {
    throw new UsageError(`no machines and no command: expected execute_to HOSTS 'command'${hint}`);
  }
  if (second === undefined && !hasMachines) {
    throw new UsageError(
      `no command: found only ${quoted(first)}, expected execute_to HOSTS 'command'${hint}`,
    );
  }
  const command = second ?? first;
  if (second !== undefined && first.trim() === '') throw new UsageError(EMPTY_HOSTS);
  if (command.trim() === '') throw new UsageError('the command is empty: expected one quoted word');
  if (command.startsWith('-'))
    throw new UsageError(`found the command ${quoted(command)}: no command begins with a dash`);
  return second === undefined ? { command } : { hosts: first, command };
}

function outputForm(given: Given): OutputArguments['form'] {
  const ways = (['--gather', '--lines-and-gather', '--diff'] as const).filter((flag) => given.has(flag));
  if (given.has('--json') && ways[0] !== undefined) throw contradiction('--json', ways[0]);
  if (given.has('--json')) return 'json';
  if (given.has('--lines-and-gather')) return 'both';
  return ways.length > 0 ? 'gathered' : 'lines';
}

function contradiction(one: Flag, other: Flag): UsageError {
  return new UsageError(`${one} and ${other} contradict each other: give one of them`);
}

function read<Value>(
  given: Given,
  flag: Flag,
  parse: (text: string, flag: Flag) => Value,
): Value | undefined {
  const text = given.get(flag)?.[0];
  return text === undefined ? undefined : parse(text, flag);
}

function parseTime(text: string, flag: Flag): number {
  let ms: number;
  try {
    ms = parseDurationMs(text);
  } catch (error) {
    throw new UsageError(`${flag}: ${(error as Error).message}`);
  }
  if (ms > 0 && ms <= MOST_TIMER_MS) return ms;
  throw badValue(flag, text, ms > 0 ? 'at most 24 days' : 'more than no time at all');
}

function parseCount(text: string, flag: Flag): number {
  const count = wholeNumber(text);
  if (count >= 1 && count <= MOST_MACHINES) return count;
  throw badValue(flag, text, `a whole number from 1 to ${MOST_MACHINES}`);
}

function parseBatches(text: string, flag: Flag): { count: number } | { percent: number } {
  const isPercent = text.endsWith('%');
  const number = wholeNumber(isPercent ? text.slice(0, -1) : text);
  if (number >= 1 && number <= (isPercent ? 100 : MOST_MACHINES))
    return isPercent ? { percent: number } : { count: number };
  throw badValue(flag, text, `a number of machines from 1 to ${MOST_MACHINES}, or 1% to 100%`);
}

/** NaN for anything else, such as `1e3`, `0x10` or nothing. */
function wholeNumber(text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
}

function badValue(flag: Flag, found: string, expected: string): UsageError {
  return new UsageError(`${flag}: found ${quoted(found)}, expected ${expected}`);
}
