/** The group that may use the door besides its owner. */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { UsageError } from '../domain/errors.ts';

/** A group of this system. */
export interface DoorGroup {
  readonly name: string;
  readonly id: number;
}

/** The group of that name or number. @throws UsageError when there is none, or this user is not in it */
export function findGroup(name: string): DoorGroup {
  const id = /^\d{1,10}$/.test(name) ? Number(name) : idOf(name);
  if (id === undefined) throw new UsageError(`there is no group '${name}' here`);
  const mine = new Set([...(process.getgroups?.() ?? []), process.getegid?.() ?? -1]);
  if (process.getuid?.() !== 0 && !mine.has(id))
    throw new UsageError(
      `you are not in the group '${name}', so you cannot open the door to it (if you were added lately, log in again)`,
    );
  return { name, id };
}

function idOf(name: string): number | undefined {
  if (!/^[A-Za-z0-9_.][A-Za-z0-9_. @\\-]*\$?$/.test(name)) return undefined;
  const line = fromDirectory(name) ?? fromFile(name);
  const id = line?.split(':')[2];
  return id !== undefined && /^\d{1,10}$/.test(id) ? Number(id) : undefined;
}

/** getent also knows the groups of LDAP and the like. Where there is none (macOS), the file has to do. */
function fromDirectory(name: string): string | undefined {
  try {
    return execFileSync('getent', ['group', name], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 10_000,
    });
  } catch {
    return undefined;
  }
}

function fromFile(name: string): string | undefined {
  try {
    return readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((line) => line.startsWith(`${name}:`));
  } catch {
    return undefined;
  }
}

/** The first folder above `path` that members of the group cannot get through, as far as its mode tells. */
export function closedTo(group: DoorGroup, path: string): string | undefined {
  const above: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    above.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return above.find((folder) => {
    const { mode, gid } = statSync(folder);
    return (mode & (gid === group.id ? 0o010 : 0o001)) === 0;
  });
}
