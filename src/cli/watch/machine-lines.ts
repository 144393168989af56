/** Machines as lines: a bar for cores, one for memory, two for each GPU. */
import type { OverviewMachine } from '../../lib/domain/overview.ts';
import { textWidth, visibleText } from '../../lib/util/terminal-text.ts';
import { barSpans, coresText, memoryText, percentText } from './amount-text.ts';
import { cell, type Line, lineWidth, type Span, type Style } from './line.ts';

const STATE_STYLES: Readonly<Record<OverviewMachine['state'], Style | undefined>> = {
  ready: undefined,
  connecting: 'faint',
  away: 'warning',
  unusable: 'bad',
  quarantined: 'bad',
  draining: 'warning',
  leaving: 'warning',
};
/** What they use is not known now. */
const UNHEARD: readonly OverviewMachine['state'][] = ['connecting', 'away', 'unusable'];
const MOST_NAME = 20;
const GPU_INDENT = '    ';

/** The lines of each machine, one array per machine. */
export function machineLines(machines: readonly OverviewMachine[], columns: number): Line[][] {
  const names = machines.map(({ name }) => textWidth(visibleText(name)));
  const nameWidth = Math.min(Math.max(4, ...names), columns >= 60 ? MOST_NAME : 12);
  return machines.map((machine) => [
    ownLine(machine, nameWidth, barWidth(columns)),
    ...gpuLines(machine, columns),
  ]);
}

/** With its brackets; 0 where there is no room for bars. */
function barWidth(columns: number): number {
  if (columns >= 110) return 18;
  if (columns >= 78) return 10;
  return columns >= 62 ? 6 : 0;
}

function ownLine(machine: OverviewMachine, nameWidth: number, bar: number): Line {
  const spans: Span[] = [{ text: `  ${cell(machine.name, nameWidth)}` }];
  const { cpuCores, memoryMiB, state, reason = '' } = machine;
  const jobs = `${machine.jobs} ${machine.jobs === 1 ? 'job' : 'jobs'}`;
  if (UNHEARD.includes(state) || cpuCores === undefined || memoryMiB === undefined) {
    spans.push(...stateSpans(machine), { text: `  ${jobs}` });
  } else {
    spans.push({ text: '  cpu ' }, ...barAndFigures(cpuCores, bar, coresText(cpuCores), 7));
    spans.push({ text: '  mem ' }, ...barAndFigures(memoryMiB, bar, memoryText(memoryMiB), 9));
    spans.push({ text: `  ${jobs}` });
    if (state !== 'ready') spans.push(...stateSpans(machine));
  }
  if (reason !== '') spans.push({ text: `  ${reason}`, style: 'faint' });
  return spans;
}

function stateSpans({ state }: OverviewMachine): Span[] {
  const style = STATE_STYLES[state];
  return [{ text: '  ' }, style === undefined ? { text: state } : { text: state, style }];
}

function barAndFigures(
  amount: Parameters<typeof barSpans>[0],
  bar: number,
  figures: string,
  width: number,
): Span[] {
  const spans = bar === 0 ? [] : [...barSpans(amount, bar), { text: ' ' }];
  return [...spans, { text: figures.padEnd(width) }];
}

/** As many GPUs to a line as there is room for. */
function gpuLines({ state, gpus = [] }: OverviewMachine, columns: number): Line[] {
  if (UNHEARD.includes(state)) return [];
  const bar = columns >= 110 ? 10 : columns >= 78 ? 6 : 0;
  const digits = Math.max(0, ...gpus.map(({ index }) => String(index).length));
  const lines: Line[] = [];
  let line: Span[] = [];
  for (const { index, utilization, memoryMiB } of gpus) {
    const cells: Span[] = [
      { text: `gpu${String(index).padEnd(digits)} ` },
      ...barAndFigures(utilization, bar, percentText(utilization), 4),
      { text: ' mem ' },
      ...barAndFigures(memoryMiB, bar, memoryText(memoryMiB), 7),
    ];
    if (line.length > 0 && lineWidth(line) + 2 + lineWidth(cells) > columns) {
      lines.push(line);
      line = [];
    }
    line.push({ text: line.length === 0 ? GPU_INDENT : '  ' }, ...cells);
  }
  return line.length === 0 ? lines : [...lines, line];
}
