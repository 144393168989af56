/**
 * Brings the files of an ended job home: one tar stream over the open connection into a folder made for them. The
 * machine is not trusted: names that would leave the folder are refused, as are devices, and writing through links.
 */
import { once } from 'node:events';
import { lstat, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';

/** What to bring. */
export interface FetchRequest {
  /** The attempt's folder on the machine, absolute. */
  readonly attemptFolder: string;
  /** Patterns relative to the job's folder, expanded on the machine, or what its list of changes names. */
  readonly paths: readonly string[] | 'changed';
  /** Existing local folder to put them in. */
  readonly into: string;
}

/** What came. */
export interface FetchResult {
  readonly files: number;
  readonly bytes: number;
  /** Paths that were named and are not there, or could not be brought. One line each, for people. */
  readonly warnings: readonly string[];
}

/**
 * Fetches an ended job's files.
 * @throws RemoteError (stage `fetch`) when they cannot be read there, written here, or the machine sends what it must not.
 */
export async function fetchFiles(
  machine: MachineName,
  shell: RequestShell,
  request: FetchRequest,
): Promise<FetchResult> {
  const { Unpack } = await import('tar'); // 30 ms, wanted only where files come back
  const fail = (reason: string, cause?: unknown) =>
    new RemoteError(machine, 'fetch', `${machine}: cannot bring the results home: ${reason}`, { cause });
  const warnings: string[] = [];
  let files = 0;
  const renamed = new Set<string>();
  const links: Link[] = [];
  let refused: Error | undefined;
  const unpack = new Unpack({
    cwd: request.into,
    strict: true,
    preserveOwner: false,
    // Links are made last, by us: nothing can be written through one, and they keep pointing where the job meant.
    filter: (_path, entry) => {
      if (!('type' in entry) || entry.type !== 'SymbolicLink') return true;
      links.push({ path: entry.path, target: entry.linkpath ?? '' });
      return false;
    },
    onReadEntry: (entry) => {
      entry.mode = (entry.mode ?? 0o644) & 0o777; // no setuid file from a machine
      if (entry.path.includes('\ufffd') && entry.type !== 'Directory') {
        // The tar library reads names as UTF-8: two that differ only in other bytes must not become one file.
        const { path } = entry;
        for (let copy = 2; renamed.has(entry.path); copy++) entry.path = `${path}-${copy}`;
        renamed.add(entry.path);
      }
      if (entry.type === 'File' || entry.type === 'OldFile') files += 1;
      else if (!['Directory', 'Link', 'ContiguousFile', 'GNUDumpDir'].includes(entry.type)) {
        refused ??= new Error(`${entry.path} is a ${entry.type}`);
      }
    },
  });
  unpack.on('error', (error: Error) => {
    refused ??= error;
  });
  const closed = once(unpack, 'close').catch(() => {});
  let bytes = 0;
  const exitCode = await shell.run(packScript(request), async (chunk) => {
    bytes += chunk.length;
    if (refused !== undefined) return; // read on to the end, so that the shell stays usable, and drop it
    if (!unpack.write(Buffer.from(chunk)))
      await Promise.race([once(unpack, 'drain'), closed]).catch(() => {});
  });
  if (bytes > 0) {
    unpack.end();
    if (refused === undefined) await closed;
  }
  if (refused !== undefined) throw fail(refused.message, refused);
  for (const link of links) {
    await makeLink(request.into, link).catch((error: unknown) => {
      throw fail((error as Error).message, error);
    });
  }
  if (exitCode === 66) warnings.push('a path named in --copy-backwards does not exist');
  else if (exitCode !== 0)
    throw fail(`tar there ended with ${exitCode} (disk full, or a file that cannot be read?)`);
  if (renamed.size > 0)
    warnings.push(`${renamed.size} files with names that are not UTF-8 came home under similar names`);
  return { files, bytes, warnings };
}

interface Link {
  readonly path: string;
  readonly target: string;
}

/** Makes a link inside a folder. @throws when its place is outside, taken, or behind another link */
async function makeLink(into: string, { path, target }: Link): Promise<void> {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  const name = parts.pop();
  if (path.startsWith('/') || name === undefined || [...parts, name].includes('..')) {
    throw new Error(`the link ${path} would be made outside of the results`);
  }
  let folder = into;
  for (const part of parts) {
    folder = join(folder, part);
    await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    if (!(await lstat(folder)).isDirectory())
      throw new Error(`${path} lies behind something that is no folder`);
  }
  await symlink(target, join(folder, name)); // fails where something is already
}

function packScript(request: FetchRequest): string {
  const work = shellQuote(`${request.attemptFolder}/work`);
  if (request.paths === 'changed') {
    // busybox's tar reads no list: names go as arguments, and with too many of them it fails rather than leaves some out.
    return `cd ${work} && if tar --null -cf /dev/null -T /dev/null 2>/dev/null
then tar -cf - --no-recursion --null -T ../changed 2>/dev/null
else xargs -0 -x -n 100000 tar -cf - <../changed 2>/dev/null; fi`;
  }
  // Unquoted with an empty IFS: patterns are expanded, but never split and never evaluated.
  const lines = request.paths.map(
    (path, i) => `p${i}=${shellQuote(path.startsWith('/') ? path : `./${path}`)}`,
  );
  const expand = request.paths
    .map(
      (_, i) =>
        `for f in $p${i}; do if [ -e "$f" ] || [ -L "$f" ]; then set -- "$@" "$f"; else missing=66; fi; done`,
    )
    .join('\n');
  return [
    `(cd ${work} || exit 1`,
    ...lines,
    "IFS=''; missing=0; set --",
    expand,
    '[ $# -eq 0 ] || tar -cf - "$@" 2>/dev/null || exit 1',
    'exit $missing)',
  ].join('\n');
}
