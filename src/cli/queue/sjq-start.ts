/** What `~/.sjqrc` says of a service's start, and the files that it asks for. */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { availableParallelism, cpus, homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../../lib/domain/errors.ts';
import type { SjqOptions } from '../../lib/queue/sjq/sjq-options.ts';
import { hasSjqKeys, readSjqrc, type SjqSettings } from '../../lib/queue/sjq/sjqrc.ts';

/** How a service with an sjq door is started. */
export type SjqStart = SjqOptions & Pick<SjqSettings, 'isDaemon' | 'pidFile' | 'logFile'>;

/** What the command line says of it. */
export interface SjqFlags {
  /** `--sjq` and `--no-sjq`; without either `~/.sjqrc` opens the door, where it has a line for it. */
  readonly wanted: boolean | undefined;
  readonly allowsUid: boolean;
}

/** Reads the user's file. Undefined where no sjq door is wanted. @throws UsageError for a mistake in it, and for flags that cannot be */
export function readSjqStart({ wanted, allowsUid }: SjqFlags): SjqStart | undefined {
  const home = homedir();
  const text = wanted === false ? '' : textOf(join(home, '.sjqrc'));
  if (!(wanted ?? hasSjqKeys(text))) {
    if (allowsUid) throw new UsageError('--allow-uid is for the sjq door: add --sjq');
    return undefined;
  }
  if (allowsUid && process.geteuid?.() !== 0)
    throw new UsageError('--allow-uid: only root can run jobs as other users');
  const settings = readSjqrc(text, { home, cpus: cpus().length || availableParallelism() });
  const { schedTimeMs: _, ...start } = settings; // jobs are placed as soon as that is possible, so no round comes too late
  return { ...start, allowsUid };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** A line with the time, as this computer's clock on the wall has it. */
export function stamped(line: string): string {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return `${local.toISOString().slice(0, 19).replace('T', ' ')} ${line}`;
}

/** Writes lines to `sjq.logfile` as well. One that cannot be written is no reason to end. */
export function alsoTo(logFile: string | undefined, say: (line: string) => void): (line: string) => void {
  if (logFile === undefined) return say;
  let isTold = false;
  return (line) => {
    say(line);
    try {
      // A pipe that nobody reads would hold us for ever.
      const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
      const fd = openSync(logFile, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
      try {
        writeSync(fd, `${stamped(line)}\n`);
      } finally {
        closeSync(fd);
      }
      isTold = false;
    } catch (error) {
      if (!isTold) say(`sjq.logfile cannot be written: ${(error as Error).message}`);
      isTold = true;
    }
  };
}

/** Notes the process in `sjq.pidfile`, for scripts. Returns the way to take it away again, where it is still ours. */
export function notePid(pidFile: string, warn: (line: string) => void): () => void {
  const text = `${process.pid}\n`;
  try {
    // What is no number of a process was put there by somebody else.
    if (
      existsSync(pidFile) &&
      !(statSync(pidFile).isFile() && /^\s*\d*\s*$/.test(readFileSync(pidFile, 'utf8')))
    )
      throw new Error(`${pidFile} holds something else than the number of a process`);
    writeFileSync(pidFile, text);
  } catch (error) {
    warn(`sjq.pidfile cannot be written: ${(error as Error).message}`);
    return () => {};
  }
  return () => {
    try {
      if (readFileSync(pidFile, 'utf8') === text) rmSync(pidFile);
    } catch {
      // somebody else has taken it away
    }
  };
}
