/** Ctrl-C is counted as key presses, however many programs pass the same one on. */
import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { onInterrupt, SAME_PRESS_MS } from '../../src/cli/interrupts.ts';
import { until } from '../rig/until.ts';

const NODE = [process.execPath, '--import', resolve('node_modules/tsx/dist/esm/index.mjs')] as const;
const DEADLINE_MS = 30_000;

let folder = '';
let jobs: { end(): void }[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'interrupts-'));
  mkdirSync(join(folder, 'home'));
});
afterEach(() => {
  for (const job of jobs) job.end();
  jobs = [];
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
});

/** Starts a program as a shell starts a job: in a process group of its own, which is what a terminal's Ctrl-C reaches. */
function startJob(...[program = '', ...args]: readonly string[]) {
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, HOME: join(folder, 'home') },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const group = -(child.pid ?? Number.NaN);
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (chunk: Buffer) => {
      said[name] += chunk.toString();
    });
  const closed = new Promise<number | null>((done) => child.once('close', done));
  const says = (pattern: RegExp, stream: 'stdout' | 'stderr') =>
    until(() => pattern.test(said[stream]), {
      deadlineMs: DEADLINE_MS,
      describe: () => `${pattern}: ${said.stdout}${said.stderr}`,
    });
  const end = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(group, 'SIGKILL');
  };
  jobs.push({ end });
  return { said, says, closed, ctrlC: () => process.kill(group, 'SIGINT'), pid: child.pid ?? Number.NaN };
}

/** Long enough for the next Ctrl-C to be another one, and for a repetition to have been heard. */
const pause = () => new Promise((done) => setTimeout(done, 4 * SAME_PRESS_MS));

describe('counted by a clock', () => {
  /** The counts that SIGINTs at these times give. */
  function countsAt(times: readonly number[], handlerMs = 0): readonly number[] {
    const counts: number[] = [];
    const signals = new EventEmitter();
    let nowMs = 0;
    onInterrupt(
      (count) => {
        counts.push(count);
        nowMs += handlerMs;
      },
      { signals, now: () => nowMs },
    );
    for (const time of times) {
      nowMs = Math.max(nowMs, time);
      signals.emit('SIGINT');
    }
    return counts;
  }

  test.each<[string, readonly number[], readonly number[]]>([
    ['the first counts, even at the start of time', [0], [1]],
    ['what comes within the gap is the same one', [50, 50, 51, 150], [1]],
    ['what comes later is another one', [50, 151, 252], [1, 2, 3]],
    ['the gap is counted from the last one that counted', [0, 60, 120, 180], [1, 2]],
  ])('%s', (_, times, counts) => {
    expect(countsAt(times)).toEqual(counts);
  });

  test('a repetition that is heard of after a slow handler is the same one', () => {
    expect(countsAt([10, 11, 12], 5000)).toEqual([1]);
  });
});

/** Prints what it counts, and ends a while after the second, so that a third would be seen. */
const COUNTER = `
  const { onInterrupt } = await import(${JSON.stringify(resolve('src/cli/interrupts.ts'))});
  onInterrupt((count) => {
    console.log(count);
    if (count === 2) setTimeout(() => process.exit(7), ${4 * SAME_PRESS_MS});
  });
  setTimeout(() => process.exit(8), ${DEADLINE_MS});
  console.log('ready');`;

test('two SIGINTs within milliseconds are one, two key presses are two', async () => {
  const job = startJob(...NODE, '--input-type=module', '-e', COUNTER);
  await job.says(/ready/, 'stdout');
  process.kill(job.pid, 'SIGINT');
  await new Promise((done) => setTimeout(done, 5));
  process.kill(job.pid, 'SIGINT');
  await job.says(/1/, 'stdout');
  await pause();
  expect(job.said.stdout).toBe('ready\n1\n');
  process.kill(job.pid, 'SIGINT');
  expect(await job.closed).toBe(7);
  expect(job.said.stdout).toBe('ready\n1\n2\n');
});

test('timeout execute_batch: one Ctrl-C lets what runs end well', async () => {
  writeFileSync(
    join(folder, 'b.sh'),
    `touch ${folder}/began; for i in $(seq 600); do [ -e ${folder}/go ] && break; sleep 0.1; done; touch ${folder}/over\n`,
  );
  const SMALL = ['--no-gpu-required', '--memory-required', '10', '--num-cpus', '0.01'];
  const batch = ['b.sh', '--machines', 'local', '--copy-forwards', 'b.sh', ...SMALL];
  const job = startJob('timeout', '60', ...NODE, resolve('src/cli/execute-batch.ts'), ...batch);
  await until(() => existsSync(join(folder, 'began')), { deadlineMs: DEADLINE_MS });
  job.ctrlC();
  await job.says(/Ctrl-C again ends them/, 'stderr');
  await pause();
  writeFileSync(join(folder, 'go'), '');
  expect(await job.closed).toBe(0);
  expect(job.said.stderr).not.toContain('Ctrl-C twice');
  expect(existsSync(join(folder, 'over'))).toBe(true);
}, 60_000);

test('timeout execute_remote: one Ctrl-C ends the command and does not leave it running', async () => {
  const command = `trap "" TERM INT HUP; echo $$ >${folder}/pid; echo began; for i in $(seq 600); do sleep 0.1; done`;
  const words = [resolve('src/cli/execute-remote.ts'), '--machine', 'local', command];
  const job = startJob('timeout', '60', ...NODE, ...words);
  await job.says(/began/, 'stdout');
  const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
  job.ctrlC();
  expect(await job.closed).toBe(130);
  expect(job.said.stderr).toBe('execute_remote: Ctrl-C: ending the command\n');
  expect(() => process.kill(pid, 0)).toThrow('ESRCH');
}, 60_000);
