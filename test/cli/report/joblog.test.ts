import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Joblog, joblogLine, openJoblog } from '../../../src/cli/report/joblog.ts';
import type { JobOutcome } from '../../../src/lib/domain/job.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';
import { batchStarted, jobEnded, jobStarted, START, Written } from './sample-events.ts';

// What GNU parallel 20221122 wrote with `parallel -0 -j1 --timeout 2 --joblog`.
const RECORDED = `Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand
1\t:\t1795225671.867\t     0.000\t0\t0\t0\t0\ttrue
2\t:\t1795225671.870\t     0.002\t0\t0\t3\t0\texit 3
3\t:\t1795225671.874\t     0.003\t0\t0\t137\t0\tsh -c 'kill -9 $$'; exit $?
4\t:\t1795225671.880\t     0.001\t0\t2\t0\t0\techo x\0true
5\t:\t1795225671.884\t     0.001\t0\t3\t0\t0\tprintf 'a\tb'
6\t:\t1795225671.889\t     0.253\t0\t0\t0\t0\tsleep 0.25
7\t:\t1795225672.168\t     2.930\t0\t0\t-1\t15\tsleep 5
`;
const HEADER = `${RECORDED.split('\n')[0]}\n`;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'joblog-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const failOnError = {
  stdout: new Written(),
  onError: (message: string): void => {
    throw new Error(message);
  },
};

describe('the format', () => {
  test('is what GNU parallel wrote for the same jobs', () => {
    const file = join(folder, 'log');
    using log = disposable(openJoblog(file, failOnError));
    log.report(batchStarted());
    for (const line of RECORDED.trimEnd().split('\n').slice(1)) {
      const [seq, host, start, runtime, send, receive, exitValue, , ...command] = line.split('\t');
      const outcome: JobOutcome =
        exitValue === '-1'
          ? { type: 'timed-out', timeoutMs: 2000 }
          : { type: 'exited', exitCode: Number(exitValue) };
      log.report(
        jobEnded(Number(seq), {
          machine: machineName(host ?? ''),
          startedAt: Number(start) * 1000,
          durationMs: Number(runtime) * 1000,
          sentBytes: Number(send),
          returnedBytes: Number(receive),
          command: command.join('\t').replaceAll('\0', '\n'),
          outcome,
        }),
      );
    }
    expect(readFileSync(file, 'utf8')).toBe(RECORDED);
  });

  test('has 0 in both exit columns for a success only', () => {
    const outcomes: JobOutcome[] = [
      { type: 'exited', exitCode: 0 },
      { type: 'exited', exitCode: 5 },
      { type: 'cancelled', reason: '' },
      { type: 'timed-out', timeoutMs: 5 },
      { type: 'out-of-memory', reason: '', memory: 'gpu', exitCode: 1 },
      { type: 'out-of-memory', reason: '', memory: 'main', exitCode: 0 },
      { type: 'lost', reason: '' },
      { type: 'transfer-failed', reason: '', exitCode: 0 },
      { type: 'transfer-failed', reason: '', exitCode: 4 },
      { type: 'never-fits', reason: '' },
    ];
    const columns = outcomes.map((outcome) =>
      joblogLine(jobEnded(1, { outcome }), 'true').split('\t').slice(6, 8).map(Number),
    );
    expect(columns).toEqual([
      [0, 0],
      [5, 0],
      [-1, 15],
      [-1, 15],
      [1, 0],
      [-1, 0],
      [-1, 0],
      [-1, 0],
      [4, 0],
      [-1, 0],
    ]);
  });

  test('keeps its columns whatever a machine is called, and a start time where there was no start', () => {
    const { startedAt: _, ...unstarted } = jobEnded(1, { machine: machineName('a b\tc\n') });
    expect(joblogLine(unstarted, 'true')).toBe(
      `1\ta_b_c_\t${START / 1000}.000\t     1.200\t0\t0\t0\t0\ttrue\n`,
    );
  });
});

describe('the file', () => {
  test('has each line as soon as its job has ended', () => {
    const file = join(folder, 'log');
    using log = disposable(openJoblog(file, failOnError));
    log.report(batchStarted());
    log.report(jobStarted(1));
    expect(readFileSync(file, 'utf8')).toBe(HEADER);
    log.report(jobEnded(1));
    expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(3);
  });

  test('is written anew, or appended to with a +', () => {
    const file = join(folder, 'log');
    writeFileSync(file, 'old\n');
    const logOf = (target: string, event?: Parameters<Joblog['report']>[0]) => {
      const log = openJoblog(target, failOnError);
      if (event !== undefined) log.report(event);
      log.close();
    };
    logOf(file); // a batch that is refused before it starts
    logOf(file, batchStarted({ jobs: 4, skipped: 4 })); // one that has nothing to run
    logOf(`+${file}`, batchStarted());
    expect(readFileSync(file, 'utf8')).toBe('old\n');
    logOf(file, batchStarted());
    expect(readFileSync(file, 'utf8')).toBe(HEADER);
    logOf(`+${join(folder, 'new')}`, batchStarted());
    expect(readFileSync(join(folder, 'new'), 'utf8')).toBe(HEADER);
  });

  test('is refused in one line when it cannot be opened', () => {
    const file = join(folder, 'missing', 'log');
    expect(() => openJoblog(file, failOnError)).toThrow(
      /^--joblog: cannot open ".*missing\/log" for writing: ENOENT.*; expected a file in a folder that exists/,
    );
  });

  test.runIf(process.platform === 'linux')('tells once when the disk is full, and the batch goes on', () => {
    const messages: string[] = [];
    const options = { stdout: new Written(), onError: (message: string) => messages.push(message) };
    using log = disposable(openJoblog('/dev/full', options));
    log.report(jobEnded(1));
    log.report(jobEnded(2));
    expect(messages).toEqual([
      expect.stringMatching(/^--joblog: cannot write \/dev\/full, the log ends here: ENOSPC/),
    ]);
  });
});

test('- is stdout, harmless on a terminal', () => {
  const ended = jobEnded(1, { command: 'echo \x1b[2J\ntrue' });
  const piped = new Written();
  const terminal = Object.assign(new Written(), { isTTY: true });
  for (const stdout of [piped, terminal]) openJoblog('-', { ...failOnError, stdout }).report(ended);
  expect(piped.text).toBe(HEADER + joblogLine(ended, 'echo \x1b[2J\ntrue'));
  expect(terminal.text).toBe(HEADER + joblogLine(ended, 'echo \\x1b[2J\\ntrue'));
});

/** Closes the log at the end of its test. */
function disposable<T extends { close(): void }>(log: T): T & Disposable {
  return Object.assign(log, { [Symbol.dispose]: () => log.close() });
}
