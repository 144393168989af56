/**
 * What goes forward to the machines, as data. A job's source tree is made of parts: the whole working directory is one,
 * and so is each path that `--copy-forwards` names. A part is named by its content (paths, modes, bytes), so a machine
 * that has it needs nothing sent, and a thousand jobs that differ in one small file share all their other parts.
 *
 * Paths are held as latin1: one character per byte, so that names which are no UTF-8 stay what they are.
 */

/** One thing of a part. */
export interface SourceEntry {
  /** Relative to the job's folder, without `./` at its beginning and `/` at its end. latin1. */
  readonly path: string;
  readonly kind: 'file' | 'folder' | 'link';
  /** Permission bits, 0 to 0o777; 0o777 for links. */
  readonly mode: number;
  /** Bytes of a file; else 0. */
  readonly size: number;
  /** SHA-256 of a file's content in hex; a link's target (latin1); empty for a folder. */
  readonly digest: string;
}

/** A set of files below one local folder that travels as one. */
export interface SourcePart {
  /** 40 hex digits of the SHA-256 over all entries. */
  readonly id: string;
  /** Absolute local folder that the paths are relative to. */
  readonly root: string;
  /** In byte order of their paths, so folders come before what they hold. Never empty. */
  readonly entries: readonly SourceEntry[];
  /** How many of the entries are files, and their bytes together. */
  readonly files: number;
  readonly bytes: number;
}

/** A large input that all jobs of a machine share: it is linked into the job's folder instead of copied. */
export interface SharedInput {
  readonly part: SourcePart;
  /** Where the link stands in the job's folder. latin1. */
  readonly path: string;
}

/** All that a job finds in its folder when it starts. */
export interface SourceTree {
  /** Names the parts and shared inputs together; empty when there is nothing. */
  readonly id: string;
  /** Copied into the job's folder one after the other. */
  readonly parts: readonly SourcePart[];
  readonly shared: readonly SharedInput[];
  /** Of the parts and the shared inputs. */
  readonly files: number;
  readonly bytes: number;
  /** One part with few entries, few bytes and no links: machines keep copies of such a tree ready. */
  readonly isSmall: boolean;
}

/** Why something stays behind. */
export type LeftBehindReason =
  | 'git'
  | 'results'
  | 'virtual-environment'
  | 'pycache'
  | 'machine-file'
  | 'key'
  | 'jobignore';

/** What is not sent by default, or is sent and deserves a word. Paths as a person reads them, relative to `cwd`. */
export interface SourceNotes {
  readonly leftBehind: readonly { readonly path: string; readonly reason: LeftBehindReason }[];
  /** Files that look like secrets and are sent. */
  readonly secrets: readonly string[];
  /** Links that point out of what is sent, with their targets. */
  readonly linksOut: readonly { readonly path: string; readonly target: string }[];
}
