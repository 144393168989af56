/** The listing of a kept part (part-listing.ts) as a file, after a line with its checksum, so that nothing need be hashed again. */
import { hash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { partListing } from './part-listing.ts';
import type { SourceEntry } from './source-part.ts';

const FORMAT = 'ssh-scheduler part 1';
const LINE = /^([^ ]+) ([fdl]) ([0-7]{1,3}) (\d{1,15}) (.+)$/s;
const KINDS: Readonly<Record<string, SourceEntry['kind']>> = { f: 'file', d: 'folder', l: 'link' };

/**
 * Writes down what a part is made of, and has it on the disk.
 * @throws an error of the file system
 */
export async function writeKeptList(path: string, entries: readonly SourceEntry[]): Promise<void> {
  const { bytes } = partListing(entries);
  const file = await open(path, 'wx', 0o400);
  try {
    await file.writeFile(Buffer.concat([Buffer.from(`${FORMAT} ${hash('sha256', bytes, 'hex')}\n`), bytes]));
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * The entries that were written down, in byte order of their paths; undefined where the list is damaged.
 * @throws an error of the file system
 */
export async function readKeptList(path: string): Promise<SourceEntry[] | undefined> {
  const text = await readFile(path, 'latin1');
  const end = text.indexOf('\n') + 1;
  const listing = text.slice(end, -1);
  const checksum = hash('sha256', Buffer.from(text.slice(end), 'latin1'), 'hex');
  if (text.slice(0, end) !== `${FORMAT} ${checksum}\n`) return undefined;
  const entries: SourceEntry[] = [];
  for (const line of listing.split('\n')) {
    const [, name = '', letter = '', mode = '', size = '', path = ''] = LINE.exec(line) ?? [];
    const kind = KINDS[letter];
    if (kind === undefined) return undefined;
    const digest = kind === 'file' ? name : kind === 'link' ? unescaped(name.slice('->'.length)) : '';
    entries.push({
      path: unescaped(path),
      kind,
      mode: Number.parseInt(mode, 8),
      size: Number(size),
      digest,
    });
  }
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\\\\', '\\'],
  ['\\n', '\n'],
  ['\\0040', ' '],
]);

function unescaped(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\(?:\\|n|0040)/g, (found) => ESCAPES.get(found) ?? found);
}
