/**
 * `.jobignore` files: gitignore's syntax and rules, for what is not sent. One may lie in any folder; it speaks of what is
 * below it, and what it says wins over files further up. A `.gitignore` is not read: data is usually ignored by it.
 */
import { readFileSync } from 'node:fs';
import type { Ignore } from 'ignore';
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { below, fromBytePath, fsPath } from './byte-path.ts';

/** The name of such a file. */
export const JOB_IGNORE = '.jobignore';

/** The rules that hold in one walk through a folder. Paths are bytes, relative to that folder. */
export class JobIgnore {
  readonly #root: string;
  readonly #rules: string[] = [];
  #off = new Set<string>();
  #matcher: Ignore | undefined;

  /** `root`: the absolute folder that paths are relative to, as bytes. */
  constructor(root: string) {
    this.#root = root;
  }

  /**
   * Takes in a folder's `.jobignore`, where it has one. Folders must come before what they hold.
   * @throws UsageError when it cannot be read.
   */
  async enter(folder: string): Promise<void> {
    const lines = linesOf(below(this.#root, below(folder, JOB_IGNORE)));
    if (lines.length === 0) return;
    // All rules go into one list, in the order of their folders: the last one that matches decides, as with git. A list
    // per file would not do: what a deeper file takes back would still be hidden by its parents' rules.
    for (const line of lines) this.#rules.push(anchored(line, folder));
    await this.#build();
  }

  /** Whether a rule hides a path, whose folders none hides. */
  hides(path: string, isFolder: boolean): boolean {
    return this.#matcher?.ignores(isFolder ? `${path}/` : path) ?? false;
  }

  /** Switches off the rules that hide a path or a folder above it. */
  async exempt(path: string, isFolder: boolean): Promise<void> {
    for (;;) {
      const rule = this.#matcher?.test(isFolder ? `${path}/` : path).rule?.mark;
      if (rule === undefined) return;
      this.#off.add(rule);
      await this.#build();
    }
  }

  async #build(): Promise<void> {
    const { default: ignore } = await import('ignore'); // most projects have no such file
    // As git does on Linux: letters have their case, and bytes are compared.
    this.#matcher = ignore({ ignorecase: false, allowRelativePaths: true });
    this.#rules.forEach((pattern, index) => {
      const mark = String(index);
      if (!this.#off.has(mark)) this.#matcher?.add({ pattern, mark });
    });
  }
}

/** The lines that are rules. */
function linesOf(file: string): string[] {
  try {
    const text = readFileSync(fsPath(file), 'latin1').replace(/^\xef\xbb\xbf/, '');
    return text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException; // what fs functions throw
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return [];
    throw new UsageError(`cannot read ${visibleText(fromBytePath(file))} (${code})`, { cause: error });
  }
}

// A rule of a folder's file as one of the root's: in `sub`, `/a` becomes `/sub/a`, and `*.log`, which holds no slash and so
// counts at any depth, `/sub/` and two stars and `/*.log`.
function anchored(line: string, folder: string): string {
  if (folder === '') return line;
  const isTaken = line.startsWith('!');
  const pattern = isTaken ? line.slice(1) : line.replace(/^\\(?=[!#])/, '');
  const holdsSlash = pattern.replace(/\/?\s*$/, '').includes('/');
  const place = folder.replace(/[\\*?[\]!# ]/g, '\\$&');
  return `${isTaken ? '!' : ''}/${place}/${holdsSlash ? pattern.replace(/^\//, '') : `**/${pattern}`}`;
}
