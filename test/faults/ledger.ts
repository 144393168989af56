/** What the jobs themselves wrote of their starts and ends, and whether it adds up. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestHost } from '../rig/test-hosts.ts';
import type { FullDisk, PowerOff } from './fleet.ts';

/** One attempt, as its job told it. */
export interface LedgerEntry {
  readonly job: string;
  readonly attempt: number;
  /** The machine's name in its ledger, and the host whose ledger it is. */
  readonly machine: string;
  readonly host: string;
  /** Epoch milliseconds. */
  readonly startedAt: number;
  /** Absent when it was ended by force. */
  readonly end?: { readonly exitCode: number; readonly at: number };
}

/** A host's ledger and what stands beside it. @throws Error when a line is not whole. */
async function readLedger(host: string, path: string): Promise<readonly LedgerEntry[]> {
  const rows = async (file: string) => {
    const text = await readFile(file, 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [, job, attempt, word, at] = /^(\S+) (\d+) (\S+) (\d{13})$/.exec(line) ?? [];
        if (job === undefined || attempt === undefined || word === undefined || at === undefined)
          throw new Error(`The ledger of ${host} has the line ${JSON.stringify(line)}`);
        return { job, attempt: Number(attempt), word, at: Number(at) };
      });
  };
  const ends = await rows(`${path}.ended`);
  return (await rows(path)).map(({ job, attempt, word, at }) => {
    const end = ends.find((one) => one.job === job && one.attempt === attempt);
    return {
      job,
      attempt,
      machine: word,
      host,
      startedAt: at,
      ...(end === undefined ? {} : { end: { exitCode: Number(end.word), at: end.at } }),
    };
  });
}

/** What all hosts' ledgers say. */
export async function readLedgers(hosts: readonly TestHost[]): Promise<readonly LedgerEntry[]> {
  return (await Promise.all(hosts.map((host) => readLedger(host.name, join(host.tmpDir, 'ledger'))))).flat();
}

/** What befell the hosts. */
export interface Happenings {
  readonly powerOffs: readonly PowerOff[];
  readonly fullDisks: readonly FullDisk[];
}

/** Says, a line each, what is wrong with one job's attempts: an attempt twice, or one too many for no good reason. */
export function attemptFindings(
  job: string,
  entries: readonly LedgerEntry[],
  happenings: Happenings,
): string[] {
  const findings: string[] = [];
  const sorted = [...entries].sort((a, b) => a.attempt - b.attempt || a.startedAt - b.startedAt);
  for (const [index, entry] of sorted.entries()) {
    const next = sorted[index + 1];
    if (entry.machine !== entry.host)
      findings.push(`${job}: attempt ${entry.attempt} for ${entry.machine} ran on ${entry.host}`);
    if (next === undefined) continue;
    if (next.attempt === entry.attempt) {
      findings.push(
        `${job}: attempt ${entry.attempt} started twice: ${entryText(entry)}; ${entryText(next)}`,
      );
    } else if (!isExplained(entry, next, happenings)) {
      findings.push(
        `${job}: attempt ${next.attempt} has no reason: ${entryText(entry)}, then ${entryText(next)}`,
      );
    }
  }
  return findings;
}

/** Whether there was a reason for another attempt: the one before failed, or was surely lost. */
function isExplained(entry: LedgerEntry, next: LedgerEntry, { powerOffs, fullDisks }: Happenings): boolean {
  if (entry.end !== undefined && entry.end.exitCode !== 0) return true;
  const wasLost = powerOffs.some(
    ({ host, fromAt, toAt, unended }) =>
      host === entry.host &&
      entry.startedAt <= toAt &&
      fromAt <= next.startedAt &&
      unended.has(`${entry.job}/${entry.attempt}`),
  );
  // A full disk can fail what comes before and after the command, of which the command knows nothing.
  const wasShort = fullDisks.some(
    ({ host, fromAt, toAt }) => host === entry.host && entry.startedAt <= toAt && fromAt <= next.startedAt,
  );
  return wasLost || wasShort;
}

export function entryText({ attempt, host, startedAt, end }: LedgerEntry): string {
  const ended = end === undefined ? 'without an end' : `exit ${end.exitCode} at ${time(end.at)}`;
  return `attempt ${attempt} on ${host} at ${time(startedAt)}, ${ended}`;
}

/** The time of day, in UTC. */
export function time(at: number): string {
  return Number.isFinite(at) ? new Date(at).toISOString().slice(11, 23) : 'the end';
}
