/** What is watched as plain tables, where there is no terminal to draw on. Nothing is cut. */
import type { Overview, OverviewAmount, OverviewJobs, OverviewMachine } from '../../lib/domain/overview.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { tableLines } from '../queue/table.ts';
import { coresText, memoryText, percentText } from './amount-text.ts';
import { countsText, endedText, forText, lastLineText, waitingText } from './job-lines.ts';
import { NOT_ALL } from './list-lines.ts';

/** Lines without any control character. `now`: epoch milliseconds. */
export function plainLines(overview: Overview, now: number, filter = ''): string[] {
  const { machines, running, waiting, ended } = overview;
  const lists = [running, waiting, ended];
  const isNone = filter !== '' && lists.every(({ jobs, isCut }) => jobs.length === 0 && isCut !== true);
  return [
    countsText(overview.counts),
    ...part(['MACHINE', 'STATE', 'CORES', 'MEMORY', 'GPUS', 'JOBS', 'WHY'], machines.map(machineRow)),
    ...part(
      ['RUNNING', 'NAME', 'MACHINE', 'GPUS', 'FOR', 'LAST LINE'],
      running.jobs.map((job) => [
        ...[job.id, job.name, job.machine ?? '', (job.gpus ?? []).join(',')],
        ...[forText(job, now), lastLineText(job)],
      ]),
      running,
    ),
    ...part(
      ['WAITING', 'NAME', 'WHY'],
      waiting.jobs.map((job) => [job.id, job.name, waitingText(job)]),
      waiting,
    ),
    ...part(
      ['ENDED', 'NAME', 'MACHINE', 'HOW'],
      ended.jobs.map((job) => [job.id, job.name, job.machine ?? '', endedText(job, now)]),
      ended,
    ),
    ...(isNone ? ['', 'no job matches the filter'] : []),
  ];
}

/** A table with a line before it, and how many more there are. One without rows is left out, unless not all was looked at. */
function part(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  { count, isCut = false }: Pick<OverviewJobs, 'count' | 'isCut'> = { count: rows.length },
): string[] {
  if (rows.length === 0) return isCut ? ['', `${header[0]}: ${NOT_ALL}`] : [];
  const more = count - rows.length;
  const rest = more > 0 ? [`and ${more}${isCut ? ' or more' : ' more'}`] : [];
  const cut = isCut && more <= 0 ? ['maybe more: only the first ones were looked at'] : [];
  return [
    '',
    ...tableLines(
      rows.map((cells) => cells.map(visibleText)),
      header,
    ),
    ...rest,
    ...cut,
  ];
}

function machineRow({
  name,
  state,
  cpuCores,
  memoryMiB,
  gpus = [],
  jobs,
  reason,
}: OverviewMachine): string[] {
  const text = (amount: OverviewAmount | undefined, write: (amount: OverviewAmount) => string) =>
    amount === undefined ? '' : write(amount);
  const gpuTexts = gpus.map(
    (gpu) => `${gpu.index}: ${percentText(gpu.utilization)} ${memoryText(gpu.memoryMiB)}`,
  );
  return [
    ...[name, state, text(cpuCores, coresText), text(memoryMiB, memoryText)],
    ...[gpuTexts.join('; '), String(jobs), reason ?? ''],
  ];
}
