/** For tests of what is sent: a project in a folder of its own, and its listing. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SourceNotes, SourceTree } from '../../src/lib/files/source-part.ts';
import { SourceTrees, type SourceTreesOptions } from '../../src/lib/files/source-trees.ts';
import { scratch } from '../remote/run-over.ts';

/** A tree with what there is to say about it. */
export interface Listing {
  readonly tree: SourceTree;
  readonly notes: SourceNotes;
  /** Of all parts, in their order, bytes. */
  readonly paths: readonly string[];
}

/** A folder `project`, with room beside it, that is gone with the test. */
export class SourceProject implements AsyncDisposable {
  readonly #folder: Awaited<ReturnType<typeof scratch>>;

  static async make(): Promise<SourceProject> {
    const folder = await scratch();
    await mkdir(join(folder.path, 'project'));
    return new SourceProject(folder);
  }

  private constructor(folder: Awaited<ReturnType<typeof scratch>>) {
    this.#folder = folder;
  }

  /** The absolute path of something in the project. */
  at(path = '.'): string {
    return join(this.#folder.path, 'project', path);
  }

  /** Makes a file with its folders. Without a text it holds its own name. */
  async file(path: string, text: string | Buffer = path, mode = 0o644): Promise<string> {
    const full = this.at(path);
    await mkdir(dirname(full), { recursive: true });
    await writeFile(full, text, { mode });
    return full;
  }

  async files(...paths: readonly string[]): Promise<void> {
    for (const path of paths) await this.file(path);
  }

  trees(options: Partial<SourceTreesOptions> = {}): SourceTrees {
    const cacheFolder = this.at('../hashes');
    return new SourceTrees({ cwd: this.at(), home: '/nowhere', cacheFolder, ...options });
  }

  /** Lists what one job sends; without paths, the whole working directory. */
  async list(
    copyForwards: readonly string[] | 'working-directory' = 'working-directory',
    shareForwards: readonly string[] = [],
    options: Partial<SourceTreesOptions> = {},
  ): Promise<Listing> {
    const trees = this.trees(options);
    const job = { copyForwards, shareForwards };
    const notes = await trees.listAll([job]);
    const tree = await trees.of(job);
    return { tree, notes, paths: tree.parts.flatMap(({ entries }) => entries.map(({ path }) => path)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
