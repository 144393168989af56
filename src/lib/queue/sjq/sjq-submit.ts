/** What a SUBMIT says, checked: all that is wrong with it is told at once. */
import { stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { machineName } from '../../domain/machine.ts';
import type { QueueJobId, QueueJobSpec } from '../../domain/queue.ts';
import { NO_RESOURCES } from '../../domain/request-defaults.ts';
import { MAX_NAME_BYTES } from '../../runner/job-name.ts';
import { MAX_USER_ID } from '../../stores/queue-spec-check.ts';
import { nearestWord } from '../../util/nearest-word.ts';
import { cutToWidth, visibleText } from '../../util/terminal-text.ts';
import { IN_PLACE_MACHINE, interpreterOf } from '../in-place.ts';
import { readSjqEnv } from './sjq-env.ts';
import type { SjqOptions } from './sjq-options.ts';
import type { SjqOption } from './sjq-queue.ts';
import { parseSjqMem } from './sjqrc.ts';

const WORDS = [
  'MEM',
  'PROCS',
  'DEPENDS',
  'STDOUT',
  'STDERR',
  'ENV',
  'CWD',
  'NAME',
  'UID',
  'GID',
  'HOLD',
] as const;
type Word = (typeof WORDS)[number];

const DEFAULT_TITLE = 'sjqjob';
const MAX_TITLE_BYTES = 1000;
/** What follows it in the name of a job: `_` and an id. */
const ID_BYTES = 14;

/** What a SUBMIT is checked against. */
export interface SjqSubmitContext {
  readonly options: SjqOptions;
  /** Where jobs run that say no CWD. Absolute. */
  readonly home: string;
  readonly isKnown: (id: QueueJobId) => boolean;
}

interface User {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** A SUBMIT without a mistake. */
export interface SjqSubmission {
  readonly hold: boolean;
  /** The job, by its id and that of its script. */
  readonly spec: (id: QueueJobId, scriptId: string) => QueueJobSpec;
}

/** Reads a SUBMIT. Resolves to all that is wrong with it where something is, one line each. */
export async function readSubmit(
  lines: readonly SjqOption[],
  script: Buffer,
  context: SjqSubmitContext,
): Promise<SjqSubmission | { readonly reasons: readonly string[] }> {
  const { options, home, isKnown } = context;
  const reasons: string[] = [];
  const given = wordsOf(lines, reasons);
  const read = <T>(word: Word, parse: (value: string) => T): T | undefined => {
    const value = given.get(word)?.[0];
    if (value === undefined) return undefined;
    try {
      return parse(value.trim());
    } catch (error) {
      reasons.push(`${word}: ${(error as Error).message}`);
      return undefined;
    }
  };
  const asked = { procs: read('PROCS', (text) => wholeNumber(text, 1)), memoryMiB: read('MEM', parseSjqMem) };
  // A value that cannot be read is told already.
  if (asked.procs !== undefined || !given.has('PROCS')) refuseTooManyProcs(asked.procs, options, reasons);
  if (asked.memoryMiB !== undefined || !given.has('MEM'))
    refuseTooMuchMemory(asked.memoryMiB, options, reasons);
  const { procs = options.defaultProcs, memoryMiB = options.defaultMemMiB } = asked;
  const dependsOn = read('DEPENDS', (text) => dependsOf(text, isKnown)) ?? [];
  const title = read('NAME', titleOf) ?? DEFAULT_TITLE;
  const user = {
    uid: read('UID', (text) => userOf(text, process.geteuid?.(), options)),
    gid: read('GID', (text) => userOf(text, process.getegid?.(), options)),
  };
  const isOwn = isOwnUser(user);
  if (!isOwn && (given.get('CWD')?.[0] ?? '') === '') reasons.push('CWD: a job of another user needs one');
  const env = readSjqEnv(given.get('ENV') ?? [], reasons);
  const cwd = given.get('CWD')?.[0] || home;
  const isCwdThere = await checkFolder(cwd, reasons);
  const outputs = { STDOUT: '', STDERR: '' };
  for (const word of ['STDOUT', 'STDERR'] as const) {
    const value = given.get(word)?.[0] ?? '';
    if (value === '' || (!isCwdThere && !isAbsolute(value))) continue;
    outputs[word] = resolve(cwd, value);
    await checkFile(word, outputs[word], reasons);
  }
  const interpreter = interpreterOf(script);
  if (interpreter === undefined)
    reasons.push('SRC: the script does not say what runs it: expected a first line such as #!/bin/bash');
  else if (script.subarray(0, script.indexOf('\n') + 1).includes('\r'))
    reasons.push('SRC: the first line of the script ends in CR LF, which no system takes: expected LF');
  if (reasons.length > 0 || interpreter === undefined) return { reasons };
  const stem = stemOf(title);
  const { maxMemMiB } = options;
  return {
    hold: given.has('HOLD'),
    spec: (id, scriptId) => {
      const stdout = outputs.STDOUT || join(cwd, `${id}.stdout`);
      const stderr = outputs.STDERR || join(cwd, `${id}.stderr`);
      return {
        name: `${stem}_${id}`,
        command: commandText(script, stem),
        script: { name: stem, id: scriptId, args: [] },
        inPlace: { title, interpreter, ...(isOwn ? {} : present(user)) },
        machine: machineName(IN_PLACE_MACHINE),
        request: { ...NO_RESOURCES, cpuCores: procs, memoryMiB: maxMemMiB === undefined ? 0 : memoryMiB },
        ...{ env, cwd, results: cwd, stdout },
        ...(stderr === stdout ? {} : { stderr }),
        ...{ copyForwards: [], shareForwards: [], copyBackwards: [], treeParts: [] },
        ...{ retries: 0, oomGrow: 1, priority: 0, dependsOn, dependsOnAny: false, waitForMachine: true },
        submitted: id,
      };
    },
  };
}

/** The values of each word. ENV may be given several times, each with more variables. */
function wordsOf(lines: readonly SjqOption[], reasons: string[]): ReadonlyMap<Word, readonly string[]> {
  const given = new Map<Word, string[]>();
  for (const { word, value } of lines) {
    const known = WORDS.find((one) => one === word);
    if (known === undefined) {
      const near = nearestWord(word, WORDS);
      const shown = cutToWidth(visibleText(word), 40);
      reasons.push(`unknown option '${shown}'${near === undefined ? '' : ` (did you mean ${near}?)`}`);
      continue;
    }
    const values = given.get(known);
    if (values === undefined) given.set(known, [value]);
    else if (known === 'ENV') values.push(value);
    else if (known !== 'HOLD') reasons.push(`${known} is given twice`);
  }
  return given;
}

function refuseTooManyProcs(asked: number | undefined, options: SjqOptions, reasons: string[]): void {
  const { maxProcs, defaultProcs } = options;
  const procs = asked ?? defaultProcs;
  const whose = asked === undefined ? ' where it does not say (sjq.defaults.procs)' : '';
  if (procs > maxProcs)
    reasons.push(`PROCS: the job needs ${procs} CPUs${whose}, and ${maxProcs} are managed (sjq.maxprocs)`);
}

function refuseTooMuchMemory(asked: number | undefined, options: SjqOptions, reasons: string[]): void {
  const { maxMemMiB, defaultMemMiB } = options;
  const memoryMiB = asked ?? defaultMemMiB;
  const whose = asked === undefined ? ' where it does not say (sjq.defaults.mem)' : '';
  if (maxMemMiB !== undefined && memoryMiB > maxMemMiB)
    reasons.push(`MEM: the job needs ${memoryMiB}M${whose}, and ${maxMemMiB}M are managed (sjq.maxmem)`);
}

function dependsOf(text: string, isKnown: (id: QueueJobId) => boolean): QueueJobId[] {
  if (text === '') return [];
  const ids = text.split(':').map((one) => wholeNumber(one, 1, 'ids of jobs with colons between them'));
  const unknown = ids.filter((id) => !isKnown(id));
  if (unknown.length > 0)
    throw new Error(`${unknown.length === 1 ? 'job' : 'jobs'} ${unknown.slice(0, 10).join(', ')}: not known`);
  return [...new Set(ids)];
}

function titleOf(text: string): string {
  if (/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u.test(text)) throw new Error('contains a control character');
  if (Buffer.byteLength(text) > MAX_TITLE_BYTES)
    throw new Error(`has ${Buffer.byteLength(text)} bytes, expected at most ${MAX_TITLE_BYTES}`);
  return text || DEFAULT_TITLE;
}

/** A user's or group's id. The service's own, which clients send as a matter of course, needs no leave. */
function userOf(text: string, own: number | undefined, { allowsUid = false }: SjqOptions): number {
  const id = wholeNumber(text, 0);
  if (id > MAX_USER_ID) throw new Error(`found ${id}, expected at most ${MAX_USER_ID}`);
  if (id === own) return id;
  if (process.geteuid?.() !== 0)
    throw new Error(
      `found ${id}, and the service runs as ${own}: only one that runs as root can take others`,
    );
  if (!allowsUid)
    throw new Error(`found ${id}: other users than the service's own need job_queue start --allow-uid`);
  return id;
}

/** Both together: the service's own group is not that of another user. */
function isOwnUser({ uid, gid }: User): boolean {
  return (
    (uid ?? process.geteuid?.()) === process.geteuid?.() &&
    (gid ?? process.getegid?.()) === process.getegid?.()
  );
}

function present({ uid, gid }: User) {
  return { ...(uid === undefined ? {} : { uid }), ...(gid === undefined ? {} : { gid }) };
}

const COMMAND_CHARACTERS = 200;

/** For people: the first line of the script that does something. */
function commandText(script: Buffer, stem: string): string {
  const lines = script.subarray(0, 16_384).toString('utf8').split('\n').slice(1);
  const line = lines.map((one) => one.trim()).find((one) => one !== '' && !one.startsWith('#'));
  return line === undefined ? stem : cutToWidth(visibleText(line), COMMAND_CHARACTERS);
}

function wholeNumber(text: string, least: number, expected = `a whole number from ${least}`): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least)) throw new Error(`found ${shownValue(text)}, expected ${expected}`);
  return value;
}

function shownValue(text: string): string {
  return `'${cutToWidth(visibleText(text), 60)}'`;
}

async function checkFolder(path: string, reasons: string[]): Promise<boolean> {
  const shown = cutToWidth(visibleText(path), 200);
  if (!isAbsolute(path) || path.includes('\0')) {
    reasons.push(`CWD: found '${shown}', expected an absolute path`);
    return false;
  }
  const found = await kindOf(path);
  if (found !== 'folder')
    reasons.push(`CWD: ${shown} ${found === 'file' ? 'is no folder' : 'does not exist'}`);
  return found === 'folder';
}

async function checkFile(word: Word, path: string, reasons: string[]): Promise<void> {
  const shown = (text: string) => cutToWidth(visibleText(text), 200);
  if (path.includes('\0')) reasons.push(`${word}: contains a NUL byte`);
  else if ((await kindOf(dirname(path))) !== 'folder')
    reasons.push(`${word}: the folder ${shown(dirname(path))} does not exist`);
  else if ((await kindOf(path)) === 'folder')
    reasons.push(`${word}: ${shown(path)} is a folder, expected a file`);
}

async function kindOf(path: string): Promise<'folder' | 'file' | 'none'> {
  return await stat(path).then(
    (facts) => (facts.isDirectory() ? 'folder' : 'file'),
    () => 'none',
  );
}

/** What the job and its script's file are called: the title, as far as a file's name can be so. */
function stemOf(title: string): string {
  const clean = title.replaceAll('/', '_').replace(/^[.-]+/, '');
  let stem = '';
  for (const char of clean) {
    if (Buffer.byteLength(stem + char) > MAX_NAME_BYTES - ID_BYTES) break;
    stem += char;
  }
  return stem || DEFAULT_TITLE;
}
