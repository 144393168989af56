import { expect, test } from 'vitest';
import { sortFound } from '../../src/lib/batch/found-attempts.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { FoundAttempt } from '../../src/lib/domain/ports.ts';
import { smallJob } from '../runner/local-runner.ts';

const [a, b, c] = [smallJob('a', 'run a'), smallJob('b', 'run b'), smallJob('c', 'run c')];

const found = (
  job: { readonly id: FoundAttempt['attempt']['job']; readonly command: string },
  number: number,
  state: FoundAttempt['state'],
): FoundAttempt => ({
  attempt: { job: job.id, number },
  machine: machineName('m'),
  command: job.command,
  tree: '',
  state,
});

test('an attempt that has ended is worth more than one that runs, and among equals the later counts', () => {
  const all = [
    found(a, 1, 'running'),
    found(a, 2, 'ended'),
    found(a, 3, 'running'),
    found(b, 1, 'running'),
    found(b, 2, 'running'),
  ];
  const sorted = sortFound(all, [a, b, c], [a, b, c]);
  expect(sorted.toAdopt.map(({ job, found }) => [job.name, found.attempt.number])).toEqual([
    ['a', 2],
    ['b', 2],
  ]);
  expect(sorted.noted.length).toBe(5);
  expect(sorted.toDiscard).toEqual([]);
});

test('what was never begun or was cancelled is thrown away, and its number is not used again', () => {
  const all = [found(a, 1, 'unstarted'), found(a, 4, 'cancelled')];
  const sorted = sortFound(all, [a], [a]);
  expect(sorted).toEqual({
    toAdopt: [],
    noted: all.map(({ attempt }) => attempt),
    toDiscard: all,
    strange: [],
  });
});

test('the rest of a job whose result is home goes once it has ended', () => {
  const all = [found(b, 1, 'ended'), found(b, 2, 'running')];
  const sorted = sortFound(all, [a, b], [a]);
  expect(sorted).toEqual({ toAdopt: [], noted: [], toDiscard: [all[0]], strange: [] });
});

test('a changed line never takes over the result of another command', () => {
  const all = [found({ id: a.id, command: 'run it otherwise' }, 1, 'ended'), found(c, 1, 'running')];
  const sorted = sortFound(all, [a, b], [a, b]);
  expect(sorted).toMatchObject({ toAdopt: [], toDiscard: [], strange: all });
  expect(sorted.noted).toEqual([{ job: 'a', number: 1 }]);
});
