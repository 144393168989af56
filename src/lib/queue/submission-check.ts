/** Checks of what comes in as a submit: every field, in the words of job_queue's flags, since any program may send it. */
import { UsageError } from '../domain/errors.ts';
import type { QueueJobId } from '../domain/queue.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import * as check from '../stores/queue-check.ts';
import * as spec from '../stores/queue-spec-check.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import type { SubmitJob, SubmitRequest, SubmitScript } from './requests.ts';
import { checkScriptName } from './script-store.ts';

/** Jobs that one submit may make. */
export const MAX_JOBS = 1_000_000;

/** The name also names files, beside an id of up to 16 digits. */
const MAX_NAME_BYTES = 180;

const jobName: check.Check = (value, flag) => {
  spec.jobName(value, flag);
  const bytes = Buffer.byteLength(value as string); // as was checked
  if (bytes > MAX_NAME_BYTES)
    throw new UsageError(`${flag}: found a name of ${bytes} bytes, expected at most ${MAX_NAME_BYTES}`);
};

const REQUEST_FIELDS: Readonly<Record<keyof ResourceRequest, readonly [flag: string, check: check.Check]>> = {
  memoryMiB: ['--memory-required', spec.REQUEST.memoryMiB],
  cpuCores: ['--num-cpus', spec.REQUEST.cpuCores],
  gpus: ['--num-gpus', spec.REQUEST.gpus],
  gpuMemoryMiB: ['--gpu-memory-required', spec.REQUEST.gpuMemoryMiB],
  gpuUtilization: ['--gpu-utilization', spec.REQUEST.gpuUtilization],
  reserveGpu: ['--no-reserve-gpu', spec.REQUEST.reserveGpu],
  reserveMachine: ['--reserve', spec.REQUEST.reserveMachine],
};

const request: check.Check = (value, flag) => {
  fieldsOf(value, flag, REQUEST_FIELDS, Object.keys(REQUEST_FIELDS));
};

const array: check.Check = (value, flag) => {
  const index = spec.wholeWithin(0, Number.MAX_SAFE_INTEGER);
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
    args: spec.SHARED.scriptArgs,
  };
  check.fields(fields)(value, flag);
};

const FILE_FIELDS = {
  copyForwards: ['--copy-forwards', spec.SHARED.copyForwards],
  shareForwards: ['--share-forwards', spec.SHARED.shareForwards],
  copyBackwards: ['--copy-backwards', spec.SHARED.copyBackwards],
} as const;

const JOB_FIELDS: Readonly<Record<keyof SubmitJob, readonly [flag: string, check: check.Check]>> = {
  command: ['the command', spec.SHARED.command],
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
  machine: ['--machine', spec.machine],
  name: ['--name', jobName],
  env: ['--env', spec.env],
  cwd: ['--cwd', spec.filledWords],
  results: ['--results', spec.filledWords],
  stdout: ['--stdout', spec.filledWords],
  stderr: ['--stderr', spec.filledWords],
  request: ['the request', request],
  ...FILE_FIELDS,
  timeoutMs: ['--timeout', spec.SHARED.timeoutMs],
  timeoutPercent: ['--timeout', spec.SHARED.timeoutPercent],
  killAfterMs: ['--kill-after', spec.SHARED.killAfterMs],
  retries: ['--retries', spec.SHARED.retries],
  retryOn: ['--retry-on', spec.retryReasons],
  oomGrow: ['--oom-grow', spec.numberAbove(1, 16)],
  maxOutputBytes: ['--max-output', spec.SHARED.maxOutputBytes],
  priority: ['--priority', spec.SHARED.priority],
  hold: ['--hold', check.truth],
  dependsOn: ['--depends-on', spec.SHARED.dependsOn],
  dependsOnAny: ['--depends-on-any', check.truth],
  beginAt: ['--begin', spec.SHARED.beginAt],
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
  const { jobs: list, script: sent, runHere, array: indexes, machine } = submit;
  if ((list === undefined) === (sent === undefined))
    throw new UsageError(
      'expected either --command, --command-file or a SCRIPT, and not more than one of them',
    );
  if (runHere === true)
    spec.checkRunHere(submit, (field) => (field === 'script' ? 'SCRIPT' : FIELDS[field][0]));
  spec.checkTimeouts(submit, '--timeout');
  for (const [field, flag] of [['retryOn', '--retry-on'] as const, ['oomGrow', '--oom-grow'] as const])
    if (submit[field] !== undefined && (submit.retries ?? 0) === 0)
      throw new UsageError(`${flag} says nothing without --retries: add for instance --retries 2`);
  if (submit.dependsOnAny === true && (submit.dependsOn ?? []).length === 0)
    throw new UsageError('--depends-on-any says nothing without --depends-on');
  if (indexes === undefined) return;
  if ((list?.length ?? 1) > 1) throw new UsageError('--array: not together with several commands');
  if (machine === 'all') throw new UsageError('--array: not together with --machine all');
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
