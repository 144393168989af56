import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { checkShellSyntax, lineNoteText, mistakesError } from '../../src/lib/batch/line-checks.ts';
import { UsageError } from '../../src/lib/domain/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'line-checks-'));
afterAll(() => rmSync(folder, { recursive: true }));

const jobs = (...commands: string[]) => commands.map((command, index) => ({ command, line: index + 1 }));

/** The lines that are refused, of at most ten. */
async function refusedLines(commands: readonly string[]): Promise<number[]> {
  try {
    await checkShellSyntax(jobs(...commands));
    return [];
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message.split('\n').map((line) => Number(/^line (\d+): /.exec(line)?.[1]));
  }
}

describe('checkShellSyntax', () => {
  it('accepts what bash accepts', async () => {
    const commands = [
      'echo "one job"',
      'a && b || c; d | e',
      'for i in 1 2; do echo $i; done > "log $(date)" 2>&1 &',
      '[[ a =~ ^b ]] && x=(1 2 3)',
      "printf '%s\\n' $'a\\tb' `c`",
      'if true; then echo a; fi # done',
      'echo a \\',
      'grep ü <<< "日本"',
    ];
    expect(await checkShellSyntax(jobs(...commands))).toEqual([]);
  });

  it('refuses the unfinished conditions that bash -n itself ends with 0 for', async () => {
    expect(await refusedLines(['[[ a b', '[[ a', '[[ a ]]'])).toEqual([1, 2]);
  });

  it("names file and line with bash's own message", async () => {
    const run = checkShellSyntax(jobs('true', 'echo "a', 'if true; then', 'a | | b', 'a &&'), {
      path: 'x/b.sh',
    });
    await expect(run).rejects.toBeInstanceOf(UsageError);
    await expect(run).rejects.toThrow(
      /^x\/b\.sh:2: unexpected EOF while looking for matching `"' \(each line is a job of its own\)$/m,
    );
    await expect(run).rejects.toThrow(/^x\/b\.sh:3: syntax error: unexpected end of file/m);
    await expect(run).rejects.toThrow(/^x\/b\.sh:4: syntax error near unexpected token `\|'$/m);
    await expect(run).rejects.toThrow(/^x\/b\.sh:5: syntax error/m);
  });

  it('names every line of the same command, and the first ten mistakes', async () => {
    expect(await refusedLines(['(', 'true', '('])).toEqual([1, 3]);
    await expect(checkShellSyntax(jobs(...Array.from({ length: 25 }, (_, n) => `( ${n}`)))).rejects.toThrow(
      /^(line \d+: .*\n){10}and 15 more mistakes$/,
    );
  });

  it('warns about a here-document that cannot be', async () => {
    const [warning] = await checkShellSyntax(jobs('true', 'cat <<EOF'));
    expect(warning).toMatchObject({ line: 2 });
    expect(warning?.message).toMatch(
      /^warning: here-document delimited by end-of-file .*each line is a job of its own/,
    );
  });

  it('runs nothing', async () => {
    const mark = join(folder, 'ran');
    const touch = `touch ${mark}`;
    const commands = [
      `${touch} >&2`,
      `$(${touch})`,
      `set +n; ${touch}; (true)`,
      `} ; ${touch} ; {`,
      `) ; ${touch} ; (`,
      `' ; ${touch} ; '`,
      `" ; ${touch} ; "`,
      `fi; ${touch}`,
      `trap '${touch}' EXIT ERR DEBUG; (false)`,
      `exec ${touch} </dev/null`,
      `x[$(${touch})]=1`,
      `: <(${touch})`,
      `EOF\n${touch}\n(`,
    ];
    for (const command of commands) await refusedLines([command]);
    expect(existsSync(mark)).toBe(false);
  });

  it('agrees with bash -n about every line without [[', { timeout: 60_000 }, async () => {
    const token = fc.constantFrom(
      ...[
        'if',
        'then',
        'else',
        'fi',
        'for',
        'in',
        'do',
        'done',
        'while',
        'case',
        'esac',
        'function',
        'time',
        'select',
        'coproc',
      ],
      ...[
        'a',
        'b.py',
        'c=1',
        "'x;'",
        '"y $z"',
        '"w"',
        '$v',
        '-n',
        '3',
        'ü',
        '!',
        '{',
        '}',
        '(',
        ')',
        '#',
        '\\',
      ],
      ...[
        ';',
        ';',
        '&&',
        '&&',
        '|',
        '||',
        '&',
        '>',
        '>',
        '2>&1',
        '&>',
        '>>',
        '<',
        '<<',
        ';;',
        '"',
        "'",
        '`',
        '$(',
        '=(',
      ],
    );
    const command = fc
      .array(fc.tuple(token, fc.constantFrom(' ', ' ', '')), { minLength: 1, maxLength: 7 })
      .map((tokens) => tokens.flat().join(''));
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(command, { minLength: 10, maxLength: 10 }), async (commands) => {
        const expected = commands.flatMap((text, index) => {
          const bash = spawnSync('bash', ['-n'], {
            input: `${text}\n`,
            env: { PATH: process.env.PATH, LC_ALL: 'C' },
          });
          return bash.status === 0 ? [] : [index + 1];
        });
        expect(await refusedLines(commands)).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  it('checks thousands of different lines, shared among several shells', { timeout: 60_000 }, async () => {
    const commands = Array.from(
      { length: 2000 },
      (_, n) => `python train.py --seed ${n} --out "$(date) ${n}"`,
    );
    expect(await checkShellSyntax(jobs(...commands))).toEqual([]);
    expect(await refusedLines([...commands, '('])).toEqual([2001]);
  });

  it('tells simple lines from hostile ones fast', async () => {
    const commands = [`${'$abcdefgh'.repeat(1000)}(`, `a${' '.repeat(5000)}(`, `${"'a'".repeat(3000)}(`];
    expect(await refusedLines(commands)).toEqual([1, 2, 3]);
  });

  it('is not led astray by the environment', async () => {
    const startup = join(folder, 'startup');
    writeFileSync(startup, 'shopt -s extglob\n');
    process.env.BASH_ENV = startup;
    try {
      expect(await refusedLines(['echo !(a|b)'])).toEqual([1]);
    } finally {
      delete process.env.BASH_ENV;
    }
  });

  it('warns where there is no bash', async () => {
    const warnings = await checkShellSyntax(jobs('true', '( a', '('), { bash: join(folder, 'no-bash') });
    expect(warnings).toEqual([{ line: 2, message: expect.stringContaining('there is no bash here') }]);
  });

  it('only warns on the word of an old bash', async () => {
    const old = join(folder, 'old-bash');
    // What such a bash does is what ours does; only the version that it tells is another.
    writeFileSync(old, '#!/bin/sh\nexec bash -c "$(printf %s "$2" | sed \'s/"[$]{BASH_VERS[^ ]*$/3/\')"\n');
    chmodSync(old, 0o755);
    const [warning] = await checkShellSyntax(jobs('a |& | b'), { bash: old });
    expect(warning).toMatchObject({
      line: 1,
      message: expect.stringMatching(/^this computer's old bash says: syntax error near/),
    });
  });

  it('refuses a shell that cannot do it', async () => {
    await expect(checkShellSyntax(jobs('('), { bash: '/bin/false' })).rejects.toThrow(
      'could not check the syntax',
    );
  });
});

describe('mistakesError', () => {
  it('tells where, in the order of the lines', () => {
    const mistakes = [
      { line: 7, column: 2, message: 'b' },
      { line: 3, message: 'a' },
    ];
    expect(mistakesError(mistakes, 'x.sh').message).toBe('x.sh:3: a\nx.sh:7:2: b');
    expect(lineNoteText({ line: 7, column: 2, message: 'b' })).toBe('line 7:2: b');
  });
});
