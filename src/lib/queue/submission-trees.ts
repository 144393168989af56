/** What goes forward with the jobs of one submit: their source trees, each listed and kept once. */
import { stat } from 'node:fs/promises';
import type { KeptParts } from '../files/kept-parts.ts';
import { notesText } from '../files/source-notes.ts';
import { type ForwardedPaths, SourceTrees, type SourceTreesOptions } from '../files/source-trees.ts';

/** Where trees come from and where they are kept. */
export interface SubmissionTreesOptions
  extends Pick<SourceTreesOptions, 'machines' | 'home' | 'cacheFolder'> {
  readonly cwd: string;
  readonly results: string;
  readonly parts: Pick<KeptParts, 'keep'>;
}

/** What is kept of one submit. */
export interface SubmissionTrees {
  /** The names of the parts of each `ForwardedPaths`, in their order; empty where nothing goes forward. */
  readonly parts: readonly (readonly string[])[];
  /** What a person should know, one line each. */
  readonly notes: readonly string[];
}

const NO_PARTS: readonly string[] = Object.freeze([]);
const ALWAYS_LEFT: ReadonlySet<string> = new Set(['git', 'results', 'virtual-environment', 'pycache']);

/**
 * Lists what these paths name, and keeps it, so that later edits do not matter.
 * @throws UsageError as `SourceTrees.of` does; KeepError for files that change meanwhile and for want of room
 */
export async function keepTrees(
  forwards: readonly ForwardedPaths[],
  { parts, ...options }: SubmissionTreesOptions,
): Promise<SubmissionTrees> {
  if (!forwards.some(sendsAny)) return { parts: forwards.map(() => NO_PARTS), notes: [] };
  const trees = new SourceTrees(options);
  const notes = await trees.listAll(forwards.filter(sendsAny));
  const kept: (readonly string[])[] = [];
  for (const paths of forwards) {
    const tree = sendsAny(paths) ? await trees.of(paths) : undefined;
    kept.push(tree === undefined || tree.id === '' ? NO_PARTS : Object.freeze(await parts.keep(tree)));
  }
  // What always stays behind is in the documents; one submit after the other need not say so.
  const leftBehind = notes.leftBehind.filter(({ reason }) => !ALWAYS_LEFT.has(reason));
  return { parts: kept, notes: notesText({ ...notes, leftBehind }) };
}

/** Whether a path leads to a folder; what cannot be looked at counts as none. */
export async function isFolder(path: string): Promise<boolean> {
  const stats = await stat(path).catch(() => undefined);
  return stats?.isDirectory() === true;
}

function sendsAny({ copyForwards, shareForwards }: ForwardedPaths): boolean {
  return copyForwards.length > 0 || shareForwards.length > 0;
}
