/**
 * A batch remembers its jobs in its results folder: a line with a manifest there is finished, whoever ran it. This
 * reads what earlier runs left; the lines that are left wait in memory.
 */
import { constants, existsSync } from 'node:fs';
import { access, mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { Job } from '../domain/job.ts';

/** A line that is not run. */
export interface SkippedJob {
  readonly job: Job;
  readonly reason: 'finished-result' | 'result-without-manifest';
  /** Whether its result is a good one. */
  readonly isGood: boolean;
}

/** What a results folder says about a batch. */
export interface OpenedResults {
  readonly toRun: readonly Job[];
  readonly skipped: readonly SkippedJob[];
}

/**
 * Opens (and makes) a results folder for the jobs of a batch. What a cancelled job left is moved aside, to
 * `NAME.attempt-1` and so on: the job is not finished, and its results are not replaced.
 * @throws UsageError when a result of the same name belongs to another command, or the folder cannot be used.
 */
export async function openResultFolder(folder: string, jobs: readonly Job[]): Promise<OpenedResults> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (error) {
    throw new UsageError(`cannot use the results folder ${folder}: ${(error as Error).message}`);
  }
  const opened = await readResultFolder(folder, jobs);
  for (const { name } of opened.toRun)
    if (existsSync(join(folder, `${name}.json`))) await setAside(folder, name);
  return opened;
}

/** What `openResultFolder` tells, without making anything. */
export async function readResultFolder(folder: string, jobs: readonly Job[]): Promise<OpenedResults> {
  const present = new Set(await readdir(folder).catch((): string[] => []));
  const toRun: Job[] = [];
  const skipped: SkippedJob[] = [];
  for (const job of jobs) {
    if (present.has(`${job.name}.json`)) {
      const state = await readManifest(folder, job);
      if (state === 'cancelled') toRun.push(job);
      else skipped.push({ job, reason: 'finished-result', isGood: state === 'good' });
    } else if (present.has(job.name)) {
      skipped.push({ job, reason: 'result-without-manifest', isGood: false });
    } else {
      toRun.push(job);
    }
  }
  return { toRun, skipped };
}

/** Renames a job's result to the first free `NAME.attempt-N`; the manifest goes first, so that the rest is no result. */
async function setAside(folder: string, name: string): Promise<void> {
  let number = 1;
  while (ENDINGS.some((ending) => existsSync(join(folder, `${name}.attempt-${number}${ending}`))))
    number += 1;
  for (const ending of ENDINGS) {
    const from = join(folder, `${name}${ending}`);
    if (existsSync(from)) await rename(from, join(folder, `${name}.attempt-${number}${ending}`));
  }
}

const ENDINGS = ['.json', '', '.out', '.err'];

/** What a manifest says of its job. */
async function readManifest(folder: string, job: Job): Promise<'good' | 'bad' | 'cancelled'> {
  const path = join(folder, `${job.name}.json`);
  let manifest: { readonly command?: unknown; readonly outcome?: unknown; readonly exit_code?: unknown };
  try {
    const parsed: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof parsed !== 'object' || parsed === null) throw new Error('it holds no object');
    manifest = parsed; // each field is checked where it is used
  } catch (error) {
    throw new UsageError(
      `${path}: cannot be read as a result's manifest: ${(error as Error).message}; move it away to run line ${job.line} again`,
    );
  }
  if (manifest.outcome === 'cancelled') return 'cancelled';
  if (manifest.command !== job.command) {
    throw new UsageError(
      `line ${job.line}: ${path} is the result of another command:\n  there: ${String(manifest.command)}\n  here:  ${job.command}\n` +
        'move that result away, or use another --results folder',
    );
  }
  return manifest.outcome === 'exited' && manifest.exit_code === 0 ? 'good' : 'bad';
}
