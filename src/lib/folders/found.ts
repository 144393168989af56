/** What stands at one path in one of the folders that are combined. */
import { accessSync, constants, lstatSync, readlinkSync, type Stats } from 'node:fs';
import { SchedulerError } from '../domain/errors.ts';
import { hashOfFile, hashOfLink } from './renamed-path.ts';
import type { FileComparer, ListedFile } from './same-content.ts';
import { type SystemPath, shownPath, systemPath } from './tree-path.ts';

/** A folder that takes part: DEST, when it exists, is the first. */
export interface MergeTree {
  /** As the user named it. */
  readonly name: string;
  /** Absolute, latin1. */
  readonly root: string;
  /** Index among the sources; undefined for DEST. */
  readonly source: number | undefined;
}

/** Something at a path. */
export interface Found extends ListedFile {
  readonly tree: MergeTree;
  /** latin1. */
  readonly path: string;
  readonly kind: 'file' | 'link' | 'folder' | 'socket' | 'fifo' | 'device';
  readonly mode: number;
  readonly mtimeMs: number;
}

/** Looks at a path without following a link; undefined when nothing is there. */
export function lookAt(tree: MergeTree, path: string): Found | undefined {
  const place = systemPath(tree.root, path);
  const stat = lstatSync(place, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  const { size, dev, ino, mtimeMs } = stat;
  return { tree, path, kind: kindOf(stat), mode: stat.mode & 0o1777, mtimeMs, place, size, dev, ino };
}

function kindOf(stat: Stats): Found['kind'] {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'folder';
  if (stat.isSymbolicLink()) return 'link';
  if (stat.isSocket()) return 'socket';
  return stat.isFIFO() ? 'fifo' : 'device';
}

/** Whether two things of one path, no folders, are the same but for mode and time. */
export function isSameContent(a: Found, b: Found, comparer: FileComparer): boolean {
  if (a.kind !== b.kind) return false;
  if (a.kind === 'file') return comparer.isSame(a, b);
  return a.kind === 'link' && targetOf(a) === targetOf(b);
}

/** Hash of a file's content or of a link's target, in hex. */
export function contentHash(found: Found): string {
  return found.kind === 'link' ? hashOfLink(targetOf(found)) : hashOfFile(found);
}

function targetOf({ place }: Found): string {
  return readlinkSync(place, 'latin1');
}

/** @throws SchedulerError when a file may not be read: better now than half way */
export function checkReadable({ mode, place }: Found): void {
  if ((mode & 0o444) === 0o444 || mayAccess(place, constants.R_OK)) return;
  throw new SchedulerError(`cannot read ${shownPath(place)}: permission denied`);
}

/** @throws SchedulerError when nothing may be put into a folder that exists */
export function checkWritable(folder: SystemPath): void {
  if (mayAccess(folder, constants.W_OK | constants.X_OK)) return;
  throw new SchedulerError(`cannot write into ${shownPath(folder)}: permission denied, or a read-only disk`);
}

function mayAccess(path: SystemPath, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
