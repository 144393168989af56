/** What people are told of a batch's source trees before it starts, a line each. */
import type { Job } from '../domain/job.ts';
import { fromBytePath } from '../files/byte-path.ts';
import { largestFolders } from '../files/largest-folders.ts';
import type { SourceTree } from '../files/source-part.ts';
import type { SourceTrees } from '../files/source-trees.ts';
import type { SkippedJob } from '../stores/result-folder.ts';
import { formatBytes } from '../util/size.ts';
import { visibleText } from '../util/terminal-text.ts';

/** From so many bytes on, a copy for every job is worth a thought. */
const LARGE_COPY_BYTES = 1e9;

/** Says that the results which are there came from other files than those that the rest will run with. */
export async function changedTreeText(
  skipped: readonly SkippedJob[],
  toRun: readonly Job[],
  trees: SourceTrees,
): Promise<string | undefined> {
  // Only what is listed anyway is compared: lines that send the same paths.
  const now = new Map<string, string>();
  for (const job of toRun) now.set(forwardsOf(job), (await trees.of(job)).id);
  const changed = skipped.filter(({ job, tree }) => {
    const current = now.get(forwardsOf(job));
    return tree !== undefined && current !== undefined && tree !== current;
  }).length;
  if (changed === 0) return undefined;
  const results = changed === 1 ? '1 result that is there comes' : `${changed} results that are there come`;
  return `${results} from an earlier state of the files that are sent (the batch file is one of them); the lines left run with the present one`;
}

/** Points at `--share-forwards` where each job gets a large copy. */
export async function copiesText(jobs: readonly Job[], trees: SourceTrees): Promise<string | undefined> {
  let largest: SourceTree | undefined;
  for (const job of jobs) {
    const tree = await trees.of(job);
    if (copiedBytes(tree) > copiedBytes(largest)) largest = tree;
  }
  const bytes = copiedBytes(largest);
  if (largest === undefined || bytes < LARGE_COPY_BYTES) return undefined;
  const [most] = largestFolders(
    largest.parts.flatMap(({ entries }) => entries),
    1,
  );
  if (most === undefined) return undefined;
  const path = visibleText(fromBytePath(most.path));
  return (
    `hint: each job gets its own copy of ${formatBytes(bytes)}; ` +
    `--share-forwards ${path} would link ${formatBytes(most.bytes)} of it into every job instead`
  );
}

function copiedBytes(tree: SourceTree | undefined): number {
  return tree?.parts.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
}

function forwardsOf({ copyForwards, shareForwards }: Job): string {
  return JSON.stringify([copyForwards, shareForwards]);
}
