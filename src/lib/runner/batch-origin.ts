/** Which computer, folder and file a batch comes from, as it is noted on the machines beside its jobs. */
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { BatchOrigin } from './machine-session.ts';

/** The origin of a batch of this computer. `folder`: its results; `file`: the batch file. Both absolute. */
export function originOf(folder: string, file: string): BatchOrigin {
  return { host: hostname(), machineId: ownMachineId(), folder, file };
}

/** Whether a batch comes from this computer, as far as both say who they are. */
export function isFromHere({ host, machineId = '' }: BatchOrigin): boolean {
  const own = ownMachineId();
  return host === hostname() && (machineId === '' || own === '' || machineId === own);
}

/** A hash, since machine-id(5) asks not to hand the id itself around; empty where there is none. */
function ownMachineId(): string {
  try {
    const id = /^[0-9a-f]{32}$/m.exec(readFileSync('/etc/machine-id', 'latin1'))?.[0];
    return id === undefined
      ? ''
      : createHmac('sha256', id).update('ssh-scheduler origin').digest('hex').slice(0, 16);
  } catch {
    return '';
  }
}
