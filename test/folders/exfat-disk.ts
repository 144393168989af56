/** A disk that takes names which differ in case for one: exFAT, by the kernel or over FUSE. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SmallDisk } from '../files/small-disk.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';

const SIZE_BYTES = 16 * 1024 * 1024;

/** Mounts one; undefined, and said so, without the rights or the programs (Debian: exfatprogs, exfat-fuse). */
export async function exfatDisk(): Promise<SmallDisk | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'exfat-'));
  const [image, path] = [join(folder, 'image'), join(folder, 'disk')];
  const mount = `set -e
    mkfs.exfat "$1" >/dev/null; mkdir "$2"; device=$(losetup -f --show "$1"); echo "$device"
    mount -t exfat "$device" "$2" 2>/dev/null || mount.exfat-fuse "$device" "$2" >/dev/null || { losetup -d "$device"; exit 1; }`;
  await writeFile(image, '');
  await truncate(image, SIZE_BYTES);
  const mounted = await runCommand('sh', ['-c', mount, 'sh', image, path]);
  if (mounted.exitCode !== 0) {
    await rm(folder, { recursive: true });
    const why = mounted.stderr.trim();
    console.warn(`No exFAT disk here, so a real case-insensitive disk is not tested (${why})`);
    return undefined;
  }
  return {
    path,
    async [Symbol.asyncDispose]() {
      await runOrThrow('umount', [path]);
      await runOrThrow('losetup', ['-d', mounted.stdout.trim()]);
      await rm(folder, { recursive: true });
    },
  };
}
