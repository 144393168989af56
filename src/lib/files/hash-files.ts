/** Hashes files, several at a time: where a disk or a file server answers slowly, the waits overlap. */
import { createHash, hash } from 'node:crypto';
import { closeSync, constants, fstatSync, open, read, type Stats } from 'node:fs';
import { promisify } from 'node:util';
import { UsageError } from '../domain/errors.ts';
import { visibleText } from '../util/terminal-text.ts';
import { fromBytePath, fsPath } from './byte-path.ts';
import { type ContentLook, LOOK_BYTES, lookAt } from './content-look.ts';

/** A file as it was while it was read. */
export interface HashedFile {
  readonly stats: Stats;
  /** Bytes read and hashed. */
  readonly size: number;
  readonly digest: string;
  readonly look: ContentLook;
  /** It was the same before and after, so the hash may be remembered. */
  readonly isSteady: boolean;
  /** When the reading began, epoch ms. */
  readonly readAt: number;
}

// Four threads read (libuv's default); more files than that keep them busy while this one hashes.
const FILES_AT_ONCE = 8;
/** Of each file that is being read, at most so much is in memory. */
const BUFFER_BYTES = 1024 * 1024;

// The callback functions cost half of what `fs/promises` does per file; without them all blocking, waits would add up.
const openFile = promisify(open);
const readInto = promisify(read);

/**
 * Hashes files and tells of each; of one that has vanished, or is no file any more, it tells undefined.
 * @throws UsageError naming a file that cannot be read.
 */
export async function hashFiles(
  files: readonly { readonly path: string; readonly size: number }[],
  onHashed: (index: number, hashed: HashedFile | undefined) => void,
): Promise<void> {
  let next = 0;
  const lane = async () => {
    let buffer = Buffer.alloc(0);
    for (let index = next++; index < files.length; index = next++) {
      const file = files[index];
      if (file === undefined) return;
      const wanted = Math.min(BUFFER_BYTES, Math.max(LOOK_BYTES, file.size));
      if (buffer.length < wanted) buffer = Buffer.allocUnsafe(wanted);
      try {
        onHashed(index, await hashFile(file.path, buffer));
      } catch (error) {
        next = files.length; // the other lanes end too
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(FILES_AT_ONCE, files.length) }, lane));
}

async function hashFile(path: string, buffer: Buffer): Promise<HashedFile | undefined> {
  const readAt = Date.now();
  let fd: number | undefined;
  try {
    // What was a file may have become a link or a FIFO, at which opening would wait for ever.
    fd = await openFile(fsPath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = fstatSync(fd);
    if (!stats.isFile()) return undefined;
    let size = await fill(fd, buffer, stats.size);
    const head = buffer.subarray(0, Math.min(size, LOOK_BYTES));
    const look = await lookAt(fromBytePath(path), head, size === head.length && size === stats.size);
    let digest: string;
    if (size === stats.size) {
      digest = hash('sha256', buffer.subarray(0, size), 'hex');
    } else {
      const rest = createHash('sha256').update(buffer.subarray(0, size));
      for (let more = size; more > 0 && size < stats.size; size += more) {
        more = await fill(fd, buffer, stats.size - size);
        rest.update(buffer.subarray(0, more));
      }
      digest = rest.digest('hex');
    }
    const after = fstatSync(fd);
    const isSteady =
      size === after.size &&
      stats.size === after.size &&
      stats.mtimeMs === after.mtimeMs &&
      stats.ctimeMs === after.ctimeMs;
    return { stats, size, digest, look, isSteady, readAt };
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException; // what fs functions throw
    if (VANISHED.has(code)) return undefined;
    throw cannotRead(path, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Reads until the buffer is full, or `limit` bytes or the end of the file are reached. */
async function fill(fd: number, buffer: Buffer, limit: number): Promise<number> {
  const wanted = Math.min(buffer.length, limit);
  let filled = 0;
  while (filled < wanted) {
    const { bytesRead } = await readInto(fd, buffer, filled, wanted - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

/** Codes of a file that is gone, or no file any more. */
const VANISHED: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO']);

/** The error for what is to be sent and cannot be read. `path`: absolute, as bytes. */
export function cannotRead(path: string, cause: unknown): UsageError {
  const { code = 'unknown error' } = cause as NodeJS.ErrnoException; // what fs functions throw
  const why = new Map([
    ['EACCES', 'permission denied'],
    ['EPERM', 'permission denied'],
    ['ENAMETOOLONG', 'its path is too long'],
  ]).get(code);
  return new UsageError(
    `cannot send ${visibleText(fromBytePath(path))}: it cannot be read (${why ?? code}); ` +
      'make it readable, or name it in a .jobignore file to leave it out',
    { cause },
  );
}
