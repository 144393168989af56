/**
 * Brings the files of an ended job home: one archive over the shell that is open anyway, into a folder made for them.
 * The machine is not trusted. It says first how much will come; a stream that brings more, a name that would leave the
 * folder, a device, or a way through a link are refused, with the name.
 */
import { statfs } from 'node:fs/promises';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { Arrival, FetchProblem, type Room } from './arrival.ts';
import {
  COMPLAINTS_LIMIT_BYTES,
  DELETED_LIMIT_BYTES,
  DeletedPaths,
  Ends,
  readReport,
  warningsOf,
} from './fetch-report.ts';
import { FETCH_FUNCTIONS } from './fetch-script.ts';
import { EntryError } from './tar-reader.ts';

/** What to bring. */
export interface FetchRequest {
  /** The attempt's folder on the machine, absolute. */
  readonly attemptFolder: string;
  /**
   * `changed`: what `ATTEMPT/changed` names. Or patterns relative to the job's folder, expanded on the machine, whose
   * matches come whole. An absolute path comes home under the same path without its first `/`; of `../x` or `a/../x`,
   * all up to the last `..` is cut off. So nothing leaves `into`; where two then have one name, the transfer fails.
   */
  readonly paths: readonly string[] | 'changed';
  /** Existing local folder to put them in. After an error it may hold a part, in folders that can be removed. */
  readonly into: string;
}

/** What came. */
export interface FetchResult {
  readonly files: number;
  /** Of the archive, on the way. */
  readonly bytes: number;
  /** Paths that were named and are not there, or could not be brought. One line each, for people. */
  readonly warnings: readonly string[];
  /** Paths of what went forward and is gone, from `ATTEMPT/deleted`; for people. */
  readonly deleted: readonly string[];
}

/**
 * Fetches an ended job's files. They are whole: of the announced number and size, and of the SHA-256 that was sent.
 * @throws RemoteError (stage `fetch`) when they cannot be read there, written here, or the machine sends what it must
 *   not: a repetition would end the same way. Other errors are the shell's, when its connection goes.
 */
export async function fetchFiles(
  machine: MachineName,
  shell: RequestShell,
  request: FetchRequest,
): Promise<FetchResult> {
  const fail = (reason: string, cause?: unknown) =>
    new RemoteError(machine, 'fetch', `${machine}: cannot bring the results home: ${reason}`, {
      cause,
      brief: reason,
    });
  const room = await roomIn(request.into);
  const arrival = new Arrival(request.into, room);
  const told = new Ends();
  const deleted = new DeletedPaths();
  // All are sent at once, so this costs one round trip; the shell takes them one after the other.
  const defined = defineFunctions(shell);
  const attempt = shellQuote(request.attemptFolder);
  const requests = await Promise.allSettled([
    shell.run(packCall(request, room), (chunk) => arrival.take(chunk)),
    shell.run(
      'printf \'%s\\n\' "$fetch_end"',
      upTo(COMPLAINTS_LIMIT_BYTES, 'complains without end', (chunk) => told.take(chunk)),
    ),
    shell.run(
      `[ ! -s ${attempt}/deleted ] || head -c ${DELETED_LIMIT_BYTES} ${attempt}/deleted 2>/dev/null`,
      upTo(DELETED_LIMIT_BYTES, 'lists deletions without end', (chunk) => deleted.take(chunk)),
    ),
    defined,
  ]);
  try {
    for (const result of requests) if (result.status === 'rejected') throw result.reason;
    const report = readReport(told.text());
    if (report.problem !== undefined) throw new FetchProblem(report.problem);
    arrival.finish(report.sum);
    const { files, bytes } = arrival;
    return {
      files,
      bytes,
      warnings: [...warningsOf(request.paths, report), ...deleted.warnings()],
      deleted: deleted.paths(),
    };
  } catch (error) {
    arrival.abort();
    if (error instanceof EntryError || error instanceof FetchProblem) throw fail(error.message, error);
    throw error;
  }
}

const definitions = new WeakMap<RequestShell, Promise<number>>();

/** Defines the functions in a shell that has not got them. */
function defineFunctions(shell: RequestShell): Promise<number> {
  const known = definitions.get(shell);
  if (known !== undefined) return known;
  const defined = shell.run(FETCH_FUNCTIONS, upTo(65_536, 'prints without end'));
  definitions.set(shell, defined);
  return defined;
}

/** Takes bytes up to a limit: a stream that never ends is refused, which ends the request. */
function upTo(limitBytes: number, problem: string, sink: (chunk: Buffer) => void = () => {}) {
  let bytes = 0;
  return (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > limitBytes) throw new FetchProblem(`the machine ${problem}`);
    sink(chunk);
  };
}

// For folders, and for what others write meanwhile.
const ROOM_MARGIN_BYTES = 1024 * 1024;
const UNKNOWN_ROOM = Number.MAX_SAFE_INTEGER;

async function roomIn(folder: string): Promise<Room> {
  const { bavail, bsize, blocks } = await statfs(folder);
  const freeBytes = Math.max(0, bavail * bsize - ROOM_MARGIN_BYTES);
  return { freeBytes: blocks > 0 ? freeBytes : undefined, blockBytes: bsize > 0 ? bsize : 4096 };
}

/** The call of `fetch_home`. */
function packCall({ attemptFolder, paths }: FetchRequest, { freeBytes, blockBytes }: Room): string {
  const words = paths === 'changed' ? ['changed'] : ['named', ...paths.map(plainPattern).map(shellQuote)];
  return `fetch_home ${shellQuote(attemptFolder)} ${freeBytes ?? UNKNOWN_ROOM} ${blockBytes} ${words.join(' ')} 4>&1`;
}

/** A pattern in the one way that the machine's list writes it, so that what two patterns match is seen to be the same. */
function plainPattern(pattern: string): string {
  const parts = pattern.split('/').filter((part) => part !== '' && part !== '.');
  const end = parts.length > 0 && pattern.endsWith('/') ? '/' : '';
  if (pattern.startsWith('/')) return `/${parts.join('/')}${end}`;
  return parts.length === 0 ? '.' : `./${parts.join('/')}${end}`;
}
