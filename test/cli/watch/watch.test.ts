/** The view as people use it: a real terminal, real keys. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Overview } from '../../../src/lib/domain/overview.ts';
import { shellQuote } from '../../../src/lib/util/shell-quote.ts';
import { until } from '../../rig/until.ts';
import { job, overviewOf, sampleOverview } from './sample.ts';
import { Tmux } from './tmux.ts';

const TEST_MS = 120_000;
/** Of one step; shorter, so that a test that fails still cleans up. */
const DEADLINE_MS = 30_000;
const program = [
  process.execPath,
  '--import',
  resolve('node_modules/tsx/dist/esm/index.mjs'),
  resolve('test/cli/watch/watch-program.ts'),
];

let folder = '';
let commandLine = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'watch-'));
  commandLine = `${[...program, folder].map(shellQuote).join(' ')}; echo "code $?"`;
  tell('overview.json', sampleOverview(Date.now()));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Puts a file in place, whole. */
function tell(name: string, content: string | Overview): void {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  writeFileSync(join(folder, `${name}.new`), text);
  renameSync(join(folder, `${name}.new`), join(folder, name));
}
const untell = (name: string) => rmSync(join(folder, name));

function told(name: string): string[] {
  try {
    return readFileSync(join(folder, name), 'utf8').trim().split('\n');
  } catch {
    return [];
  }
}

const pidOf = () => Number(told('pid')[0]);

function isGone(): boolean {
  try {
    return !process.kill(pidOf(), 0);
  } catch {
    return true;
  }
}

/** The terminal as it was before the view, with the shell's lines on it. */
async function expectRestored(tmux: Tmux, settings: string): Promise<void> {
  expect((await tmux.screen())[0]).toContain('before');
  expect(await tmux.variable('alternate_on')).toBe('0');
  expect(await tmux.variable('cursor_flag')).toBe('1');
  expect(await tmux.variable('wrap_flag')).toBe('1');
  expect(await tmux.settings()).toBe(settings);
}

describe('in a terminal', () => {
  test('drawn, keys, a question, a filter, another size, and all restored by q', {
    timeout: TEST_MS,
  }, async () => {
    await using tmux = await Tmux.open(80, 24);
    await tmux.type('echo before');
    await tmux.shows(/^before/m);
    const settings = await tmux.settings();
    await tmux.type(commandLine);

    const lines = await tmux.shows('> 17 train_17');
    expect(lines[0]).toMatch(/^queue on desk \(\/home\/ann\/.local\/share\/job_queue\) +\d\d:\d\d:\d\d$/);
    expect(lines).toContain(
      '  cpubox  cpu [########] 128/128  mem [###-----] 300/900M   1 job  draining ...',
    );
    expect(lines[23]).toBe('/ filter  f follow  h hold  r release  K kill  m machines  ? help  q quit');
    expect(await tmux.variable('alternate_on')).toBe('1');
    expect(await tmux.variable('cursor_flag')).toBe('0');

    // What a machine says is shown, not obeyed.
    const hostile = job(18, 'running', {
      lastLine: '\x1b[1;1H\x1b[2J\u202eescaped\x07 模型',
      startedAt: Date.now(),
    });
    const sample = sampleOverview(Date.now());
    tell('overview.json', { ...sample, running: { jobs: [hostile], count: 1 } });
    await tmux.shows('\\u202eescaped\\x07 模型');
    expect((await tmux.screen())[0]).toContain('queue on desk');
    tell('overview.json', sample);
    await tmux.shows('epoch 4/10');

    tell('events', 'job 15 has ended\n');
    await tmux.shows('job 15 has ended');

    await tmux.press('Home', 'Down', 'k', 'j', '2', 'K');
    await tmux.shows('y/n: kill job 19 (train_19)?');
    await tmux.press('n');
    await tmux.shows('job 19 is not killed');
    await tmux.press('h', 'K', 'y');
    await tmux.shows('job 19: kill is done');
    expect(told('acts')).toEqual(['hold 19', 'kill 19']);

    await tmux.press('/', '1', '7');
    await tmux.shows(/^filter: 17 {2}queue on desk/m);
    await until(async () => !(await tmux.screen()).join('\n').includes('train_18'), {
      deadlineMs: DEADLINE_MS,
    });
    expect(told('requests')).toContain('17');
    await tmux.press('Enter', 'Escape');
    await tmux.shows('train_18');

    // A slow answer holds up no key.
    tell('slow', '');
    await tmux.press('?');
    await tmux.shows('any other key: back');
    await tmux.press('q');
    // Nor does it look as if nothing were wrong, and what nobody answers is said.
    await tmux.shows(/no answer for \d+s: it is stopped or very busy/);
    await tmux.press('2', 'r');
    await tmux.shows('release job 19: no answer for 1s; it may still be carried out');
    untell('slow');
    await tmux.shows('job 19: release is done');
    await until(async () => !(await tmux.screen()).join('\n').includes('no answer for 1s'), {
      deadlineMs: DEADLINE_MS,
    });

    tell('away', 'the service is gone');
    await tmux.shows(/away since \d\d:\d\d \(1m02s\): the service is gone; trying again/);
    await tmux.shows('train_18');
    untell('away');
    await until(async () => !(await tmux.screen()).join('\n').includes('away since'), {
      deadlineMs: DEADLINE_MS,
    });

    await tmux.ask('resize-window', '-x', '40', '-y', '10');
    const small = await tmux.shows('2 run  1 fail  1 queued');
    expect(small.length).toBeLessThanOrEqual(11);
    await tmux.ask('resize-window', '-x', '80', '-y', '24');
    await tmux.shows('ENDED 2');

    await tmux.press('q');
    await tmux.shows('code 0');
    await tmux.shows('said: nothing');
    await expectRestored(tmux, settings);
  });

  test('a job is followed, scrolled, and left; what is over ends the view', {
    timeout: TEST_MS,
  }, async () => {
    await using tmux = await Tmux.open(80, 24);
    await tmux.type(commandLine);
    await tmux.shows('> 17 train_17');
    const lines = Array.from({ length: 100 }, (_, i) => `line ${i + 1} of it`).join('\n');
    tell('output', `${lines}\n10%\r99%`);
    await tmux.press('f');
    const end = await tmux.shows('99%');
    expect(end).toContain('  line 100 of it');
    expect(end.join('\n')).not.toContain('10%');
    await tmux.press('Home');
    await tmux.shows(/^ {2}line 1 of it/m);
    await tmux.press('End');
    tell('output', `${lines}\n10%\r99%\x1b[2J\nmore\n`);
    await tmux.shows(/^ {2}more/m);
    tell('ended', '');
    await tmux.shows('--- failed: exited 3 ---');
    await tmux.press('q');
    await tmux.shows('> 17 train_17');
    tell('over', 'all jobs are done');
    await tmux.shows('said: all jobs are done');
    expect(await tmux.variable('alternate_on')).toBe('0');
  });

  test.each(['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGALRM', 'SIGUSR2'] as const)(
    '%s gives the terminal back, and ends the process',
    { timeout: TEST_MS },
    async (signal) => {
      await using tmux = await Tmux.open(80, 24);
      await tmux.type('echo before');
      await tmux.shows(/^before/m);
      const settings = await tmux.settings();
      // A shell that sees its command end by SIGINT forgets the rest of the line.
      await tmux.type(commandLine.replace(/;.*/, ''));
      await tmux.shows('> 17 train_17');
      process.kill(pidOf(), signal);
      await until(isGone, { deadlineMs: DEADLINE_MS, describe: 'the process to end' });
      await tmux.type('echo "code $?"');
      await tmux.shows(`code ${128 + constants.signals[signal]}`);
      await expectRestored(tmux, settings);
    },
  );

  test('Ctrl-Z gives the terminal back, fg takes it again, Ctrl-C quits', { timeout: TEST_MS }, async () => {
    await using tmux = await Tmux.open(80, 24);
    await tmux.type('echo before');
    await tmux.shows(/^before/m);
    const settings = await tmux.settings();
    await tmux.type(commandLine);
    await tmux.shows('> 17 train_17');
    await tmux.press('C-z');
    await tmux.shows('Stopped');
    await expectRestored(tmux, settings);
    await tmux.type('fg');
    await tmux.shows('> 17 train_17');
    await tmux.press('Down');
    await tmux.shows('> 18 train_18');
    expect(await tmux.variable('cursor_flag')).toBe('0');
    // Of this stop it hears nothing: the terminal stays as it is, and whoever gets it sets it right.
    process.kill(pidOf(), 'SIGSTOP');
    await tmux.shows('prompt>');
    await tmux.ask('send-keys', '-l', 'stty sane');
    await tmux.press('C-j');
    await until(async () => !(await tmux.settings()).includes('-echo '), { deadlineMs: DEADLINE_MS });
    await tmux.type('fg');
    await until(async () => !(await tmux.screen()).join('\n').includes('prompt>'), {
      deadlineMs: DEADLINE_MS,
    });
    await tmux.press('Down');
    await tmux.shows('> 19 train_19');
    await tmux.press('C-c');
    await tmux.shows('said: nothing');
    await expectRestored(tmux, settings);
  });

  test('Ctrl-C is the caller’s where it wants it', { timeout: TEST_MS }, async () => {
    await using tmux = await Tmux.open(80, 24);
    await tmux.type(commandLine.replace('; echo', ' --interrupt; echo'));
    await tmux.shows('> 17 train_17');
    await tmux.press('C-c', 'Down');
    await tmux.shows('> 18 train_18');
    expect(told('acts')).toEqual(['interrupt']);
  });

  test('what is more than a view is never stopped for it', { timeout: TEST_MS }, async () => {
    await using tmux = await Tmux.open(80, 24);
    const inBatch = commandLine.replace('; echo', ' --batch; echo');
    // Begun in the background: there is no view, and nothing stops.
    await tmux.type(`{ ${inBatch}; } &`);
    await tmux.shows('said: nothing');
    tell('over', 'first');
    await tmux.shows('and at the end: first');
    await tmux.shows('code 0');
    untell('over');
    await tmux.type('clear; echo before');
    await tmux.shows(/^before/m);
    await tmux.type(inBatch.replace(/;.*/, ''));
    await tmux.shows('> 17 train_17');
    await tmux.press('C-z');
    await tmux.shows('Ctrl-Z would stop the batch: q leaves the view');
    tell('events', 'Ctrl-C: nothing more starts\n');
    await tmux.shows(/^Ctrl-C: nothing more starts\nCtrl-Z would stop/m);
    // Stopped by somebody else, and continued in the background.
    process.kill(pidOf(), 'SIGSTOP');
    await tmux.shows('prompt>');
    // The terminal is as the view left it, with no line mode.
    await tmux.ask('send-keys', '-l', 'bg');
    await tmux.press('C-j');
    await tmux.shows('said: nothing');
    expect(await tmux.variable('alternate_on')).toBe('0');
    expect(await tmux.variable('cursor_flag')).toBe('1');
    tell('over', 'second');
    await tmux.shows('and at the end: second');
    await tmux.press('C-j');
    await tmux.shows('Done');
  });

  test('a terminal that closes ends the view and the process', { timeout: TEST_MS }, async () => {
    const tmux = await Tmux.open(80, 24);
    await tmux.type(`trap '' HUP; ${commandLine}`);
    await tmux.shows('> 17 train_17');
    await tmux[Symbol.asyncDispose]();
    await until(isGone, { deadlineMs: DEADLINE_MS, describe: 'the process to end' });
  });
});

describe('without a terminal', () => {
  const piped = async (...args: string[]) =>
    (await promisify(execFile)('sh', ['-c', '"$@" | cat', 'sh', ...program, folder, ...args])).stdout;

  test('a table, and the end', { timeout: TEST_MS }, async () => {
    const text = await piped();
    expect(text).toContain('17       train_17  gpubox   0,1   1h02m  epoch 4/10 loss 0.31\n');
    expect(text).not.toContain('\x1b');
    expect(text).toMatch(/said: nothing\n$/);
    expect(told('requests')).toHaveLength(1);
  });

  test('no answer is an error', { timeout: TEST_MS }, async () => {
    tell('away', 'the service is gone');
    const run = promisify(execFile)(process.execPath, [...program.slice(1), folder]);
    await expect(run).rejects.toThrow('the service is gone');
  });

  test('nothing at all', { timeout: TEST_MS }, async () => {
    tell('overview.json', overviewOf({}));
    expect(await piped()).toBe('no jobs\nsaid: nothing\n');
  });
});
