/** One line of the bench's table. */

/** What was measured, against what, and how it should be. */
export interface Figure {
  readonly what: string;
  readonly ours: string;
  /** What ran beside it. */
  readonly peer?: { readonly name: string; readonly value: string };
  /** What the goal is about: ours to the peer's, or ours alone in the goal's unit. */
  readonly ratio: number;
  /** Absent for a figure that is there for comparison only. */
  readonly goal?: {
    readonly type: 'at least' | 'at most';
    readonly value: number;
    readonly aim?: number;
    /** Unit of an absolute goal. @default none: a ratio */
    readonly unit?: string;
  };
}

/** Whether a figure meets its goal; undefined without one. */
export function isMet({ ratio, goal }: Figure): boolean | undefined {
  if (goal === undefined) return undefined;
  return goal.type === 'at least' ? ratio >= goal.value : ratio <= goal.value;
}

/** The figures as a table, columns in line. */
export function tableOf(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const { what, ours, peer, ratio, goal } = figure;
    const isRatio = peer !== undefined && goal?.unit === undefined;
    const times = isRatio ? `${ratio.toFixed(ratio < 10 ? 2 : 1)}x` : '';
    return [what, ours, peer === undefined ? '' : `${peer.value} (${peer.name})`, times, goalText(figure)];
  });
  const all = [['what', 'here', 'beside it', 'ratio', 'goal'], ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function goalText(figure: Figure): string {
  const { goal } = figure;
  if (goal === undefined) return '';
  const unit = goal.unit === undefined ? 'x' : ` ${goal.unit}`;
  const aim = goal.aim === undefined ? '' : `, aim ${goal.aim}${unit}`;
  const verdict = isMet(figure) ? 'met' : 'NOT MET';
  return `${goal.type} ${goal.value.toLocaleString('en')}${unit}${aim}: ${verdict}`;
}
