import { expect, test } from 'vitest';
import { FanoutReport } from '../../../../src/cli/report/fanout/fanout-report.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import { KeptOut } from './kept-out.ts';

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
