/** How people call the states of jobs. */
import type { QueueState } from './queue.ts';

const STATE_WORDS: Readonly<Record<QueueState, readonly string[]>> = {
  queued: ['queued', 'waiting'],
  holding: ['holding', 'waiting'],
  'user-hold': ['user-hold', 'held', 'waiting'],
  running: ['running'],
  success: ['success', 'done'],
  fail: ['failed'],
  killed: ['killed'],
  abort: ['aborted'],
  error: ['error', 'not started'],
};

/** The states that a word for begins with this text, in small letters. In the midst of such a word it does not count: `one` would find all that is done. */
export function statesCalled(text: string): ReadonlySet<QueueState> {
  const states = Object.entries(STATE_WORDS) as [QueueState, readonly string[]][]; // as it is declared
  return new Set(
    states.filter(([, words]) => words.some((word) => word.startsWith(text))).map(([state]) => state),
  );
}
