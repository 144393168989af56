/** What is said at the end about machines where not all went well, and the exit code of it all. */
import { constants } from 'node:os';
import { assertNever } from '../../../lib/domain/errors.ts';
import { type HostOutcome, type HostResult, isGood, type Left } from '../../../lib/fanout/host-result.ts';
import { compareNames } from '../../../lib/machine/host-range.ts';
import { durationText } from '../../../lib/util/duration-text.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';
import { hostsWithin } from './hosts-text.ts';

/** Some ten lines of a terminal. */
const HOSTS_LENGTH = 1000;

const MOST_COUNTED = 100;
const TIMED_OUT_CODE = 124;
const CANCELLED_CODE = 130;
const NOT_REACHED_CODE = 255;

/** The kinds in the order of the lines. */
const ORDER: readonly HostOutcome['type'][] = [
  'unreachable',
  'lost',
  'transfer-failed',
  'timed-out',
  'signalled',
  'exited',
  'cancelled',
  'not-started',
];

/** Options of `fanoutSummary`. */
export interface FanoutSummaryOptions {
  /** A line with the full reason for every machine. @default false */
  readonly verbose?: boolean;
  /** A last line with how many went well and how many did not. @default true for several machines */
  readonly counts?: boolean;
}

/**
 * Lines without newlines and without the program's name, machines with the same words together:
 * ```
 * gpu[02,07]: unreachable: connection refused
 * gpu04: exit 3
 * 61 of 64 hosts done well, 3 failed
 * ```
 * None when all went well.
 */
export function fanoutSummary(results: readonly HostResult[], options: FanoutSummaryOptions = {}): string[] {
  const bad = results
    .filter((result) => !isGood(result))
    .sort((a, b) => rank(a.outcome) - rank(b.outcome) || compareNames(a.machine, b.machine));
  if (bad.length === 0) return [];
  const groups = new Map<string, HostResult[]>();
  for (const result of bad) {
    const what = outcomeText(result.outcome, 'brief');
    const group = groups.get(what);
    if (group === undefined) groups.set(what, [result]);
    else group.push(result);
  }
  const lines = [...groups].flatMap(([what, group]) => groupLines(what, group, options.verbose === true));
  const { counts = results.length > 1 } = options;
  return counts ? [...lines, countsText(results, bad)] : lines;
}

/** Exit codes from the smallest, after the kinds before them. */
function rank(outcome: HostOutcome): number {
  return ORDER.indexOf(outcome.type) + (outcome.type === 'exited' ? outcome.exitCode / 1000 : 0);
}

function groupLines(what: string, group: readonly HostResult[], verbose: boolean): string[] {
  const names = group.map(({ machine }) => machine);
  const [first, ...others] = group;
  if (first !== undefined && others.length === 0)
    return [`${visibleText(first.machine)}: ${outcomeText(first.outcome, 'full')}`];
  const line = `${hostsWithin(names, HOSTS_LENGTH)}: ${what}`;
  if (!verbose) return [line];
  const full = group.map(({ machine, outcome }) => [visibleText(machine), outcomeText(outcome, 'full')]);
  return [line, ...full.filter(([, text]) => text !== what).map(([name, text]) => `  ${name}: ${text}`)];
}

function countsText(results: readonly HostResult[], bad: readonly HostResult[]): string {
  const notStarted = bad.filter(({ outcome }) => outcome.type === 'not-started').length;
  const failed = bad.length - notStarted;
  const counts = [
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(notStarted > 0 ? [`${notStarted} not started`] : []),
  ];
  return `${results.length - bad.length} of ${results.length} hosts done well, ${counts.join(', ')}`;
}

/** How it ended, in words; `length` chooses how much is said of reasons. */
function outcomeText(outcome: HostOutcome, length: 'brief' | 'full'): string {
  switch (outcome.type) {
    case 'exited':
      return `exit ${outcome.exitCode}`;
    case 'signalled':
      return `ended by SIG${visibleText(outcome.signal)}`;
    case 'timed-out': {
      const limit = durationText(outcome.limitMs, outcome.limitMs % 1000 === 0 ? 0 : 1);
      return `timed out after ${limit}, ${leftText(outcome.left) ?? 'ended'}`;
    }
    case 'unreachable':
      return `unreachable: ${visibleText(outcome.reason[length])}`;
    case 'lost':
      return `connection lost, the command may run on: ${visibleText(outcome.reason[length])}`;
    case 'transfer-failed':
      return `transfer failed, ${transferText(outcome)}: ${visibleText(outcome.reason[length])}`;
    case 'cancelled': {
      const left = leftText(outcome.left);
      return `cancelled: ${visibleText(outcome.reason)}${left === undefined ? '' : `, ${left}`}`;
    }
    case 'not-started':
      return `not started: ${visibleText(outcome.reason)}`;
    default:
      return assertNever(outcome);
  }
}

function transferText({ stage, exitCode }: Extract<HostOutcome, { type: 'transfer-failed' }>): string {
  if (stage === 'send') return 'the command was not started';
  return exitCode === undefined ? 'the command had ended' : `the command had ended with exit ${exitCode}`;
}

/** Nothing where all has ended. */
function leftText(left: Left): string | undefined {
  if (left === 'nothing') return undefined;
  if ('unknown' in left) return `it may run on: ${visibleText(left.unknown)}`;
  return `${left.processes} process${left.processes === 1 ? '' : 'es'} could not be ended`;
}

/** Options of `exitCodeOfHosts`. */
export interface ExitCodeOptions {
  /** `-S`: the largest exit code of all machines instead of the number of those that failed. */
  readonly largest: boolean;
}

/**
 * 0 when all went well, 255 when the command was tried on no machine, else the number of machines where it did not go well, 101 for
 * more than 100. With `largest`: the largest exit code, where an end by a signal counts 128 and its number, a time limit
 * 124, a cancellation 130, an unreachable or lost machine and a failed transfer 255; what was not started does not count.
 */
export function exitCodeOfHosts(results: readonly HostResult[], { largest }: ExitCodeOptions): number {
  const isTried = ({ outcome }: HostResult) =>
    outcome.type !== 'unreachable' && outcome.type !== 'not-started';
  if (results.length > 0 && !results.some(isTried)) return NOT_REACHED_CODE;
  if (largest) return results.reduce((code, { outcome }) => Math.max(code, exitCodeOf(outcome)), 0);
  return Math.min(results.filter((result) => !isGood(result)).length, MOST_COUNTED + 1);
}

function exitCodeOf(outcome: HostOutcome): number {
  switch (outcome.type) {
    case 'exited':
      return outcome.exitCode;
    case 'signalled': {
      const signals: Readonly<Record<string, number>> = constants.signals;
      const number = signals[`SIG${outcome.signal}`];
      return number === undefined ? NOT_REACHED_CODE : 128 + number;
    }
    case 'timed-out':
      return TIMED_OUT_CODE;
    case 'cancelled':
      return CANCELLED_CODE;
    case 'unreachable':
    case 'lost':
    case 'transfer-failed':
      return NOT_REACHED_CODE;
    case 'not-started':
      return 0;
    default:
      return assertNever(outcome);
  }
}
