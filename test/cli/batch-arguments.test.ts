import { describe, expect, it } from 'vitest';
import { parseBatchArguments } from '../../src/cli/batch-arguments.ts';

const words = (text: string) => parseBatchArguments(text.split(' '));
const parse = (...more: string[]) => parseBatchArguments(['b.sh', '--machines', 'local', ...more]);

describe('parseBatchArguments', () => {
  it('sends the working directory and shares nothing, unless told', async () => {
    expect(await parse()).toMatchObject({
      copyForwards: 'working-directory',
      shareForwards: [],
      copyBackwards: 'changed',
    });
  });

  it('reads what is shared as a list beside what is copied', async () => {
    expect(await parse('--share-forwards', 'data', 'models', '--verbose')).toMatchObject({
      copyForwards: 'working-directory',
      shareForwards: ['data', 'models'],
    });
    expect(await parse('--copy-forwards', 'code', '--share-forwards=-data')).toMatchObject({
      copyForwards: ['code'],
      shareForwards: ['-data'],
    });
    expect(await parse('--share-forwards', '--copy-forwards')).toMatchObject({
      copyForwards: [],
      shareForwards: [],
    });
    await expect(parse('--share-forward', 'x')).rejects.toThrow('did you mean --share-forwards?');
  });
});

describe('flags about what goes wrong', () => {
  it('leave all to the defaults when there are none', async () => {
    expect((await parse()).survival).toEqual({});
  });

  it('mean what they say', async () => {
    const all = await words(
      'b.sh --machines local --timeout 1h30m --kill-after 0 --retries 3 --retry-on oom,timeout,transfer,exit:75 ' +
        '--oom-grow 1.5 --halt soon,fail=3 --rerun-failed --failed-lines f.sh --machine-lost-after 1-02:00:00 ' +
        '--keep-going-on-bad-machines --max-output 2G',
    );
    expect(all.failedLines).toBe('f.sh');
    expect(all.survival).toEqual({
      timeout: { type: 'fixed', ms: 5_400_000 },
      killAfterMs: 0,
      retries: 3,
      retryOn: [{ type: 'oom' }, { type: 'timeout' }, { type: 'transfer' }, { type: 'exit', exitCode: 75 }],
      oomGrow: 1.5,
      halt: { when: 'soon', failures: { type: 'count', count: 3 } },
      rerunFailed: true,
      machineLostAfterMs: 93_600_000,
      keepGoingOnBadMachines: true,
      maxOutputBytes: 2 * 1024 ** 3,
    });
  });

  it('take percentages of the median and of the jobs that ended', async () => {
    expect((await parse('--timeout', '300%', '--halt', 'now,fail=2.5%')).survival).toEqual({
      timeout: { type: 'of-median', percent: 300 },
      halt: { when: 'now', failures: { type: 'percent', percent: 2.5 } },
    });
  });

  it.each([
    ['--timeout 5x', '--timeout: found the time "5x", expected seconds such as 90'],
    ['--timeout 0', '--timeout: found "0", expected more than no time at all'],
    ['--timeout 0%', '--timeout: found "0%", expected a time such as 90, 5m, 1h30m, or a percentage'],
    ['--timeout 1e3%', '--timeout: found "1e3%"'],
    ['--kill-after soon', '--kill-after: found the time "soon"'],
    ['--retries 1.5', '--retries: found "1.5", expected a whole number from 0 to 9999'],
    ['--retries=-1', '--retries: found "-1"'],
    [
      '--retries 1 --retry-on oom,exit:0',
      '--retry-on: found "exit:0", expected oom, timeout, transfer, or exit:CODE',
    ],
    ['--retries 1 --retry-on exit:256', '--retry-on: found "exit:256"'],
    ['--retries 1 --retry-on oom,', '--retry-on: found ""'],
    ['--retry-on oom', '--retry-on says nothing without --retries'],
    ['--oom-grow 2', '--oom-grow says nothing without --retries: add for instance --retries 2'],
    ['--retries 1 --oom-grow 1', '--oom-grow: found "1", expected a number above 1, at most 16'],
    ['--retries 1 --oom-grow 17', '--oom-grow: found "17"'],
    ['--halt now', '--halt: found "now", expected soon or now with a number of failures'],
    ['--halt now,fail=0', '--halt: found "now,fail=0"'],
    ['--halt now,fail=1.5', '--halt: found "now,fail=1.5"'],
    ['--halt later,fail=1', '--halt: found "later,fail=1"'],
    ['--halt now,fail=101%', '--halt: found "now,fail=101%"'],
    ['--max-output lots', '--max-output: found the size "lots"'],
    ['--max-output 0', '--max-output: found "0", expected more than nothing'],
    ['--timeout 5 --timeout 6', '--timeout was given 2 times, expected once'],
    ['--retires 2', 'unknown flag --retires (did you mean --retries?)'],
  ])('are refused: %s', async (flags, message) => {
    await expect(words(`b.sh --machines local ${flags}`)).rejects.toThrow(message);
  });
});

describe('modes', () => {
  it('are a run unless another is named', async () => {
    expect((await parse()).mode).toEqual({ type: 'run' });
    expect((await parse('--leave')).mode).toEqual({ type: 'leave' });
    expect((await words('b.sh --machines local --timeout 5 --joblog x --status')).mode).toEqual({
      type: 'status',
    });
  });

  it('do without machines where those of the last run are meant, and without a file where none is', async () => {
    expect(await words('b.sh --status')).toMatchObject({
      mode: { type: 'status' },
      machines: [],
      file: 'b.sh',
    });
    expect(await words('b.sh --cancel')).toMatchObject({ mode: { type: 'cancel' }, machines: [] });
    expect(await words('--orphans --machines a b')).toMatchObject({ mode: { type: 'orphans' }, file: '' });
    expect(await words('b.sh --orphans --machines a')).toMatchObject({
      mode: { type: 'orphans' },
      file: 'b.sh',
    });
  });

  it('end all orphans, or those of the batches named', async () => {
    expect((await words('--machines a --kill-orphans')).mode).toEqual({ type: 'kill-orphans', batches: [] });
    expect((await words('--kill-orphans 0123456789ab 999999999999 --machines a')).mode).toEqual({
      type: 'kill-orphans',
      batches: ['0123456789ab', '999999999999'],
    });
  });

  it.each([
    ['b.sh --machines local --status --cancel', '--status and --cancel exclude each other'],
    ['--machines local --orphans --kill-orphans', '--orphans and --kill-orphans exclude each other'],
    ['b.sh --machines local --leave --dry-run', '--dry-run cannot go with --leave: --dry-run alone says'],
    [
      'b.sh --machines local --dry-run --cancel',
      '--dry-run cannot go with --cancel: --status says what runs',
    ],
    [
      '--kill-orphans b.sh --machines local',
      '--kill-orphans: found b.sh, expected batches as --orphans names them',
    ],
    ['--orphans', 'no machine is named: add --machines'],
    ['b.sh --machines local --watch --status', '--watch and --status exclude each other'],
    ['b.sh --machines local --watch --leave', '--watch cannot go with --leave'],
    ['b.sh --machines local --watch --dry-run', '--watch cannot go with --dry-run'],
    ['b.sh --machines local --watch --json', '--watch cannot go with --json'],
    ['b.sh --machines local --watch --joblog -', '--watch cannot go with --joblog -'],
    ['--watch', 'no batch file is named'],
    ['b.sh --leave', 'no machine is named: add --machines'],
    ['--status --machines local', 'no batch file is named'],
    [
      '--machines local b.sh',
      'no batch file is named: expected execute_batch FILE --machines NAME... (FILE goes first',
    ],
  ])('are refused: %s', async (line, message) => {
    await expect(words(line)).rejects.toThrow(message);
  });
});
