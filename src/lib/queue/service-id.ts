/** The name by which machines, manifests and exported states know a service: made once per data folder. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { SchedulerError } from '../domain/errors.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** As the ids of batches, beside which its jobs lie on machines. */
const ID = /^[0-9a-f]{12}$/;

/** The id in this data folder, which is made where there is none. @throws SchedulerError when its file holds none */
export function serviceId(dataFolder: string): string {
  const path = join(dataFolder, 'service-id');
  const known = readPrivateFile(path)?.trim();
  if (known === undefined) {
    const id = randomBytes(6).toString('hex');
    writePrivateFile(path, `${id}\n`);
    return id;
  }
  if (!ID.test(known))
    throw new SchedulerError(`${path}: found ${JSON.stringify(known.slice(0, 40))}, expected 12 hex digits`);
  return known;
}
