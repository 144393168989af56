/**
 * Whether a disk takes `Data` and `data` for one name. Found out by looking up an existing entry under a swapped
 * spelling, so nothing is written.
 */
import { lstatSync, readdirSync, statfsSync } from 'node:fs';
import { posix } from 'node:path';
import { readablePath, systemPath } from './tree-path.ts';

/** How a disk takes names that differ in case alone. */
export type CaseSensitivity = 'sensitive' | 'insensitive';

/** Asks an existing folder (absolute, latin1): by its entries, else by its own name or one above it on the same disk. */
export function probeCase(folder: string): CaseSensitivity {
  for (let place = folder; ; place = posix.dirname(place)) {
    const names = new Set(readdirSync(systemPath(place, ''), 'latin1'));
    // A name whose other spelling is listed as well tells nothing: the two may be one file with two hard links.
    const name = [...names].find((one) => swapCase(one) !== one && !names.has(swapCase(one)));
    if (name !== undefined) {
      // It is there and not listed: so it is the listed one. Inode numbers would not do: exFAT over FUSE gives each
      // spelling its own.
      const swapped = lstatSync(systemPath(place, swapCase(name)), { throwIfNoEntry: false });
      return swapped === undefined ? 'sensitive' : 'insensitive';
    }
    // The name of a place where another disk is mounted belongs to the disk above.
    const parent = posix.dirname(place);
    if (parent === place || deviceOf(parent) !== deviceOf(place)) return usualCase(folder);
  }
}

// `f_type` of statfs(2), from linux/magic.h and the drivers: vfat, exFAT, NTFS (two), disks over FUSE, SMB (two), HFS+.
const INSENSITIVE_TYPES = new Set([
  ...[0x4d44, 0x2011bab0, 0x5346544e, 0x7366746e, 0x65735546, 0xff534d42, 0xfe534d42, 0x482b],
]);

/** How disks of this kind usually are, where there is no name to try: an empty disk. */
function usualCase(folder: string): CaseSensitivity {
  if (process.platform !== 'linux') return 'insensitive';
  return INSENSITIVE_TYPES.has(statfsSync(systemPath(folder, '')).type) ? 'insensitive' : 'sensitive';
}

function deviceOf(folder: string): number {
  return lstatSync(systemPath(folder, '')).dev;
}

/** ASCII letters alone: the bytes of other letters must not be touched. */
function swapCase(name: string): string {
  return name.replaceAll(/[a-z]/gi, (letter) =>
    letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase(),
  );
}

/** What two names have in common that such a disk takes for one: without case, accents composed. latin1 in. */
export function foldName(name: string): string {
  return readablePath(name).normalize('NFC').toUpperCase().toLowerCase().normalize('NFC');
}
