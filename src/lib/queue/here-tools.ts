/** Whether this machine has the programs that runs of scripts need. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

const NEEDED = ['bash', 'tar'];

/** The first needed program that no folder of the PATH has; undefined when all are there. */
export function missingTool({ PATH: path }: NodeJS.ProcessEnv): string | undefined {
  if (path === undefined) return undefined; // shells have a PATH of their own then
  const folders = path.split(':');
  return NEEDED.find((tool) => !folders.some((folder) => canRun(join(folder === '' ? '.' : folder, tool))));
}

function canRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
