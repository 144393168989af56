/**
 * Cancellations that a machine could not hear: a job was to be ended while its machine was away. They are kept in the
 * results folder and carried out at the next contact with that machine.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { removeAttempts } from './job-folder.ts';
import { MachineSession, type SessionOptions } from './machine-session.ts';
import type { AttemptPlace } from './supervisor.ts';

/** One job that may still run although its end was asked for. */
export interface Leftover {
  readonly machine: MachineName;
  readonly job: string;
  readonly batch: string;
  readonly place: AttemptPlace;
}

const FILE = '.to-be-ended.json';
const END_WITHIN_MS = 15_000;

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
  const { machine, job, batch, place } = value as Partial<Record<keyof Leftover, unknown>>;
  if (typeof machine !== 'string' || typeof job !== 'string' || !/^[0-9a-f]+$/.test(String(batch)))
    return false;
  if (typeof place !== 'object' || place === null) return false;
  const { folder, number } = place as Partial<Record<keyof AttemptPlace, unknown>>;
  return typeof folder === 'string' && /^[\w.%-]+$/.test(folder) && Number.isSafeInteger(number);
}

/**
 * Ends what is noted for one machine, removes its folders there, and forgets it. Resolves to the names of the jobs.
 * Rejects when the machine does not hear; the note then stays.
 */
export async function endLeftovers(
  host: RemoteHost,
  resultsFolder: string,
  session: Pick<SessionOptions, 'remoteDir' | 'machineKey'>,
): Promise<readonly string[]> {
  const mine = readLeftovers(resultsFolder).filter(({ machine }) => machine === host.name);
  for (const batch of new Set(mine.map((one) => one.batch))) {
    const places = mine.filter((one) => one.batch === batch).map(({ place }) => place);
    const waiting = new Set(places.map((place) => `${place.folder}/${place.number}`));
    let settle: () => void = () => {};
    const allEnded = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const opened = await MachineSession.open(host, {
      ...session,
      batch,
      loginEnvironment: false,
      isForOneJob: true,
      onWarning: () => {},
      onReport: (place, report) => {
        if (report.type === 'started') return;
        waiting.delete(`${place.folder}/${place.number}`);
        if (waiting.size === 0) settle();
      },
    });
    try {
      for (const place of places) {
        opened.supervisor.adopt(place);
        opened.supervisor.cancel(place, 0);
      }
      const timer = setTimeout(settle, END_WITHIN_MS);
      await Promise.race([allEnded, opened.supervisor.ended]);
      clearTimeout(timer);
      if (waiting.size > 0) {
        throw new RemoteError(
          host.name,
          'run',
          `${waiting.size} jobs did not end within ${END_WITHIN_MS / 1000} s`,
        );
      }
      // The batch's own folder stays: its next run works in it.
      await opened.output.run(removeAttempts(opened.folders.runs, places));
    } finally {
      await opened.close();
    }
  }
  writeAll(
    resultsFolder,
    readLeftovers(resultsFolder).filter(({ machine }) => machine !== host.name),
  );
  return mine.map(({ job }) => job);
}
