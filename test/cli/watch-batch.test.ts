/** `execute_batch --watch` on real terminals: the view of a run in its own terminal, in another one, and where there is none. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SAME_PRESS_MS } from '../../src/cli/interrupts.ts';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';
import { until } from '../rig/until.ts';

vi.setConfig({ testTimeout: 90_000 });

const program = [process.execPath, resolve('dist/cli/execute-batch.js')];
const SMALL = [
  '--copy-forwards',
  'b.sh',
  '--no-gpu-required',
  '--memory-required',
  '10',
  '--num-cpus',
  '0.01',
];
const RUN = ['b.sh', '--machines', 'local', ...SMALL];

let folder = '';
let panes = 0;
const pids: number[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'watch-'));
  mkdirSync(join(folder, 'home'));
  panes = 0;
});
afterEach(async () => {
  tmux('kill-server');
  for (const pid of pids.splice(0)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended
    }
  }
  writeFileSync(join(folder, 'go'), '');
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
});

function tmux(...args: readonly string[]): string {
  const { stdout, stderr, error } = spawnSync(
    'tmux',
    ['-S', join(folder, 'tmux'), '-f', '/dev/null', ...args],
    {
      encoding: 'utf8',
    },
  );
  if (error !== undefined) throw error;
  return stdout + stderr;
}

/** A terminal of 100 columns and 30 rows in which execute_batch runs. */
function terminal(...args: readonly string[]) {
  return terminalOf(`${commandOf(args)}; echo "exit: $?"`);
}

const commandOf = (args: readonly string[]) => [...program, ...args].map(shellQuote).join(' ');

function terminalOf(commands: string) {
  const pane = String(panes++);
  const line = `cd ${folder}; export HOME=${folder}/home; ${commands}; sleep 1000`;
  if (pane === '0') tmux('new-session', '-d', '-x', '100', '-y', '30', line);
  else tmux('new-window', '-t', `:${pane}`, line);
  const text = () => tmux('capture-pane', '-p', '-J', '-t', `:${pane}`);
  return {
    text,
    press: (...keys: readonly string[]) => tmux('send-keys', '-t', `:${pane}`, ...keys),
    shows: (pattern: RegExp) =>
      until(() => pattern.test(text()), { deadlineMs: 30_000, describe: () => `${pattern} in\n${text()}` }),
    isView: () => tmux('display-message', '-p', '-t', `:${pane}`, '#{alternate_on}').trim() === '1',
  };
}

/** execute_batch without a terminal. */
function start(...args: readonly string[]) {
  const [node = '', ...before] = program;
  const child = spawn(node, [...before, ...args], {
    cwd: folder,
    env: { ...process.env, HOME: join(folder, 'home') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (child.pid !== undefined) pids.push(child.pid);
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (chunk: Buffer) => {
      said[name] += chunk.toString();
    });
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((done) =>
    child.once('close', (code) => done({ code, ...said })),
  );
  return { child, said, ended };
}
const batch = (...args: readonly string[]) => start(...args).ended;

const write = (...lines: readonly string[]) => writeFileSync(join(folder, 'b.sh'), `${lines.join('\n')}\n`);
// Ends with the test in any case: its folder goes.
const held = (word: string) =>
  `echo ${word}; while [ -d ${folder} ] && ! [ -e ${folder}/go ]; do sleep 0.05; done`;
const go = () => writeFileSync(join(folder, 'go'), '');
const record = () => readdirSync(join(folder, 'job_results/.batches')).sort();

test('the view of a run: q leaves it and the run goes on; the summary comes as ever', async () => {
  write(held('working'), 'echo wrong >&2; exit 3');
  const own = terminal(...RUN, '--watch');
  await own.shows(/1 running +1 failed/);
  await own.shows(/working/);
  expect(own.isView()).toBe(true);
  expect(own.text()).toMatch(/^batch b\.sh, results in job_results/);
  own.press('C-z');
  await own.shows(/Ctrl-Z would stop the batch/);
  own.press('q');
  await own.shows(/^execute_batch: the view is closed, and the batch runs on$/m);
  expect(own.isView()).toBe(false);
  go();
  await own.shows(/exit: 1/);
  expect(own.text()).toMatch(/^finished: b\.sh\.1/m);
  expect(own.text()).toMatch(/^execute_batch: 1 job: exited 3: wrong$/m);
  expect(own.text()).toMatch(/^execute_batch: 1 done, 1 failed, 0 skipped, 0 not run in /m);
  expect(record()).toEqual(['b.sh.asked', 'b.sh.id', 'b.sh.journal']);
});

test('the view closes with the batch, and what a person needs is printed below', async () => {
  write(held('on it'), 'exit 4');
  // What goes into a file is there at once: a view is on the terminal alone.
  const own = terminalOf(`${commandOf([...RUN, '--watch', '--verbose'])} 2>log; echo "exit: $?"`);
  await own.shows(/on it/);
  await until(() => /^execute_batch: .*b\.sh\.1/m.test(readFileSync(join(folder, 'log'), 'utf8')));
  expect(own.isView()).toBe(true);
  go();
  await own.shows(/exit: 1/);
  expect(own.isView()).toBe(false);
  const log = readFileSync(join(folder, 'log'), 'utf8');
  expect(log).toMatch(/^execute_batch: 1 job: exited 4$/m);
  expect(log).toMatch(/^execute_batch: 1 done, 1 failed/m);
});

test('in the background there is no view: the batch is not stopped for it, and goes on with lines', async () => {
  write('echo done');
  const script = `set -m; ${commandOf([...RUN, '--watch'])} & wait $!; echo "exit: $?"`;
  const own = terminalOf(`bash -c ${shellQuote(script)}`);
  await own.shows(/exit: 0/);
  expect(own.text()).toMatch(/^execute_batch: there is no view in the background: the batch goes on/m);
  expect(own.text()).toMatch(/^finished: b\.sh\.1/m);
});

test('Ctrl-C in the view: nothing more starts, and the view says so; twice ends what runs', async () => {
  write(held('first'), held('second'));
  const own = terminal(...RUN, '--reserve', '--watch');
  await own.shows(/1 running +1 queued/);
  own.press('C-c');
  await own.shows(/Ctrl-C: nothing more starts, 1 job runs on; Ctrl-C again ends it/);
  expect(own.isView()).toBe(true);
  await sleep(2 * SAME_PRESS_MS);
  own.press('C-c');
  await own.shows(/exit: 130/);
  expect(own.text()).toMatch(
    /^execute_batch: Ctrl-C: starting nothing more and waiting for the 1 running job/m,
  );
  expect(own.text()).toMatch(/^execute_batch: 0 done, 1 failed, 0 skipped, 1 not run/m);
});

test('another terminal: its keys act on the run, q leaves it alone, and its end is one line', async () => {
  write(held('staying'), `echo leaving; [ -e ${folder}/go ] || sleep 61`);
  const run = start(...RUN);
  await until(() => /started: b\.sh\.2/.test(run.said.stdout), { deadlineMs: 30_000 });
  const leaver = terminal('b.sh', '--watch');
  const stayer = terminal('b.sh', '--watch', '--machines', 'local');
  await leaver.shows(/staying/);
  const quitter = terminal(...RUN, '--watch', '--joblog', 'log', '--failed-lines', 'failed');
  leaver.press('q');
  await leaver.shows(/exit: 0/);
  await quitter.shows(/staying/);
  quitter.press('q');
  // It was to run the batch, and knows nothing of its end.
  await quitter.shows(/exit: 1/);
  expect(quitter.text()).toMatch(/its own command line counts: --failed-lines and --joblog of this one/);
  expect(quitter.text()).toMatch(/^execute_batch: the batch goes on in process \d+/m);
  await stayer.shows(/leaving/);
  stayer.press('/', ...'LEAVING', 'Enter');
  await stayer.shows(/RUNNING 1\b/);
  stayer.press('K');
  await stayer.shows(/kill job b\.sh\.2\?/);
  stayer.press('y');
  await stayer.shows(/1 killed/);
  expect(run.child.exitCode).toBe(null);

  run.child.kill('SIGSTOP');
  const waiting = start('b.sh', '--watch');
  await until(() => /which does not answer \(it may be stopped\); trying on/.test(waiting.said.stderr), {
    deadlineMs: 30_000,
  });
  run.child.kill('SIGCONT');
  const table = await waiting.ended;
  expect(table.code).toBe(0);
  expect(table.stdout).toMatch(/b\.sh\.1 .*staying/);
  expect(table.stdout).not.toContain('\x1b');
  go();
  await stayer.shows(/exit: 1/);
  expect(stayer.text()).toMatch(
    /^execute_batch: the batch has ended: 1 done, 1 failed, 0 skipped, 0 not run$/m,
  );
  expect((await run.ended).code).toBe(1);

  const again = await batch(...RUN);
  expect(again.stdout).toMatch(/^started: b\.sh\.2/m);
}, 120_000);

test('a run that is killed takes nobody along, and the next one takes its door over', async () => {
  write(held('orphan'));
  const first = start(...RUN);
  await until(() => /started: b\.sh\.1/.test(first.said.stdout), { deadlineMs: 30_000 });
  const other = terminal('b.sh', '--watch');
  await other.shows(/orphan/);
  first.child.kill('SIGKILL');
  await other.shows(/exit: 0/);
  expect(other.text()).toMatch(/the command that ran the batch has gone without a word/);
  expect(record()).toContain('b.sh.door');

  const second = start(...RUN);
  await until(() => /still running: b\.sh\.1/.test(second.said.stdout), { deadlineMs: 30_000 });
  expect((await batch('b.sh', '--watch')).stdout).toMatch(/b\.sh\.1 .*orphan/);
  go();
  expect((await second.ended).code).toBe(0);
  expect(record()).not.toContain('b.sh.door');
});

test('without a terminal --watch changes nothing, and where there can be no door nothing is said', async () => {
  write('echo a', 'exit 1');
  await batch(...RUN); // sends what the machine keeps
  rmSync(join(folder, 'job_results'), { recursive: true });
  const watched = await batch(...RUN, '--watch');
  rmSync(join(folder, 'job_results'), { recursive: true });
  mkdirSync(join(folder, 'job_results/.batches'), { recursive: true });
  writeFileSync(join(folder, 'job_results/.batches/b.sh.door'), 'in the way');
  const plain = await batch(...RUN);
  const rough = (text: string) =>
    text
      .replaceAll(/[\d.]+m?s\b|'local': \d+/g, 'N')
      .split('\n')
      .sort();
  expect(rough(watched.stdout)).toEqual(rough(plain.stdout));
  expect(rough(watched.stderr)).toEqual(rough(plain.stderr));
  expect([watched.code, plain.code]).toEqual([1, 1]);
  expect(readFileSync(join(folder, 'job_results/.batches/b.sh.door'), 'utf8')).toBe('in the way');

  rmSync(join(folder, 'job_results/b.sh.1.json'));
  rmSync(join(folder, 'job_results/b.sh.1'), { recursive: true });
  expect((await batch(...RUN, '--verbose')).stderr).toMatch(
    /nobody else can watch this batch: .*b\.sh\.door/,
  );
});

test('what cannot be watched is said in one line', async () => {
  write('true');
  const none = await batch('b.sh', '--watch');
  expect(none.code).toBe(255);
  expect(none.stderr).toBe(
    'execute_batch: nobody runs b.sh with its results in job_results: --watch alone shows a batch that is being run; to run it, add --machines\n',
  );
  expect((await batch('nofile.sh', '--watch')).stderr).toMatch(/nofile\.sh.*there is no such file/);
  mkdirSync(join(folder, 'job_results/.batches'), { recursive: true });
  const lock = { host: 'elsewhere', pid: 7, processStart: '1' };
  writeFileSync(join(folder, 'job_results/.batches/b.sh.lock'), JSON.stringify(lock));
  expect((await batch('b.sh', '--watch')).stderr).toBe(
    'execute_batch: b.sh is being run by process 7 on elsewhere: --watch shows it there\n',
  );
  // Who names machines and has no terminal wants a run, and hears why there is none.
  expect((await batch(...RUN, '--watch')).stderr).toMatch(
    /this batch is being run by process 7 on elsewhere: if/,
  );
});
