/**
 * Writes entries of a source part as a tar archive, checking each file against its hash while it is read. Our own, since
 * names are bytes here: the libraries know only UTF-8 names. The format is GNU's (`L` and `K` records for long names,
 * base-256 for numbers that octal cannot hold), which GNU tar, busybox and bsdtar all read.
 *
 * Source of the layout: the GNU tar manual, "Basic Tar Format".
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { visibleText } from '../util/terminal-text.ts';
import { fromBytePath } from './byte-path.ts';
import type { SourceEntry } from './source-part.ts';

/** The archive comes in pieces of exactly so many bytes, all but the last. */
export const PIECE_BYTES = 1024 * 1024;

const RECORD = 512;
const NAME_BYTES = 100;
/** Larger files are read without blocking: a slow disk must not hold up what the machines tell. */
const READ_AT_ONCE_BYTES = 256 * 1024;
const OCTAL_LIMIT = 8 ** 11;
/** Without waiting: a FIFO that has taken a file's place has no writer. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** A file is not any more what it was when it was listed. */
export class SourceChangedError extends Error {
  constructor(path: string, how: string) {
    const name = visibleText(fromBytePath(path));
    super(`${name} ${how} since the batch started: run it again when it stays as it is`);
    this.name = 'SourceChangedError';
  }
}

/** How many bytes the archive of these entries has. */
export function archiveBytes(entries: readonly SourceEntry[]): number {
  let bytes = 2 * RECORD;
  for (const { path, kind, size, digest } of entries) {
    bytes += RECORD + padded(size) + longBytes(path.length + (kind === 'folder' ? 1 : 0));
    if (kind === 'link') bytes += longBytes(digest.length);
  }
  return bytes;
}

/**
 * The archive of these entries, piece by piece. `root`: the local folder that their paths are relative to.
 * @throws SourceChangedError when a file is gone, or does not begin with the content that it was listed with.
 */
export async function* writeArchive(root: string, entries: Iterable<SourceEntry>): AsyncGenerator<Buffer> {
  let piece = Buffer.allocUnsafe(PIECE_BYTES);
  let used = 0;
  const full: Buffer[] = [];
  const room = (): Buffer => {
    if (used === PIECE_BYTES) {
      full.push(piece);
      piece = Buffer.allocUnsafe(PIECE_BYTES);
      used = 0;
    }
    return piece.subarray(used);
  };
  const put = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length; ) {
      const count = bytes.copy(room(), 0, at);
      used += count;
      at += count;
    }
  };
  const rootBytes = Buffer.from(`${root}/`);
  for (const entry of entries) {
    if (entry.kind === 'file') {
      const path = Buffer.concat([rootBytes, Buffer.from(entry.path, 'latin1')]);
      const hash = createHash('sha256');
      if (entry.size <= READ_AT_ONCE_BYTES) {
        const fd = openListed(path, entry);
        try {
          put(entryHeader(entry, checkedMtime(fstatSync(fd), entry)));
          for (let left = entry.size; left > 0; ) {
            const into = room();
            const count = readSync(fd, into, 0, Math.min(left, into.length), null);
            if (count === 0) throw new SourceChangedError(entry.path, 'became shorter');
            hash.update(into.subarray(0, count));
            used += count;
            left -= count;
          }
        } finally {
          closeSync(fd);
        }
      } else {
        const file = await open(path, OPEN_FLAGS).catch((error: unknown) => {
          throw cannotOpen(error, entry);
        });
        try {
          put(entryHeader(entry, checkedMtime(await file.stat(), entry)));
          for (let left = entry.size; left > 0; ) {
            const into = room();
            yield* full.splice(0);
            const { bytesRead } = await file.read(into, 0, Math.min(left, into.length), null);
            if (bytesRead === 0) throw new SourceChangedError(entry.path, 'became shorter');
            hash.update(into.subarray(0, bytesRead));
            used += bytesRead;
            left -= bytesRead;
          }
        } finally {
          await file.close();
        }
      }
      if (hash.digest('hex') !== entry.digest) throw new SourceChangedError(entry.path, 'was changed');
      put(Buffer.alloc(padded(entry.size) - entry.size));
    } else {
      put(entryHeader(entry, Date.now()));
    }
    yield* full.splice(0);
  }
  put(Buffer.alloc(2 * RECORD));
  yield* full.splice(0);
  if (used > 0) yield piece.subarray(0, used);
}

function openListed(path: Buffer, entry: SourceEntry): number {
  try {
    return openSync(path, OPEN_FLAGS);
  } catch (error) {
    throw cannotOpen(error, entry);
  }
}

function cannotOpen(error: unknown, { path }: SourceEntry): Error {
  const { code = 'unknown error' } = error as NodeJS.ErrnoException; // what fs functions throw
  const hows: Readonly<Record<string, string>> = {
    ENOENT: 'has vanished',
    ENOTDIR: 'has vanished',
    ELOOP: 'became a link',
    EACCES: 'became unreadable',
  };
  return new SourceChangedError(path, hows[code] ?? `cannot be read (${code})`);
}

function checkedMtime(stats: Stats, { path, size }: SourceEntry): number {
  if (!stats.isFile()) throw new SourceChangedError(path, 'is no file any more');
  // One that only grew (a log, perhaps of this very command) is sent as it was: its hash tells whether it can be.
  if (stats.size < size) throw new SourceChangedError(path, 'was changed');
  return stats.mtimeMs;
}

/** What stands before an entry's content: one or more records of 512 bytes. `mtimeMs`: epoch milliseconds. */
export function entryHeader({ path, kind, mode, size, digest }: SourceEntry, mtimeMs: number): Buffer {
  // A folder's name ends with a slash; `./` in front is not needed, since no option is read from an archive.
  const name = Buffer.from(kind === 'folder' ? `${path}/` : path, 'latin1');
  const target = Buffer.from(kind === 'link' ? digest : '', 'latin1');
  const type = kind === 'file' ? '0' : kind === 'folder' ? '5' : '2';
  return Buffer.concat([
    ...longRecord('L', name),
    ...longRecord('K', target),
    record({ name, target, type, mode, size, mtimeMs }),
  ]);
}

interface RecordFields {
  readonly name: Buffer;
  readonly target: Buffer;
  readonly type: string;
  readonly mode: number;
  readonly size: number;
  readonly mtimeMs: number;
}

function record({ name, target, type, mode, size, mtimeMs }: RecordFields): Buffer {
  const bytes = Buffer.alloc(RECORD);
  name.copy(bytes, 0, 0, NAME_BYTES);
  writeNumber(bytes, 100, 8, mode);
  writeNumber(bytes, 108, 8, 0); // owner and group: whoever unpacks
  writeNumber(bytes, 116, 8, 0);
  writeNumber(bytes, 124, 12, size);
  writeNumber(bytes, 136, 12, Math.max(0, Math.floor(mtimeMs / 1000)));
  bytes.write('        ', 148, 'latin1'); // the checksum counts as blanks in itself
  bytes.write(type, 156, 'latin1');
  target.copy(bytes, 157, 0, NAME_BYTES);
  bytes.write('ustar  \0', 257, 'latin1');
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** The record that holds a name too long for a header. */
function longRecord(type: 'L' | 'K', name: Buffer): Buffer[] {
  if (name.length <= NAME_BYTES) return [];
  const fields = { name: Buffer.from('././@LongLink'), target: Buffer.alloc(0), mode: 0, mtimeMs: 0 };
  const size = name.length + 1;
  return [record({ ...fields, type, size }), name, Buffer.alloc(padded(size) - name.length)];
}

function longBytes(length: number): number {
  return length <= NAME_BYTES ? 0 : RECORD + padded(length + 1);
}

function writeNumber(bytes: Buffer, at: number, length: number, value: number): void {
  if (value < OCTAL_LIMIT) {
    bytes.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
    return;
  }
  bytes[at] = 0x80;
  for (let i = length - 1, rest = BigInt(value); i > 0; i--, rest >>= 8n)
    bytes[at + i] = Number(rest & 0xffn);
}

function padded(size: number): number {
  return Math.ceil(size / RECORD) * RECORD;
}
