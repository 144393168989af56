/**
 * What stays behind unless it is named: version control, results, what does not survive another path, and what opens the
 * door to machines. What a `.jobignore` says is job-ignore.ts.
 */
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { MachineConfig } from '../machine/config.ts';
import { toBytePath } from './byte-path.ts';
import type { LeftBehindReason } from './source-part.ts';

/** What the rules go by, besides names. */
export interface LeftBehindOptions {
  /** Folder that relative paths start from. */
  readonly cwd: string;
  /** The results folder; one that is called `job_results` stays behind in any case. */
  readonly results?: string;
  /** The machines of this run: their files and the keys that these name stay behind. */
  readonly machines?: readonly { readonly config: Pick<MachineConfig, 'source' | 'sshKeyPath'> }[];
}

type PlaceReason = 'results' | 'machine-file' | 'key';

/** The rules of one batch. Paths are bytes. */
export class LeftBehindRules {
  /** Reasons by real folder, then by name. */
  readonly #places = new Map<string, Map<string, PlaceReason>>();

  static async open({ cwd, results, machines = [] }: LeftBehindOptions): Promise<LeftBehindRules> {
    const rules = new LeftBehindRules();
    await rules.#add(resolve(cwd, 'job_results'), 'results');
    if (results !== undefined) await rules.#add(resolve(cwd, results), 'results');
    for (const { config } of machines) {
      if (config.source.type === 'file') await rules.#add(config.source.path, 'machine-file');
      if (config.sshKeyPath !== undefined) await rules.#add(config.sshKeyPath, 'key');
    }
    return rules;
  }

  /** The rule about a thing of that name in a folder, given by its real path. */
  reasonFor(realFolder: string, name: string, isFolder: boolean): LeftBehindReason | undefined {
    if (name === '.git') return 'git'; // a file in a worktree or a submodule
    if (name === '__pycache__' && isFolder) return 'pycache';
    return this.#places.get(realFolder)?.get(name);
  }

  /** A path counts by its place and, where it is a link, by where that leads as well. */
  async #add(path: string, reason: PlaceReason): Promise<void> {
    const folder = await realpath(dirname(path)).catch(() => dirname(path));
    const place = join(folder, basename(path));
    for (const one of [place, await realpath(path).catch(() => place)]) {
      const key = toBytePath(dirname(one));
      const names = this.#places.get(key) ?? new Map<string, PlaceReason>();
      this.#places.set(key, names.set(toBytePath(basename(one)), reason));
    }
  }
}
