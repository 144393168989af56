/** The flags about jobs that take too long, fail or are lost: what they take, and what they mean in the library's words. */
import type { HaltRule, JobTimeout, SurvivalOptions } from '../lib/batch/survival-options.ts';
import { UsageError } from '../lib/domain/errors.ts';
import type { RetryReason } from '../lib/domain/retry-reason.ts';
import { parseDurationMs } from '../lib/util/duration.ts';
import { parseSizeMiB } from '../lib/util/size.ts';

const group = 'When things go wrong:';

/** The options as yargs wants them. */
export const SURVIVAL_OPTIONS = {
  timeout: {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'end a job that runs longer: 90, 5m, 1h30m, or 300% of the median so far',
  },
  'kill-after': {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'from TERM to KILL, for a job that is ended [10s]',
  },
  retries: { group, type: 'string', requiresArg: true, describe: 'further attempts for a failed job [0]' },
  'retry-on': {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'failures worth a retry: oom, timeout, transfer, exit:CODE, with commas [all]',
  },
  'oom-grow': {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'ask for so many times the memory that ran out, when tried again [1]',
  },
  halt: {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'give up after failures: soon,fail=3 (start nothing more) or now,fail=10% (end what runs too)',
  },
  'rerun-failed': {
    group,
    type: 'boolean',
    describe: 'run lines again that have a bad result; it is kept as NAME.attempt-N',
  },
  'failed-lines': {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'at the end, write the lines that failed to a batch file',
  },
  'machine-lost-after': {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'run the jobs of a machine elsewhere once it has been away for so long [never]',
  },
  'keep-going-on-bad-machines': {
    group,
    type: 'boolean',
    describe: 'keep using a machine on which jobs fail at once, one after the other',
  },
  'max-output': {
    group,
    type: 'string',
    requiresArg: true,
    describe: 'keep so much of what a job prints, in MB or 3G, on each stream [all]',
  },
} as const;

/** The values of `SURVIVAL_OPTIONS` that have one, as given. */
export type SurvivalTexts = Readonly<Partial<Record<keyof typeof SURVIVAL_OPTIONS, string>>>;

/**
 * What the flags mean. `has` tells which switches were given.
 * @throws UsageError for the first value that is none, with what was found and what is expected.
 */
export function readSurvivalOptions(
  texts: SurvivalTexts,
  has: { readonly rerunFailed: boolean; readonly keepGoingOnBadMachines: boolean },
): SurvivalOptions {
  for (const flag of ['retry-on', 'oom-grow'] as const) {
    if (texts[flag] !== undefined && texts.retries === undefined)
      throw new UsageError(`--${flag} says nothing without --retries: add for instance --retries 2`);
  }
  const read = <Flag extends keyof SurvivalTexts, Value>(
    flag: Flag,
    parse: (text: string, flag: Flag) => Value,
  ) => {
    const text = texts[flag];
    return text === undefined ? undefined : parse(text, flag);
  };
  const options = {
    timeout: read('timeout', parseTimeout),
    killAfterMs: read('kill-after', parseTime),
    retries: read('retries', parseRetries),
    retryOn: read('retry-on', parseRetryReasons),
    oomGrow: read('oom-grow', parseOomGrow),
    halt: read('halt', parseHalt),
    machineLostAfterMs: read('machine-lost-after', parseTime),
    maxOutputBytes: read('max-output', parseOutputBytes),
    rerunFailed: has.rerunFailed || undefined,
    keepGoingOnBadMachines: has.keepGoingOnBadMachines || undefined,
  };
  // Only what was given is there: an absent field is the library's default.
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as SurvivalOptions;
}

function parseTimeout(text: string, flag: string): JobTimeout {
  if (!text.endsWith('%')) return { type: 'fixed', ms: parseSomeTime(text, flag) };
  const percent = parseNumber(text.slice(0, -1));
  if (percent > 0 && percent <= 1_000_000) return { type: 'of-median', percent };
  throw badValue(flag, text, 'a time such as 90, 5m, 1h30m, or a percentage of the median such as 300%');
}

function parseTime(text: string, flag: string): number {
  try {
    return parseDurationMs(text);
  } catch (error) {
    throw new UsageError(`--${flag}: ${(error as Error).message}`);
  }
}

function parseSomeTime(text: string, flag: string): number {
  const ms = parseTime(text, flag);
  if (ms > 0) return ms;
  throw badValue(flag, text, 'more than no time at all');
}

function parseRetries(text: string, flag: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw badValue(flag, text, 'a whole number from 0 to 9999');
}

function parseRetryReasons(text: string, flag: string): readonly RetryReason[] {
  return text.split(',').map((word): RetryReason => {
    const reason = word.trim();
    if (reason === 'oom' || reason === 'timeout' || reason === 'transfer') return { type: reason };
    const exitCode = /^exit:(\d{1,3})$/.exec(reason)?.[1];
    if (exitCode !== undefined && Number(exitCode) >= 1 && Number(exitCode) <= 255)
      return { type: 'exit', exitCode: Number(exitCode) };
    throw badValue(
      flag,
      reason,
      'oom, timeout, transfer, or exit:CODE from exit:1 to exit:255, with commas between',
    );
  });
}

function parseOomGrow(text: string, flag: string): number {
  const factor = parseNumber(text);
  if (factor > 1 && factor <= 16) return factor;
  throw badValue(flag, text, 'a number above 1, at most 16');
}

function parseHalt(text: string, flag: string): HaltRule {
  const [, when, amount = '', sign] = /^(soon|now),fail=([\d.]+)(%?)$/.exec(text) ?? [];
  const number = parseNumber(amount);
  if (when === 'soon' || when === 'now') {
    if (sign === '%' && number > 0 && number <= 100)
      return { when, failures: { type: 'percent', percent: number } };
    if (sign === '' && Number.isSafeInteger(number) && number > 0)
      return { when, failures: { type: 'count', count: number } };
  }
  throw badValue(flag, text, 'soon or now with a number of failures, such as soon,fail=1 or now,fail=10%');
}

function parseOutputBytes(text: string, flag: string): number {
  let sizeMiB: number;
  try {
    sizeMiB = parseSizeMiB(text);
  } catch (error) {
    throw new UsageError(`--${flag}: ${(error as Error).message}`);
  }
  const bytes = Math.round(sizeMiB * 1024 * 1024);
  if (bytes > 0) return bytes;
  throw badValue(flag, text, 'more than nothing');
}

/** A plain decimal number; NaN for anything else, such as `1e3` or nothing. */
function parseNumber(text: string): number {
  return /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
}

function badValue(flag: string, found: string, expected: string): UsageError {
  return new UsageError(`--${flag}: found ${JSON.stringify(found.slice(0, 60))}, expected ${expected}`);
}
