/** Failed jobs folded into the few different things that went wrong, as a person would sum them up. */
import { join } from 'node:path';
import type { JobEnded } from '../../lib/domain/events.ts';
import type { JobOutcome } from '../../lib/domain/job.ts';
import { cutToWidth, visibleText } from '../../lib/util/terminal-text.ts';
import { outcomeText } from './outcome-text.ts';

const GROUPS_SHOWN = 10;
const NAMES_SHOWN = 5;
const LAST_LINE_WIDTH = 160;
const SCRIPT = /^\S*\/runs\/\S+\/script: line \d+: /;

/** What is kept of a failed attempt. */
export type Failure = Pick<JobEnded, 'name' | 'line' | 'outcome' | 'startedAt' | 'lastErrorLine'>;

/**
 * ```
 * 43 jobs: exited 1: ModuleNotFoundError: No module named 'x'
 *   train.sh.3, .7, .12, .13, .20 and 38 more: see job_results/train.sh.3.err
 * ```
 * Failures with the same outcome and the same last line on standard error are one group. The largest comes first, among
 * equals the one with the earliest line. `results` is the results folder as the user wrote it.
 */
export function failureLines(failures: readonly Failure[], results: string): string[] {
  const groups = new Map<string, Failure[]>();
  for (const failure of [...failures].sort((a, b) => a.line - b.line)) {
    const key = `${outcomeKey(failure.outcome)}\n${alikeText(failure.lastErrorLine ?? '')}`;
    const group = groups.get(key);
    if (group) group.push(failure);
    else groups.set(key, [failure]);
  }
  const largestFirst = [...groups.values()].sort((a, b) => b.length - a.length);
  const lines = largestFirst.slice(0, GROUPS_SHOWN).flatMap((group) => groupLines(group, results));
  const others = largestFirst.slice(GROUPS_SHOWN);
  const jobs = others.reduce((count, group) => count + group.length, 0);
  if (others.length > 0)
    lines.push(
      `and ${jobsText(jobs)} that failed in ${others.length} other way${others.length === 1 ? '' : 's'}`,
    );
  return lines;
}

/**
 * A line without what differs from run to run although the same went wrong: numbers, times, addresses, hashes and the
 * names of temporary files. Only for comparing.
 */
export function alikeText(line: string): string {
  return line
    .replaceAll(/\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b/g, '#')
    .replaceAll(/\/tmp\/[^\s'",:;)]+/g, '/tmp/#')
    .replaceAll(/0x[0-9a-f]+/gi, '#')
    .replaceAll(/\b(?=[a-f-]*\d)[0-9a-f]{4,}(?:-[0-9a-f]{4,})+\b/gi, '#')
    .replaceAll(/\b(?=[a-f]*\d)[0-9a-f]{7,}\b/gi, '#')
    .replaceAll(/\d+(?:[.,:]\d+)*/g, '#')
    .replaceAll(/#(?:[-/ T]*#)+/g, '#')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** Exit codes and kinds of outcome are told apart; reasons only by what `alikeText` leaves of them. */
function outcomeKey(outcome: JobOutcome): string {
  return JSON.stringify(outcome, (key, value: unknown) => {
    if (key === 'timeoutMs') return undefined; // a percentage of the median gives each job its own
    return typeof value === 'string' && key !== 'type' ? alikeText(value) : value;
  });
}

function groupLines(group: readonly Failure[], results: string): string[] {
  const [first] = group;
  if (first === undefined) return [];
  const why = outcomeText(first.outcome);
  // bash tells of a script by its path on the machine, which hides what it tells.
  const lastLine = visibleText((first.lastErrorLine ?? '').trim()).replace(SCRIPT, '');
  const what = lastLine === '' || why.includes(lastLine) ? '' : `: ${cutToWidth(lastLine, LAST_LINE_WIDTH)}`;
  // Without a start there is no output to look at.
  const seen = group.find(({ startedAt }) => startedAt !== undefined);
  const see = seen === undefined ? '' : `: see ${visibleText(join(results, `${seen.name}.err`))}`;
  return [`${jobsText(group.length)}: ${why}${what}`, `  ${namesText(group.map(({ name }) => name))}${see}`];
}

/** `train.sh.3, .7, .12 and 40 more`: a name that differs from the one before behind the last dot only is cut to that. */
function namesText(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN).map((name, i) => {
    const dot = name.lastIndexOf('.');
    const isAlike = dot > 0 && names[i - 1]?.slice(0, names[i - 1]?.lastIndexOf('.')) === name.slice(0, dot);
    return visibleText(isAlike ? name.slice(dot) : name);
  });
  const rest = names.length - shown.length;
  return `${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

function jobsText(count: number): string {
  return `${count} job${count === 1 ? '' : 's'}`;
}
