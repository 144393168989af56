/**
 * Text that others wrote, made fit for one line of a terminal: nothing in it can move the cursor, change colours or
 * reorder what stands beside it.
 */

// Controls (escape sequences begin with one), line and paragraph separators, halves of a surrogate pair, and the
// marks that turn the reading direction, which can make a line read as another one (CVE-2021-42574).
const UNFIT = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
const SHORT_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
]);
// Graphemes that terminals draw two columns wide. JavaScript knows no East Asian Width, so this goes by script; an
// ambiguous one counts as wide, which only makes a line a little shorter.
const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|\ufe0f/u;
const WITHOUT_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}]+$/u;
const ASCII = /^[ -~]*$/;
let segmenter: Intl.Segmenter | undefined;

/** The text on one line with every control character written as an escape (`\n`, `\x1b`, `\u202e`); letters of any script stay. */
export function visibleText(text: string): string {
  return text.replace(UNFIT, (character) => SHORT_ESCAPES.get(character) ?? hexEscape(character));
}

function hexEscape(character: string): string {
  const code = character.charCodeAt(0); // none of UNFIT lies beyond the first plane
  const hex = code.toString(16);
  return code < 0x100 ? `\\x${hex.padStart(2, '0')}` : `\\u${hex.padStart(4, '0')}`;
}

/** How many terminal columns the text takes, wide characters counted as 2; exact for ASCII, never too few for common scripts. */
export function textWidth(text: string): number {
  if (ASCII.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemesOf(text)) width += graphemeWidth(segment);
  return width;
}

/** The text if it fits into so many columns, else its beginning with `...` at the end. */
export function cutToWidth(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  const dots = '...'.slice(0, Math.max(0, columns));
  let room = columns - dots.length;
  let kept = '';
  for (const { segment } of graphemesOf(text)) {
    room -= graphemeWidth(segment);
    if (room < 0) break;
    kept += segment;
  }
  return kept + dots;
}

/** Made when it is first needed: that takes a fifth of a small command's own start. */
function graphemesOf(text: string): Intl.Segments {
  segmenter ??= new Intl.Segmenter();
  return segmenter.segment(text);
}

function graphemeWidth(grapheme: string): number {
  if (WITHOUT_WIDTH.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}
