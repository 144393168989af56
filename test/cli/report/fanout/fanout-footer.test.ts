import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import {
  FanoutProgress,
  fanoutFooterLines,
  fanoutTerminal,
} from '../../../../src/cli/report/fanout/fanout-footer.ts';
import type { FooterClock, TerminalStream } from '../../../../src/cli/report/live-footer.ts';
import type { FanoutEvent } from '../../../../src/lib/fanout/host-result.ts';
import { shellQuote } from '../../../../src/lib/util/shell-quote.ts';
import { textWidth } from '../../../../src/lib/util/terminal-text.ts';
import { Screen } from '../screen.ts';
import { ended, hosts, START, started, state } from './sample-fanout.ts';

const COLUMNS = 60;
const ROWS = 12;

function linesAfter(events: readonly FanoutEvent[], afterMs: number, columns = 80, rows = 24): string[] {
  const progress = new FanoutProgress();
  for (const event of events) progress.report(event);
  return fanoutFooterLines(progress, START + afterMs, columns, rows);
}

describe('the lines', () => {
  test('count what is over, what failed, and what goes on', () => {
    const events = [
      started(hosts(64)),
      ...['gpu01', 'gpu02', 'gpu03', 'gpu04', 'gpu05'].map((host) => state(host, 'connecting')),
      state('gpu01', 'running', START + 1000),
      state('gpu02', 'sending', START + 2000),
      ended('gpu03', { outcome: { type: 'exited', exitCode: 2 } }),
      ended('gpu04'),
    ];
    expect(linesAfter(events, 65_000)).toEqual([
      '2/64 done, 1 failed, 1 running, 1 connecting, 1 sending; 1m05s',
      '  gpu05 connecting 1m05s, gpu01 running 1m04s, gpu02 sending 1m03s',
    ]);
  });

  test('tell machines that were not begun from those that failed', () => {
    const events = [
      started(hosts(3)),
      ended('gpu01', { outcome: { type: 'unreachable', reason: { brief: 'x', full: 'x' } } }),
      ended('gpu02', { outcome: { type: 'not-started', reason: 'another failed' } }),
      state('gpu03', 'ending'),
    ];
    expect(linesAfter(events, 2000)).toEqual([
      '2/3 done, 1 failed, 1 not started, 0 running, 1 ending; 2s',
      '  gpu03 ending 2s',
    ]);
  });

  test('name the machines longest in their state first, as many as two lines hold', () => {
    const all = hosts(20);
    const events = [started(all), ...all.map((host, index) => state(host, 'running', START + index * 1000))];
    expect(linesAfter(events, 42_000, 60)).toEqual([
      '0/20 done, 0 failed, 20 running; 42s',
      '  gpu01 running 42s, gpu02 running 41s, gpu03 running 40s',
      '  gpu04 running 39s, gpu05 running 38s, gpu06 running 37s',
    ]);
    // A new state begins anew; the same state told again does not.
    const more = [
      ...events,
      state('gpu01', 'fetching', START + 41_000),
      state('gpu02', 'running', START + 41_000),
    ];
    expect(linesAfter([...more, ended('gpu03')], 42_000, 60)[1]).toBe(
      '  gpu02 running 41s, gpu04 running 39s, gpu05 running 38s',
    );
  });

  test('are never wider than the terminal, nor more than leaves room for what scrolls', () => {
    const names = ['a-very-long-name-of-a-machine.in.some.domain', 'x\x1b[2J\n', '機械', ...hosts(8)];
    const events = [started(hosts(11)), ...names.map((name) => state(name, 'running'))];
    for (let columns = 1; columns < 90; columns++) {
      for (const line of linesAfter(events, 5000, columns)) {
        expect(textWidth(line)).toBeLessThanOrEqual(columns);
        expect(line).not.toMatch(/[\x00-\x1f]/);
      }
    }
    expect(linesAfter(events, 5000, 200).join('\n')).toContain('x\\x1b[2J\\n running 5s');
    expect([3, 5, 6, 7, 24].map((rows) => linesAfter(events, 5000, 60, rows).length)).toEqual([
      1, 1, 2, 3, 3,
    ]);
  });
});

/** A stream to one screen; both standard streams of a terminal are such. */
function terminalStream(screen: Screen): TerminalStream {
  const write = (data: string | Uint8Array): boolean => {
    screen.write(String(Buffer.from(data as string)));
    return true;
  };
  return Object.assign(new PassThrough(), { write, isTTY: true, columns: COLUMNS, rows: ROWS });
}

/** Time that the test moves on. */
class TestClock implements FooterClock {
  time = START;
  #action: (() => void) | undefined;
  now = (): number => this.time;
  every = (_periodMs: number, action: () => void): (() => void) => {
    this.#action = action;
    return () => {
      this.#action = undefined;
    };
  };
  pass(milliseconds: number): void {
    this.time += milliseconds;
    this.#action?.();
  }
}

test('lines and bytes scroll above the footer, and at the end it is gone', async () => {
  const screen = new Screen(COLUMNS, ROWS);
  const clock = new TestClock();
  const stream = terminalStream(screen);
  using terminal = fanoutTerminal({ stdout: stream, stderr: stream, clock, environment: {} });
  terminal.report(started(hosts(3)));
  for (const host of hosts(3)) terminal.report(state(host, 'running'));
  terminal.stdout.write('gpu01: before\n');
  clock.pass(400);
  expect(screen.text).toBe('gpu01: before');
  clock.pass(100);
  const footer = '  gpu01 running 1s, gpu02 running 1s, gpu03 running 1s';
  await vi.waitFor(() => expect(screen.text).toContain(footer), { timeout: 10_000 });
  clock.pass(100);
  terminal.stdout.write(Buffer.from('gpu02: bytes\n'));
  terminal.stderr.write('gpu03: error\n');
  terminal.report(ended('gpu02'));
  clock.pass(100);
  expect(screen.text).toBe(
    [
      ...['gpu01: before', 'gpu02: bytes', 'gpu03: error', '1/3 done, 0 failed, 2 running; 1s'],
      '  gpu01 running 1s, gpu03 running 1s',
    ].join('\n'),
  );
  terminal.report({ type: 'fanout:ended', at: clock.time });
  terminal.stdout.write('gathered\n');
  expect(screen.text).toBe('gpu01: before\ngpu02: bytes\ngpu03: error\ngathered');
  expect(screen.cursorIsVisible).toBe(true);
});

test('without a terminal for it the streams are those given', () => {
  const pipe = new PassThrough();
  const terminal = terminalStream(new Screen(COLUMNS, ROWS));
  for (const [stdout, stderr] of [
    [pipe, terminal],
    [terminal, pipe],
    [pipe, pipe],
  ] as const) {
    const given = fanoutTerminal({ stdout, stderr, environment: {} });
    expect([given.stdout, given.stderr]).toEqual([stdout, stderr]);
  }
});

const PROGRAM = `${shellQuote(process.execPath)} --import tsx test/cli/report/fanout/fanout-terminal-program.ts`;
const NAMES = hosts(60);

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

describe('on a real terminal', () => {
  test('every line stays whole, and the footer comes and goes', async () => {
    const raw = await onTerminal(PROGRAM);
    expect(raw).toMatch(/\d+\/60 done, 0 failed, \d+ running; \d+s/);
    expect(raw).toContain('  gpu01 running ');
    const screen = new Screen(COLUMNS, ROWS);
    screen.write(raw);
    expect(screen.text.split('\n')).toEqual([
      ...NAMES.flatMap((host) => [`${host}: a line`, `${host}: another`]),
      'the end',
    ]);
    expect(screen.cursorIsVisible).toBe(true);
  });

  test('no escape code is written where stdout is a pipe', async () => {
    expect(await onTerminal(`${PROGRAM} | cat`)).not.toContain('\x1b');
  });

  test('lines that go to a file are plain, and the footer is drawn', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fanout-report-'));
    try {
      const file = join(folder, 'out');
      await onTerminal(`${PROGRAM} > ${shellQuote(file)}`);
      expect(readFileSync(file, 'utf8')).toBe(
        `${NAMES.map((host) => `${host}: a line\n`).join('')}the end\n`,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test('without a terminal there are plain lines only', async () => {
  const { stdout, stderr } = await promisify(execFile)('sh', ['-c', PROGRAM]);
  expect(stdout).toBe(`${NAMES.map((host) => `${host}: a line\n`).join('')}the end\n`);
  expect(stderr).toBe(NAMES.map((host) => `${host}: another\n`).join(''));
});
