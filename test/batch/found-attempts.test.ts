import { expect, test } from 'vitest';
import { sortFound } from '../../src/lib/batch/found-attempts.ts';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import type { FoundAttempt } from '../../src/lib/domain/ports.ts';
import type { JobHistory } from '../../src/lib/stores/journal.ts';
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
  gpus: [],
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
    toEnd: [],
    strange: [],
  });
});

test('the rest of a job whose result is home goes once it has ended', () => {
  const all = [found(b, 1, 'ended'), found(b, 2, 'running')];
  const sorted = sortFound(all, [a, b], [a]);
  expect(sorted).toEqual({ toAdopt: [], noted: [], toDiscard: [all[0]], toEnd: [all[1]], strange: [] });
});

test('a changed line never takes over the result of another command', () => {
  const all = [found({ id: a.id, command: 'run it otherwise' }, 1, 'ended'), found(c, 1, 'running')];
  const sorted = sortFound(all, [a, b], [a, b]);
  expect(sorted).toMatchObject({ toAdopt: [], toDiscard: [], strange: all });
  expect(sorted.noted).toEqual([{ job: 'a', number: 1 }]);
});

test('attempts that may still run and do not count any more are ended', () => {
  const all = [
    found(a, 1, 'running'),
    found(a, 2, 'running'),
    found(b, 1, 'ended'),
    found(b, 2, 'running'),
    found(c, 1, 'running'),
    found(c, 2, 'ended'),
  ];
  // The result of c is home.
  const sorted = sortFound(all, [a, b, c], [a, b]);
  const names = (list: readonly FoundAttempt[]) =>
    list.map(({ attempt }) => `${attempt.job}/${attempt.number}`);
  expect(names(sorted.toAdopt.map((one) => one.found))).toEqual(['a/2', 'b/1']);
  expect(names(sorted.toEnd)).toEqual(['a/1', 'b/2', 'c/1']);
  expect(names(sorted.toDiscard)).toEqual(['c/2']);
});

test('what the journal knows to have failed, or that another attempt followed, does not count again', () => {
  const history: JobHistory = {
    highest: 3,
    commandHash: undefined,
    open: { number: 3, machine: machineName('away'), machineKey: 'k', runs: '/r', hasBegun: true },
    overUpTo: 1,
    failed: [2],
    losses: 0,
    failures: 0,
    avoid: [],
    grown: {},
  };
  const histories = new Map([[a.id, history]]);
  const past = [found(a, 1, 'ended'), found(a, 2, 'ended'), found(a, 2, 'running')];
  expect(sortFound(past, [a], [a], histories)).toMatchObject({
    toAdopt: [],
    toDiscard: past.slice(0, 2),
    toEnd: past.slice(2),
  });
  expect(sortFound([found(a, 3, 'running')], [a], [a], histories).toAdopt.length).toBe(1);
  // Its machine had been given up, and it has a result to bring.
  const returned = { ...history, highest: 4, failed: [], open: { ...history.open, number: 4 } } as JobHistory;
  const later = new Map([[a.id, returned]]);
  expect(sortFound([found(a, 3, 'ended')], [a], [a], later).toAdopt.length).toBe(1);
  expect(sortFound([found(a, 3, 'running')], [a], [a], later).toEnd.length).toBe(1);
});

test('an attempt without a record of its own is its folder’s job’s', () => {
  const odd = smallJob('o d', 'run o');
  const nameless = { ...found(a, 1, 'running'), attempt: { job: jobId('o%20d'), number: 1 }, command: '' };
  const named = { ...nameless, attempt: { job: odd.id, number: 1 }, command: 'run o' };
  expect(sortFound([nameless], [odd], [odd]).toAdopt).toEqual([{ job: odd, found: named }]);
  expect(sortFound([nameless], [odd], []).toEnd).toEqual([named]);
  expect(sortFound([nameless], [a], [a]).strange).toEqual([nameless]);
});
