/**
 * Walks DEST and all sources side by side, folder by folder, and plans what becomes of every path. It reads and
 * compares, and writes nothing.
 */
import { readdirSync } from 'node:fs';
import { foldName } from './case-probe.ts';
import { checkReadable, checkWritable, type Found, lookAt, type MergeTree } from './found.ts';
import type { FolderEnd } from './journal.ts';
import { type Conflict, emptyPlan, type OnConflict, type Plan, type PlannedFolder } from './plan.ts';
import { FileComparer } from './same-content.ts';
import { giveOtherName, type Settlement, settle, type TakenNames } from './settle.ts';
import { below, isOwnName, JOURNAL, parentOf, readablePath, systemPath } from './tree-path.ts';

/** How to walk. */
export interface MergeOptions {
  readonly onConflict: OnConflict;
  /** Whether DEST's disk takes names that differ in case for one. */
  readonly isCaseInsensitive: boolean;
  /** What folders were to become in a run that was killed. */
  readonly ends: ReadonlyMap<string, FolderEnd>;
  /** Called at every folder with the files seen so far: gives others a turn, and throws to break off. */
  readonly breathe: (files: number) => Promise<void>;
}

/** Plans how the trees are combined into the first one's place or, when DEST does not exist, into a new folder. */
export async function mergeTrees(trees: readonly MergeTree[], options: MergeOptions): Promise<Plan> {
  const roots = trees.map((tree) => lookAt(tree, '')).filter((root) => root !== undefined);
  const merge = new Merge(options);
  await merge.folder('', roots);
  return merge.finish(trees.find(({ source }) => source === undefined));
}

/** A merge under way. */
class Merge implements Settlement {
  readonly plan = emptyPlan();
  readonly comparer = new FileComparer();
  readonly #options: MergeOptions;
  readonly #folders: PlannedFolder[] = [];
  #files = 0;

  constructor(options: MergeOptions) {
    this.#options = options;
  }

  get onConflict(): OnConflict {
    return this.#options.onConflict;
  }

  /** Merges what folders of one path hold. */
  async folder(path: string, folders: readonly Found[]): Promise<void> {
    await this.#options.breathe(this.#files);
    const [first] = folders;
    if (first === undefined) return;
    this.#addFolder(path, first);
    const names = this.#list(path, folders);
    const sorted = [...names.keys()].sort(); // the order of a run must not depend on the disk's
    if (this.#options.isCaseInsensitive) this.#refuseTwins(path, sorted, names);
    const further: Found[] = [];
    for (const name of sorted) {
      const found = names.get(name) ?? [];
      const inner = found.filter(({ kind }) => kind === 'folder');
      const others = inner.length === 0 ? found : found.filter(({ kind }) => kind !== 'folder');
      if (inner.length === 0) further.push(...settle(this, others));
      else if (others.length === 0) await this.folder(below(path, name), inner);
      else if (this.onConflict === 'rename' && others.every(({ tree }) => tree.source !== undefined)) {
        // The folder keeps the name; a file of DEST would have to be moved, so that stays a conflict.
        further.push(...others);
        await this.folder(below(path, name), inner);
      } else this.conflict('kind', found);
    }
    const taken = takenNames(names, this.#options.isCaseInsensitive);
    for (const found of further) giveOtherName(this, found, taken);
  }

  /** Puts a file or link of a source into DEST. */
  take(found: Found, as = found.path, replaces = false): void {
    const { tree, kind, mode, mtimeMs, size, path } = found;
    if (tree.source === undefined || (kind !== 'file' && kind !== 'link')) return; // it is there already
    const { counts } = this.plan;
    if (kind === 'file') {
      checkReadable(found);
      counts.files++;
      counts.bytes += size;
    } else counts.links++;
    if (replaces) counts.replaced++;
    // Made in one step: there are as many as files.
    const { source } = tree;
    this.plan.entries.push({ source, path, as, kind, mode, mtimeMs, size, replaces });
  }

  /** Notes a conflict. */
  conflict(type: Conflict['type'], found: readonly Found[]): void {
    const what = found.map(({ tree, kind }) => ({ folder: tree.name, what: kind }));
    this.plan.conflicts.push({ path: readablePath(found[0]?.path ?? ''), type, found: what });
  }

  /** The plan, with the folders of DEST that it touches. @throws SchedulerError when one of them cannot be written to */
  finish(dest: MergeTree | undefined): Plan {
    const { plan } = this;
    plan.counts.compared = this.comparer.opened;
    const touched = new Set([...plan.entries.map(({ as }) => parentOf(as)), ...plan.leftovers.map(parentOf)]);
    for (const { path, isNew } of this.#folders) if (isNew) touched.add(parentOf(path));
    const { ends } = this.#options;
    const folders = this.#folders.filter(({ path, isNew }) => isNew || touched.has(path) || ends.has(path));
    // The note of what folders are to become lies at the top of DEST.
    if (folders.length > 0 && folders[0]?.path !== '') folders.unshift(...this.#folders.slice(0, 1));
    if (dest !== undefined) {
      for (const { path, isNew } of folders) {
        if (!isNew && touched.has(path)) checkWritable(systemPath(dest.root, path));
      }
    }
    plan.folders.push(...folders);
    return plan;
  }

  #addFolder(path: string, first: Found): void {
    const end = this.#options.ends.get(path);
    const isNew = first.tree.source !== undefined;
    if (isNew) {
      this.#folders.push({ path, isNew, mode: first.mode, mtimeMs: first.mtimeMs });
      this.plan.counts.folders++;
    } else this.#folders.push({ path, isNew, ...(end ?? { mtimeMs: first.mtimeMs }) });
  }

  /** Everything that the folders hold, by name; what cannot be combined is noted and left out. */
  #list(path: string, folders: readonly Found[]): Map<string, Found[]> {
    const names = new Map<string, Found[]>();
    for (const { tree, place } of folders) {
      for (const name of readdirSync(place, 'latin1')) {
        const inner = below(path, name);
        if (isOwnName(name)) {
          this.#noteOwn(tree, inner, name);
          continue;
        }
        const found = lookAt(tree, inner);
        if (found === undefined) continue; // it vanished since its folder was read
        this.#files++;
        const { kind } = found;
        const isOrdinary = kind === 'file' || kind === 'link' || kind === 'folder';
        if (tree.source !== undefined && !isOrdinary) {
          this.plan.leftOut.push({ folder: tree.name, path: readablePath(inner), what: kind });
          continue;
        }
        const others = names.get(name);
        if (others === undefined) names.set(name, [found]);
        else others.push(found);
      }
    }
    return names;
  }

  #noteOwn(tree: MergeTree, path: string, name: string): void {
    if (tree.source !== undefined) {
      this.plan.leftOut.push({ folder: tree.name, path: readablePath(path), what: 'unfinished' });
    } else if (name !== JOURNAL) this.plan.leftovers.push(path);
  }

  #refuseTwins(path: string, sorted: readonly string[], names: ReadonlyMap<string, readonly Found[]>): void {
    const spellings = new Map<string, string>();
    for (const name of sorted) {
      const folded = foldName(name);
      const other = spellings.get(folded);
      if (other === undefined) spellings.set(folded, name);
      else {
        const found = [other, name].flatMap((one) =>
          (names.get(one) ?? []).map(({ tree }) => ({ folder: tree.name, what: readablePath(one) })),
        );
        this.plan.conflicts.push({ path: readablePath(below(path, name)), type: 'case', found });
      }
    }
  }
}

function takenNames(names: ReadonlyMap<string, readonly Found[]>, isCaseInsensitive: boolean): TakenNames {
  const fold = isCaseInsensitive ? foldName : (name: string) => name;
  // The first of a name has it: names are given only with `rename`, and only files of sources give way there.
  const taken = new Map<string, Found>();
  for (const [name, found] of names) {
    const owner = found.find(({ kind }) => kind === 'folder') ?? found[0];
    if (owner !== undefined) taken.set(fold(name), owner);
  }
  return {
    get: (name) => taken.get(fold(name)),
    set: (name, found) => taken.set(fold(name), found),
  };
}
