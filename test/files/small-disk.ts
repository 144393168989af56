/** A file system that is soon full, for tests of full disks. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand, runOrThrow } from '../rig/command.ts';

/** A mounted file system; it goes with the test. */
export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
}

/** Mounts a tmpfs of so many MiB; undefined, and said so, where the rights do not allow it. */
export async function smallDisk(sizeMiB: number): Promise<SmallDisk | undefined> {
  const path = await mkdtemp(join(tmpdir(), 'small-disk-'));
  const mounted = await runCommand('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'tmpfs', path]).catch(
    (error: Error) => ({ exitCode: 1, stderr: error.message }),
  );
  if (mounted.exitCode !== 0) {
    await rm(path, { recursive: true });
    console.warn(
      `No rights to mount a small disk: full disks are not tested here (${mounted.stderr.trim()})`,
    );
    return undefined;
  }
  return {
    path,
    async [Symbol.asyncDispose]() {
      await runOrThrow('umount', ['--lazy', path]);
      await rm(path, { recursive: true });
    },
  };
}
