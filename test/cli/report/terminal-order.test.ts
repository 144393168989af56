/** Where stdout and stderr go to the same place without a terminal, lines keep the order in which they were said. */
import { expect, test } from 'vitest';
import { terminalReport } from '../../../src/cli/report/terminal.ts';
import { batchEnded, batchStarted, jobEnded, jobStarted } from './sample-events.ts';

test('what was said earlier on stdout stands before what is said later on stderr', async () => {
  const said: string[] = [];
  const out = (name: string) =>
    Object.assign(Object.create(process.stdout) as NodeJS.WriteStream, {
      isTTY: false,
      write: (text: string) =>
        said.push(
          ...text
            .trimEnd()
            .split('\n')
            .map((line) => `${name} ${line}`),
        ) > 0,
    });
  using report = terminalReport({ stdout: out('1'), stderr: out('2') });
  for (const event of [batchStarted(), jobStarted(1), jobEnded(1), batchEnded()]) report.report(event);
  expect(said.map((line) => line.slice(0, 10))).toEqual(['1 started:', '1 finished', '2 execute_']);
});
