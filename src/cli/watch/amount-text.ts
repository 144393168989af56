/** Amounts of a machine as bars and figures. */
import type { OverviewAmount } from '../../lib/domain/overview.ts';
import type { Span } from './line.ts';

/**
 * `[####==----]`: `#` what is used, `=` what jobs have asked for beyond that, `-` the rest. So many columns with its brackets, at
 * least three.
 */
export function barSpans(amount: OverviewAmount, columns: number): readonly Span[] {
  const cells = Math.max(1, columns - 2);
  const used = cellsOf(amount.used, amount.total, cells);
  const claimed = Math.max(used, cellsOf(amount.claimed, amount.total, cells)) - used;
  return [
    { text: '[' },
    { text: '#'.repeat(used), style: used === cells ? 'warning' : 'good' },
    { text: '='.repeat(claimed), style: 'claim' },
    { text: '-'.repeat(cells - used - claimed), style: 'faint' },
    { text: ']' },
  ];
}

function cellsOf(part: number, total: number, cells: number): number {
  const share = part / total;
  if (!(share > 0)) return 0; // nothing of nothing as well
  return Math.min(cells, Math.round(share * cells));
}

/** `3.1/8`. */
export function coresText({ used, total }: OverviewAmount): string {
  return `${figure(used)}/${figure(total)}`;
}

const MIB_PER_GIB = 1024;

/** `12/62G`, `300/900M`; powers of 1024. */
export function memoryText({ used, total }: OverviewAmount): string {
  return total < MIB_PER_GIB
    ? `${figure(used)}/${figure(total)}M`
    : `${figure(used / MIB_PER_GIB)}/${figure(total / MIB_PER_GIB)}G`;
}

/** `85%`. */
export function percentText({ used, total }: OverviewAmount): string {
  const share = used / total;
  return `${Number.isFinite(share) ? Math.min(999, Math.max(0, Math.round(share * 100))) : 0}%`;
}

/** One digit behind the point below 10. */
function figure(amount: number): string {
  const shown = Number.isFinite(amount) ? Math.max(0, amount) : 0;
  return shown < 9.95 ? String(Math.round(shown * 10) / 10) : String(Math.round(shown));
}
