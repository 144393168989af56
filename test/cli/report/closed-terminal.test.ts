/** The terminal, or whoever read what is printed, goes away in the middle of a batch: only the words are lost. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { shellQuote } from '../../../src/lib/util/shell-quote.ts';
import { until } from '../../rig/until.ts';

const DEADLINE_MS = 30_000;
const tsx = resolve('node_modules/tsx/dist/esm/index.mjs');
const program = resolve('src/cli/execute-batch.ts');
const ARGS = [
  'b.sh',
  '--copy-forwards',
  'b.sh',
  '--machines',
  'local',
  '--no-gpu-required',
  '--memory-required',
  '10',
  '--num-cpus',
  '0.01',
];

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'closed-terminal-'));
  mkdirSync(join(folder, 'home'));
  // It says that it has begun, and ends when the test lets it, or by itself when the test has failed.
  writeFileSync(
    join(folder, 'b.sh'),
    `touch ${folder}/began; for i in $(seq 600); do [ -e ${folder}/go ] && break; sleep 0.1; done; echo ended\n`,
  );
});
afterEach(async () => {
  writeFileSync(join(folder, 'go'), '');
  // What the job's own processes still write there must not come after the removal.
  if (has('began'))
    await until(() => endedRecords().length > 0 || has('job_results/b.sh.1.json'), {
      deadlineMs: DEADLINE_MS,
    });
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
});

const has = (name: string) => existsSync(join(folder, name));
const environment = () => ({ ...process.env, HOME: join(folder, 'home'), TERM: 'xterm' });

/** Exit records of the job that lie on the machine. */
function endedRecords(): string[] {
  const runs = join(folder, 'home/.cache/ssh-scheduler/runs');
  const paths = existsSync(runs) ? readdirSync(runs, { recursive: true, encoding: 'utf8' }) : [];
  return paths.filter((path) => path.endsWith('/exit'));
}

/** Starts the batch on a terminal whose shell does `onHangUp` when it closes, and closes it once the footer is drawn. */
async function closeTerminal(onHangUp: string): Promise<void> {
  const command = [process.execPath, '--import', tsx, program, ...ARGS].map(shellQuote).join(' ');
  const shell = `stty rows 20 cols 80; trap ${shellQuote(onHangUp)} HUP; ${command} & pid=$!; while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done; echo $code > code`;
  const args =
    process.platform === 'linux' ? ['-qec', shell, '/dev/null'] : ['-q', '/dev/null', 'sh', '-c', shell];
  const terminal = spawn('script', args, {
    cwd: folder,
    env: environment(),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let shown = '';
  terminal.stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString();
  });
  const isShown = () => has('began') && shown.includes('1 running, 0 waiting');
  await until(isShown, { deadlineMs: DEADLINE_MS, describe: () => `a footer; found ${shown}` });
  terminal.kill('SIGKILL');
}

async function exitCode(): Promise<number> {
  await until(() => has('code') && readFileSync(join(folder, 'code'), 'utf8') !== '', {
    deadlineMs: DEADLINE_MS,
  });
  return Number(readFileSync(join(folder, 'code'), 'utf8'));
}

const locks = () =>
  readdirSync(join(folder, 'job_results/.batches')).filter((name) => name.endsWith('.lock'));

describe('a terminal that closes', () => {
  test('with SIGHUP after a while: the batch leaves, gives its lock back, and the job runs on', async () => {
    await closeTerminal('sleep 1; kill -HUP $pid'); // the footer has written into nothing meanwhile
    expect(await exitCode()).toBe(129);
    expect(locks()).toEqual([]);
    expect(endedRecords()).toEqual([]);
  }, 120_000);

  test('without SIGHUP (nohup): the batch goes on to its end', async () => {
    await closeTerminal(':');
    writeFileSync(join(folder, 'go'), '');
    expect(await exitCode()).toBe(0);
    expect(readFileSync(join(folder, 'job_results/b.sh.1.out'), 'utf8')).toBe('ended\n');
  }, 120_000);
});

test('pipes whose readers are gone: SIGTERM still leaves in order', async () => {
  const batch = spawn(process.execPath, ['--import', tsx, program, ...ARGS, '--verbose'], {
    cwd: folder,
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise((done) => batch.once('exit', (code, signal) => done(code ?? signal)));
  await until(() => has('began'), { deadlineMs: DEADLINE_MS });
  batch.stdout.destroy();
  batch.stderr.destroy();
  batch.kill('SIGTERM');
  expect(await ended).toBe(143);
  expect(locks()).toEqual([]);
  expect(endedRecords()).toEqual([]);
}, 120_000);
