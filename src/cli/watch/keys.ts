/** What keys do: a state and a key make the next state and what is to be done. */
import type { Overview } from '../../lib/domain/overview.ts';
import { FINAL_STATES } from '../../lib/domain/queue.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { type Move, moveSelection, nextSection, type Seen } from './moves.ts';
import type { WatchAction } from './source.ts';
import {
  type FollowMode,
  type Mode,
  NOTICE_MS,
  SECTIONS,
  saying,
  select,
  selectedJob,
  type WatchState,
} from './state.ts';

/** A key: its name as node:readline tells it (`up`, `return`, `a`), or the text that was typed. */
export interface Key {
  readonly name?: string | undefined;
  /** What was typed, where it is text. */
  readonly text?: string | undefined;
  readonly ctrl?: boolean | undefined;
  readonly meta?: boolean | undefined;
}

/** What a key asks for beyond another state. */
export type Wish =
  | { readonly type: 'quit' }
  | { readonly type: 'interrupt' }
  | { readonly type: 'suspend' }
  | { readonly type: 'redraw' }
  | { readonly type: 'filter' }
  | { readonly type: 'follow'; readonly id: string }
  | { readonly type: 'unfollow' }
  | { readonly type: 'act'; readonly action: WatchAction; readonly id: string };

/** What keys go by. */
export interface KeySurroundings {
  readonly overview: Overview | undefined;
  readonly actions: readonly WatchAction[];
  /** How many jobs of each list are seen: so far PgUp and PgDn go. */
  readonly seen: Seen;
  /** The same where lines fill the screen. */
  readonly page: number;
  /** The last line of the help that it can begin with. */
  readonly helpEnd: number;
  /** Whether Ctrl-Z stops the process. */
  readonly canStop: boolean;
  /** Of the output that is followed: the numbers of its first line and of the one behind its last. */
  readonly output: { readonly first: number; readonly end: number };
  /** Epoch milliseconds. */
  readonly now: number;
}

/** The state after a key, and what is to be done. */
export interface Pressed {
  readonly state: WatchState;
  readonly wish?: Wish;
}

const MOST_FILTER = 200;
const SIDEWAYS = 16;
const LIST: Mode = { type: 'list' };

/** The next state. Keys that mean nothing change nothing, but that what had to be seen was seen. */
export function press(state: WatchState, key: Key, surroundings: KeySurroundings): Pressed {
  const { notice, ...rest } = state;
  const isSeen = notice !== undefined && surroundings.now - notice.at >= NOTICE_MS;
  return pressed(isSeen ? rest : state, key, surroundings);
}

function pressed(state: WatchState, key: Key, surroundings: KeySurroundings): Pressed {
  if (key.ctrl) {
    if (key.name === 'z') return stop(state, surroundings);
    if (key.name === 'l') return { state, wish: { type: 'redraw' } };
    // The last resort does the same everywhere but in a follow.
    if (key.name === 'c' && state.mode.type !== 'follow') return { state, wish: { type: 'interrupt' } };
  }
  switch (state.mode.type) {
    case 'list':
      return inList(state, key, surroundings);
    case 'filter':
      return inFilter(state, state.mode, key);
    case 'question':
      return inQuestion(state, state.mode, key, surroundings);
    case 'help':
      return inHelp(state, state.mode, key, surroundings);
    case 'machines':
      return inMachines(state, state.mode, key, surroundings);
    case 'follow':
      return inFollow(state, state.mode, key, surroundings);
  }
}

function stop(state: WatchState, { canStop, now }: KeySurroundings): Pressed {
  if (canStop) return { state, wish: { type: 'suspend' } };
  return { state: saying(state, 'Ctrl-Z would stop the batch: q leaves the view', now) };
}

function inList(state: WatchState, key: Key, surroundings: KeySurroundings): Pressed {
  const { overview, seen } = surroundings;
  const move = moveOf(key);
  if (move !== undefined)
    return { state: overview === undefined ? state : moveSelection(state, move, overview, seen) };
  switch (keyWord(key)) {
    case 'q':
      return { state, wish: { type: 'quit' } };
    case '/':
      return { state: { ...state, mode: { type: 'filter', before: state.filter } } };
    case 'escape':
      return state.filter === '' ? { state } : { state: { ...state, filter: '' }, wish: { type: 'filter' } };
    case '?':
      return { state: { ...state, mode: { type: 'help', first: 0 } } };
    case 'm':
      return { state: { ...state, mode: { type: 'machines', first: 0 } } };
    case 'f':
    case 'return':
    case 'enter':
      return follow(state, surroundings);
    case 'h':
      return act(state, 'hold', surroundings);
    case 'r':
      return act(state, 'release', surroundings);
    case 'K':
    case 'x':
      return act(state, 'kill', surroundings);
    case 'tab':
      return { state: overview === undefined ? state : nextSection(state, overview) };
    case '1':
    case '2':
    case '3':
      return { state: toSection(state, overview, Number(key.text) - 1) };
    default:
      return { state };
  }
}

/** Letters as they were typed, since K and k differ; other keys by name. */
function keyWord({ name, text, ctrl, meta }: Key): string | undefined {
  if (ctrl || meta) return undefined;
  return text !== undefined && /^[!-~]$/.test(text) ? text : name;
}

/** Where a key moves to; undefined for one that does not. */
function moveOf(key: Key): Move | undefined {
  switch (keyWord(key)) {
    case 'up':
    case 'k':
      return 'up';
    case 'down':
    case 'j':
      return 'down';
    case 'pageup':
      return 'back';
    case 'pagedown':
    case 'space':
      return 'on';
    case 'home':
    case 'g':
      return 'first';
    case 'end':
    case 'G':
      return 'last';
    default:
      return undefined;
  }
}

/** A place that was moved within these ends. */
function moved(
  from: number,
  move: Move,
  { page, first, last }: { page: number; first: number; last: number },
) {
  const steps = { up: -1, down: 1, back: -page, on: page, first: -Infinity, last: Infinity }[move];
  return Math.max(first, Math.min(last, from + steps));
}

/** The first job of that list, if it has one. */
function toSection(state: WatchState, overview: Overview | undefined, place: number): WatchState {
  const section = SECTIONS[place];
  if (overview === undefined || section === undefined || overview[section].jobs.length === 0) return state;
  return select(state, overview, section, 0);
}

function follow(state: WatchState, { overview, now }: KeySurroundings): Pressed {
  const job = selectedJob(state, overview);
  if (job === undefined) return { state: saying(state, 'no job is selected', now) };
  const { message: _, ...rest } = state;
  return {
    state: { ...rest, mode: { type: 'follow', id: job.id, name: job.name, left: 0 } },
    wish: { type: 'follow', id: job.id },
  };
}

function act(state: WatchState, action: WatchAction, { overview, actions, now }: KeySurroundings): Pressed {
  if (!actions.includes(action)) return { state: saying(state, `jobs cannot be ${DONE[action]} here`, now) };
  const job = selectedJob(state, overview);
  if (job === undefined) return { state: saying(state, 'no job is selected', now) };
  const { id, name } = job;
  if (action === 'kill' && FINAL_STATES.includes(job.state))
    return { state: saying(state, `job ${id} has ended already`, now) };
  if (action === 'kill') return { state: { ...state, mode: { type: 'question', action, id, name } } };
  return { state, wish: { type: 'act', action, id } };
}

const DONE: Readonly<Record<WatchAction, string>> = { hold: 'held', release: 'released', kill: 'killed' };

function inFilter(state: WatchState, mode: Mode & { type: 'filter' }, key: Key): Pressed {
  switch (key.name) {
    case 'return':
    case 'enter':
      return { state: { ...state, mode: LIST } };
    case 'escape':
      return refiltered({ ...state, mode: LIST }, '');
    case 'backspace':
      // Backspace in an empty field leaves it, with what was there before.
      return state.filter === ''
        ? refiltered({ ...state, mode: LIST }, mode.before)
        : refiltered(state, Array.from(state.filter).slice(0, -1).join(''));
    default:
      break;
  }
  if (key.ctrl && key.name === 'u') return refiltered(state, '');
  const { text } = key;
  if (key.ctrl || key.meta || text === undefined || text === '' || visibleText(text) !== text)
    return { state };
  return refiltered(state, (state.filter + text).slice(0, MOST_FILTER));
}

function refiltered(state: WatchState, filter: string): Pressed {
  return filter === state.filter ? { state } : { state: { ...state, filter }, wish: { type: 'filter' } };
}

function inQuestion(
  state: WatchState,
  { action, id }: Mode & { type: 'question' },
  key: Key,
  { now }: KeySurroundings,
): Pressed {
  switch (keyWord(key)) {
    case 'y':
    case 'Y':
      return { state: { ...state, mode: LIST }, wish: { type: 'act', action, id } };
    case 'n':
    case 'N':
    case 'q':
    case 'escape':
      return { state: saying({ ...state, mode: LIST }, `job ${id} is not ${DONE[action]}`, now) };
    default:
      return { state }; // a key that was meant for something else neither kills nor hides the question
  }
}

function inHelp(
  state: WatchState,
  mode: Mode & { type: 'help' },
  key: Key,
  { page, helpEnd }: KeySurroundings,
): Pressed {
  const move = moveOf(key);
  if (move === undefined) return { state: { ...state, mode: mode.back ?? LIST } };
  const first = moved(mode.first, move, { page, first: 0, last: helpEnd });
  return { state: { ...state, mode: { ...mode, first } } };
}

function inMachines(
  state: WatchState,
  mode: Mode & { type: 'machines' },
  key: Key,
  { overview, page }: KeySurroundings,
): Pressed {
  const move = moveOf(key);
  if (move !== undefined) {
    const last = Math.max(0, (overview?.machines.length ?? 0) - 1);
    const first = moved(mode.first, move, { page, first: 0, last });
    return { state: { ...state, mode: { ...mode, first } } };
  }
  const word = keyWord(key);
  if (word === 'm' || word === 'q' || word === 'escape') return { state: { ...state, mode: LIST } };
  return { state };
}

function inFollow(state: WatchState, mode: FollowMode, key: Key, { page, output }: KeySurroundings): Pressed {
  const word = keyWord(key);
  if (word === 'q' || word === 'f' || word === 'escape' || (key.ctrl && key.name === 'c'))
    return { state: { ...state, mode: LIST }, wish: { type: 'unfollow' } };
  if (word === '?') return { state: { ...state, mode: { type: 'help', first: 0, back: mode } } };
  if (word === 'left' || word === 'right') {
    const left = Math.max(0, mode.left + (word === 'left' ? -SIDEWAYS : SIDEWAYS));
    return { state: { ...state, mode: { ...mode, left } } };
  }
  const move = moveOf(key);
  if (move === undefined) return { state };
  const { top: old, ...rest } = mode;
  const last = Math.max(output.first, output.end - page);
  const top = moved(Math.max(output.first, old ?? last), move, { page, first: output.first, last });
  // At the end it follows again.
  return { state: { ...state, mode: top >= last ? rest : { ...rest, top } } };
}
