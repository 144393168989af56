/** Rows as columns of a terminal. */
import { textWidth } from '../../lib/util/terminal-text.ts';

/** One line per row, the cells of a column below each other. Columns that are empty in all rows are left out. */
export function tableLines(rows: readonly (readonly string[])[], header?: readonly string[]): string[] {
  const widths: number[] = [];
  for (const cells of rows) {
    for (const [i, cell] of cells.entries()) widths[i] = Math.max(widths[i] ?? 0, textWidth(cell));
  }
  const isUsed = widths.map((width) => width > 0);
  for (const [i, cell] of (header ?? []).entries()) widths[i] = Math.max(widths[i] ?? 0, textWidth(cell));
  return [...(header === undefined ? [] : [header]), ...rows].map((cells) =>
    cells
      .map((cell, i) => cell + ' '.repeat((widths[i] ?? 0) - textWidth(cell)))
      .filter((_, i) => isUsed[i])
      .join('  ')
      .trimEnd(),
  );
}
