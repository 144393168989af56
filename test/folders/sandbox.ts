/** A folder for tests of combining folders: makes trees from a short description and tells exactly what is on disk. */
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runOrThrow } from '../rig/command.ts';

/** The command as npm installs it. */
export const COMBINE_FOLDERS = fileURLToPath(new URL('../../dist/cli/combine-folders.js', import.meta.url));

/** A path ending in `/` is a folder, `-> x` a link, anything else a file's content. */
export type TreeOf = Readonly<Record<string, string>>;

/** A temporary folder; it goes with the test, read-only folders in it included. */
export class Sandbox implements AsyncDisposable {
  static async open(parent = tmpdir()): Promise<Sandbox> {
    return new Sandbox(await mkdtemp(join(parent, 'combine-')));
  }

  private constructor(readonly path: string) {}

  at(...names: readonly string[]): string {
    return join(this.path, ...names);
  }

  /** Makes a folder with what is described. Returns its path. */
  tree(name: string, entries: TreeOf = {}): string {
    const root = this.at(name);
    mkdirSync(root, { recursive: true });
    for (const [path, content] of Object.entries(entries)) {
      const place = join(root, path);
      mkdirSync(path.endsWith('/') ? place : dirname(place), { recursive: true });
      if (content.startsWith('-> ')) symlinkSync(content.slice(3), place);
      else if (!path.endsWith('/')) writeFileSync(place, content);
    }
    return root;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runOrThrow('chmod', ['-R', 'u+rwX', this.path]).catch(() => {}); // a link to nothing is no reason to fail
    await rm(this.path, { recursive: true, force: true });
  }
}

/** Sets mode and time (epoch seconds) of something, the mode not of a link. */
export function stamp(path: string, seconds: number, mode?: number): void {
  if (mode !== undefined) chmodSync(path, mode);
  const time = new Date(seconds * 1000); // a negative number would mean now
  lutimesSync(path, seconds < 0 ? time : seconds, seconds < 0 ? time : seconds);
}

/** The paths below a folder with their contents, as a description that `tree` takes; sorted. */
export function contentsOf(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { path, place, stat } of walk(root)) {
    if (stat.isDirectory()) found[`${path}/`] = '';
    else if (stat.isSymbolicLink()) found[path] = `-> ${readlinkSync(place, 'latin1')}`;
    else found[path] = stat.isFile() ? readFileSync(place, 'latin1') : 'special';
  }
  return found;
}

/** All there is to know of a tree, itself included: to see that nothing at all has changed. Paths are latin1. */
export function snapshotOf(root: string, { inodes = true } = {}): string[] {
  const top = { path: '', place: Buffer.from(root), stat: lstatSync(root) };
  return [top, ...walk(root)].map(({ path, place, stat }) => {
    const content = stat.isFile() ? readFileSync(place, 'latin1') : '';
    const target = stat.isSymbolicLink() ? readlinkSync(place, 'latin1') : '';
    const inode = inodes ? stat.ino : '-';
    // To the microsecond: a double holds no more.
    return [path, stat.mode.toString(8), Math.round(stat.mtimeMs * 1000), inode, target, content].join('|');
  });
}

function walk(root: string): { path: string; place: Buffer; stat: Stats }[] {
  const found: ReturnType<typeof walk> = [];
  const visit = (folder: string): void => {
    const place = (path: string) => Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
    for (const name of readdirSync(place(folder), 'latin1').sort()) {
      const path = folder === '' ? name : `${folder}/${name}`;
      const stat = lstatSync(place(path));
      found.push({ path, place: place(path), stat });
      if (stat.isDirectory()) visit(path);
    }
  };
  visit('');
  return found;
}
