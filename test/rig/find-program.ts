/** Where a program of this machine is. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Finds a program also where only root's PATH leads. @throws Error naming it. */
export function findProgram(name: string, folders?: readonly string[]): string {
  const places = folders ?? [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  const found = places.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (!found) throw new Error(`No ${name} on this machine: run test/rig/ensure-tools.sh (npm test does)`);
  return found;
}
