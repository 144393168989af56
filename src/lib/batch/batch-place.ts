/** Where a batch that runs can be found by others: beside its record in the results folder. */
import { join, resolve } from 'node:path';
import { jobFolder } from '../runner/job-folder.ts';
import { BATCHES_FOLDER } from '../stores/batch-record.ts';
import { isHolderGone, readLockHolder } from '../util/process-lock.ts';
import { jobNameStem } from './batch-file.ts';

/** Files of one batch in a results folder. */
export interface BatchPlace {
  /** The folder of the door through which it is watched. */
  readonly door: string;
  /** Names the process that runs it. */
  readonly lock: string;
}

/** The place of a batch, whether it was ever run or not. `cwd`: the folder that `results` starts from. */
export function batchPlace(file: string, results: string, cwd = process.cwd()): BatchPlace {
  const base = join(resolve(cwd, results), BATCHES_FOLDER, jobFolder(jobNameStem(file)));
  return { door: `${base}.door`, lock: `${base}.lock` };
}

/** Who runs the batch now, as far as can be told from here; undefined when nobody does. */
export function controllerOf({
  lock,
}: BatchPlace): { readonly host: string; readonly pid: number } | undefined {
  const holder = readLockHolder(lock);
  if (holder === undefined || isHolderGone(holder)) return undefined;
  return { host: holder.host, pid: holder.pid };
}
