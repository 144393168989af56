import { expect, test } from 'vitest';
import { FanoutReport } from '../../../../src/cli/report/fanout/fanout-report.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import { until } from '../../../rig/until.ts';
import { hostResult, KeptOut } from './kept-out.ts';

async function warned(verbose: boolean): Promise<{ before: string; after: string }> {
  const stderr = new KeptOut();
  const machines = ['gpu02', 'gpu01', 'gpu03'].map(machineName);
  using report = await FanoutReport.open({
    output: { form: 'lines', diff: false, names: true },
    machines,
    verbose,
    stdout: new KeptOut(),
    stderr,
    onProblem: (error) => {
      throw error;
    },
  });
  for (const machine of machines)
    report.report({ type: 'host:warned', machine, message: 'a.log does not exist' });
  report.report({ type: 'host:warned', machine: machineName('gpu02'), message: 'b.log\x1b' });
  const before = stderr.text;
  await report.finish([]);
  return { before, after: stderr.text.slice(before.length) };
}

test('warnings with the same words come once, at the end', async () => {
  expect(await warned(false)).toEqual({
    before: '',
    after: 'execute_to: gpu[01-03]: a.log does not exist\nexecute_to: gpu02: b.log\\x1b\n',
  });
});

test('with --verbose each comes at once', async () => {
  const lines = ['gpu02', 'gpu01', 'gpu03'].map((name) => `execute_to: ${name}: a.log does not exist\n`);
  expect(await warned(true)).toEqual({
    before: `${lines.join('')}execute_to: gpu02: b.log\\x1b\n`,
    after: '',
  });
});

test('a failure is told before the end when the others take longer, and again with all at the end', async () => {
  const stderr = new KeptOut();
  const machines = ['gpu01', 'gpu02', 'gpu03', 'gpu04'].map(machineName);
  using report = await FanoutReport.open({
    output: { form: 'gathered', diff: false, names: true },
    machines,
    verbose: false,
    stdout: new KeptOut(),
    stderr,
    failureDelayMs: 30,
    onProblem: (error) => {
      throw error;
    },
  });
  const reason = { brief: 'connection refused', full: 'connection refused by 10.0.0.1' };
  const results = machines.map((machine, i) =>
    hostResult(
      machine,
      i < 2 ? { type: 'unreachable', reason } : { type: 'exited', exitCode: i === 2 ? 0 : 3 },
    ),
  );
  for (const one of results.slice(0, 3)) report.report({ type: 'host:ended', at: 0, result: one });
  expect(stderr.text).toBe('');
  await until(() => stderr.text !== '');
  const soFar = 'execute_to: so far: gpu[01-02]: unreachable: connection refused\n';
  expect(stderr.text).toBe(soFar);
  for (const one of results.slice(3)) report.report({ type: 'host:ended', at: 0, result: one });
  await report.finish(results);
  await new Promise((resolve) => setTimeout(resolve, 60)); // what had still to be told is told at the end alone
  const end = [
    'gpu[01-02]: unreachable: connection refused',
    'gpu04: exit 3',
    '1 of 4 hosts done well, 3 failed',
  ];
  expect(stderr.text).toBe(soFar + end.map((line) => `execute_to: ${line}\n`).join(''));
});
