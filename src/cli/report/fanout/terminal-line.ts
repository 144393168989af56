/** One line of a machine's output, made fit for a terminal. */
import { textWidth, visibleText } from '../../../lib/util/terminal-text.ts';

const TAB_STOP = 8;

/**
 * The line with tabs as spaces up to the next column of eight, and every other control character written as an escape.
 * Columns count from the line's own beginning, so that tables stay tables behind a prefix.
 */
export function terminalLine(line: string): string {
  const [first = '', ...others] = line.split('\t');
  let text = visibleText(first);
  if (others.length === 0) return text;
  let width = textWidth(text);
  for (const other of others) {
    const spaces = TAB_STOP - (width % TAB_STOP);
    const part = visibleText(other);
    text += ' '.repeat(spaces) + part;
    width += spaces + textWidth(part);
  }
  return text;
}
