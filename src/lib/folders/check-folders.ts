/** What DEST and the sources have to be before anything is listed. */
import { lstatSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { latin1Path } from './tree-path.ts';

/** Folders to combine, checked. */
export interface CheckedFolders {
  /** Absolute, without symbolic links, latin1. */
  readonly dest: string;
  readonly destExists: boolean;
  /** The nearest folder at or above DEST that exists. latin1. */
  readonly nearest: string;
  /** In the order given; without DEST itself, which takes part anyway (`job_results/*` may well match it). */
  readonly sources: readonly { readonly name: string; readonly root: string }[];
}

/** Checks what the user named. @throws UsageError that names every source which is missing or no folder, or lies within DEST */
export function checkFolders(dest: string, sources: readonly string[]): CheckedFolders {
  if (dest === '') throw new UsageError('no destination is named: expected combine_folders DEST SRC...');
  if (sources.length === 0) {
    throw new UsageError('no source is named: expected combine_folders DEST SRC...');
  }
  refuseNonFolders(sources);
  const place = placeOf(dest);
  const roots = sources.map((name) => ({ name, real: realpathSync(name) }));
  for (const { name, real } of roots) {
    const [source, target] = [shown(name), shown(dest)];
    if (real !== place.path && isWithin(place.path, real)) {
      throw new UsageError(`the source ${source} lies inside the destination ${target}`);
    }
    if (real !== place.path && isWithin(real, place.path)) {
      throw new UsageError(`the destination ${target} lies inside the source ${source}`);
    }
  }
  return {
    dest: latin1Path(place.path),
    destExists: place.path === place.nearest,
    nearest: latin1Path(place.nearest),
    sources: roots
      .filter(({ real }) => real !== place.path)
      .map(({ name, real }) => ({ name, root: latin1Path(real) })),
  };
}

const MOST_NAMES = 5;

function refuseNonFolders(sources: readonly string[]): void {
  const stats = sources.map((name) => ({ name, stat: statOf(name) }));
  const missing = stats.filter(({ stat }) => stat === undefined).map(({ name }) => name);
  if (missing.length > 0) {
    throw new UsageError(`${listed(missing)} ${missing.length === 1 ? 'does' : 'do'} not exist`);
  }
  const files = stats.filter(({ stat }) => stat?.isDirectory() === false).map(({ name }) => name);
  const [first] = files;
  if (first === undefined) return;
  const within = dirname(first);
  const all = within === '.' ? '*/' : `${within}/*/`;
  throw new UsageError(
    `${listed(files)} ${files.length === 1 ? 'is a file, expected a folder' : 'are files, expected folders'}: to combine the folders there and leave the files out, write ${shown(all)}`,
  );
}

function listed(names: readonly string[]): string {
  const some = names.slice(0, MOST_NAMES).map(shown).join(', ');
  const more = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : '';
  return `${names.length === 1 ? 'the source' : 'the sources'} ${some}${more}`;
}

function shown(name: string): string {
  return name === '' ? "''" : visibleText(name);
}

function statOf(name: string) {
  try {
    return statSync(name);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new UsageError(`the source ${shown(name)} cannot be looked at: ${code ?? String(error)}`);
  }
}

/** Where DEST is or will be, through the links of the folders above it. */
function placeOf(dest: string): { readonly path: string; readonly nearest: string } {
  let nearest = resolve(dest);
  const missing: string[] = [];
  while (lstatSync(nearest, { throwIfNoEntry: false }) === undefined) {
    missing.unshift(basename(nearest));
    nearest = dirname(nearest);
  }
  const stat = statSync(nearest, { throwIfNoEntry: false });
  if (stat?.isDirectory() !== true) {
    const what = stat === undefined ? 'a symbolic link to nothing' : 'a file';
    throw new UsageError(`the destination ${shown(dest)} cannot be a folder: ${shown(nearest)} is ${what}`);
  }
  nearest = realpathSync(nearest);
  return { path: join(nearest, ...missing), nearest };
}

function isWithin(folder: string, path: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}
