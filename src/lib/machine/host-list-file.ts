/** Lists of hosts with the place where they are written, and the files that hold them, one list per line. */
import { UsageError } from '../domain/errors.ts';
import { readSmallText } from './machine-file-store.ts';

/** A list of hosts. */
export interface WrittenList {
  readonly text: string;
  /** For messages. Absent for what the user wrote in the call itself. */
  readonly place?: string;
}

/**
 * The lists in a file. Blank lines, and what follows `#` at a line's beginning or after white space, are left out.
 * `shown` is the path for messages.
 * @throws UsageError for a file that is no text of at most 1 MiB. MachineConfigError when it cannot be read.
 */
export async function readHostListFile(path: string, shown: string): Promise<readonly WrittenList[]> {
  const text = await readSmallText(path, 'a list of hosts');
  if (text === undefined)
    throw new UsageError(`found ${shown}, which is no text of at most 1 MiB, expected a list of hosts`);
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  return lines.flatMap((line, index) => {
    const list = line.replace(/(?:^|\s)#.*$/, '').trim();
    return list === '' ? [] : [{ text: list, place: `${shown}:${index + 1}` }];
  });
}

const placed = new WeakSet<UsageError>();

/** Says of a mistake where it was written; the innermost place tells most. */
export async function inPlace<T>(place: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (place === undefined || !(error instanceof UsageError) || placed.has(error)) throw error;
    const more = new UsageError(`${error.message} (${place})`, { cause: error });
    placed.add(more);
    throw more;
  }
}
