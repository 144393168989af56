/**
 * The source trees of one batch. Each path that is named is listed once, however many jobs name it, and so is the whole
 * working directory.
 */
import { realpath } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, relative } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { Job } from '../domain/job.ts';
import { visibleText } from '../util/terminal-text.ts';
import { below, foldersAbove, fromBytePath, toBytePath } from './byte-path.ts';
import { HashCache, hashCacheFolder } from './hash-cache.ts';
import { type LeftBehindOptions, LeftBehindRules } from './left-behind.ts';
import { kindsIn, linksOut } from './links-out.ts';
import { type ListedPart, listPart } from './list-part.ts';
import type { LeftBehindReason, SharedInput, SourceNotes, SourcePart, SourceTree } from './source-part.ts';
import { isIn, placesOf, type SourcePlace } from './source-place.ts';
import { sourceTree } from './source-tree.ts';

/** How source trees are listed. */
export interface SourceTreesOptions extends LeftBehindOptions {
  /** @default the user's home folder */
  readonly home?: string;
  /** Folder of the remembered hashes. @default `~/.cache/ssh-scheduler/hashes` */
  readonly cacheFolder?: string;
}

/** What a job says about what goes forward. */
export type ForwardedPaths = Pick<Job, 'copyForwards' | 'shareForwards'>;

/** A job that names more paths than this has them in one part: each part is a folder on each machine. */
const MOST_PARTS = 64;

interface Surroundings {
  readonly cwd: string;
  readonly home: string;
  readonly rules: LeftBehindRules;
  readonly hashes: HashCache;
}

/** Lists source trees as jobs ask for them. */
export class SourceTrees {
  readonly #options: SourceTreesOptions;
  readonly #trees = new Map<string, Promise<SourceTree>>();
  readonly #parts = new Map<string, Promise<ListedPart>>();
  readonly #named = new Set<string>();
  #surroundings: Promise<Surroundings> | undefined;

  constructor(options: SourceTreesOptions) {
    this.#options = options;
  }

  /**
   * The tree that a job works in a copy of. A path inside `cwd` keeps its place relative to it; a path outside (absolute,
   * `../`) is placed at the top under its own name.
   * @throws UsageError for a path that does not exist or cannot be read, for two things at one place, for a path that is
   * both shared and copied, and when the whole of `cwd` is meant and it is `/` or the home folder.
   */
  of({ copyForwards, shareForwards }: ForwardedPaths): Promise<SourceTree> {
    const key = JSON.stringify([copyForwards, shareForwards]);
    const known = this.#trees.get(key);
    if (known !== undefined) return known;
    const tree = this.#list(copyForwards, shareForwards);
    this.#trees.set(key, tree);
    return tree;
  }

  /**
   * Lists the trees of all these jobs now, so that mistakes are found before anything runs, and tells what people should
   * know about them. Hashes are remembered for the next time.
   * @throws UsageError as `of` does
   */
  async listAll(jobs: Iterable<ForwardedPaths>): Promise<SourceNotes> {
    const trees = new Set<SourceTree>();
    try {
      for (const job of jobs) trees.add(await this.of(job));
    } finally {
      await (await this.#surroundings?.catch(() => undefined))?.hashes.save();
    }
    return await this.#notes(trees);
  }

  async #list(copies: Job['copyForwards'], shares: readonly string[]): Promise<SourceTree> {
    const { cwd, home } = await this.#openSurroundings();
    if (copies === 'working-directory') await refuseWholeHome(cwd, home);
    const named = copies === 'working-directory' ? ['.'] : copies;
    const { copied, shared } = placesOf(cwd, named, shares);
    const inputs: SharedInput[] = [];
    for (const place of shared) {
      const { part } = await this.#part([place], []);
      if (part !== undefined) inputs.push({ part, path: place.within });
    }
    return sourceTree(await this.#copiedParts(copied, shared), inputs);
  }

  /** The parts of what is copied: one per path, none for a path that another one brings along. */
  async #copiedParts(places: readonly SourcePlace[], shared: readonly SourcePlace[]): Promise<SourcePart[]> {
    if (places.length > MOST_PARTS) {
      const parts: SourcePart[] = [];
      for (const root of new Set(places.map((place) => place.root))) {
        const { part } = await this.#part(
          places.filter((place) => place.root === root),
          shared,
        );
        if (part !== undefined) parts.push(part);
      }
      return parts;
    }
    const parts: SourcePart[] = [];
    for (const place of places) {
      const around = places.filter((other) => other !== place && isIn(other.absolute, place.absolute));
      const isBrought = (other: SourcePlace) => this.#brings(other, place, shared);
      if (await anyOf(around, isBrought)) continue;
      const { part } = await this.#part([place], shared);
      if (part !== undefined) parts.push(part);
    }
    return parts;
  }

  /** Whether the part of a path holds another path. What it leaves behind it does not hold: that was named on purpose. */
  async #brings(around: SourcePlace, place: SourcePlace, shared: readonly SourcePlace[]): Promise<boolean> {
    const { part } = await this.#part([around], shared);
    if (part === undefined || around.root !== place.root) return false;
    const kinds = kindsIn(part);
    const link = foldersAbove(place.within).find((folder) => kinds.get(folder) === 'link');
    if (link === undefined) return kinds.has(place.within);
    const [named, other, shown] = [place.written, around.written, fromBytePath(link)].map(visibleText);
    throw new UsageError(
      `--copy-forwards: ${named} lies behind the link ${shown}, which ${other} brings along as a link: name one of them`,
    );
  }

  #part(places: readonly SourcePlace[], shared: readonly SourcePlace[]): Promise<ListedPart> {
    const [first] = places;
    if (first === undefined) throw new Error('Internal error: a part of no paths');
    const { root } = first;
    const excluded = shared
      .filter((share) => share.root === root && places.some((place) => isIn(place.absolute, share.absolute)))
      .map(({ within }) => within)
      .filter((within) => !places.some((place) => place.within === within));
    const key = JSON.stringify([root, first.flag, places.map(({ within }) => within), excluded]);
    const known = this.#parts.get(key);
    if (known !== undefined) return known;
    for (const { absolute } of places) this.#named.add(toBytePath(absolute));
    const part = this.#openSurroundings().then(({ cwd, home, rules, hashes }) =>
      listPart(
        {
          root: toBytePath(root),
          isRootOurs: root === cwd,
          rules,
          excluded: new Set(excluded),
          named: places.map(({ within, flag, written }) => ({
            path: within,
            flag,
            written,
            isFollowed: flag === '--share-forwards',
          })),
        },
        { hashes, home },
      ),
    );
    this.#parts.set(key, part);
    return part;
  }

  #openSurroundings(): Promise<Surroundings> {
    this.#surroundings ??= openSurroundings(this.#options);
    return this.#surroundings;
  }

  async #notes(trees: Iterable<SourceTree>): Promise<SourceNotes> {
    const { cwd } = await this.#openSurroundings();
    const leftBehind = new Map<string, LeftBehindReason>();
    const secrets = new Set<string>();
    const links = new Map<string, string>();
    const shown = (root: string, path: string) => relative(cwd, join(root, fromBytePath(path)));
    for (const listed of this.#parts.values()) {
      const { root, part, ...notes } = await listed;
      for (const { path, reason } of notes.leftBehind) {
        if (!this.#named.has(below(toBytePath(root), path))) leftBehind.set(shown(root, path), reason);
      }
      for (const path of notes.secrets) secrets.add(shown(root, path));
    }
    for (const tree of trees) {
      for (const { part, path, target } of linksOut(tree)) {
        links.set(shown(part.root, path), fromBytePath(target));
      }
    }
    return {
      leftBehind: [...leftBehind].map(([path, reason]) => ({ path, reason })).sort(byPath),
      secrets: [...secrets].sort(),
      linksOut: [...links].map(([path, target]) => ({ path, target })).sort(byPath),
    };
  }
}

function byPath(a: { readonly path: string }, b: { readonly path: string }): number {
  return a.path < b.path ? -1 : 1;
}

async function anyOf<T>(all: readonly T[], isRight: (one: T) => Promise<boolean>): Promise<boolean> {
  for (const one of all) if (await isRight(one)) return true;
  return false;
}

async function openSurroundings(options: SourceTreesOptions): Promise<Surroundings> {
  const { home = homedir(), cacheFolder = hashCacheFolder(home) } = options;
  const cwd = await realpath(options.cwd);
  const [rules, hashes] = await Promise.all([
    LeftBehindRules.open({ ...options, cwd }),
    HashCache.open(cwd, cacheFolder),
  ]);
  return { cwd, home, rules, hashes };
}

async function refuseWholeHome(cwd: string, home: string): Promise<void> {
  if (cwd !== '/' && cwd !== (await realpath(home).catch(() => home))) return;
  throw new UsageError(
    `the working directory is ${cwd === '/' ? '/' : `your home folder (${cwd})`}, all of which would be sent: ` +
      'go to the folder of your project, or name what to send with --copy-forwards',
  );
}
