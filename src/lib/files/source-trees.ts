/** The source trees of one batch: each list of paths is listed once, however many jobs name it. */
import type { Job } from '../domain/job.ts';
import { listSourceTree, type SourceTree, type SourceTreeOptions } from './source-tree.ts';

/** Lists source trees as jobs ask for them. */
export class SourceTrees {
  readonly #options: Omit<SourceTreeOptions, 'paths'>;
  readonly #trees = new Map<string, Promise<SourceTree>>();

  constructor(options: Omit<SourceTreeOptions, 'paths'>) {
    this.#options = options;
  }

  /** The tree that a job works in a copy of. @throws UsageError as `listSourceTree` does */
  of(job: Pick<Job, 'copyForwards'>): Promise<SourceTree> {
    const paths = job.copyForwards === 'working-directory' ? undefined : job.copyForwards;
    const key = JSON.stringify(paths ?? null);
    const known = this.#trees.get(key);
    if (known !== undefined) return known;
    const tree = listSourceTree({ ...this.#options, paths });
    this.#trees.set(key, tree);
    return tree;
  }

  /** Lists the trees of all these jobs now, so that mistakes are found before anything runs. */
  async listAll(jobs: Iterable<Pick<Job, 'copyForwards'>>): Promise<void> {
    for (const job of jobs) await this.of(job);
  }
}
