/**
 * Checks of the fields of a job, whether they come from a submit or from a state that people have edited: what passes here
 * reaches shells and file systems.
 */
import { resolve } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { QueueJobSpec } from '../domain/queue.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import { mistakeInName } from '../runner/job-name.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import * as check from './queue-check.ts';

/** The highest id of a job. Far above that, numbers have no successors any more. */
export const MAX_ID = 1e12;
/** The last moment that a Date can name, epoch milliseconds. */
export const MAX_TIME = 8.64e15;

/** The highest id of a user or a group: -1 means none. */
export const MAX_USER_ID = 2 ** 32 - 2;
const MAX_MIB = 2 ** 40;
const MAX_MS = 10_000 * 86_400_000;
/** Linux gives a program no longer `NAME=value`, its NUL included. */
export const MAX_ENV_BYTES = 131_072;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Set by ourselves, or by bash, which lets nobody else do so. */
const TAKEN_ENV_NAME =
  /^(SSH_SCHEDULER_.*|JOB_ARRAY_(INDEX|ID)|E?UID|PPID|SHELLOPTS|BASHOPTS|BASH_VERSINFO)$/;

/** Whether a variable can be called so. */
export function isEnvName(name: string): boolean {
  return ENV_NAME.test(name);
}

/** Whether jobs may not set it: it has a meaning of its own. */
export function isTakenEnvName(name: string): boolean {
  return TAKEN_ENV_NAME.test(name);
}

/** A whole number within these bounds. */
export const wholeWithin =
  (least: number, most: number): check.Check =>
  (value, path) => {
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
      check.mistake(path, `a whole number from ${least} to ${most}`, value);
  };

/** A number above `low`, fractions allowed. */
export const numberAbove =
  (low: number, most: number): check.Check =>
  (value, path) => {
    if (typeof value !== 'number' || !(value > low && value <= most))
      check.mistake(path, `a number above ${low}, at most ${most}`, value);
  };

/** Text that can be passed to a program. */
export const words: check.Check = (value, path) => {
  check.text(value, path);
  if ((value as string).includes('\0')) throw new UsageError(`${path}: contains a NUL byte`);
};

/** The same, and not empty. */
export const filledWords: check.Check = (value, path) => {
  words(value, path);
  if ((value as string).trim() === '') check.mistake(path, 'text that is not empty', value);
};

/** A machine's name, or one that a machine may get. */
export const machine: check.Check = (value, path) => {
  filledWords(value, path);
  if (/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u.test(value as string))
    throw new UsageError(
      `${path}: the name '${cutToWidth(visibleText(value as string), 60)}' contains a control character`,
    );
};

/** Results are named by it, so it must not lead elsewhere. */
export const jobName: check.Check = (value, path) => {
  check.text(value, path);
  const wrong = mistakeInName(value as string);
  if (wrong !== undefined) throw new UsageError(`${path}: ${wrong}`);
};

/** Variables of a job. Their names become shell text; their values may be secrets, which no message shows. */
export const env: check.Check = (value, path) => {
  envBut(() => false)(value, path);
};

const envBut =
  (isSetByUs: (name: string, value: unknown) => boolean): check.Check =>
  (value, path) => {
    check.mapOf(() => {})(value, path);
    for (const [name, one] of Object.entries(value as Record<string, unknown>)) {
      const shown = cutToWidth(visibleText(name), 60);
      if (!ENV_NAME.test(name))
        throw new UsageError(
          `${path}: found the name '${shown}', expected letters, digits and _, no digit first`,
        );
      words(one, `${path}.${shown}`);
      if (TAKEN_ENV_NAME.test(name) && !isSetByUs(name, one))
        throw new UsageError(`${path}: ${shown} cannot be set, it has a meaning of its own`);
      const bytes = Buffer.byteLength(name) + Buffer.byteLength(one as string) + 2;
      if (bytes > MAX_ENV_BYTES)
        throw new UsageError(
          `${path}: ${shown} takes ${bytes} bytes, a program can be given ${MAX_ENV_BYTES}`,
        );
    }
  };

/** What a job may ask for: no more than the allocator can count with. */
export const REQUEST: Readonly<Record<keyof ResourceRequest, check.Check>> = {
  memoryMiB: check.numberWithin(0, MAX_MIB),
  cpuCores: check.numberWithin(0, 100_000),
  gpus: wholeWithin(0, 1024),
  gpuMemoryMiB: check.numberWithin(0, MAX_MIB),
  gpuUtilization: check.numberWithin(0, 1),
  reserveGpu: check.truth,
  reserveMachine: check.truth,
};

/** Failures that are worth another attempt. */
export const retryReasons: check.Check = (value, path) => {
  const type: check.Check = () => {};
  const plain = check.fields({ type });
  const exit = check.fields({ type, exitCode: wholeWithin(1, 255) });
  check.listOf(check.byType({ oom: plain, timeout: plain, transfer: plain, exit }))(value, path);
  if ((value as unknown[]).length === 0) check.mistake(path, 'at least one failure', value);
};

/** Fields that a submit and a job have alike. */
export const SHARED = {
  command: filledWords,
  copyForwards: check.wordOrList('working-directory', filledWords),
  shareForwards: check.listOf(filledWords),
  copyBackwards: check.wordOrList('changed', filledWords),
  timeoutMs: numberAbove(0, MAX_MS),
  timeoutPercent: numberAbove(0, 1_000_000),
  killAfterMs: check.numberWithin(0, MAX_MS),
  retries: wholeWithin(0, 9999),
  maxOutputBytes: check.wholeFrom(1),
  priority: check.wholeNumber,
  dependsOn: check.listOf(wholeWithin(1, MAX_ID)),
  beginAt: wholeWithin(0, MAX_TIME),
  scriptArgs: check.listOf(words),
} as const satisfies Readonly<Record<string, check.Check>>;

const filePath: check.Check = (value, path) => {
  check.absolutePath(value, path);
  if (/\/\.{0,2}$/.test(value as string)) check.mistake(path, 'a file', value);
};

const atLeastOne = wholeWithin(1, MAX_ID);

const specFields = check.fields(
  {
    name: jobName,
    command: SHARED.command,
    request: check.fields(REQUEST),
    env: () => {}, // looked at beside the array, which sets some
    cwd: check.absolutePath,
    results: check.absolutePath,
    copyForwards: SHARED.copyForwards,
    shareForwards: SHARED.shareForwards,
    copyBackwards: SHARED.copyBackwards,
    treeParts: check.listOf(words),
    retries: SHARED.retries,
    oomGrow: check.numberWithin(1, 16), // 1 where nothing grows
    priority: SHARED.priority,
    dependsOn: SHARED.dependsOn,
    dependsOnAny: check.truth,
    waitForMachine: check.truth,
  },
  {
    script: check.fields({ name: check.filledText, id: check.filledText, args: SHARED.scriptArgs }),
    runHere: check.truth,
    inPlace: check.fields(
      { title: words, interpreter: filledWords },
      { uid: wholeWithin(0, MAX_USER_ID), gid: wholeWithin(0, MAX_USER_ID) },
    ),
    machine,
    stdout: filePath,
    stderr: filePath,
    timeoutMs: SHARED.timeoutMs,
    timeoutPercent: SHARED.timeoutPercent,
    submitted: atLeastOne,
    retryOn: retryReasons,
    killAfterMs: SHARED.killAfterMs,
    maxOutputBytes: SHARED.maxOutputBytes,
    beginAt: SHARED.beginAt,
    array: check.fields(
      { first: atLeastOne, index: wholeWithin(0, Number.MAX_SAFE_INTEGER) },
      { atOnce: check.wholeFrom(1) },
    ),
  },
);

/** Whether a value is a whole `QueueJobSpec`, whose fields go together. The name of a script is checked by who keeps it. */
export const checkSpec: check.Check = (value, path) => {
  specFields(value, path);
  const spec = value as QueueJobSpec; // as was checked
  const at = (field: string) => `${path}.${field}`;
  const own: Readonly<Record<string, string>> =
    spec.array === undefined
      ? {}
      : { JOB_ARRAY_INDEX: String(spec.array.index), JOB_ARRAY_ID: String(spec.array.first) };
  envBut((name, one) => own[name] === one)(spec.env, at('env'));
  checkTimeouts(spec, at('timeoutMs'));
  if (spec.stdout !== undefined && spec.stderr !== undefined && resolve(spec.stdout) === resolve(spec.stderr))
    check.mistake(at('stderr'), 'another file than stdout', spec.stderr);
  if (spec.runHere === true) checkRunHere(spec, at);
  if (spec.inPlace !== undefined) checkInPlace(spec, at);
  const here = spec.runHere === true ? 'runHere' : spec.inPlace === undefined ? undefined : 'inPlace';
  if (here === undefined) return;
  for (const field of ['copyForwards', 'shareForwards', 'copyBackwards', 'treeParts'] as const)
    if (spec[field].length > 0) check.mistake(at(field), `[] with ${at(here)}`, spec[field]);
};

function checkInPlace(spec: QueueJobSpec, at: (field: keyof QueueJobSpec) => string): void {
  for (const field of ['script', 'machine', 'stdout'] as const)
    if (spec[field] === undefined) throw new UsageError(`${at('inPlace')}: expected ${at(field)}`);
  if (spec.runHere === true)
    throw new UsageError(`${at('inPlace')}: found ${at('runHere')}, expected one of them`);
}

/** @throws UsageError for a time and a percentage */
export function checkTimeouts(
  job: Partial<Pick<QueueJobSpec, 'timeoutMs' | 'timeoutPercent'>>,
  path: string,
): void {
  if (job.timeoutMs !== undefined && job.timeoutPercent !== undefined)
    throw new UsageError(`${path}: found a time and a percentage, expected one of them`);
}

type HereFields = Pick<QueueJobSpec, 'stdout' | 'stderr' | 'maxOutputBytes'> &
  Partial<Pick<QueueJobSpec, 'copyForwards' | 'shareForwards' | 'copyBackwards'>>;

/** What a job that runs on the service's own machine has to have, and cannot have. `at` names its fields. @throws UsageError */
export function checkRunHere(
  job: Partial<HereFields> & { readonly script?: unknown },
  at: (field: keyof HereFields | 'script' | 'runHere') => string,
): void {
  if (job.script === undefined) throw new UsageError(`${at('runHere')}: expected a ${at('script')}`);
  for (const field of ['stdout', 'stderr', 'maxOutputBytes'] as const)
    if (job[field] !== undefined)
      throw new UsageError(
        `${at(field)}: not together with ${at('runHere')}, whose output is in the log folder`,
      );
  for (const field of ['copyForwards', 'shareForwards', 'copyBackwards'] as const) {
    const named = job[field];
    if (Array.isArray(named) && named.length > 0)
      throw new UsageError(
        `${at(field)}: not together with ${at('runHere')}, which sends and brings nothing`,
      );
  }
}
