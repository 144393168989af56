/**
 * Splits one line into words as bash would, for lines that are parsed and never run: plain words, quotes and
 * backslashes are understood, and all else that a shell would act on is a mistake with its column. Nothing is expanded.
 */

/** The words of a line, or what in it is not a plain word. */
export type ShellWords =
  | { readonly type: 'words'; readonly words: readonly string[] }
  /** `column` counts characters from 1. */
  | { readonly type: 'mistake'; readonly column: number; readonly message: string };

const OPERATOR = /^(?:&&|&>>?|&|\|\||\|&?|;;&?|;&?|\d*(?:<<<|<<-?|<>|<&|<|>>|>&|>\||>)|[()])/;
// What bash expands after a dollar sign; any other dollar sign is an ordinary character to it.
const EXPANSION = /^\$(?:[A-Za-z_]\w*|\{[^}]*\}?|[([\d@*#?$!-])/;
const QUOTED_DOLLAR = /^\$['"]/;
const BLANK = /[ \t]/;

const OUTSIDE = "an execute_remote line is parsed, not run by a shell; put it inside the command's quotes";
const INSIDE =
  'an execute_remote line is parsed, not run by a shell, so nothing here would expand it; use single quotes';

class Mistake {
  constructor(
    readonly index: number,
    readonly message: string,
  ) {}
}

/** Splits a line that a user wrote; `shellWords("a 'b c' d\\ e")` gives `a`, `b c` and `d e`. Never throws. */
export function shellWords(line: string): ShellWords {
  const words: string[] = [];
  let index = 0;
  while (true) {
    while (index < line.length && BLANK.test(line.charAt(index))) index++;
    if (index === line.length) return { type: 'words', words };
    const read = readWord(line, index);
    if (read instanceof Mistake) {
      // Characters, not UTF-16 units: a column is what an editor shows.
      return { type: 'mistake', column: [...line.slice(0, read.index)].length + 1, message: read.message };
    }
    words.push(read.text);
    index = read.end;
  }
}

/** Reads from the first character of a word to the blank or the end behind it. */
function readWord(line: string, start: number): { text: string; end: number } | Mistake {
  let text = '';
  let index = start;
  while (index < line.length && !BLANK.test(line.charAt(index))) {
    const character = line.charAt(index);
    if (character === "'") {
      const end = line.indexOf("'", index + 1);
      if (end === -1) return new Mistake(index, 'found a single quote that is never closed');
      text += line.slice(index + 1, end);
      index = end + 1;
    } else if (character === '"') {
      const quoted = readDoubleQuotes(line, index);
      if (quoted instanceof Mistake) return quoted;
      text += quoted.text;
      index = quoted.end;
    } else if (character === '\\') {
      const next = line.charAt(index + 1);
      if (next === '' || next === '\n') {
        return new Mistake(
          index,
          'found a backslash at the end of the line: lines are not joined, a job is one line',
        );
      }
      text += next;
      index += 2;
    } else {
      const found = syntaxAt(line, index, index === start);
      if (found !== undefined) return new Mistake(index, `found ${found} outside of quotes: ${OUTSIDE}`);
      text += character;
      index++;
    }
  }
  return { text, end: index };
}

/** Reads from the opening double quote to behind the closing one. */
function readDoubleQuotes(line: string, start: number): { text: string; end: number } | Mistake {
  let text = '';
  let index = start + 1;
  while (index < line.length) {
    const character = line.charAt(index);
    if (character === '"') return { text, end: index + 1 };
    if (character === '`') return new Mistake(index, `found a backquote inside double quotes: ${INSIDE}`);
    const expansion = character === '$' ? EXPANSION.exec(line.slice(index)) : null;
    if (expansion) return new Mistake(index, `found \`${expansion[0]}\` inside double quotes: ${INSIDE}`);
    const next = line.charAt(index + 1);
    // Inside double quotes a backslash is special before these only (bash(1), QUOTING).
    if (character === '\\' && next !== '' && '$`"\\\n'.includes(next)) {
      if (next !== '\n') text += next;
      index += 2;
    } else {
      text += character;
      index++;
    }
  }
  return new Mistake(start, 'found a double quote that is never closed');
}

/** Names what a shell would act on at this place outside of quotes; undefined for an ordinary character. */
function syntaxAt(line: string, index: number, startsWord: boolean): string | undefined {
  const character = line.charAt(index);
  const rest = line.slice(index);
  if (character === '\n') return 'a line break';
  if (character === '`') return 'a backquote';
  if (character === '$') {
    return `\`${EXPANSION.exec(rest)?.[0] ?? QUOTED_DOLLAR.exec(rest)?.[0] ?? '$'}\``;
  }
  if ('*?['.includes(character)) return `the file name pattern \`${character}\``;
  if ('{}'.includes(character)) return `the brace \`${character}\``;
  if (character === '#' && startsWord) return 'a comment (`#`)';
  // bash also expands a tilde behind `=` and `:` where the word looks like an assignment.
  if (character === '~' && (startsWord || '=:'.includes(line.charAt(index - 1))))
    return 'a home folder (`~`)';
  // A number belongs to the redirection behind it only where the word begins: `2>`, but not `a2>`.
  const operator = startsWord || !/\d/.test(character) ? OPERATOR.exec(rest) : null;
  return operator ? `\`${operator[0]}\`` : undefined;
}
