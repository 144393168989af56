/**
 * Cancellations that a machine could not hear: a job was to be ended while its machine was away. They are kept in the
 * results folder and carried out at the next contact with that machine.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MachineName } from '../domain/machine.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { endInBatch } from './all-attempts.ts';
import type { SessionOptions } from './machine-session.ts';
import { type AttemptPlace, type AttemptReport, placeText } from './supervisor.ts';

/** One job that may still run although its end was asked for. */
export interface Leftover {
  readonly machine: MachineName;
  readonly job: string;
  readonly batch: string;
  readonly place: AttemptPlace;
  /** The key of the machine's identity, since another may get its name. Older notes have none. */
  readonly machineKey?: string | undefined;
}

const FILE = '.to-be-ended.json';

/** Takes note of leftovers beside those already noted. */
export function noteLeftovers(resultsFolder: string, leftovers: readonly Leftover[]): void {
  writeAll(resultsFolder, [...readLeftovers(resultsFolder), ...leftovers]);
}

/** What is noted; a file that cannot be understood holds nothing. */
export function readLeftovers(resultsFolder: string): readonly Leftover[] {
  const path = join(resultsFolder, FILE);
  if (!existsSync(path)) return [];
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return Array.isArray(parsed) ? parsed.filter(isLeftover) : [];
  } catch {
    return [];
  }
}

function writeAll(resultsFolder: string, leftovers: readonly Leftover[]): void {
  const path = join(resultsFolder, FILE);
  if (leftovers.length === 0) rmSync(path, { force: true });
  else {
    writeFileSync(`${path}.new`, `${JSON.stringify(leftovers, null, 2)}\n`);
    renameSync(`${path}.new`, path);
  }
}

function isLeftover(value: unknown): value is Leftover {
  if (typeof value !== 'object' || value === null) return false;
  const { machine, machineKey, job, batch, place } = value as Partial<Record<keyof Leftover, unknown>>;
  if (typeof machine !== 'string' || typeof job !== 'string' || !/^[0-9a-f]+$/.test(String(batch)))
    return false;
  if (machineKey !== undefined && typeof machineKey !== 'string') return false;
  if (typeof place !== 'object' || place === null) return false;
  const { folder, number } = place as Partial<Record<keyof AttemptPlace, unknown>>;
  return typeof folder === 'string' && /^[\w.%-]+$/.test(folder) && Number.isSafeInteger(number);
}

/**
 * Ends what is noted for one machine, removes its folders there, and forgets it. An attempt that had ended by itself stays
 * where it is, for its batch to collect. Resolves to what was ended. Rejects when the machine does
 * not hear; the notes that were not carried out then stay.
 */
export async function endLeftovers(
  host: RemoteHost,
  resultsFolder: string,
  session: Pick<SessionOptions, 'remoteDir'> & { readonly machineKey: string },
): Promise<readonly Leftover[]> {
  const mine = readLeftovers(resultsFolder).filter((one) => isOn(one, host.name, session.machineKey));
  const ended: Leftover[] = [];
  for (const batch of new Set(mine.map((one) => one.batch))) {
    const leftovers = mine.filter((one) => one.batch === batch);
    // The batch's own folder stays: its next run works in it.
    const reports = await endInBatch(
      host,
      { ...session, batch },
      leftovers.map(({ place }) => place),
      { graceMs: 0, removes: wasEndedByUs, keepsBatch: true },
    );
    // Under another name the machine may also be reached for another account, which has nothing of it.
    const isDone = (one: Leftover) =>
      one.machine === host.name || reports.get(placeText(one.place))?.type !== 'unstarted';
    const done = new Set(leftovers.filter(isDone).map(({ place }) => placeText(place)));
    writeAll(
      resultsFolder,
      readLeftovers(resultsFolder).filter(
        (one) =>
          one.batch !== batch || !isOn(one, host.name, session.machineKey) || !done.has(placeText(one.place)),
      ),
    );
    for (const one of leftovers) {
      const report = reports.get(placeText(one.place));
      if (done.has(placeText(one.place)) && report !== undefined && wasEndedByUs(report)) ended.push(one);
    }
  }
  return ended;
}

/** Old notes have no key: then the name has to do. */
function isOn({ machine, machineKey }: Leftover, name: MachineName, key: string): boolean {
  return machineKey === undefined ? machine === name : machineKey === key;
}

/** Whether an attempt's end is our doing, so that nobody wants what it has left. */
function wasEndedByUs(report: AttemptReport): boolean {
  if (report.type === 'ended') return report.endedBy !== undefined;
  // What succeeded and could not be listed since the disk is full may be listed later.
  return report.type !== 'failed' || report.exitCode !== 0;
}
