/** `--status`: what became of each job of a batch. */
import type { BatchStatus, JobStatus } from '../../lib/batch/batch-status.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { textWidth, visibleText } from '../../lib/util/terminal-text.ts';
import { momentText } from './moment-text.ts';
import type { Report } from './report.ts';

/** How it is printed. */
export interface StatusOptions {
  /** One object per job instead of the table. */
  readonly json: boolean;
  /** Finished jobs get a line each, too. */
  readonly verbose: boolean;
  /** Epoch milliseconds. */
  readonly now: number;
}

const STATES = ['done', 'failed', 'running', 'ended', 'waiting', 'unknown'] as const;

/**
 * Jobs go to stdout, in the order of their lines:
 * ```
 * running  train.sh.4  gpubox  since 14:05 (1h02m)  python train.py 4
 * waiting  train.sh.9                               python train.py 9
 * 3 done, 1 running, 1 waiting
 * ```
 * Finished ones are only counted, unless `verbose`. What cannot be reached and who runs the batch go to stderr.
 */
export function printStatus(
  { jobs, unreachable, controller }: BatchStatus,
  { json, verbose, now }: StatusOptions,
  { print, warn }: Pick<Report, 'print' | 'warn'>,
): void {
  if (json) {
    for (const status of jobs) print(JSON.stringify(record(status)));
  } else {
    const shown = jobs.filter(({ state }) => verbose || (state !== 'done' && state !== 'failed'));
    for (const line of tableLines(shown.map((status) => row(status, now)))) print(line);
    const counts = STATES.map((state) => ({
      state,
      count: jobs.filter((job) => job.state === state).length,
    }));
    const texts = counts.filter(({ count }) => count > 0).map(({ state, count }) => `${count} ${state}`);
    print(texts.join(', '));
  }
  printUnreachable(unreachable, { warn });
  if (controller !== undefined)
    warn(`the batch is being run by process ${controller.pid} on ${visibleText(controller.host)}`);
}

/** Says on stderr which machines could not be asked. */
export function printUnreachable(
  unreachable: BatchStatus['unreachable'],
  { warn }: Pick<Report, 'warn'>,
): void {
  for (const { machine, reason } of unreachable)
    warn(`${visibleText(machine)} cannot be reached: ${visibleText(reason)}`);
}

function record({ job, state, machine, startedAt }: JobStatus) {
  const { name, line, command } = job;
  return { job: job.id, name, line, command, state, machine, startedAt };
}

function row({ job, state, machine, startedAt }: JobStatus, now: number): readonly string[] {
  const since =
    startedAt === undefined || state !== 'running'
      ? ''
      : `since ${momentText(startedAt, now)} (${durationText(now - startedAt, 0)})`;
  return [state, visibleText(job.name), visibleText(machine ?? ''), since, visibleText(job.command)];
}

function tableLines(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const cells of rows) {
    for (const [i, cell] of cells.entries()) widths[i] = Math.max(widths[i] ?? 0, textWidth(cell));
  }
  const isUsed = widths.map((width) => width > 0);
  return rows.map((cells) =>
    cells
      .map((cell, i) => cell + ' '.repeat((widths[i] ?? 0) - textWidth(cell)))
      .filter((_, i) => isUsed[i])
      .join('  ')
      .trimEnd(),
  );
}
