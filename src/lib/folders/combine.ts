/**
 * Combines folders: what has the same path and content is one, what has another path is all there, and the same path
 * with other content is a conflict. Nothing is written before all of it is known to fit.
 */
import { setImmediate } from 'node:timers/promises';
import { SchedulerError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { type CaseSensitivity, probeCase } from './case-probe.ts';
import { checkFolders } from './check-folders.ts';
import { failureText } from './failure-text.ts';
import type { MergeTree } from './found.ts';
import { readJournal } from './journal.ts';
import { mergeTrees } from './merge.ts';
import type { CombineCounts, Conflict, LeftOut, OnConflict, Plan, Renamed } from './plan.ts';
import { latin1Path, readablePath } from './tree-path.ts';
import { beginWriting, changesNothing, write } from './write.ts';

/** How to combine. */
export interface CombineOptions {
  /**
   * What happens to the same path with different content. `keep-first`: the first source's, or what DEST has.
   * `keep-newest`: by modification time; the only one that replaces files of DEST. `rename`: the first keeps the name,
   * each other content is put beside it as `name.<hash>.ext`.
   * @default 'error'
   */
  readonly onConflict?: OnConflict;
  /** Hard links instead of copies; a file that cannot be linked (another file system) is copied and counted. @default false */
  readonly link?: boolean;
  /** Find out and tell, write nothing. @default false */
  readonly dryRun?: boolean;
  /** Called now and then. */
  readonly onProgress?: (progress: CombineProgress) => void;
  /** Breaks off between files with the signal's reason; the same call completes it later. */
  readonly signal?: AbortSignal;
  /**
   * How DEST's disk takes names that differ in case; asked with the nearest folder at or above DEST that exists (absolute).
   * @default looks up an entry there under another spelling
   */
  readonly caseOf?: (folder: string) => CaseSensitivity;
}

/** How far it is. */
export interface CombineProgress {
  readonly phase: 'listing' | 'writing';
  /** Files and links listed, or put into DEST. */
  readonly files: number;
  /** How many there will be; 0 while they are listed. */
  readonly ofFiles: number;
  readonly bytes: number;
  readonly ofBytes: number;
}

/** What was done; with conflicts, nothing was. */
export interface CombineResult {
  /** Of a dry run: what would be done. With conflicts: as far as it was planned, and not done. */
  readonly counts: Readonly<CombineCounts>;
  readonly conflicts: readonly Conflict[];
  readonly leftOut: readonly LeftOut[];
  readonly renamed: readonly Renamed[];
}

const BREATH_MS = 50;

/**
 * Combines the sources into DEST, which need not exist and else takes part as the first of them: what is there stays.
 * @throws UsageError when a folder is missing, is none, or one lies in the other: nothing was written
 * @throws SchedulerError when something cannot be read or written; the message says whether DEST is incomplete, and then
 * the same call completes it
 */
export async function combineFolders(
  dest: string,
  sources: readonly string[],
  options: CombineOptions = {},
): Promise<CombineResult> {
  const { onConflict = 'error', link = false, dryRun = false, onProgress, signal } = options;
  const checked = checkFolders(dest, sources);
  let lastBreath = performance.now();
  // All file work is synchronous, as that is several times faster: without a pause the caller would hear nothing.
  const breathe = async (progress: CombineProgress): Promise<void> => {
    signal?.throwIfAborted();
    if (performance.now() - lastBreath < BREATH_MS) return;
    onProgress?.(progress);
    await setImmediate();
    lastBreath = performance.now();
  };
  const trees: MergeTree[] = checked.sources.map(({ name, root }, source) => ({ name, root, source }));
  if (checked.destExists) trees.unshift({ name: dest, root: checked.dest, source: undefined });
  let disk: CaseSensitivity = 'insensitive';
  const plan = await orTell('nothing was written', signal, async () => {
    disk = (options.caseOf ?? ((folder) => probeCase(latin1Path(folder))))(readablePath(checked.nearest));
    return await mergeTrees(trees, {
      onConflict,
      isCaseInsensitive: disk === 'insensitive',
      ends: checked.destExists ? readJournal(checked.dest) : new Map(),
      breathe: (files) => breathe({ phase: 'listing', files, ofFiles: 0, bytes: 0, ofBytes: 0 }),
    });
  });
  const { counts, conflicts, leftOut, renamed } = plan;
  const isDone = conflicts.length > 0 || dryRun || changesNothing(plan);
  if (!isDone) await writePlan(plan);
  return { counts, conflicts: inOrder(conflicts), leftOut, renamed };

  async function writePlan(plan: Plan): Promise<void> {
    await orTell('nothing was written', signal, () => beginWriting(plan, checked.dest));
    const fresh = disk === 'sensitive' ? plan.folders.filter(({ isNew }) => isNew) : [];
    const ofFiles = counts.files + counts.links;
    let [files, bytes] = [0, 0];
    const incomplete = `${visibleText(dest)} is incomplete: run the same command again to complete it`;
    const tally = await orTell(incomplete, signal, () =>
      write(plan, {
        ...{ dest: checked.dest, sources: checked.sources.map(({ root }) => root), link },
        freshFolders: new Set(fresh.map(({ path }) => path)),
        onCopied: (moreFiles, moreBytes) => {
          files += moreFiles;
          bytes += moreBytes;
        },
        breathe: () => breathe({ phase: 'writing', files, ofFiles, bytes, ofBytes: counts.bytes }),
      }),
    );
    Object.assign(counts, tally);
  }
}

/** Says in one line what went wrong and what that leaves behind. */
async function orTell<T>(
  consequence: string,
  signal: AbortSignal | undefined,
  action: () => T | Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (signal?.aborted && error === signal.reason) throw error;
    const { path } = error as { readonly path?: unknown };
    const where = typeof path === 'string' || Buffer.isBuffer(path) ? `${path.toString()}: ` : '';
    const what = error instanceof SchedulerError ? error.message : `${where}${failureText(error)}`;
    throw new SchedulerError(`${visibleText(what)}; ${consequence}`, { cause: error });
  }
}

function inOrder(conflicts: readonly Conflict[]): Conflict[] {
  return [...conflicts].sort((a, b) => (a.path < b.path ? -1 : 1));
}
