/** Checks of what comes in as a submit: every field, in the words of job_queue's flags, since any program may send it. */
import { UsageError } from '../domain/errors.ts';
import type { QueueJobId } from '../domain/queue.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import { mistakeInName } from '../runner/job-name.ts';
import * as check from '../stores/queue-check.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import type { SubmitJob, SubmitRequest, SubmitScript } from './requests.ts';
import { checkScriptName } from './script-store.ts';

/** Jobs that one submit may make. */
export const MAX_JOBS = 1_000_000;

const MAX_MIB = 2 ** 40;
const MAX_MS = 10_000 * 86_400_000;
/** The last moment that a Date can name. */
const MAX_TIME = 8.64e15;
/** Linux gives a program no longer `NAME=value`, its NUL included. */
const MAX_ENV_BYTES = 131_072;
/** The name also names files, beside an id of up to 16 digits. */
const MAX_NAME_BYTES = 180;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Set by ourselves, or by bash, which lets nobody else do so. */
const TAKEN_ENV_NAME =
  /^(SSH_SCHEDULER_.*|JOB_ARRAY_(INDEX|ID)|E?UID|PPID|SHELLOPTS|BASHOPTS|BASH_VERSINFO)$/;

const wholeWithin =
  (least: number, most: number): check.Check =>
  (value, flag) => {
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
      check.mistake(flag, `a whole number from ${least} to ${most}`, value);
  };

const numberAbove =
  (low: number, most: number): check.Check =>
  (value, flag) => {
    if (typeof value !== 'number' || !(value > low && value <= most))
      check.mistake(flag, `a number above ${low}, at most ${most}`, value);
  };

/** Text that can be passed to a program. */
const words: check.Check = (value, flag) => {
  check.text(value, flag);
  if ((value as string).includes('\0')) throw new UsageError(`${flag}: contains a NUL byte`);
};

const filledWords: check.Check = (value, flag) => {
  words(value, flag);
  if ((value as string).trim() === '') check.mistake(flag, 'text that is not empty', value);
};

const paths: check.Check = check.listOf(filledWords);

const jobName: check.Check = (value, flag) => {
  check.text(value, flag);
  const name = value as string;
  const mistake = mistakeInName(name);
  if (mistake !== undefined) throw new UsageError(`${flag}: ${mistake}`);
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES)
    throw new UsageError(`${flag}: found a name of ${bytes} bytes, expected at most ${MAX_NAME_BYTES}`);
};

const env: check.Check = (value, flag) => {
  check.mapOf(words)(value, flag);
  for (const [name, one] of Object.entries(value as Record<string, string>)) {
    const shown = cutToWidth(visibleText(name), 60);
    if (!ENV_NAME.test(name))
      throw new UsageError(
        `${flag}: found the name '${shown}', expected letters, digits and _, no digit first`,
      );
    if (TAKEN_ENV_NAME.test(name))
      throw new UsageError(`${flag}: ${shown} cannot be set, it has a meaning of its own`);
    const bytes = Buffer.byteLength(name) + Buffer.byteLength(one) + 2;
    if (bytes > MAX_ENV_BYTES)
      throw new UsageError(`${flag}: ${shown} takes ${bytes} bytes, a program can be given ${MAX_ENV_BYTES}`);
  }
};

const REQUEST_FIELDS: Readonly<Record<keyof ResourceRequest, readonly [flag: string, check: check.Check]>> = {
  memoryMiB: ['--memory-required', check.numberWithin(0, MAX_MIB)],
  cpuCores: ['--num-cpus', check.numberWithin(0, 100_000)],
  gpus: ['--num-gpus', wholeWithin(0, 1024)],
  gpuMemoryMiB: ['--gpu-memory-required', check.numberWithin(0, MAX_MIB)],
  gpuUtilization: ['--gpu-utilization', check.numberWithin(0, 1)],
  reserveGpu: ['--no-reserve-gpu', check.truth],
  reserveMachine: ['--reserve', check.truth],
};

const request: check.Check = (value, flag) => {
  fieldsOf(value, flag, REQUEST_FIELDS, Object.keys(REQUEST_FIELDS));
};

const retryReasons: check.Check = (value, flag) => {
  const type: check.Check = () => {};
  const plain = check.fields({ type });
  const exit = check.fields({ type, exitCode: wholeWithin(1, 255) });
  check.listOf(check.byType({ oom: plain, timeout: plain, transfer: plain, exit }))(value, flag);
  if ((value as unknown[]).length === 0) check.mistake(flag, 'at least one failure', value);
};

const array: check.Check = (value, flag) => {
  const index = wholeWithin(0, Number.MAX_SAFE_INTEGER);
  const atLeastOne = check.wholeFrom(1);
  check.fields({ first: index, last: index, step: atLeastOne }, { atOnce: atLeastOne })(value, flag);
  const { first, last } = value as { first: number; last: number };
  if (last < first) throw new UsageError(`${flag}: found ${first}-${last}, expected the lower index first`);
};

const scriptName: check.Check = (value, flag) => {
  check.text(value, flag);
  checkScriptName(value as string);
};

const script: check.Check = (value, flag) => {
  const fields: Readonly<Record<keyof SubmitScript, check.Check>> = {
    name: scriptName,
    text: check.filledText,
    args: check.listOf(words),
  };
  check.fields(fields)(value, flag);
};

const FILE_FIELDS = {
  copyForwards: ['--copy-forwards', check.wordOrList('working-directory', filledWords)],
  shareForwards: ['--share-forwards', paths],
  copyBackwards: ['--copy-backwards', check.wordOrList('changed', filledWords)],
} as const;

const JOB_FIELDS: Readonly<Record<keyof SubmitJob, readonly [flag: string, check: check.Check]>> = {
  command: ['the command', filledWords],
  name: ['--job-name', jobName],
  request: ['the request', request],
  ...FILE_FIELDS,
};

const jobs: check.Check = (value, flag) => {
  if (!Array.isArray(value)) check.mistake(flag, 'a list', value);
  const list = value as readonly unknown[];
  if (list.length === 0) throw new UsageError(`${flag}: there is no command in it`);
  tooMany(list.length);
  for (const [index, one] of list.entries()) {
    try {
      fieldsOf(one, 'a job', JOB_FIELDS, ['command']);
    } catch (error) {
      if (list.length === 1 || !(error instanceof UsageError)) throw error;
      throw new UsageError(`job ${index + 1} of ${list.length}: ${error.message}`);
    }
  }
};

const FIELDS: Readonly<Record<keyof SubmitRequest, readonly [flag: string, check: check.Check]>> = {
  jobs: ['--command, --command-file', jobs],
  script: ['SCRIPT', script],
  runHere: ['--run-here', check.truth],
  machine: ['--machine', filledWords],
  name: ['--name', jobName],
  env: ['--env', env],
  cwd: ['--cwd', filledWords],
  results: ['--results', filledWords],
  stdout: ['--stdout', filledWords],
  stderr: ['--stderr', filledWords],
  request: ['the request', request],
  ...FILE_FIELDS,
  timeoutMs: ['--timeout', numberAbove(0, MAX_MS)],
  timeoutPercent: ['--timeout', numberAbove(0, 1_000_000)],
  killAfterMs: ['--kill-after', check.numberWithin(0, MAX_MS)],
  retries: ['--retries', wholeWithin(0, 9999)],
  retryOn: ['--retry-on', retryReasons],
  oomGrow: ['--oom-grow', numberAbove(1, 16)],
  maxOutputBytes: ['--max-output', check.wholeFrom(1)],
  priority: ['--priority', check.wholeNumber],
  hold: ['--hold', check.truth],
  dependsOn: ['--depends-on', check.listOf(check.wholeFrom(1))],
  dependsOnAny: ['--depends-on-any', check.truth],
  beginAt: ['--begin', wholeWithin(0, MAX_TIME)],
  array: ['--array', array],
  waitForMachine: ['--wait-for-machine', check.truth],
};

/**
 * A submit whose fields are all as they have to be, and go together.
 * @throws UsageError for the first mistake
 */
export function checkSubmit(value: unknown): SubmitRequest {
  fieldsOf(value, 'a submit', FIELDS, ['request']);
  const submit = value as SubmitRequest; // as was checked
  checkTogether(submit);
  return submit;
}

/** @throws UsageError for ids that are not known */
export function checkDependencies(
  dependsOn: readonly QueueJobId[],
  isKnown: (id: QueueJobId) => boolean,
): void {
  const unknown = dependsOn.filter((id) => !isKnown(id));
  if (unknown.length === 0) return;
  const [first] = unknown;
  const which = unknown.length === 1 ? `job ${first} is` : `jobs ${unknown.slice(0, 10).join(', ')} are`;
  throw new UsageError(`--depends-on: ${which} not known`);
}

/** @throws UsageError for more jobs than one submit may make */
export function tooMany(count: number): void {
  if (count > MAX_JOBS)
    throw new UsageError(`${count} jobs in one submit, expected at most ${MAX_JOBS}: make several submits`);
}

function checkTogether(submit: SubmitRequest): void {
  const { jobs: list, script: sent, runHere, array: indexes, machine, timeoutMs, timeoutPercent } = submit;
  if ((list === undefined) === (sent === undefined))
    throw new UsageError(
      'expected either --command, --command-file or a SCRIPT, and not more than one of them',
    );
  if (runHere === true) checkRunHere(submit);
  if (timeoutMs !== undefined && timeoutPercent !== undefined)
    throw new UsageError('--timeout: found a time and a percentage, expected one of them');
  for (const [field, flag] of [['retryOn', '--retry-on'] as const, ['oomGrow', '--oom-grow'] as const])
    if (submit[field] !== undefined && (submit.retries ?? 0) === 0)
      throw new UsageError(`${flag} says nothing without --retries: add for instance --retries 2`);
  if (submit.dependsOnAny === true && (submit.dependsOn ?? []).length === 0)
    throw new UsageError('--depends-on-any says nothing without --depends-on');
  if (indexes === undefined) return;
  if ((list?.length ?? 1) > 1) throw new UsageError('--array: not together with several commands');
  if (machine === 'all') throw new UsageError('--array: not together with --machine all');
}

function checkRunHere({ script: sent, ...submit }: SubmitRequest): void {
  if (sent === undefined) throw new UsageError('--run-here: expected a SCRIPT');
  for (const [field, flag] of [
    ['stdout', '--stdout'] as const,
    ['stderr', '--stderr'] as const,
    ['maxOutputBytes', '--max-output'] as const,
  ])
    if (submit[field] !== undefined)
      throw new UsageError(`${flag}: not together with --run-here, whose output is in the log folder`);
  for (const field of ['copyForwards', 'shareForwards', 'copyBackwards'] as const) {
    const named = submit[field];
    if (Array.isArray(named) && named.length > 0)
      throw new UsageError(
        `${FIELDS[field][0]}: not together with --run-here, which sends and brings nothing`,
      );
  }
}

/** Checks an object's fields; those with the value `undefined` count as absent. */
function fieldsOf(
  value: unknown,
  what: string,
  known: Readonly<Record<string, readonly [flag: string, check: check.Check]>>,
  needed: readonly string[],
): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    check.mistake(what, 'an object', value);
  const object = value as Readonly<Record<string, unknown>>; // as was checked
  for (const [field, one] of Object.entries(object)) {
    const entry = Object.hasOwn(known, field) ? known[field] : undefined;
    if (entry === undefined) throw unknownField(field, what, Object.keys(known));
    if (one !== undefined) entry[1](one, entry[0]);
  }
  for (const field of needed)
    if (object[field] === undefined)
      throw new UsageError(`${what}: ${known[field]?.[0] ?? field} is missing`);
}

function unknownField(field: string, what: string, known: readonly string[]): UsageError {
  const near = nearestWord(field, known);
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  return new UsageError(`${what} has no field '${cutToWidth(visibleText(field), 60)}'${hint}`);
}
