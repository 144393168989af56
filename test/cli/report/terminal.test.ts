import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { shellQuote } from '../../../src/lib/util/shell-quote.ts';
import { Screen } from './screen.ts';

const COLUMNS = 50;
const ROWS = 10;
const JOBS = 60;
const PROGRAM = `${shellQuote(process.execPath)} --import tsx test/cli/report/terminal-program.ts`;

const STDOUT_LINES = [
  "machine limits:  {'gpubox': 2}",
  'machine gpu choices: [[0, 1]]',
  'started: train.sh.1;  python train.py 1',
];
for (let line = 1; line <= JOBS; line++) {
  STDOUT_LINES.push(`finished: train.sh.${line}; python train.py ${line} (exited 0, gpubox, 1.2s)`);
  if (line < JOBS) STDOUT_LINES.push(`started: train.sh.${line + 1};  python train.py ${line + 1}`);
}
const SUMMARY = `execute_batch: ${JOBS} done, 0 failed, 0 skipped, 0 not run in 12.3s`;

/** What a shell line writes to a real terminal of COLUMNS x ROWS, escape sequences and all. */
async function onTerminal(shellLine: string): Promise<string> {
  const sized = `stty rows ${ROWS} cols ${COLUMNS} && ${shellLine}`;
  // script(1) gives a pseudo-terminal; util-linux and BSD disagree about its arguments.
  const args =
    process.platform === 'linux' ? ['-qec', sized, '/dev/null'] : ['-q', '/dev/null', 'sh', '-c', sized];
  const run = promisify(execFile)('script', args, { env: { ...process.env, TERM: 'xterm' } });
  run.child.stdin?.end();
  return (await run).stdout;
}

/** The lines as a terminal of this width breaks them, without blanks at the ends, as a Screen gives them. */
function wrapped(lines: readonly string[]): string {
  const broken = lines.map((line) => line.replace(new RegExp(`(.{${COLUMNS}})(?=.)`, 'g'), '$1\n'));
  return broken.join('\n').replace(/ +$/gm, '');
}

describe('on a real terminal', () => {
  test('every line stays whole, the footer comes and goes, and the cursor is visible', async () => {
    const raw = await onTerminal(PROGRAM);
    expect(raw).toMatch(/\d+ done, 0 failed, 1 running, \d+ waiting; \d+s/);
    expect(raw).toContain('  gpubox: train.sh.');
    const screen = new Screen(COLUMNS, ROWS);
    screen.write(raw);
    expect(screen.text).toBe(wrapped([...STDOUT_LINES, SUMMARY]));
    expect(screen.cursorIsVisible).toBe(true);
  });

  test('no footer is drawn where stdout is a pipe that may end on the same terminal', async () => {
    expect(await onTerminal(`${PROGRAM} | cat`)).not.toContain('\x1b');
  });

  test('lines that go to a file are plain', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'report-'));
    try {
      const file = join(folder, 'out');
      await onTerminal(`${PROGRAM} > ${shellQuote(file)}`);
      expect(readFileSync(file, 'utf8')).toBe(`${STDOUT_LINES.join('\n')}\n`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test('without a terminal there are plain lines only', async () => {
  const { stdout, stderr } = await promisify(execFile)('sh', ['-c', PROGRAM]);
  expect(stdout).toBe(`${STDOUT_LINES.join('\n')}\n`);
  expect(stderr).toBe(`${SUMMARY}\n`);
});
