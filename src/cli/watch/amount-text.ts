/** Amounts of a machine as bars and figures. */
import type { OverviewAmount } from '../../lib/domain/overview.ts';
import type { Span } from './line.ts';

/**
 * `[####==----]`: `#` what is used, `=` what is taken beyond that, `-` what is free, neither used nor taken. So many columns
 * with its brackets, at least three.
 */
export function barSpans(amount: OverviewAmount, columns: number): readonly Span[] {
  const cells = Math.max(1, columns - 2);
  const used = cellsOf(amount.used, amount.total, cells);
  const taken = Math.max(used, cellsOf(amount.taken, amount.total, cells)) - used;
  return [
    { text: '[' },
    { text: '#'.repeat(used), style: used === cells ? 'warning' : 'good' },
    { text: '='.repeat(taken), style: 'claim' },
    { text: '-'.repeat(cells - used - taken), style: 'faint' },
    { text: ']' },
  ];
}

function cellsOf(part: number, total: number, cells: number): number {
  const share = part / total;
  if (!(share > 0)) return 0; // nothing of nothing as well
  return Math.min(cells, Math.round(share * cells));
}

/** What is not free: used or taken, whichever is more. */
function notFree({ used, taken }: OverviewAmount): number {
  return Math.max(Number.isFinite(used) ? used : 0, Number.isFinite(taken) ? taken : 0, 0);
}

/** What is not free of all cores: `3.1/8`. */
export function coresText(amount: OverviewAmount): string {
  return `${figure(notFree(amount))}/${figure(amount.total)}`;
}

const MIB_PER_GIB = 1024;

/** What is not free of all memory: `12/62G`, `300/900M`; powers of 1024. */
export function memoryText(amount: OverviewAmount): string {
  const [part, { total }] = [notFree(amount), amount];
  return total < MIB_PER_GIB
    ? `${figure(part)}/${figure(total)}M`
    : `${figure(part / MIB_PER_GIB)}/${figure(total / MIB_PER_GIB)}G`;
}

/** What is not free: `85%`. */
export function percentText(amount: OverviewAmount): string {
  const share = notFree(amount) / amount.total;
  return `${Number.isFinite(share) ? Math.min(999, Math.max(0, Math.round(share * 100))) : 0}%`;
}

/** One digit behind the point below 10. */
function figure(amount: number): string {
  const shown = Number.isFinite(amount) ? Math.max(0, amount) : 0;
  return shown < 9.95 ? String(Math.round(shown * 10) / 10) : String(Math.round(shown));
}
