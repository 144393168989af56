/** What must hold when a run is over. Each function says what does not, a line each. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestHost } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { OUR_FOLDER } from './fleet.ts';
import type { LedgerEntry } from './ledger.ts';
import { entryText } from './ledger.ts';
import type { PlannedJob } from './plan.ts';
import { expectedResult } from './workload.ts';

/** A job of a run, and what the ledgers say of it. */
export interface CheckedJob {
  /** Names its results. */
  readonly name: string;
  readonly planned: PlannedJob;
  readonly entries: readonly LedgerEntry[];
  /** Whether it has to have a good result; else it was killed, or never run. @default true */
  readonly isGood?: boolean;
  /** Whether it was given to a machine, so that there may be something of it. @default true */
  readonly hasBegun?: boolean;
}

/** Every job has one result, from its last attempt, with all its bytes; and nothing else is there. */
export async function resultFindings(results: string, jobs: readonly CheckedJob[]): Promise<string[]> {
  const findings: string[] = [];
  const names = new Set(await readdir(results).catch(() => []));
  names.delete('.batches');
  for (const { name, planned, entries: own, isGood = true, hasBegun = true } of jobs) {
    if (isGood) findings.push(...(await jobFindings(results, name, planned, own)));
    else if (!hasBegun) continue;
    for (const suffix of ['', '.out', '.err', '.json']) names.delete(`${name}${suffix}`);
    const failed = own.filter(({ end }) => end?.exitCode !== 0).length;
    const kept = [...names].filter((one) => one.startsWith(`${name}.attempt-`));
    for (const one of kept) if (failed > 0) names.delete(one);
  }
  const strange = await Promise.all([...names].sort().map((name) => withContents(results, name)));
  if (strange.length > 0) findings.push(`the results folder also has ${strange.join(', ')}`);
  return findings;
}

/** A name and, of a folder, what is in it. */
async function withContents(folder: string, name: string): Promise<string> {
  const inside = await readdir(join(folder, name), { recursive: true }).catch(() => undefined);
  return inside === undefined ? name : `${name} (${inside.join(' ') || 'empty'})`;
}

async function jobFindings(
  results: string,
  name: string,
  job: PlannedJob,
  entries: readonly LedgerEntry[],
): Promise<string[]> {
  const text = await readFile(join(results, `${name}.json`), 'utf8').catch(() => undefined);
  if (text === undefined)
    return [`${name}: no result; ${entries.map(entryText).join('; ') || 'never started'}`];
  const manifest: unknown = JSON.parse(text);
  if (typeof manifest !== 'object' || manifest === null) return [`${name}: its manifest is ${text}`];
  const { outcome, exit_code, attempt, reason } = manifest as { readonly [key: string]: unknown };
  if (outcome !== 'exited' || exit_code !== 0 || typeof attempt !== 'number')
    return [`${name}: its result is ${outcome}, exit code ${exit_code}, attempt ${attempt} (${reason})`];
  const findings: string[] = [];
  const last = entries.reduce((highest, entry) => Math.max(highest, entry.attempt), 0);
  if (attempt !== last)
    findings.push(`${name}: its result is of attempt ${attempt}; ${entries.map(entryText).join('; ')}`);
  const expected = expectedResult(name, job, attempt);
  for (const [path, content] of expected) {
    const found = await readFile(join(results, path), 'utf8').catch((error: Error) => error.message);
    if (found !== content) findings.push(`${name}: ${differenceText(path, content, found)}`);
  }
  if (existsSync(join(results, name))) {
    const files = await readdir(join(results, name), { recursive: true });
    const strange = files.filter((file) => file !== 'made' && !expected.has(`${name}/${file}`));
    if (strange.length > 0) findings.push(`${name}: its result also has ${strange.join(', ')}`);
  }
  return findings;
}

/** Where two texts differ first. */
function differenceText(path: string, expected: string, found: string): string {
  let at = 0;
  while (at < expected.length && expected[at] === found[at]) at += 1;
  const [should, is] = [expected, found].map((text) => JSON.stringify(text.slice(at, at + 60)));
  return `${path} has ${found.length} bytes instead of ${expected.length}; at ${at} it has ${is} instead of ${should}`;
}

/** What a host runs all the time. */
const SYSTEM = /init\.sh|^sleep infinity$|\[listener\]/;
const ENDS_WITHIN_MS = 30_000;

/** No process and no run folder of ours is left on a host. */
export async function remainFindings(host: TestHost): Promise<string[]> {
  const findings: string[] = [];
  const survivors = async () => {
    const lines = (await host.processes()).map(({ commandLine }) => commandLine);
    return lines.filter((line) => !SYSTEM.test(line));
  };
  // What a connection had open ends a moment after it.
  await until(async () => (await survivors()).length === 0, { deadlineMs: ENDS_WITHIN_MS }).catch(
    async () => {
      findings.push(`${host.name}: still there are the processes ${(await survivors()).join(' | ')}`);
    },
  );
  const ours = join(host.homeDir, OUR_FOLDER);
  const below = async (folder: string) =>
    (await readdir(join(ours, folder), { recursive: true }).catch(() => [])).map(
      (path) => `${folder}/${path}`,
    );
  // The machine's own folder may stay, empty.
  const runs = (await below('runs')).filter((path) => path.split('/').length > 2);
  const left = [...topmost(runs), ...(await below('leases'))];
  if (left.length > 0) findings.push(`${host.name}: still there is ${left.join(', ')}`);
  return findings;
}

/** Paths that lie in no other of them, so that a folder stands for what is in it; three levels tell enough. */
function topmost(paths: readonly string[]): string[] {
  return paths.filter((path) => {
    const depth = path.split('/').length;
    return depth === 5 || (depth < 5 && !paths.some((other) => other.startsWith(`${path}/`)));
  });
}
