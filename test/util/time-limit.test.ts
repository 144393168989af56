import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { withTimeLimit } from '../../src/lib/util/time-limit.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const tooLate = () => new Error('too late');

test('work that is done in time settles as it does', async () => {
  expect(await withTimeLimit(Promise.resolve(5), 1000, tooLate)).toBe(5);
  await expect(withTimeLimit(Promise.reject(new Error('own')), 1000, tooLate)).rejects.toThrow('own');
  expect(vi.getTimerCount()).toBe(0);
});

test('work that takes longer is given up', async () => {
  const limited = withTimeLimit(new Promise(() => {}), 1000, tooLate);
  const outcome = expect(limited).rejects.toThrow('too late');
  await vi.advanceTimersByTimeAsync(1000);
  await outcome;
});
