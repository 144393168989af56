import { join, relative } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkJobNames } from '../../src/lib/batch/job-names.ts';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { checkJobName, MAX_NAME_BYTES } from '../../src/lib/runner/job-name.ts';

const jobs = (...names: string[]) => names.map((name, index) => ({ name, line: index + 1 }));

describe('checkJobName', () => {
  it.each([
    'a',
    'example_batch_script.sh.3',
    'lr=0.1, seed 2',
    'größe',
    '_x',
    'a..b',
    'x'.repeat(MAX_NAME_BYTES),
  ])('accepts %j', (name) => {
    expect(() => checkJobName(name)).not.toThrow();
  });

  it.each([
    ['', 'is empty'],
    ['.', "begins with '.'"],
    ['..', "begins with '.'"],
    ['.hidden', "begins with '.'"],
    ['-rf', "begins with '-'"],
    ['../x', 'contains a slash'],
    ['/etc/passwd', 'contains a slash'],
    ['a\nb', "'a\\nb' contains a control character"],
    ['a\0', 'contains a control character'],
    ['a\u2028b', 'contains a control character'],
    ['ü'.repeat(101), 'has 202 bytes: expected at most 200'],
  ])('refuses %j', (name, message) => {
    expect(() => checkJobName(name)).toThrow(UsageError);
    expect(() => checkJobName(name)).toThrow(message);
  });

  it('accepts only names of entries directly in job_results', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom('.', '/', 'a', '-', '\0') })),
        (name) => {
          try {
            checkJobName(name);
          } catch {
            return;
          }
          expect(relative('/job_results', join('/job_results', name))).toBe(name);
        },
      ),
    );
  });
});

describe('checkJobNames', () => {
  it('accepts different names, also ones that differ only in case', () => {
    expect(() => checkJobNames(jobs('a', 'A', 'b.out', 'a.outer'))).not.toThrow();
  });

  it('names both lines of a duplicate', () => {
    expect(() => checkJobNames(jobs('a', 'b', 'a'), 'x.sh')).toThrow(
      "x.sh:3: the job name 'a' is taken by line 1",
    );
  });

  it.each(['a.out', 'a.err', 'a.json'])('refuses %s beside a, whichever comes first', (name) => {
    expect(() => checkJobNames(jobs('a', name))).toThrow(
      `line 2: the job name '${name}' is also a result file of the job 'a' on line 1`,
    );
    expect(() => checkJobNames(jobs(name, 'a'))).toThrow(
      `line 1: the job name '${name}' is also a result file of the job 'a' on line 2`,
    );
  });

  it('reports all mistakes at once, ten of them in words', () => {
    const names = jobs('ok', '../x', ...Array.from({ length: 14 }, () => 'ok'));
    let message = '';
    try {
      checkJobNames(names, 'x.sh');
    } catch (error) {
      message = error instanceof UsageError ? error.message : '';
    }
    const lines = message.split('\n');
    expect(lines).toHaveLength(11);
    expect(lines[0]).toMatch(/^x\.sh:2: the job name '\.\.\/x' contains a slash/);
    expect(lines[10]).toBe('and 5 more mistakes');
  });
});
