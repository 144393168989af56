/** Where the paths that a user names lie, and where they are placed in the job's folder. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { fromBytePath, toBytePath } from './byte-path.ts';

/** A flag that names paths. */
export type ForwardFlag = '--copy-forwards' | '--share-forwards';

/** A path that is named, found in the file system. */
export interface SourcePlace {
  readonly flag: ForwardFlag;
  /** As the user wrote it. */
  readonly written: string;
  /** Absolute local folder that the place is relative to. */
  readonly root: string;
  /** Where it stands below the root, and in the job's folder: bytes; empty for all of the root. */
  readonly within: string;
  /** Absolute. */
  readonly absolute: string;
}

/** The places of what one job names, each once. */
export interface SourcePlaces {
  readonly copied: readonly SourcePlace[];
  readonly shared: readonly SourcePlace[];
}

/**
 * The places of the paths that are copied and of those that are shared.
 * @throws UsageError as `placeOf` does, for two at one place, for a path in both lists, and for shares in each other.
 */
export function placesOf(cwd: string, copies: readonly string[], shares: readonly string[]): SourcePlaces {
  const shared = distinct(shares.map((path) => placeOf(cwd, path, '--share-forwards')));
  const copied = distinct(copies.map((path) => placeOf(cwd, path, '--copy-forwards')));
  refuseNested(shared);
  for (const place of copied) refuseShared(place, shared);
  refuseSamePlace([...shared, ...copied]);
  return { copied, shared };
}

/**
 * The place of a named path. What lies in `cwd` (a real path) keeps its place relative to it, also when it is named in
 * another way; what lies outside is placed at the top under its own name. Nothing is said about whether it is there.
 * @throws UsageError for `/`, and for the whole of `cwd` where it cannot be placed.
 */
function placeOf(cwd: string, written: string, flag: ForwardFlag): SourcePlace {
  const named = resolve(cwd, written);
  if (named === '/') throw new UsageError(`${flag}: / cannot be sent whole`);
  const real = isIn(cwd, named) ? named : viaLinks(named);
  const isInside = isIn(cwd, real);
  const absolute = isInside ? real : named;
  const root = isInside ? cwd : dirname(named);
  const within = toBytePath(relative(root, absolute));
  if (within === '' && flag === '--share-forwards') {
    throw new UsageError(
      `${flag}: ${visibleText(written)} is the whole working directory, expected folders or files in it`,
    );
  }
  return { flag, written, root, within, absolute };
}

/** Whether a path is a folder or lies in it. Both absolute. */
export function isIn(folder: string, path: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : `${folder}${sep}`);
}

/** The path with the links in its folders followed, but not one that it is itself. */
function viaLinks(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path; // it is not there, which is told when it is listed
  }
}

/** Without the same path in another spelling. */
function distinct(places: readonly SourcePlace[]): SourcePlace[] {
  return [...new Map(places.map((place) => [place.absolute, place])).values()];
}

function refuseNested(shared: readonly SourcePlace[]): void {
  for (const inner of shared) {
    const outer = shared.find((other) => other !== inner && isIn(other.absolute, inner.absolute));
    if (outer === undefined) continue;
    const [one, other] = [inner.written, outer.written].map(visibleText);
    throw new UsageError(
      `--share-forwards: ${one} lies in ${other}, which is shared whole: name one of them`,
    );
  }
}

function refuseShared(copied: SourcePlace, shared: readonly SourcePlace[]): void {
  const share = shared.find(({ absolute }) => isIn(absolute, copied.absolute));
  if (share === undefined) return;
  const [path, whole] = [copied.written, share.written].map(visibleText);
  const isSame = share.absolute === copied.absolute;
  const what = isSame ? `${path} is in both lists` : `${path} lies in ${whole}, which is shared`;
  throw new UsageError(
    `--copy-forwards, --share-forwards: ${what}: expected a path to be either copied or shared`,
  );
}

function refuseSamePlace(places: readonly SourcePlace[]): void {
  const taken = new Map<string, SourcePlace>();
  for (const place of places) {
    const other = taken.get(place.within);
    taken.set(place.within, place);
    if (other === undefined) continue;
    const [one, two, within] = [other.absolute, place.absolute, fromBytePath(place.within)].map(visibleText);
    throw new UsageError(`${place.flag}: ${one} and ${two} would both be placed at ${within}`);
  }
}
