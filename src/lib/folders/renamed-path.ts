/** The name that a file gets when its own is taken by other content: `name.<hash>.ext`, the same in every run. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { type ListedFile, openListed } from './same-content.ts';

/** How many hex digits of the hash are tried, in this order: more where a shorter name is taken as well. */
export const HASH_LENGTHS = [8, 16, 32, 64] as const;

const MAX_NAME_BYTES = 255;
const BLOCK = 1024 * 1024;

/** SHA-256 of a file's content in hex. @throws SchedulerError when it cannot be read */
export function hashOfFile(file: ListedFile): string {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(BLOCK, file.size));
  using open = openListed(file);
  for (let at = 0; at < file.size; ) {
    const length = Math.min(BLOCK, file.size - at);
    open.read(buffer, length);
    hash.update(buffer.subarray(0, length));
    at += length;
  }
  return hash.digest('hex');
}

/** The same for a symbolic link, so that none has the hash of a file which holds the text of its target. */
export function hashOfLink(target: string): string {
  return createHash('sha256').update(`symbolic link to ${target}`, 'latin1').digest('hex');
}

/**
 * `log.txt` is `log.2c26b46b.txt`, `.bashrc` is `.bashrc.2c26b46b`, `a.tar.gz` is `a.tar.2c26b46b.gz`. A name that would
 * be longer than file systems take loses the end of what stands before the hash. latin1 in and out.
 */
export function renamedTo(name: string, hash: string): string {
  const extension = posix.extname(name).length > 64 ? '' : posix.extname(name);
  const stem = name.slice(0, name.length - extension.length);
  let length = Math.min(stem.length, MAX_NAME_BYTES - hash.length - 1 - extension.length);
  // Never in the middle of a UTF-8 character: its further bytes are 10xxxxxx.
  while (length < stem.length && length > 0 && (stem.charCodeAt(length) & 0xc0) === 0x80) length--;
  return `${stem.slice(0, length)}.${hash}${extension}`;
}
