import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJobCommand, parseResourceFlag } from '../../src/lib/batch/job-command.ts';
import { UsageError } from '../../src/lib/domain/errors.ts';

const inLine = (...argv: string[]) => parseJobCommand(argv, { context: 'line' });
const inCli = (...argv: string[]) => parseJobCommand(argv, { context: 'cli' });

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return error instanceof Error ? error.message : '';
  }
  throw new Error('expected a UsageError');
}

describe('parseJobCommand', () => {
  it.each([inLine, inCli])('reads the form of the guide in a line and in the cli', (parse) => {
    const argv = [
      '--copy-forwards',
      'example1',
      'test.py',
      '--copy-backwards',
      'example1',
      '--job-name',
      'example1',
    ];
    expect(parse(...argv, 'python test.py example1')).toEqual({
      command: 'python test.py example1',
      copyForwards: ['example1', 'test.py'],
      copyBackwards: ['example1'],
      jobName: 'example1',
      verbose: false,
      request: {},
    });
  });

  it('says nothing about what is not given', () => {
    expect(inCli('true')).toEqual({ command: 'true', verbose: false, request: {} });
  });

  it('takes flags before and behind the command, with = too', () => {
    expect(inCli('ls -l', '--machine=m.yaml', '--verbose')).toEqual({
      command: 'ls -l',
      machine: 'm.yaml',
      verbose: true,
      request: {},
    });
    expect(inCli('--machine', 'm', '--job-name=a=b', 'x')).toMatchObject({
      machine: 'm',
      jobName: 'a=b',
      command: 'x',
    });
  });

  it('ends a list at a flag and at --, and behind = after one word', () => {
    expect(inCli('--copy-forwards', 'a', 'b', '--', 'run it')).toMatchObject({
      copyForwards: ['a', 'b'],
      command: 'run it',
    });
    expect(inCli('--copy-forwards', 'a', '--verbose', 'run it')).toMatchObject({
      copyForwards: ['a'],
      command: 'run it',
    });
    expect(inCli('--copy-forwards=a', '--copy-forwards=-b', 'run it')).toMatchObject({
      copyForwards: ['a', '-b'],
      command: 'run it',
    });
  });

  it.each([inLine, inCli])('reads shared inputs like other lists, in a line and in the cli', (parse) => {
    const argv = [
      '--share-forwards',
      'data',
      'models',
      '--copy-forwards',
      'a',
      '--share-forwards=-x',
      'run it',
    ];
    expect(parse(...argv)).toMatchObject({
      shareForwards: ['data', 'models', '-x'],
      copyForwards: ['a'],
      command: 'run it',
    });
    expect(messageOf(() => parse('--share-forwards', 'data', 'python b'))).toContain(
      "--share-forwards takes every word up to the next flag, and took 'python b'",
    );
    expect(messageOf(() => parse('--share-forwards=', 'x'))).toBe('--share-forwards names an empty path');
    expect(messageOf(() => parse('--share-forward=a', 'x'))).toContain('did you mean --share-forwards?');
  });

  it('reads an empty list as none', () => {
    expect(inCli('--copy-backwards', '--share-forwards', '--copy-forwards', '--', 'x')).toMatchObject({
      shareForwards: [],
      copyForwards: [],
      copyBackwards: [],
    });
  });

  it('takes any one word behind -- as the command', () => {
    expect(inCli('--', '--version').command).toBe('--version');
    expect(messageOf(() => inCli('--', 'a', '--verbose'))).toContain('more than one command word');
  });

  it('keeps the command as it is', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(text.trim() !== '');
        expect(inCli('--copy-forwards', 'a', '--', text).command).toBe(text);
      }),
    );
  });

  it('explains a list that swallowed the command', () => {
    expect(messageOf(() => inCli('--job-name', 'x', '--copy-forwards', 'a', 'b', 'python b'))).toBe(
      "the command is missing: --copy-forwards takes every word up to the next flag, and took 'python b' too. " +
        "If that is the command, put -- or another flag before it: --copy-forwards ... -- 'python b'",
    );
    expect(messageOf(() => inLine('--copy-forwards', 'a', 'python b', '--copy-backwards', 'out'))).toContain(
      "--copy-forwards takes every word up to the next flag, and took 'python b'",
    );
    expect(messageOf(() => inLine('--copy-backwards', 'run'))).toContain("--copy-backwards -- 'run'");
  });

  it('explains a missing, an empty and an unquoted command', () => {
    expect(messageOf(() => inCli())).toContain('the command is missing: expected one word in quotes');
    expect(messageOf(() => inCli('--machine', 'm'))).toContain('the command is missing');
    expect(messageOf(() => inCli('--copy-forwards', '--machine', 'm'))).toContain('the command is missing');
    expect(messageOf(() => inCli(' '))).toBe('the command is empty');
    expect(messageOf(() => inCli('python', 'a.py', 'b'))).toBe(
      "found more than one command word ('python', 'a.py', ...): put the whole command in quotes, and flags before it",
    );
    expect(messageOf(() => inCli('python', 'a.py', '--epochs', '3'))).toMatch(
      /^unknown flag --epochs: .*put the whole command in quotes$/,
    );
  });

  it('names the nearest known flag', () => {
    expect(messageOf(() => inCli('--copy-forward', 'a', '--', 'x'))).toBe(
      'unknown flag --copy-forward: did you mean --copy-forwards?',
    );
    expect(messageOf(() => inCli('--machines=m', 'x'))).toContain('did you mean --machine?');
    expect(messageOf(() => inLine('--num-cpu=2', 'x'))).toContain('did you mean --num-cpus?');
    expect(messageOf(() => inCli('-x', 'y'))).toContain('known flags are --copy-forwards');
  });

  it('refuses values that are missing, empty or given twice', () => {
    expect(messageOf(() => inCli('x', '--machine'))).toBe('--machine needs a value, found nothing behind it');
    expect(messageOf(() => inCli('--machine', '--verbose', 'x'))).toBe(
      "--machine needs a value, found '--verbose'",
    );
    expect(messageOf(() => inCli('--machine=', 'x'))).toBe('--machine needs a value, found an empty one');
    expect(messageOf(() => inCli('--machine=a', '--machine=b', 'x'))).toBe('--machine is given twice');
    expect(messageOf(() => inCli('--verbose=1', 'x'))).toBe("--verbose takes no value, found '1'");
    expect(messageOf(() => inCli('--copy-forwards=', 'x'))).toBe('--copy-forwards names an empty path');
  });

  it('refuses a job name that would leave job_results', () => {
    expect(messageOf(() => inCli('--job-name', '../x', 'y'))).toContain('contains a slash');
  });

  it('reads resource flags in a line', () => {
    const resources = [
      '--num-cpus',
      '0.5',
      '--memory-required=3G',
      '--gpu-memory-required',
      '512M',
      '--num-gpus',
      '2',
    ];
    expect(
      inLine(...resources, '--gpu-utilization', '.3', '--no-reserve-gpu', '--reserve', 'x').request,
    ).toEqual({
      cpuCores: 0.5,
      memoryMiB: 3072,
      gpuMemoryMiB: 512,
      gpus: 2,
      gpuUtilization: 0.3,
      reserveGpu: false,
      reserveMachine: true,
    });
    expect(inLine('--no-gpu-required', 'x').request).toEqual({ gpus: 0 });
    expect(messageOf(() => inLine('--no-gpu-required', '--num-gpus=1', 'x'))).toContain('contradict');
  });

  it('refuses resource flags in the cli', () => {
    for (const flag of ['--num-cpus=1', '--memory-required', '--reserve', '--no-gpu-required']) {
      expect(messageOf(() => inCli(flag, 'x'))).toContain(
        `execute_remote takes no resource flags, found ${flag.split('=')[0]}`,
      );
    }
  });

  it.each([
    ['--num-cpus', '0'],
    ['--num-cpus', '-1'],
    ['--num-cpus', 'two'],
    ['--num-cpus', '1e3'],
    ['--num-gpus', '1.5'],
    ['--num-gpus', '4096'],
    ['--gpu-utilization', '75'],
    ['--gpu-utilization', 'NaN'],
    ['--memory-required', '3X'],
    ['--memory-required', '-5'],
    ['--gpu-memory-required', 'Infinity'],
  ])('refuses %s %s', (flag, value) => {
    expect(messageOf(() => inLine(flag, value, 'x'))).toMatch(
      new RegExp(`^${flag}: found (the size )?['"]${value}['"], expected `),
    );
  });
});

describe('parseResourceFlag', () => {
  it('refuses flags that are none, values that are missing and values that are too many', () => {
    expect(messageOf(() => parseResourceFlag('--verbose'))).toBe('--verbose is not a resource flag');
    expect(messageOf(() => parseResourceFlag('--num-cpus'))).toBe('--num-cpus needs a value');
    expect(messageOf(() => parseResourceFlag('--reserve', 'yes'))).toBe(
      "--reserve takes no value, found 'yes'",
    );
  });
});
