/** What a submit sends: texts of files read here, cut into requests that fit through the door. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { jobNameStem, readBatch, readBatchFile } from '../../lib/batch/batch-file.ts';
import { checkShellSyntax, lineNoteText } from '../../lib/batch/line-checks.ts';
import { UsageError } from '../../lib/domain/errors.ts';
import type { Job } from '../../lib/domain/job.ts';
import type { SubmitJob, SubmitRequest, SubmitScript } from '../../lib/queue/requests.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import type { SubmitArguments } from './submit-arguments.ts';
import { quoted } from './words.ts';

/** A line of the door is at most 8 MiB; what all jobs have is in it as well. */
export const MOST_REQUEST_BYTES = 6 * 1024 * 1024;
const MOST_SCRIPT_BYTES = 1024 * 1024;

/** Requests to make one after the other, and what a person should know first. */
export interface SubmitPlan {
  readonly requests: readonly SubmitRequest[];
  readonly warnings: readonly string[];
}

/** Reads what is to be run. @throws UsageError for files that cannot be read, and for lines that are no commands */
export async function planSubmit({ work, common }: SubmitArguments): Promise<SubmitPlan> {
  switch (work.type) {
    case 'script':
      return { requests: [{ ...common, script: await readScript(work.path, work.args) }], warnings: [] };
    case 'command': {
      const notes = await checkShellSyntax([{ command: work.command, line: 1 }]);
      const request = { ...common, jobs: [{ command: work.command }] };
      return { requests: [request], warnings: notes.map(({ message }) => message) };
    }
    case 'file':
      return await planFile(work.path, common);
  }
}

async function planFile(named: string, common: SubmitArguments['common']): Promise<SubmitPlan> {
  const path = named === '-' ? 'standard input' : named;
  const defaults = {
    request: common.request,
    copyForwards: common.copyForwards ?? 'working-directory',
    shareForwards: common.shareForwards ?? [],
    copyBackwards: common.copyBackwards ?? 'changed',
  } as const;
  const { lines, warnings } =
    named === '-'
      ? readBatch(await inputBytes(), { path, defaults })
      : await readBatchFile({ path, defaults });
  const notes = [
    ...warnings,
    ...(await checkShellSyntax(
      lines.map(({ job }) => job),
      { path },
    )),
  ];
  const stem = jobNameStem(path);
  const jobs = lines.map(({ job }) => ownOf(job, { ...defaults, name: `${stem}.${job.line}` }));
  const texts = notes.map((note) => lineNoteText(note, path));
  if (common.array !== undefined && jobs.length > 1)
    throw new UsageError(`--array makes many jobs of one command: ${visibleText(path)} has ${jobs.length}`);
  return { requests: inRequests(jobs, common), warnings: texts };
}

async function inputBytes(): Promise<Buffer> {
  try {
    return await buffer(process.stdin);
  } catch (error) {
    throw new UsageError(`cannot read standard input: ${(error as Error).message}`);
  }
}

/** What a line says for itself: where it says nothing, it has the very same value as all. */
function ownOf(
  job: Job,
  defaults: Pick<Job, 'name' | 'request' | 'copyForwards' | 'shareForwards' | 'copyBackwards'>,
): SubmitJob {
  return {
    command: job.command,
    ...(job.name !== defaults.name && { name: job.name }),
    ...(job.request !== defaults.request && { request: job.request }),
    ...(job.copyForwards !== defaults.copyForwards && { copyForwards: job.copyForwards }),
    ...(job.shareForwards !== defaults.shareForwards && { shareForwards: job.shareForwards }),
    ...(job.copyBackwards !== defaults.copyBackwards && { copyBackwards: job.copyBackwards }),
  };
}

/** As few requests as hold the jobs, in their order. `mostBytes` is for all jobs of a request together. */
export function inRequests(
  jobs: readonly SubmitJob[],
  common: SubmitArguments['common'],
  mostBytes = MOST_REQUEST_BYTES,
): readonly SubmitRequest[] {
  const requests: SubmitRequest[] = [];
  let start = 0;
  let bytes = 0;
  for (const [index, job] of jobs.entries()) {
    const own = Buffer.byteLength(JSON.stringify(job)) + 1;
    if (bytes + own > mostBytes && index > start) {
      requests.push({ ...common, jobs: jobs.slice(start, index) });
      start = index;
      bytes = 0;
    }
    bytes += own;
  }
  requests.push({ ...common, jobs: jobs.slice(start) });
  return requests;
}

/** A script's text. @throws UsageError */
export async function readScript(path: string, args: readonly string[]): Promise<SubmitScript> {
  const cannot = (reason: string) =>
    new UsageError(
      `cannot read the script ${quoted(path)}: ${reason}; expected SCRIPT ARGS..., a command goes behind --command`,
    );
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reasons: Readonly<Record<string, string>> = {
      ENOENT: 'there is no such file here',
      EISDIR: 'it is a folder',
      EACCES: 'it may not be read',
    };
    throw cannot(reasons[code ?? ''] ?? message);
  }
  if (bytes.length === 0) throw cannot('it is empty');
  if (bytes.length > MOST_SCRIPT_BYTES)
    throw cannot(`it has ${bytes.length} bytes, at most ${MOST_SCRIPT_BYTES} are sent`);
  if (bytes.includes(0)) throw cannot('it is no text (a NUL byte is in it)');
  try {
    return {
      name: basename(path),
      text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes),
      args,
    };
  } catch {
    throw cannot('it is not UTF-8');
  }
}
