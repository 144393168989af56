/** The value of `--ssh-config`, looked at once before each machine stumbles over it. */
import { accessSync, constants, statSync } from 'node:fs';
import { UsageError } from '../lib/domain/errors.ts';
import { cutToWidth, visibleText } from '../lib/util/terminal-text.ts';

/**
 * Checks that the file can be read. `none` stands for no configuration, as for `ssh -F`.
 * @throws UsageError where it is not there, is a folder or must not be read.
 */
export function checkSshConfig(path: string | undefined): void {
  if (path === undefined || path === 'none') return;
  const problem = problemWith(path);
  if (problem === undefined) return;
  const found = cutToWidth(visibleText(path), 200);
  throw new UsageError(`--ssh-config: found "${found}", ${problem}, expected an ssh configuration file`);
}

function problemWith(path: string): string | undefined {
  try {
    accessSync(path, constants.R_OK);
    // Not only regular files: /dev/null and pipes are fine for ssh.
    return statSync(path).isDirectory() ? 'which is a folder' : undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'which does not exist';
    return code === 'EACCES' ? 'which you may not read' : `which cannot be read (${code})`;
  }
}
