/**
 * Reads a batch file: one line, one job. Lines that begin with `execute_remote` are parsed and never run; every other
 * line is a command as it stands. Says what is wrong with lines, and warns about lines that cannot do what they seem to.
 */
import { readFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { type Job, jobId } from '../domain/job.ts';
import { MAX_NAME_BYTES } from '../runner/job-name.ts';
import { visibleText } from '../util/terminal-text.ts';
import { parseJobCommand } from './job-command.ts';
import { jobNameMistakes } from './job-names.ts';
import { type LineNote, mistakesError } from './line-checks.ts';
import { shellWords } from './shell-words.ts';

/** What a line gets that does not say otherwise. */
export type JobDefaults = Pick<Job, 'request' | 'copyForwards' | 'shareForwards' | 'copyBackwards'>;

/** How a batch is read. */
export interface ReadBatchOptions {
  /** The file as the user named it: for messages, and for the names of jobs. */
  readonly path: string;
  readonly defaults: JobDefaults;
}

/** One line that is a job. */
export interface BatchLine {
  /** The line as it stands in the file. For an `execute_remote` line, `job.command` is what that line is to run. */
  readonly text: string;
  readonly job: Job;
}

/** The jobs of a file in the order of their lines, and what a person should know about them. */
export interface Batch {
  readonly lines: readonly BatchLine[];
  readonly warnings: readonly LineNote[];
}

/**
 * Reads the batch file at `options.path`.
 * @throws UsageError when it cannot be read, and as `readBatch` does.
 */
export async function readBatchFile(options: ReadBatchOptions): Promise<Batch> {
  return readBatch(await fileBytes(options.path), options);
}

/** A batch file's content. @throws UsageError saying why it cannot be read */
export async function fileBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const reasons = new Map<unknown, string>([
      ['ENOENT', 'there is no such file'],
      ['ENOTDIR', 'there is no such file'],
      ['EISDIR', 'it is a folder'],
      ['EACCES', 'it may not be read'],
    ]);
    const reason = reasons.get(code) ?? (error instanceof Error ? error.message : String(error));
    const expected = 'expected a file with one command per line';
    throw new UsageError(`cannot read the batch file ${visibleText(path)}: ${reason}; ${expected}`, {
      cause: error,
    });
  }
}

/**
 * Reads the lines of a batch. Blank lines and `#` lines are left out but counted; a byte order mark and CRLF are taken
 * away; what an `execute_remote` line says wins over the defaults.
 * @throws UsageError with every mistake (the first ten in words), each with file and line.
 */
export function readBatch(content: string | Uint8Array, options: ReadBatchOptions): Batch {
  const { path } = options;
  const text = typeof content === 'string' ? content : decodeUtf8(content, path);
  const stem = jobNameStem(path);
  const lines: BatchLine[] = [];
  const mistakes: LineNote[] = [];
  const warnings: LineNote[] = [];

  let line = 0;
  for (const ended of text.replace(/^\uFEFF/, '').split('\n')) {
    line++;
    const written = ended.endsWith('\r') ? ended.slice(0, -1) : ended;
    const begin = written.trimStart();
    if (begin === '' || begin.startsWith('#')) continue;
    if (written.includes('\0')) {
      mistakes.push({ line, column: written.indexOf('\0') + 1, message: 'found a NUL byte: expected text' });
      continue;
    }
    const name = `${stem}.${line}`;
    if (!CALL.test(begin)) {
      lines.push({
        text: written,
        job: { id: jobId(name), name, line, command: written, ...options.defaults },
      });
      for (const message of doubtsAbout(written)) warnings.push({ line, message });
      continue;
    }
    const call = readCall(written, { line, name, defaults: options.defaults });
    if ('job' in call) {
      lines.push({ text: written, job: call.job });
      warnings.push(...call.warnings);
    } else {
      mistakes.push(call);
    }
  }
  mistakes.push(...jobNameMistakes(lines.map(({ job }) => job)));
  if (mistakes.length > 0) throw mistakesError(mistakes, path);
  if (lines.length === 0) {
    const found = text.trim() === '' ? 'is empty' : 'has only blank lines and comments';
    throw new UsageError(`the batch file ${visibleText(path)} ${found}: expected one command per line`);
  }
  return { lines, warnings };
}

/** A line that begins with a call: the name as a word of its own, also where shell syntax (a mistake) ends it. */
const CALL = /^execute_remote(?=[ \t;&|<>()]|$)/;

/** Reads an `execute_remote` line into a job, or says what is wrong with it. */
function readCall(
  written: string,
  { line, name, defaults }: { line: number; name: string; defaults: JobDefaults },
): { job: Job; warnings: LineNote[] } | LineNote {
  const read = shellWords(written);
  if (read.type === 'mistake') return { line, column: read.column, message: read.message };
  try {
    const call = parseJobCommand(read.words.slice(1), { context: 'line' });
    const jobName = call.jobName ?? name;
    const job: Job = {
      id: jobId(jobName),
      name: jobName,
      line,
      command: call.command,
      // Lines that ask for nothing of their own share one request: a batch may have very many lines.
      request:
        Object.keys(call.request).length === 0 ? defaults.request : { ...defaults.request, ...call.request },
      copyForwards: call.copyForwards ?? defaults.copyForwards,
      shareForwards: call.shareForwards ?? defaults.shareForwards,
      copyBackwards: call.copyBackwards ?? defaults.copyBackwards,
    };
    const message = `the machine '${visibleText(call.machine ?? '')}' is ignored: execute_batch chooses the machine of every line`;
    return { job, warnings: call.machine === undefined ? [] : [{ line, message }] };
  } catch (error) {
    if (error instanceof UsageError) return { line, message: error.message };
    throw error;
  }
}

const SETTER =
  /^(?:(?:cd|pushd|popd|export|unset|set|shopt|alias|source|\.|umask|ulimit|declare|typeset|readonly)(?:\s.*)?|(?:conda|mamba|micromamba)\s+activate\b.*|module\s+(?:add|load|purge|swap|unload|use)\b.*|(?:[A-Za-z_]\w*\+?=\S*(?:\s+|$))+)$/;
const CALL_INSIDE = /(?:^|[;&|(])\s*(?:[A-Za-z_]\w*=\S*\s+)*execute_remote(?=\s)/;

/** Warnings about a command that bash accepts but that cannot do what it seems to be for. */
function doubtsAbout(command: string): string[] {
  const doubts: string[] = [];
  const backslashes = /\\*$/.exec(command)?.[0].length ?? 0;
  if (backslashes % 2 === 1) {
    doubts.push('the line ends with a backslash, but lines are not joined: each line is a job of its own');
  }
  // Quoted text cannot separate commands, so what is left can be cut at the separators.
  const bare = command.replace(/\\.|'[^']*'|"(?:[^"\\]|\\.)*"/g, 'Q');
  const steps = bare.split(/&&|\|\||;/).map((step) => step.trim());
  const onlySets = steps.every(
    (step) => step === '' || step.startsWith('#') || (SETTER.test(step) && !/[|&]/.test(step)),
  );
  if (onlySets) {
    doubts.push(
      'this line only sets something for later lines, but each line is a job of its own: ' +
        'join it with the command it is for by &&, or use the setup: of a machine file',
    );
  }
  if (CALL_INSIDE.test(bare)) {
    doubts.push(
      'execute_remote is understood only where a line begins with it; here it would be run on the machine',
    );
  }
  return doubts;
}

/**
 * What the names of a file's jobs begin with: `./example/batch.sh` gives `example_batch.sh`. `./` is dropped (and `x/../`
 * resolved), every `/` becomes `_`, so that `/data/b.sh` gives `_data_b.sh`; dots and dashes that would then stand first
 * become one `_` (`../b.sh` gives `__b.sh`), since a job's name may not begin with them.
 * @throws UsageError when the path is too long to name jobs after.
 */
export function jobNameStem(path: string): string {
  const stem = posix
    .normalize(path)
    .replace(/[/\p{Cc}\p{Zl}\p{Zp}]/gu, '_')
    .replace(/^[.-]+/, '_');
  if (Buffer.byteLength(stem) > MAX_NAME_BYTES - LINE_NUMBER_BYTES) {
    throw new UsageError(
      `the batch file's path ${visibleText(path)} is too long to name jobs after: ` +
        `expected at most ${MAX_NAME_BYTES - LINE_NUMBER_BYTES} bytes, for example a path from its own folder`,
    );
  }
  return stem;
}

const LINE_NUMBER_BYTES = '.99999999'.length;

/** Decodes UTF-8, or says on which line it ends to be that. */
function decodeUtf8(bytes: Uint8Array, path: string): string {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(bytes);
  } catch {
    let start = 0;
    for (let line = 1; ; line++) {
      const newline = bytes.indexOf(0x0a, start);
      const end = newline === -1 ? bytes.length : newline;
      try {
        decoder.decode(bytes.subarray(start, end)); // a newline is never part of a longer UTF-8 sequence
      } catch {
        const isUtf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
        const found = isUtf16 ? 'found UTF-16' : 'found bytes that are not UTF-8';
        throw mistakesError([{ line, message: `${found}: save the file as UTF-8` }], path);
      }
      if (newline === -1) throw new Error('Internal error: a file is not UTF-8, but all of its lines are');
      start = end + 1;
    }
  }
}
