/** Lines of a screen as pieces of text with a style; only here do they become text for a terminal. */
import { cutToWidth, textWidth, visibleText } from '../../lib/util/terminal-text.ts';

/** What a piece is, not how it looks. None of them is needed to understand it. */
export type Style = 'title' | 'faint' | 'selected' | 'good' | 'warning' | 'bad' | 'claim';

/** A piece of a line. Its text may come from a machine. */
export interface Span {
  readonly text: string;
  readonly style?: Style;
}

/** One line of the screen. */
export type Line = readonly Span[];

const ESC = '\x1b[';
const RESET = `${ESC}0m`;
/** Those that are no colours stay where colours are not wanted. */
const WITHOUT_COLOUR: Readonly<Partial<Record<Style, string>>> = { title: '1', faint: '2', selected: '7' };
const COLOURED: Readonly<Record<Style, string>> = {
  title: '1',
  faint: '2',
  selected: '7',
  good: '32',
  warning: '33',
  bad: '31',
  claim: '36',
};

/** A line of one piece. */
export function line(text: string, style?: Style): Line {
  return [style === undefined ? { text } : { text, style }];
}

/** The line without anything that could disturb a terminal, cut to so many columns. */
export function fitLine(spans: Line, columns: number): Line {
  const safe = spans.map((span) => ({ ...span, text: visibleText(span.text) }));
  const widths = safe.map(({ text }) => textWidth(text));
  if (widths.reduce((sum, width) => sum + width, 0) <= columns) return safe;
  const fitted: Span[] = [];
  let room = columns;
  for (const [i, span] of safe.entries()) {
    const width = widths[i] ?? 0;
    const isLast = i === safe.length - 1;
    // The dots have to fit behind what is cut off, so the piece before a piece without room gives some.
    if (width < room || (width === room && isLast)) {
      fitted.push(span);
      room -= width;
      continue;
    }
    fitted.push({ ...span, text: cutToWidth(isLast ? span.text : `${span.text}....`, room) });
    break;
  }
  return fitted;
}

/** The left one, cut where it meets the right one, which ends at the last column. */
export function bothEnds(left: Line, right: Line, columns: number): Line {
  const rightWidth = lineWidth(right);
  if (rightWidth + 2 > columns) return fitLine(left, columns);
  const cut = fitLine(left, columns - rightWidth - 2);
  return [...cut, { text: ' '.repeat(columns - rightWidth - lineWidth(cut)) }, ...right];
}

/** A text as lines of so many columns, broken between words; a longer word is cut. */
export function wrapText(text: string, columns: number): string[] {
  const lines: string[] = [];
  let own = '';
  for (const word of visibleText(text).split(' ')) {
    const longer = own === '' ? word : `${own} ${word}`;
    if (textWidth(longer) <= columns) own = longer;
    else {
      if (own !== '') lines.push(own);
      own = cutToWidth(word, columns);
    }
  }
  return [...lines, own];
}

/** The text if it fits into so many columns, else its end with `...` before it. */
export function cutAtLeft(text: string, columns: number): string {
  const safe = visibleText(text);
  const width = textWidth(safe);
  if (width <= columns) return safe;
  const dots = '...'.slice(0, Math.max(0, columns));
  return dots + withoutColumns(safe, width - columns + dots.length);
}

/** The text from that column on; a character that begins before it is left out. */
export function withoutColumns(text: string, columns: number): string {
  if (textWidth(text) === text.length) return text.slice(columns);
  let width = 0;
  let rest = '';
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (width >= columns) rest += segment;
    width += textWidth(segment);
  }
  return rest;
}

/** Columns that it takes. */
export function lineWidth(spans: Line): number {
  return spans.reduce((sum, { text }) => sum + textWidth(visibleText(text)), 0);
}

/** The text alone. */
export function plainLine(spans: Line): string {
  return spans.map(({ text }) => visibleText(text)).join('');
}

/** What is written to the terminal for a line that was fitted. */
export function paintLine(spans: Line, hasColours: boolean): string {
  const codes = hasColours ? COLOURED : WITHOUT_COLOUR;
  return spans
    .map(({ text, style }) => {
      const code = style === undefined ? undefined : codes[style];
      return code === undefined || text === '' ? text : `${ESC}${code}m${text}${RESET}`;
    })
    .join('');
}

/** Cut or filled with blanks to just so many columns. */
export function cell(text: string, columns: number): string {
  const cut = cutToWidth(visibleText(text), columns);
  return cut + ' '.repeat(Math.max(0, columns - textWidth(cut)));
}
