/** What programs print for a terminal, as lines of text. */

// Colours, moves of the cursor, titles of windows. What is left of a broken sequence is made visible when it is drawn.
const SEQUENCE =
  /\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78DEHMc])/g;
const TAB_COLUMNS = 8;

/** What is seen of a line after carriage returns: what stands behind the last one that something follows. */
export function lastPart(text: string): string {
  let end = text.length;
  while (end > 0 && text[end - 1] === '\r') end--;
  return text.slice(text.slice(0, end).lastIndexOf('\r') + 1, end);
}

/** One printed line as a terminal would leave it: the last part of a progress bar, no colours, tabs as blanks. */
export function printedLine(text: string): string {
  return expandTabs(lastPart(text).replace(SEQUENCE, ''));
}

function expandTabs(text: string): string {
  if (!text.includes('\t')) return text;
  let line = '';
  for (const part of text.split(/(?<=\t)/)) {
    if (!part.endsWith('\t')) line += part;
    else {
      line += part.slice(0, -1);
      line += ' '.repeat(TAB_COLUMNS - (line.length % TAB_COLUMNS));
    }
  }
  return line;
}
