/** What keys do to what is chosen, and what they ask for. */
import { describe, expect, test } from 'vitest';
import { type Key, type KeySurroundings, type Pressed, press } from '../../../src/cli/watch/keys.ts';
import { FIRST_STATE, keepSelection, type WatchState } from '../../../src/cli/watch/state.ts';
import { job, NOW, overviewOf, sampleOverview } from './sample.ts';

const surroundings: KeySurroundings = {
  overview: sampleOverview(),
  actions: ['hold', 'release', 'kill'],
  seen: { running: 2, waiting: 2, ended: 2 },
  page: 3,
  helpEnd: 5,
  canStop: true,
  output: { first: 10, end: 110 },
  now: NOW,
};
const start = keepSelection(FIRST_STATE, sampleOverview());

const NAMED: Readonly<Record<string, Key>> = {
  Enter: { name: 'return', text: '\r' },
  Esc: { name: 'escape' },
  Tab: { name: 'tab', text: '\t' },
  Backspace: { name: 'backspace', text: '\x7f' },
  'Ctrl-C': { name: 'c', text: '\x03', ctrl: true },
  'Ctrl-Z': { name: 'z', text: '\x1a', ctrl: true },
  Space: { name: 'space', text: ' ' },
};

function keyOf(word: string): Key {
  if (word.length > 1) return NAMED[word] ?? { name: word };
  return { name: /[a-z]/i.test(word) ? word.toLowerCase() : undefined, text: word };
}

/** The keys one after another; the wish of the last. */
function typed(words: readonly string[], state = start, own: Partial<KeySurroundings> = {}): Pressed {
  let pressed: Pressed = { state };
  for (const word of words) pressed = press(pressed.state, keyOf(word), { ...surroundings, ...own });
  return pressed;
}
const selectedAfter = (words: readonly string[], state?: WatchState) => typed(words, state).state.selected.id;

describe('the selection', () => {
  test('begins at the first job, and moves through all lists and no further', () => {
    expect(start.selected).toEqual({ id: '17', section: 'running', index: 0 });
    expect(selectedAfter(['up'])).toBe('17');
    expect(selectedAfter(['down', 'j'])).toBe('19');
    expect(selectedAfter(['down', 'j', 'k'])).toBe('18');
  });

  test('a page stays within its list, and goes on into the next from its end', () => {
    const ids = [4, 5, 6, 7, 8];
    const overview = overviewOf({
      running: [job(1, 'running'), job(2, 'running')],
      waiting: ids.map((id) => job(id, 'queued')),
      ended: [job(9, 'success')],
    });
    const walk = (key: string, count: number, from = keepSelection(FIRST_STATE, overview)) => {
      const seen: (string | undefined)[] = [];
      for (let i = 0, state = from; i < count; i++) {
        state = typed([key], state, { overview }).state;
        seen.push(state.selected.id);
      }
      return seen;
    };
    expect(walk('pagedown', 7)).toEqual(['2', '4', '6', '8', '9', '9', '9']);
    const end = typed(['3'], undefined, { overview }).state;
    expect(walk('pageup', 6, end)).toEqual(['8', '6', '4', '2', '1', '1']);
    expect(walk('end', 3)).toEqual(['2', '9', '9']);
    const middle = typed(['2', 'down'], undefined, { overview }).state;
    expect(walk('home', 2, middle)).toEqual(['4', '1']);
    expect(walk('end', 2, middle)).toEqual(['8', '9']);
  });

  test('jumps to lists', () => {
    expect(selectedAfter(['Tab'])).toBe('19');
    expect(selectedAfter(['Tab', 'Tab'])).toBe('16');
    expect(selectedAfter(['Tab', 'Tab', 'Tab'])).toBe('17');
    expect(selectedAfter(['3'])).toBe('16');
    expect(selectedAfter(['3', '2'])).toBe('19');
  });

  test('stays with its job while lists change, and in its place when the job has gone', () => {
    const on19 = typed(['2']).state;
    const ended = overviewOf({ running: [job(18, 'running')], ended: [job(19, 'success'), job(16, 'fail')] });
    expect(keepSelection(on19, ended).selected).toEqual({ id: '19', section: 'ended', index: 0 });
    const running = [1, 2, 3, 4].map((id) => job(id, 'running'));
    const gone = overviewOf({ running, waiting: [job(20, 'queued')] });
    expect(keepSelection(on19, gone).selected.id).toBe('20');
    expect(keepSelection(on19, overviewOf({ running })).selected.id).toBe('1');
    const none = keepSelection(on19, overviewOf({}));
    expect(keepSelection(none, sampleOverview()).selected.id).toBe('19');
    // What a filter found far down its list is nowhere near without it, but still in that list.
    const found = keepSelection(on19, overviewOf({ waiting: [job(900, 'queued')] }));
    expect(found.selected).toEqual({ id: '900', section: 'waiting', index: 0 });
    expect(keepSelection(found, sampleOverview()).selected.id).toBe('19');
    expect(typed(['K'], none, { overview: overviewOf({}) }).state.message?.text).toBe('no job is selected');
  });
});

describe('what is done to jobs', () => {
  test('hold and release at once', () => {
    expect(typed(['2', 'h']).wish).toEqual({ type: 'act', action: 'hold', id: '19' });
    expect(typed(['2', 'r']).wish).toEqual({ type: 'act', action: 'release', id: '19' });
  });

  test.each(['K', 'x'])('%s kills after a question', (key) => {
    const asked = typed([key]);
    expect(asked.wish).toBeUndefined();
    expect(asked.state.mode).toEqual({ type: 'question', action: 'kill', id: '17', name: 'train_17' });
    expect(typed(['y'], asked.state).wish).toEqual({ type: 'act', action: 'kill', id: '17' });
  });

  test('the question is about the job that was selected, whatever the lists have become', () => {
    const asked = typed(['K']).state;
    const after = keepSelection(asked, overviewOf({ running: [job(99, 'running')] }));
    expect(typed(['y'], after).wish).toEqual({ type: 'act', action: 'kill', id: '17' });
  });

  test.each(['n', 'Esc', 'q'])('%s is no', (key) => {
    const { state, wish } = typed(['K', key]);
    expect(wish).toBeUndefined();
    expect(state.mode).toEqual({ type: 'list' });
    expect(state.message?.text).toBe('job 17 is not killed');
  });

  test('one that has ended is not asked for', () => {
    const { state, wish } = typed(['3', 'K']);
    expect([state.mode.type, wish, state.message?.text]).toEqual([
      'list',
      undefined,
      'job 16 has ended already',
    ]);
  });

  test.each(['k', 'K', 'Enter', 'down', 'Space'])('%s is no answer', (key) => {
    const { state, wish } = typed(['K', key]);
    expect([state.mode.type, wish]).toEqual(['question', undefined]);
  });

  test('what cannot be done is said', () => {
    const { state, wish } = typed(['h'], start, { actions: ['kill'] });
    expect(wish).toBeUndefined();
    expect(state.message?.text).toBe('jobs cannot be held here');
    expect(typed(['K'], FIRST_STATE, { overview: undefined }).state.message?.text).toBe('no job is selected');
  });
});

describe('the filter', () => {
  test('is asked for with each letter, kept by Enter, cleared by Esc', () => {
    const typing = typed(['/', 't', 'r', 'q']);
    expect(typing.wish).toEqual({ type: 'filter' });
    expect(typing.state.filter).toBe('trq');
    expect(typed(['Backspace'], typing.state).state.filter).toBe('tr');
    const kept = typed(['Enter'], typing.state);
    expect([kept.state.filter, kept.state.mode.type, kept.wish]).toEqual(['trq', 'list', undefined]);
    for (const state of [typing.state, kept.state]) {
      const cleared = typed(['Esc'], state);
      expect([cleared.state.filter, cleared.state.mode.type, cleared.wish?.type]).toEqual([
        '',
        'list',
        'filter',
      ]);
    }
  });

  test('Backspace in an empty one leaves it', () => {
    expect(typed(['/', 'Backspace']).state.mode.type).toBe('list');
  });

  test('takes letters of any script, blanks, and no control characters', () => {
    expect(typed(['/', '模', 'Space', 'é']).state.filter).toBe('模 é');
    expect(typed(['/', 'Tab', 'up', '\x1b']).state.filter).toBe('');
  });

  test('never grows without end', () => {
    expect(typed(['/', ...'x'.repeat(500)]).state.filter).toHaveLength(200);
  });
});

describe('the output of a job', () => {
  const followed = typed(['f']);
  const topOf = ({ state: { mode } }: Pressed) => (mode.type === 'follow' ? mode.top : 'other');

  test('f and Enter follow, q and Esc and Ctrl-C come back', () => {
    expect(followed.wish).toEqual({ type: 'follow', id: '17' });
    expect(typed(['Enter']).wish).toEqual({ type: 'follow', id: '17' });
    for (const key of ['q', 'Esc', 'Ctrl-C']) {
      const back = typed([key], followed.state);
      expect([back.state.mode.type, back.wish?.type]).toEqual(['list', 'unfollow']);
    }
  });

  test('scrolls back to the first line that is there, and follows again at the end', () => {
    expect(topOf(typed(['up'], followed.state))).toBe(106);
    expect(topOf(typed(['pageup', 'pageup'], followed.state))).toBe(101);
    expect(topOf(typed(['home', 'up'], followed.state))).toBe(10);
    expect(topOf(typed(['home', 'down'], followed.state))).toBe(11);
    expect(topOf(typed(['home', 'end'], followed.state))).toBeUndefined();
    expect(topOf(typed(['up', 'down'], followed.state))).toBeUndefined();
  });

  test('moves sideways', () => {
    expect(typed(['right', 'right', 'left'], followed.state).state.mode).toMatchObject({ left: 16 });
    expect(typed(['left'], followed.state).state.mode).toMatchObject({ left: 0 });
  });
});

test('other screens and their way back', () => {
  expect(typed(['?']).state.mode.type).toBe('help');
  expect(typed(['?', 'z']).state.mode.type).toBe('list');
  expect(typed(['?', 'down', 'pagedown', 'pagedown']).state.mode).toEqual({ type: 'help', first: 5 });
  expect(typed(['f', 'left', 'right', '?', 'q']).state.mode).toMatchObject({
    type: 'follow',
    id: '17',
    left: 16,
  });
  expect(typed(['m', 'down', 'down', 'down', 'down']).state.mode).toEqual({ type: 'machines', first: 2 });
  expect(typed(['m', 'm']).state.mode.type).toBe('list');
});

test('what has to be seen stays for a while, whatever is typed', () => {
  const state = { ...start, notice: { text: 'nothing more starts', at: NOW - 2000 } };
  expect(typed(['down'], state).state.notice).toBeDefined();
  expect(typed(['down'], state, { now: NOW + 1000 }).state.notice).toBeUndefined();
});

test('Ctrl-Z does not stop what is more than a view', () => {
  const { state, wish } = typed(['Ctrl-Z'], start, { canStop: false });
  expect([wish, state.message?.text]).toEqual([undefined, 'Ctrl-Z would stop the batch: q leaves the view']);
});

test('leaving', () => {
  expect(typed(['q']).wish).toEqual({ type: 'quit' });
  expect(typed(['Ctrl-Z']).wish).toEqual({ type: 'suspend' });
  for (const before of [[], ['/'], ['K'], ['?'], ['m']])
    expect(typed([...before, 'Ctrl-C']).wish).toEqual({ type: 'interrupt' });
});
