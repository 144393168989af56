/** The help screen. Where 80 columns and 24 rows are there, it fits into them. */
import { wrapText } from './line.ts';

/** What is pressed, and what it does; a text alone stands by itself. */
const ENTRIES: readonly (readonly [string, string] | string)[] = [
  ['up, down, j, k', 'select a job'],
  ['PgUp, PgDn', 'by as many as are seen, then into the next list'],
  ['Home, End', 'the ends of the list; again: of all'],
  ['Tab, 1, 2, 3', 'the next list; running, waiting, ended'],
  ['f, Enter', 'follow what the selected job prints; q comes back'],
  ['h, r', 'hold a job that waits, release it'],
  ['K, x', 'kill the selected job, after a question'],
  ['/', 'only jobs with this in id, name, command, machine, state; Enter keeps it, Esc clears it'],
  ['m', 'all machines, and back'],
  ['Ctrl-L, Ctrl-Z', 'draw anew, stop the view for now (that of a batch is never stopped)'],
  ['q, Ctrl-C', 'quit; what is watched goes on'],
  '',
  'Bars: [####==----] # is used, = is taken beyond that (asked for by jobs that run), - is free. The figures are what is not free of what there is: 3.1/8 cores, 12/62G memory.',
  '',
  'In the output of a job ! begins a line from its standard error. Left and right move sideways.',
];

const KEYS_WIDTH = 18;
/** From here on keys and what they do stand side by side. */
const WIDE_COLUMNS = 60;

/** The lines for so many columns. */
export function helpLines(columns: number): readonly string[] {
  return ['Keys', ...ENTRIES.flatMap((entry) => entryLines(entry, columns))];
}

function entryLines(entry: readonly [string, string] | string, columns: number): string[] {
  if (typeof entry === 'string') return entry === '' ? [''] : wrapText(entry, columns);
  const [keys, text] = entry;
  if (columns < WIDE_COLUMNS)
    return wrapText(`${keys}: ${text}`, columns - 2).map((own, i) => (i === 0 ? own : `  ${own}`));
  const lines = wrapText(text, columns - KEYS_WIDTH - 2);
  return lines.map((own, i) => `  ${(i === 0 ? keys : '').padEnd(KEYS_WIDTH)}${own}`);
}
