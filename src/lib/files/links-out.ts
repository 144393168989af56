/** Finds links that will lead nowhere on a machine: they point out of what is sent. */
import { lstatSync } from 'node:fs';
import { posix } from 'node:path';
import { below, foldersAbove, fsPath, toBytePath } from './byte-path.ts';
import type { SourceEntry, SourcePart, SourceTree } from './source-part.ts';

/** A link of a part, all as bytes. */
export interface LinkOut {
  readonly part: SourcePart;
  readonly path: string;
  readonly target: string;
}

/** A link that leads out of its part. */
interface OpenLink extends LinkOut {
  /** Where it leads in the job's folder; undefined when that is outside. */
  readonly place: string | undefined;
}

const indexes = new WeakMap<SourcePart, ReadonlyMap<string, SourceEntry['kind']>>();
const openLinks = new WeakMap<SourcePart, readonly OpenLink[]>();

/** The kinds of a part's entries by path. Made once for a part. */
export function kindsIn(part: SourcePart): ReadonlyMap<string, SourceEntry['kind']> {
  let index = indexes.get(part);
  if (index === undefined) {
    index = new Map(part.entries.map(({ path, kind }) => [path, kind]));
    indexes.set(part, index);
  }
  return index;
}

/**
 * The links of a tree that lead out of it: absolute ones, those that climb out of the job's folder, and those to what is
 * here but not sent. A link that leads nowhere here either is left alone.
 */
export function linksOut({ parts, shared }: Pick<SourceTree, 'parts' | 'shared'>): LinkOut[] {
  const all = [...parts, ...shared.map(({ part }) => part)];
  return all
    .flatMap((part) => linksOutOf(part))
    .filter(({ place }) => place === undefined || !all.some((part) => holds(part, place)));
}

function linksOutOf(part: SourcePart): readonly OpenLink[] {
  let links = openLinks.get(part);
  if (links === undefined) {
    links = part.entries.flatMap(({ path, kind, digest }) =>
      kind === 'link' ? leadsOut({ part, path, target: digest }) : [],
    );
    openLinks.set(part, links);
  }
  return links;
}

function leadsOut(link: LinkOut): OpenLink[] {
  const { part, path, target } = link;
  if (target.startsWith('/')) return [{ ...link, place: undefined }];
  const joined = posix.join(posix.dirname(path), target).replace(/\/$/, '');
  if (joined === '.') return []; // the job's folder itself
  if (joined === '..' || joined.startsWith('../')) return [{ ...link, place: undefined }];
  if (holds(part, joined)) return [];
  const isHere = isThere(below(toBytePath(part.root), joined));
  return isHere ? [{ ...link, place: joined }] : [];
}

/** Whether a part holds a path, or a link on the way to it, which then is the one to look at. */
function holds(part: SourcePart, path: string): boolean {
  const kinds = kindsIn(part);
  return kinds.has(path) || foldersAbove(path).some((folder) => kinds.get(folder) === 'link');
}

function isThere(path: string): boolean {
  try {
    return lstatSync(fsPath(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}
