/** What is refused of a request, whoever sends it. */
import { expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import * as check from '../../src/lib/queue/verb-checks.ts';

test('a mistake names the arguments of the verb', () => {
  expect(() => check.oneId(undefined)).toThrow('id: is missing');
  expect(() => check.oneId([7])).toThrow('the arguments: expected an object with id, found [7]');
  expect(() => check.addMachine('x')).toThrow(
    'the arguments: expected an object with names, [env], [skipCheck], [cwd], found "x"',
  );
  expect(check.list(undefined)).toEqual({});
});

test('only ends are cleaned, and limits are within bounds', () => {
  expect(() => check.clean({ olderThanMs: 0, states: ['running'] })).toThrow(
    'states[0]: expected one of success, fail, killed, abort, error, found "running"',
  );
  expect(() => check.configure({ machine: 'a', maxJobs: 1_000_001 })).toThrow('from 0 to 1000000');
  expect(() => check.configure({ machine: 'a', maxJobs: -1 })).toThrow('from 0 to 1000000');
  expect(check.configure({ machine: 'a', maxJobs: 1_000_000 })).toEqual({ machine: 'a', maxJobs: 1_000_000 });
  for (const newest of [0, 1001, 1.5])
    expect(() => check.events({ newest })).toThrow('newest: expected a whole number from 1 to 1000');
  expect(check.events({ after: 0, newest: 10 })).toEqual({ after: 0, newest: 10 });
  expect(() => check.output({ id: 1, tailBytes: -1 })).toThrow('tailBytes: expected a whole number');
});

test('what is nested deeply is a mistake like any other', () => {
  const depth = 200_000;
  const deep: unknown = JSON.parse('['.repeat(depth) + ']'.repeat(depth));
  for (const one of [{ id: deep }, deep, { [String(1)]: deep }])
    expect(() => check.oneId(one)).toThrow(UsageError);
});
