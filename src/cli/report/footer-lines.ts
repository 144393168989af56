/** The text of the live footer, from what is known and the room there is. */
import { durationText } from '../../lib/util/duration-text.ts';
import { cutToWidth, textWidth, visibleText } from '../../lib/util/terminal-text.ts';
import { momentText } from './moment-text.ts';
import type { Progress, ShownMachine } from './progress.ts';

const MACHINES_SHOWN = 5;
/** What stays free for the lines that scroll above. */
const ROWS_KEPT_FREE = 4;

/**
 * ```
 * 8 done, 1 failed, 3 running, 12 waiting; 1m05s, about 3m10s left
 *   gpubox: train.sh.4, train.sh.7
 *   other (away for 2m10s): train.sh.9 and 12 more
 *   and 3 more machines with 40 jobs
 * ```
 * No line is wider than `columns`, and there are never so many that nothing can scroll in `rows`.
 */
export function footerLines(progress: Progress, now: number, columns: number, rows: number): string[] {
  const machines = progress.shownMachines();
  const shown = machines.slice(0, Math.max(0, Math.min(MACHINES_SHOWN, rows - 2 - ROWS_KEPT_FREE)));
  const lines = [countsLine(progress, now)];
  for (const machine of shown) lines.push(machineLine(machine, now, columns));
  const rest = machines.slice(shown.length);
  if (rest.length > 0) {
    const jobs = rest.reduce((count, machine) => count + machine.jobs.length, 0);
    lines.push(
      `  and ${rest.length} more machine${rest.length === 1 ? '' : 's'} with ${jobs} job${jobs === 1 ? '' : 's'}`,
    );
  }
  return lines.map((line) => cutToWidth(line, columns));
}

function countsLine(progress: Progress, now: number): string {
  const { done, failed, running, waiting } = progress.counts();
  const elapsedMs = now - (progress.startedAt ?? now);
  const leftMs = progress.estimatedLeftMs(now);
  const left = leftMs === undefined ? '' : `, about ${durationText(Math.max(1000, leftMs), 0)} left`;
  return `${done} done, ${failed} failed, ${running} running, ${waiting} waiting; ${durationText(elapsedMs, 0)}${left}`;
}

function machineLine({ name, awaySince, jobs }: ShownMachine, now: number, columns: number): string {
  const machine = `  ${visibleText(name)}${awaySince === undefined ? '' : ` (${awayText(awaySince, now)})`}`;
  if (jobs.length === 0) return machine;
  const head = `${machine}: `;
  let line = head;
  for (const [index, job] of jobs.entries()) {
    const longer = `${line}${index === 0 ? '' : ', '}${visibleText(job)}`;
    if (textWidth(longer + moreText(jobs.length - index - 1)) > columns) {
      return index === 0
        ? `${head}${jobs.length} job${jobs.length === 1 ? '' : 's'}`
        : line + moreText(jobs.length - index);
    }
    line = longer;
  }
  return line;
}

const LONG_AWAY_MS = 3_600_000;

/** For how long while that says more, then since when. */
function awayText(awaySince: number, now: number): string {
  return now - awaySince < LONG_AWAY_MS
    ? `away for ${durationText(now - awaySince, 0)}`
    : `away since ${momentText(awaySince, now)}`;
}

function moreText(count: number): string {
  return count === 0 ? '' : ` and ${count} more`;
}
