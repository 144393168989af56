/**
 * A batch remembers its jobs in its results folder: a line with a manifest there is finished, whoever ran it. This
 * reads what earlier runs left; the lines that are left wait in memory.
 */
import { constants, existsSync } from 'node:fs';
import { access, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { Job } from '../domain/job.ts';
import {
  clearPartial,
  completePartial,
  findPartial,
  PARTIAL_FOLDER,
  type PartialResult,
} from '../runner/result-files.ts';
import { makeFolder } from '../util/make-folder.ts';

/** A line that is not run. */
export interface SkippedJob {
  readonly job: Job;
  readonly reason: 'finished-result' | 'result-without-manifest';
  /** Whether its result is a good one. */
  readonly isGood: boolean;
  /** Name of the source tree that its result came from; absent when nobody knows. */
  readonly tree?: string;
}

/** What a results folder says about a batch. */
export interface OpenedResults {
  readonly toRun: readonly Job[];
  readonly skipped: readonly SkippedJob[];
  /** Those to run that had a result, which now stands aside. */
  readonly setAside: readonly Job[];
  /** Those to run whose manifest is empty: a power cut took it before it was on the disk. What is left stands aside, too. */
  readonly torn: readonly Job[];
}

/**
 * Opens (and makes) a results folder for the jobs of a batch. What a crash left of their results is completed where only
 * the last rename is missing, else cleared; that of other jobs stays, for another batch may be at it. What a job left that
 * is run again (it was cancelled, or has failed) is moved aside, to `NAME.attempt-1` and so on: results are never replaced.
 * @throws UsageError when a result of the same name belongs to another command, or the folder cannot be used.
 */
export async function openResultFolder(
  folder: string,
  jobs: readonly Job[],
  options: ReadResultsOptions = {},
): Promise<OpenedResults> {
  try {
    makeFolder(folder);
    await access(folder, constants.W_OK);
  } catch (error) {
    throw new UsageError(`cannot use the results folder ${folder}: ${(error as Error).message}`);
  }
  const opened = await readResultFolder(folder, jobs, options); // before anything is changed: it may refuse
  for (const { job, partial } of await remainsOf(folder, jobs)) {
    try {
      if (partial.type === 'complete') completePartial(folder, job.name);
      else await clearPartial(folder, job.name);
    } catch (error) {
      throw new UsageError(
        `cannot clear up ${join(folder, PARTIAL_FOLDER, job.name)}, which an earlier run left: ${(error as Error).message}`,
      );
    }
  }
  for (const { name } of [...opened.setAside, ...opened.torn]) await setAside(folder, name);
  const present = new Set(await readdir(folder));
  for (const { name } of opened.toRun) {
    const number = halfAside(name, present);
    if (number !== undefined) await setAside(folder, name, number);
  }
  return opened;
}

/** How results are looked at. */
export interface ReadResultsOptions {
  /** Lines whose result is a failure are run again. @default false */
  readonly rerunFailed?: boolean;
  /** So are lines that were cancelled. @default true */
  readonly rerunCancelled?: boolean;
}

/** What `openResultFolder` tells, without making or changing anything. */
export async function readResultFolder(
  folder: string,
  jobs: readonly Job[],
  { rerunFailed = false, rerunCancelled = true }: ReadResultsOptions = {},
): Promise<OpenedResults> {
  const present = new Set(await readdir(folder).catch((): string[] => []));
  const manifests = new Map<string, string>();
  for (const { job, partial } of await remainsOf(folder, jobs))
    if (partial.type === 'complete') manifests.set(job.name, partial.manifest);
  const toRun: Job[] = [];
  const skipped: SkippedJob[] = [];
  const again: Job[] = [];
  const torn: Job[] = [];
  for (const job of jobs) {
    const manifest = present.has(`${job.name}.json`)
      ? join(folder, `${job.name}.json`)
      : manifests.get(job.name);
    if (manifest !== undefined) {
      const { state, tree } = await readManifest(manifest, job);
      if (state === 'torn') {
        toRun.push(job);
        torn.push(job);
      } else if ((rerunCancelled && state === 'cancelled') || (rerunFailed && state === 'bad')) {
        toRun.push(job);
        again.push(job);
      } else skipped.push({ job, reason: 'finished-result', isGood: state === 'good', ...tree });
    } else if (halfAside(job.name, present) !== undefined) {
      toRun.push(job);
    } else if (present.has(job.name)) {
      skipped.push({ job, reason: 'result-without-manifest', isGood: false });
    } else {
      toRun.push(job);
    }
  }
  return { toRun, skipped, setAside: again, torn };
}

interface Remains {
  readonly job: Job;
  readonly partial: Exclude<PartialResult, { type: 'none' }>;
}

/** What a crash left of these jobs' results. */
async function remainsOf(folder: string, jobs: readonly Job[]): Promise<Remains[]> {
  // Mostly there is nothing, and a look for each of many jobs is saved.
  const names = new Set(await readdir(join(folder, PARTIAL_FOLDER)).catch((): string[] => []));
  if (names.size === 0) return [];
  return jobs.flatMap((job) => {
    if (!names.has(job.name) && !names.has(`${job.name}.json`)) return [];
    const partial = findPartial(folder, { name: job.name, hasFolder: job.copyBackwards.length > 0 });
    return partial.type === 'none' ? [] : [{ job, partial }];
  });
}

/**
 * Under which number a result was being set aside when a crash came in between: its manifest has the new name, its folder
 * still the old one.
 */
function halfAside(name: string, present: ReadonlySet<string>): number | undefined {
  if (!present.has(name) || present.has(`${name}.json`)) return undefined;
  let number = 1;
  while (present.has(`${name}.attempt-${number + 1}.json`)) number += 1;
  const aside = `${name}.attempt-${number}`;
  return present.has(`${aside}.json`) && !present.has(aside) ? number : undefined;
}

/** Moves aside what an earlier attempt of a job left under the job's name, whole or half moved aside; the output files, too. */
export async function setAsideEarlier(folder: string, name: string): Promise<void> {
  const hasManifest = existsSync(join(folder, `${name}.json`));
  if (!hasManifest && !existsSync(join(folder, name))) return; // mostly, and a listing of thousands is saved
  await setAside(folder, name, hasManifest ? undefined : halfAside(name, new Set(await readdir(folder))));
}

/** Renames a job's result to the first free `NAME.attempt-N`; the manifest goes first, so that the rest is no result. */
async function setAside(folder: string, name: string, begun?: number): Promise<void> {
  let number = begun ?? 1;
  while (
    begun === undefined &&
    ENDINGS.some((ending) => existsSync(join(folder, `${name}.attempt-${number}${ending}`)))
  )
    number += 1;
  for (const ending of ENDINGS) {
    const from = join(folder, `${name}${ending}`);
    if (existsSync(from)) await rename(from, join(folder, `${name}.attempt-${number}${ending}`));
  }
}

const ENDINGS = ['.json', '', '.out', '.err'];

interface ManifestFacts {
  readonly state: 'good' | 'bad' | 'cancelled' | 'torn';
  readonly tree: { readonly tree?: string };
}

/** What a manifest says of its job. */
async function readManifest(path: string, job: Job): Promise<ManifestFacts> {
  let manifest: { readonly [field: string]: unknown };
  try {
    const text = await readFile(path, 'utf8');
    if (/^\0*$/.test(text)) return { state: 'torn', tree: {} };
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null) throw new Error('it holds no object');
    manifest = parsed as typeof manifest; // each field is checked where it is used
  } catch (error) {
    throw new UsageError(
      `${path}: cannot be read as a result's manifest: ${(error as Error).message}; move it away to run line ${job.line} again`,
    );
  }
  const tree = typeof manifest.source_tree === 'string' ? { tree: manifest.source_tree } : {};
  if (manifest.outcome === 'cancelled') return { state: 'cancelled', tree };
  if (manifest.command !== job.command) {
    throw new UsageError(
      `line ${job.line}: ${path} is the result of another command:\n  there: ${String(manifest.command)}\n  here:  ${job.command}\n` +
        'move that result away, or use another --results folder',
    );
  }
  return { state: manifest.outcome === 'exited' && manifest.exit_code === 0 ? 'good' : 'bad', tree };
}
