import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { shellWords } from '../../src/lib/batch/shell-words.ts';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';

function wordsOf(line: string): readonly string[] {
  const read = shellWords(line);
  if (read.type === 'mistake') throw new Error(`column ${read.column}: ${read.message}`);
  return read.words;
}

function mistakeOf(line: string): string {
  const read = shellWords(line);
  return read.type === 'mistake'
    ? `${read.column}: ${read.message}`
    : `no mistake, but ${JSON.stringify(read.words)}`;
}

describe('shellWords', () => {
  it.each([
    ['', []],
    [' \t ', []],
    ["  a\tb   'c d' ", ['a', 'b', 'c d']],
    [`a'b c'"d e"f\\ g`, ['ab cd ef g']],
    [`'' "" x`, ['', '', 'x']],
    [`"a\\"b\\\\c\\d\\$e"`, ['a"b\\c\\d$e']],
    [`'a\\b"c$d\`e'`, ['a\\b"c$d`e']],
    [`"costs 5$" "a $ b"`, ['costs 5$', 'a $ b']],
    [`\\$HOME \\; \\* \\~ \\# a#b a~b ~`.replace(' ~', ''), ['$HOME', ';', '*', '~', '#', 'a#b', 'a~b']],
    [`--name=x --list='a b' -- "it's"`, ['--name=x', '--list=a b', '--', "it's"]],
    ["'日本 é' ü", ['日本 é', 'ü']],
    ['a! b^ c] d% e,f', ['a!', 'b^', 'c]', 'd%', 'e,f']],
  ])('splits %j', (line, words) => {
    expect(wordsOf(line)).toEqual(words);
  });

  it.each([
    ["x 'a' ; b", 7, '`;`'],
    ["x 'a' && b", 7, '`&&`'],
    ["x 'a'&&b", 6, '`&&`'],
    ["x 'a' || b", 7, '`||`'],
    ["x 'a' | b", 7, '`|`'],
    ["x 'a' &", 7, '`&`'],
    ["x 'a' > out", 7, '`>`'],
    ["x 'a' 2>&1", 7, '`2>&`'],
    ["x 'a' >> out", 7, '`>>`'],
    ['x <<< a', 3, '`<<<`'],
    ['x < a', 3, '`<`'],
    ['x a2>b', 5, '`>`'],
    ['(x)', 1, '`(`'],
    ['x $HOME', 3, '`$HOME`'],
    ['x a$' + '{b}', 4, '`$' + '{b}`'],
    ['x $(date)', 3, '`$(`'],
    ["x $'a'", 3, "`$'`"],
    ['x `date`', 3, 'a backquote'],
    ['x *.py', 3, 'the file name pattern `*`'],
    ['x a?', 4, 'the file name pattern `?`'],
    ['x [ab]', 3, 'the file name pattern `[`'],
    ['x {a,b}', 3, 'the brace `{`'],
    ['x ~/a', 3, 'a home folder'],
    ['x --f=~/a', 7, 'a home folder'],
    ["x 'a' # note", 7, 'a comment'],
    ['x\ny', 2, 'a line break'],
    ["'日本😀' ;", 7, '`;`'],
  ])('refuses %j at column %i', (line, column, found) => {
    const mistake = mistakeOf(line);
    expect(mistake.startsWith(`${column}: found ${found}`), mistake).toBe(true);
    expect(mistake).toContain("parsed, not run by a shell; put it inside the command's quotes");
  });

  it('refuses what a shell would expand inside double quotes', () => {
    expect(mistakeOf('x "a $HOME"')).toMatch(/^6: found `\$HOME` inside double quotes: .*use single quotes$/);
    expect(mistakeOf('x "$(date)"')).toMatch(/^4: found `\$\(` inside/);
    expect(mistakeOf('x "$[1+1]"')).toMatch(/^4: found `\$\[` inside/); // the old form of $((1+1))
    expect(mistakeOf('x "`date`"')).toMatch(/^4: found a backquote inside double quotes/);
  });

  it('refuses quotes that are never closed and a backslash at the end', () => {
    expect(mistakeOf("x 'a b")).toBe('3: found a single quote that is never closed');
    expect(mistakeOf('x "a \\"')).toBe('3: found a double quote that is never closed');
    expect(mistakeOf("x 'a' \\")).toMatch(/^7: found a backslash at the end of the line/);
  });

  it('reads quoted words back, whatever they hold', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' })), (words) => {
        expect(wordsOf(words.map(shellQuote).join(' '))).toEqual(words);
      }),
    );
  });

  it('agrees with bash about every line that it accepts', () => {
    const piece = fc.constantFrom(
      ...'ab\'"\\$`;&|<>#~=:*?[]{}() \t!é-',
      "'",
      '"',
      '\\',
      ' ',
      "'x y'",
      '"z \\" "',
    );
    const lines = fc.array(
      fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')),
      { minLength: 100, maxLength: 100 },
    );
    const folder = mkdtempSync(join(tmpdir(), 'shell-words-'));
    try {
      fc.assert(
        fc.property(lines, (all) => {
          const accepted = all.flatMap((line) => {
            const read = shellWords(line);
            return read.type === 'words' ? [{ line, words: read.words }] : [];
          });
          const script = accepted.map(({ line }) => `printf '<%s>' first ${line}\nprintf '\\0'`).join('\n');
          const bash = spawnSync('bash', ['-f'], { cwd: folder, input: script, encoding: 'utf8' });
          expect(bash.stderr).toBe('');
          const ours = accepted.map(({ words }) => ['first', ...words].map((word) => `<${word}>`).join(''));
          expect(bash.stdout.split('\0').slice(0, -1)).toEqual(ours);
        }),
        { numRuns: 20 },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
