import { PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { Footer } from '../../../src/cli/report/footer.ts';
import { canDrawFooter, type FooterClock, type TerminalStream } from '../../../src/cli/report/live-footer.ts';
import { batchEnded, batchStarted, jobEnded, jobStarted, START } from './sample-events.ts';
import { Screen } from './screen.ts';

const COLUMNS = 60;
const ROWS = 12;

/** A stream to one screen; both standard streams of a terminal are such. */
function terminalStream(screen: Screen, writes: string[] = []): TerminalStream {
  const stream = new PassThrough();
  const write = (text: string): boolean => {
    writes.push(text);
    screen.write(text);
    return true;
  };
  return Object.assign(stream, { write, isTTY: true, columns: COLUMNS, rows: ROWS });
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
  get isTicking(): boolean {
    return this.#action !== undefined;
  }
  /** Lets so much time go by and the period end. */
  pass(milliseconds: number): void {
    this.time += milliseconds;
    this.#action?.();
  }
}

interface Rig {
  readonly screen: Screen;
  readonly writes: string[];
  readonly clock: TestClock;
  readonly footer: Footer;
}

async function drawnFooter(): Promise<Rig> {
  const screen = new Screen(COLUMNS, ROWS);
  const writes: string[] = [];
  const clock = new TestClock();
  const stream = terminalStream(screen, writes);
  const footer = new Footer({ stdout: stream, stderr: stream, clock });
  footer.report(batchStarted());
  footer.report(jobStarted(1));
  clock.pass(500);
  await vi.waitFor(() => expect(screen.text).not.toBe(''), { timeout: 10_000 });
  return { screen, writes, clock, footer };
}

const FRAME = '0 done, 0 failed, 1 running, 3 waiting; 1s\n  gpubox: train.sh.1';

test('a batch that is soon over draws nothing', () => {
  const screen = new Screen(COLUMNS, ROWS);
  const clock = new TestClock();
  const stream = terminalStream(screen);
  const footer = new Footer({ stdout: stream, stderr: stream, clock });
  footer.stdout.write('before\n');
  footer.report(batchStarted());
  clock.pass(400);
  footer.stdout.write('meanwhile\n');
  footer.report(batchEnded());
  expect(screen.text).toBe('before\nmeanwhile');
  expect(clock.isTicking).toBe(false);
});

test('lines scroll above the footer, and at the end it is gone', async () => {
  const { screen, clock, footer } = await drawnFooter();
  expect(screen.text).toBe(FRAME);
  const written: string[] = [];
  for (let line = 2; line < 40; line++) {
    footer.report(jobStarted(line));
    footer.stdout.write(`out ${line}\n`);
    footer.stderr.write(`err ${line}\n`);
    written.push(`out ${line}`, `err ${line}`);
    if (line % 3 === 0) footer.report(jobEnded(line, { at: clock.time }));
    clock.pass(line % 2 === 0 ? 100 : 30);
  }
  clock.pass(100);
  expect(screen.text).toBe(
    `${written.join('\n')}\n13 done, 0 failed, 26 running, 0 waiting; 3s\n  gpubox: train.sh.1, train.sh.2, train.sh.4 and 23 more`,
  );
  footer.report(batchEnded());
  expect(screen.text).toBe(written.join('\n'));
  footer.stdout.write('after\n');
  expect(screen.text).toBe([...written, 'after'].join('\n'));
  expect(screen.cursorIsVisible).toBe(true);
});

test('a burst of lines is drawn ten times a second, a single line at once', async () => {
  const { screen, writes, clock, footer } = await drawnFooter();
  clock.time += 100;
  footer.stdout.write('at once\n');
  expect(screen.text).toBe(`at once\n${FRAME}`);
  const before = writes.length;
  for (let line = 0; line < 1000; line++) footer.stdout.write(`${line}\n`);
  expect(writes.length).toBe(before);
  clock.pass(100);
  expect(screen.text.split('\n').slice(0, 3)).toEqual(['at once', '0', '1']);
  expect(screen.text.endsWith(FRAME)).toBe(true);
});

test('lines held back are written when the footer is closed', async () => {
  const { screen, footer } = await drawnFooter();
  footer.stdout.write('held\n');
  footer.close();
  footer.close();
  expect(screen.text).toBe('held');
});

test('nothing is written while nothing changes', async () => {
  const { writes, clock } = await drawnFooter();
  const before = writes.length;
  clock.pass(100);
  clock.pass(100);
  expect(writes.length).toBe(before);
});

test('lines of a stdout that is a file are not held back', async () => {
  const screen = new Screen(COLUMNS, ROWS);
  const clock = new TestClock();
  const file = new PassThrough();
  using footer = new Footer({ stdout: file, stderr: terminalStream(screen), clock });
  footer.report(batchStarted());
  clock.pass(500);
  await vi.waitFor(() => expect(screen.text).not.toBe(''), { timeout: 10_000 });
  footer.stdout.write('a line\n');
  expect(String(file.read())).toBe('a line\n');
  expect(screen.text).not.toContain('a line');
});

test('a footer is drawn only where it can be and where no pipe may write between its lines', () => {
  const terminal = terminalStream(new Screen(COLUMNS, ROWS));
  const pipe = new PassThrough();
  expect(canDrawFooter({ stdout: terminal, stderr: terminal }, {})).toBe(true);
  expect(canDrawFooter({ stdout: terminal, stderr: terminal }, { TERM: 'dumb' })).toBe(false);
  expect(canDrawFooter({ stdout: terminal, stderr: pipe }, {})).toBe(false);
  expect(canDrawFooter({ stdout: pipe, stderr: terminal }, {})).toBe(false);
  const sizeless = Object.assign(terminalStream(new Screen(COLUMNS, ROWS)), { columns: 0 });
  expect(canDrawFooter({ stdout: terminal, stderr: sizeless }, {})).toBe(false);
});
