/** What must hold for the queue's own word when a run is over: it has what it acknowledged, and says what the ledgers say. */
import { FINAL_STATES } from '../../src/lib/domain/queue.ts';
import type { JobRow } from '../../src/lib/queue/requests.ts';
import type { CheckedJob } from './check.ts';
import { entryText, type LedgerEntry, time } from './ledger.ts';
import type { PlannedJob } from './plan.ts';
import type { Change, SubmitTry } from './queue-client.ts';

/** What is compared. */
export interface QueueFacts {
  /** What the service lists in the end. */
  readonly rows: readonly JobRow[];
  readonly entries: readonly LedgerEntry[];
  readonly tries: readonly SubmitTry[];
  readonly changes: readonly Change[];
  /** Ids of jobs that had ended and were run again by hand. */
  readonly rerun: ReadonlySet<number>;
}

/** How long the wish to end a command may be on its way. */
const LAST_MOMENT_MS = 1000;

interface Known extends CheckedJob {
  readonly row: JobRow;
  readonly changes: readonly Change[];
}

/** Says what is wrong, a line each, and which jobs there were. */
export function checkQueue({ rows, entries, tries, changes, rerun }: QueueFacts): {
  readonly findings: readonly string[];
  readonly jobs: readonly CheckedJob[];
} {
  const findings: string[] = [];
  const jobs = new Map<number, Known>();
  const byTry = new Map<string, JobRow[]>();
  for (const row of rows) {
    const name = row.spec.name.replace(/_\d+$/, '');
    byTry.set(name, [...(byTry.get(name) ?? []), row]);
  }
  for (const { name, ids, submit } of tries) {
    const found = byTry.get(name) ?? [];
    byTry.delete(name);
    findings.push(...submitFindings(name, ids, found, submit.jobs.length));
    for (const [index, row] of found.entries()) {
      // A host keeps an attempt under the job's id.
      const own = entries
        .filter(({ job }) => job === row.spec.name)
        .map((one) => ({ ...one, job: String(row.id) }));
      const planned = submit.jobs[index] as PlannedJob; // as many as there are rows, or that was said
      jobs.set(row.id, {
        ...{
          name: row.spec.name,
          planned,
          entries: own,
          isGood: row.state === 'success',
          hasBegun: row.attempt > 0,
          row,
        },
        changes: changes.filter(({ id }) => id === row.id),
      });
    }
  }
  for (const [name, strange] of byTry) findings.push(`nobody submitted ${name}: ${strange.length} jobs`);
  const names = new Set([...jobs.values()].map(({ name }) => name));
  for (const entry of entries)
    if (!names.has(entry.job))
      findings.push(`${entry.job} ran and is no job of the queue: ${entryText(entry)}`);
  for (const job of jobs.values()) {
    findings.push(...stateFindings(job, jobs), ...holdFindings(job), ...parentFindings(job, jobs, rerun));
  }
  for (const { name, submit, ids = [] } of tries) {
    const own = ids.flatMap((id) => jobs.get(id)?.entries ?? []);
    if (submit.atOnce !== undefined && mostAtOnce(own) > submit.atOnce)
      findings.push(`${name}: ${mostAtOnce(own)} of its jobs ran at once, at most ${submit.atOnce} may`);
  }
  return { findings, jobs: [...jobs.values()] };
}

/** All jobs of a submit are there; of one that was not acknowledged all or none. */
function submitFindings(
  name: string,
  ids: readonly number[] | undefined,
  found: readonly JobRow[],
  count: number,
): string[] {
  const listed = found.map(({ id }) => id).join(' ');
  if (ids !== undefined && (ids.length !== count || ids.join(' ') !== listed))
    return [`${name}: ${count} jobs were acknowledged as ${ids.join(' ')}, there are ${listed || 'none'}`];
  if (ids === undefined && found.length !== 0 && found.length !== count)
    return [`${name} was not acknowledged; of its ${count} jobs there are ${listed}`];
  return [];
}

/** A job's state says what the ledgers say. */
function stateFindings({ row, name, entries, changes }: Known, jobs: ReadonlyMap<number, Known>): string[] {
  const findings: string[] = [];
  const { state, reason, spec } = row;
  const said = `${name} is in state ${state}${reason === undefined ? '' : ` (${reason})`}`;
  const wrong = (what: string) => {
    findings.push(`${said}: ${what}; ${entries.map(entryText).join('; ') || 'never started'}`);
  };
  const kills = changes.filter(({ kind }) => kind === 'kill');
  const last = entries.reduce<LedgerEntry | undefined>(
    (latest, entry) => (latest === undefined || entry.attempt >= latest.attempt ? entry : latest),
    undefined,
  );
  const bad = spec.dependsOn.filter((id) => jobs.get(id)?.row.state !== 'success');
  if (!FINAL_STATES.includes(state)) wrong('it has not ended');
  else if (state === 'success') {
    if (last?.end?.exitCode !== 0) wrong('its last attempt did not end well');
    else if (row.attempt !== last.attempt) wrong(`it counts attempt ${row.attempt}`);
    if (kills.some(({ answer }) => answer?.isDone === true && answer.message.includes('before it began')))
      wrong('it was said to be killed before it began');
  } else if (state === 'killed') {
    if (kills.length === 0) wrong('nobody killed it');
    // The wish may reach a command in its last moment, and it also ends the wait for the files of one that has ended.
    const end = last?.end;
    if (end?.exitCode === 0 && !kills.some(({ askedAt }) => askedAt >= end.at - LAST_MOMENT_MS))
      wrong('its last attempt ended well');
  } else if (state === 'abort') {
    if (entries.length > 0) wrong('it was to be aborted');
    if (spec.dependsOnAny || bad.length === 0) wrong(`its parents are ${spec.dependsOn.join(' ')}`);
  } else {
    wrong('it has no good end');
  }
  if (state !== 'killed' && state !== 'success' && kills.some(({ answer }) => answer?.isDone === true))
    wrong('it was killed');
  const { endedAt = Number.POSITIVE_INFINITY } = row;
  for (const { startedAt, end } of entries) {
    if (startedAt > endedAt || (end !== undefined && end.at > endedAt))
      wrong(`it is said to have ended at ${time(endedAt)}`);
  }
  return findings;
}

/** Nothing starts between the answer to a hold and the wish to release it. */
function holdFindings({ name, entries, changes }: Known): string[] {
  const findings: string[] = [];
  for (const [index, { kind, answer }] of changes.entries()) {
    if (kind !== 'hold' || answer?.isDone !== true) continue;
    const until =
      changes.slice(index).find((one) => one.kind === 'release')?.askedAt ?? Number.POSITIVE_INFINITY;
    for (const entry of entries)
      if (entry.startedAt > answer.at && entry.startedAt < until)
        findings.push(`${name} was held from ${time(answer.at)} to ${time(until)}: ${entryText(entry)}`);
  }
  return findings;
}

/** Nothing starts before what it depends on has ended, and only after a good end where that is asked for. */
function parentFindings(
  { name, row, entries }: Known,
  jobs: ReadonlyMap<number, Known>,
  rerun: ReadonlySet<number>,
): string[] {
  const findings: string[] = [];
  const begin = Math.min(...entries.map(({ startedAt }) => startedAt));
  if (entries.length === 0) return findings;
  for (const id of row.spec.dependsOn) {
    const parent = jobs.get(id);
    // After a bad end that is enough for this one, a parent may have run once more.
    if (parent === undefined || (row.spec.dependsOnAny && rerun.has(id))) continue;
    if (!row.spec.dependsOnAny && parent.row.state !== 'success')
      findings.push(`${name} ran, and depends on ${parent.name}, which is in state ${parent.row.state}`);
    const end = Math.max(
      parent.row.endedAt ?? 0,
      ...parent.entries.map((one) => one.end?.at ?? one.startedAt),
    );
    if (begin < end)
      findings.push(`${name} began at ${time(begin)}, and its parent ${parent.name} ended at ${time(end)}`);
  }
  return findings;
}

/** How many attempts were under way at the same time, as far as their ends are known. */
function mostAtOnce(entries: readonly LedgerEntry[]): number {
  const during = (at: number) =>
    entries.filter(({ startedAt, end }) => startedAt <= at && end !== undefined && at < end.at).length;
  return Math.max(0, ...entries.map(({ startedAt }) => during(startedAt)));
}
