/** Lists one source part: walks through what was named, hashes what is not known, and names the part by its content. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { below, fromBytePath, fsPath, toBytePath } from './byte-path.ts';
import { isSecretName, keysNamedIn } from './content-look.ts';
import type { ContentNote, HashCache } from './hash-cache.ts';
import { hashFiles } from './hash-files.ts';
import type { SourceEntry, SourcePart } from './source-part.ts';
import {
  type FoundEntry,
  type LeftBehindPath,
  type NamedPath,
  SourceWalk,
  type WalkOptions,
} from './source-walk.ts';

/** What is to be listed as one part. */
export interface PartRequest extends WalkOptions {
  readonly named: readonly NamedPath[];
}

/** What listing goes by. */
export interface PartListingTools {
  readonly hashes: HashCache;
  /** What `~` means in machine files. */
  readonly home: string;
}

/** A part and what there is to say about it. Paths are relative to the part's root, as bytes. */
export interface ListedPart {
  /** Absolute local folder. */
  readonly root: string;
  /** Undefined when there is nothing to send. */
  readonly part: SourcePart | undefined;
  readonly leftBehind: readonly LeftBehindPath[];
  /** Files that look like secrets. */
  readonly secrets: readonly string[];
}

/** So many lines are hashed at once: a call each would cost more than the hashing. */
const LINES_AT_ONCE = 1000;

/**
 * Lists a part.
 * @throws UsageError for a path that does not exist or cannot be read.
 */
export async function listPart(
  request: PartRequest,
  { hashes, home }: PartListingTools,
): Promise<ListedPart> {
  const { root, named } = request;
  const walk = new SourceWalk(request);
  for (const one of named) await walk.add(one);
  const files = await contentsOf(root, walk.found, hashes);
  const leftBehind = [...walk.leftBehind];
  const leave = (path: string, reason: 'machine-file' | 'key'): void => {
    if (named.some((one) => one.path === path) || !files.delete(path)) return;
    leftBehind.push({ path, reason });
  };
  for (const [path, { look }] of [...files]) {
    if (look !== 'machine-file') continue;
    for (const key of keysBelow(root, path, home)) leave(key, 'key');
    leave(path, 'machine-file');
  }
  const secrets: string[] = [];
  const entries: SourceEntry[] = [];
  for (const [path, { kind, mode: folderMode, target }] of walk.found) {
    if (kind !== 'file') {
      entries.push({ path, kind, mode: folderMode & 0o777, size: 0, digest: target });
      continue;
    }
    const content = files.get(path);
    if (content === undefined) continue; // it has vanished, or stays behind
    const { mode, size, digest, look } = content;
    entries.push({ path, kind, mode: mode & 0o777, size, digest });
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (look !== 'plain' || walk.sensitive.has(path) || isSecretName(name)) secrets.push(path);
  }
  return { root: fromBytePath(root), part: partOf(fromBytePath(root), entries), leftBehind, secrets };
}

/** A file that can be sent, as it was when it was hashed. */
interface FileContent extends ContentNote {
  readonly mode: number;
  readonly size: number;
}

/** What is in the files that were found, from memory where that is possible. */
async function contentsOf(
  root: string,
  found: ReadonlyMap<string, FoundEntry>,
  hashes: HashCache,
): Promise<Map<string, FileContent>> {
  const contents = new Map<string, FileContent>();
  const unknown: { readonly key: string; readonly path: string; readonly size: number }[] = [];
  for (const [key, { mode, stamp }] of found) {
    if (stamp === undefined) continue;
    const note = hashes.find(root, key, stamp);
    const { size } = stamp;
    if (note === undefined) unknown.push({ key, path: below(root, key), size });
    else contents.set(key, { mode, size, digest: note.digest, look: note.look });
  }
  await hashFiles(unknown, (index, hashed) => {
    const file = unknown[index];
    if (file === undefined || hashed === undefined) return;
    const { stats, size, digest, look, isSteady, readAt } = hashed;
    contents.set(file.key, { mode: stats.mode, size, digest, look });
    if (isSteady) hashes.keep(root, file.key, stats, hashed, readAt);
  });
  return contents;
}

/** The keys that a machine file names and that lie below the root, relative to it. */
function keysBelow(root: string, machineFile: string, home: string): string[] {
  const file = below(root, machineFile);
  const within = root === '/' ? '/' : `${root}/`;
  try {
    const text = readFileSync(fsPath(file), 'utf8');
    const keys = keysNamedIn(text, fromBytePath(file), home).map(toBytePath);
    return keys.filter((key) => key.startsWith(within)).map((key) => key.slice(within.length));
  } catch {
    return []; // it has vanished, and with it what it said
  }
}

function partOf(root: string, entries: SourceEntry[]): SourcePart | undefined {
  if (entries.length === 0) return undefined;
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  const hash = createHash('sha256');
  let lines = '';
  entries.forEach(({ path, kind, mode, digest }, i) => {
    // A link's target and a path end with a NUL, which neither can hold: no two lists read the same.
    lines += `${kind} ${mode.toString(8)} ${digest}\0${path}\0`;
    if (i % LINES_AT_ONCE !== 0) return;
    hash.update(lines, 'latin1');
    lines = '';
  });
  const id = hash.update(lines, 'latin1').digest('hex').slice(0, 40);
  const files = entries.filter(({ kind }) => kind === 'file');
  return { id, root, entries, files: files.length, bytes: files.reduce((sum, { size }) => sum + size, 0) };
}
