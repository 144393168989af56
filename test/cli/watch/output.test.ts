/** What jobs print, as lines for a terminal. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FollowedOutput } from '../../../src/cli/watch/followed-output.ts';
import { Follower } from '../../../src/cli/watch/follower.ts';
import { plainLines } from '../../../src/cli/watch/plain.ts';
import { printedLine } from '../../../src/cli/watch/printed-text.ts';
import { UsageError } from '../../../src/lib/domain/errors.ts';
import type { OutputItem } from '../../../src/lib/domain/overview.ts';
import { until } from '../../rig/until.ts';
import { job, NOW, overviewOf, sampleOverview } from './sample.ts';

const chunk = (bytes: Uint8Array | string, stream: 'out' | 'err' = 'out') =>
  ({ type: 'chunk', stream, base64: Buffer.from(bytes).toString('base64') }) as const;

function outputOf(...pieces: readonly (Uint8Array | string)[]): FollowedOutput {
  const output = new FollowedOutput();
  for (const piece of pieces) output.add(chunk(piece));
  return output;
}
const textsOf = (output: FollowedOutput) => output.lines(0, 1e9).map(({ text }) => text);

describe('a printed line', () => {
  test.each([
    ['10%\r55%\r100%', '100%'],
    ['55%\r', '55%'],
    ['\r\r', ''],
    ['\x1b[1;31mred\x1b[0m', 'red'],
    ['\x1b]0;title\x07text', 'text'],
    ['a\tb', 'a       b'],
    ['\x1b[2K\rloading', 'loading'],
    ['\x1b unknown', '\x1b unknown'],
  ])('%j is seen as %j', (raw, seen) => {
    expect(printedLine(raw)).toBe(seen);
  });
});

describe('the output that is followed', () => {
  test('lines, however they are cut into pieces, letters of several bytes included', () => {
    const text = 'één\r\nzwei 模型\n\n10%\r20%\r100%\nopen';
    const bytes = Buffer.from(text);
    fc.assert(
      fc.property(fc.array(fc.nat({ max: bytes.length })), (cuts) => {
        const ends = [...cuts.sort((a, b) => a - b), bytes.length];
        const pieces = ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
        expect(textsOf(outputOf(...pieces))).toEqual(['één', 'zwei 模型', '', '100%', 'open']);
      }),
    );
  });

  test('the two streams do not mix within a line', () => {
    const output = new FollowedOutput();
    output.add(chunk('out begins '));
    output.add(chunk('error\n', 'err'));
    output.add(chunk('and ends\n'));
    output.note('ended');
    expect(output.lines(0, 9)).toEqual([
      { stream: 'out', text: 'out begins and ends' },
      { stream: 'err', text: 'error' },
      { stream: 'note', text: 'ended' },
    ]);
  });

  test('a progress bar stays one line', () => {
    const pieces = Array.from({ length: 2000 }, (_, i) => `\r${i} of 2000`);
    expect(textsOf(outputOf(...pieces))).toEqual(['1999 of 2000']);
  });

  test('the last lines are kept, and numbered from the first ever', () => {
    const output = outputOf(...Array.from({ length: 30 }, () => 'line\n'.repeat(1000)), 'last\n');
    expect(output.end).toBe(30_001);
    expect(output.first).toBe(25_001);
    expect(output.lines(0, 10)).toEqual([]);
    expect(output.lines(30_000, 10)).toEqual([{ stream: 'out', text: 'last' }]);
  });

  test('no more than about a MiB is kept, and of a line without end its beginning', () => {
    const lines = outputOf(...Array.from({ length: 300 }, () => `${'x'.repeat(7999)}\n`));
    const kept = textsOf(lines).join('').length;
    expect(kept).toBeGreaterThan(1_000_000);
    expect(kept).toBeLessThanOrEqual(1024 * 1024);
    const [endless] = textsOf(outputOf(...Array.from({ length: 300 }, () => 'y'.repeat(8000))));
    expect(endless).toHaveLength(8192);
  });

  test('what follows a line that was forgotten while it was open is a new line', () => {
    const output = outputOf('open');
    output.add(chunk('e\n'.repeat(6000), 'err'));
    output.add(chunk(' and later\n'));
    expect(output.lines(output.end - 1, 1)).toEqual([{ stream: 'out', text: ' and later' }]);
  });
});

test('plain tables: everything in full, and nothing that a terminal would obey', () => {
  const name = `train_${'x'.repeat(300)}`;
  const sample = sampleOverview();
  const overview = {
    ...sample,
    waiting: { jobs: [job(19, 'queued', { name, reason: 'bad \x1b[2J\nreason' })], count: 35 },
  };
  expect(plainLines(overview, NOW)).toEqual([
    '2 running  1 queued  1 held  1 waiting for others  1 failed  1 done',
    '',
    'MACHINE  STATE     CORES    MEMORY    GPUS                            JOBS  WHY',
    'gpubox   ready     6/8      20/62G    0: 100% 16/24G; 1: 100% 16/24G  1',
    'cpubox   draining  128/128  300/900M                                  1     asked for',
    'attic    away                                                         2     no answer for 30s',
    '',
    'RUNNING  NAME      MACHINE  GPUS  FOR    LAST LINE',
    '17       train_17  gpubox   0,1   1h02m  epoch 4/10 loss 0.31',
    '18       train_18  cpubox         5s',
    '',
    `WAITING  ${'NAME'.padEnd(name.length)}  WHY`,
    `19       ${name}  bad \\x1b[2J\\nreason`,
    'and 34 more',
    '',
    'ENDED  NAME      HOW',
    '16     train_16  failed, 14:04: exited 3',
    '15     train_15  done, 14:03',
  ]);
  expect(plainLines(overviewOf({}), NOW)).toEqual(['no jobs']);
  const cut = { jobs: [job(19, 'queued')], count: 1, isCut: true };
  const none = { jobs: [], count: 0, isCut: true };
  expect(plainLines({ ...overviewOf({}), waiting: cut, ended: none }, NOW).slice(2)).toEqual([
    'WAITING  NAME      WHY',
    '19       train_19  queued',
    'maybe more: only the first ones were looked at',
    '',
    'ENDED: none found so far; only the first ones were looked at',
  ]);
});

test('a job that is not known is asked for once, a source that is away again', async () => {
  const asked: string[] = [];
  const source = {
    output(id: string): AsyncIterable<OutputItem> {
      asked.push(id);
      throw id === '404' ? new UsageError('there is no job 404') : new Error('the service is away');
    },
  };
  const followed = async (id: string, count: number) => {
    const follower = new Follower({ source, id, againMs: 1, onChange: () => {} });
    await until(() => asked.filter((own) => own === id).length >= count, { deadlineMs: 10_000 });
    return follower;
  };
  const away = await followed('17', 3);
  away.close();
  expect(textsOf(away.output)[0]).toBe('the service is away; trying again');
  const unknown = await followed('404', 1);
  await until(() => textsOf(unknown.output).length > 0, { deadlineMs: 10_000 });
  expect(textsOf(unknown.output)).toEqual(['there is no job 404']);
  await unknown.ended;
  expect(asked.filter((id) => id === '404')).toHaveLength(1);
});
