/** The state of the project that a batch ran from, for its manifests. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
// A status of a very large work tree, or one on a slow disk, must not hold a batch up.
const TIMEOUT_MS = 5000;

/** The commit checked out in `cwd` and whether anything differs from it; undefined outside of git. */
export async function gitState(cwd: string): Promise<{ commit: string; isDirty: boolean } | undefined> {
  try {
    const options = { cwd, timeout: TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 };
    const [head, status] = await Promise.all([
      run('git', ['rev-parse', 'HEAD'], options),
      run('git', ['--no-optional-locks', 'status', '--porcelain'], options),
    ]);
    return { commit: head.stdout.trim(), isDirty: status.stdout !== '' };
  } catch {
    return undefined; // no git, no work tree, no commit yet
  }
}
