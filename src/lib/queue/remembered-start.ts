/** Where a service's last start found things: the next one finds them there too, unless it is told otherwise. */
import { join, resolve } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import * as check from '../stores/queue-check.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

const FILE = 'start.json';

/** Absolute paths; `none` is no ssh configuration at all. */
export interface RememberedStart {
  readonly logFolder: string;
  readonly sshConfig?: string;
}

const shape = check.fields({ logFolder: check.absolutePath }, { sshConfig: check.filledText });

/**
 * What counts for this start, which is remembered. `note` hears of what comes from the last one.
 * @throws UsageError when the file in the data folder was damaged
 */
export function rememberStart(
  dataFolder: string,
  asked: { readonly logFolder?: string | undefined; readonly sshConfig?: string | undefined },
  note: (line: string) => void = () => {},
): RememberedStart {
  const path = join(dataFolder, FILE);
  const last = read(path);
  if (asked.sshConfig === undefined && last?.sshConfig !== undefined)
    note(`--ssh-config ${last.sshConfig}, as at the last start`);
  if (asked.logFolder === undefined && last !== undefined && last.logFolder !== join(dataFolder, 'logs'))
    note(`--log-dir ${last.logFolder}, as at the last start`);
  const sshConfig = asked.sshConfig ?? last?.sshConfig;
  const now: RememberedStart = {
    logFolder: resolve(asked.logFolder ?? last?.logFolder ?? join(dataFolder, 'logs')),
    ...(sshConfig === undefined ? {} : { sshConfig: sshConfig === 'none' ? sshConfig : resolve(sshConfig) }),
  };
  if (JSON.stringify(now) !== JSON.stringify(last)) writePrivateFile(path, `${JSON.stringify(now)}\n`);
  return now;
}

/** The log folder of a start that does not name one. */
export function lastLogFolder(dataFolder: string): string {
  return read(join(dataFolder, FILE))?.logFolder ?? join(dataFolder, 'logs');
}

function read(path: string): RememberedStart | undefined {
  const text = readPrivateFile(path);
  if (text === undefined) return undefined;
  try {
    const parsed: unknown = JSON.parse(text);
    shape(parsed, '');
    return parsed as RememberedStart; // as was checked
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}; remove it to begin anew`);
  }
}
