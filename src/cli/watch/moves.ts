/** Where keys move the selection to. */
import type { Overview } from '../../lib/domain/overview.ts';
import { SECTIONS, type Section, select, type WatchState } from './state.ts';

/** `first`, `last`: the ends of what is moved in. `back`, `on`: by as much as is seen. */
export type Move = 'up' | 'down' | 'back' | 'on' | 'first' | 'last';

/** How many jobs of each list are seen. */
export type Seen = Readonly<Record<Section, number>>;

const STEPS: Readonly<Partial<Record<Move, number>>> = { up: -1, down: 1 };

/** By one through all lists; by a page within a list, and from its end into the next; to its end, and from there to the end of all. */
export function moveSelection(state: WatchState, move: Move, overview: Overview, seen: Seen): WatchState {
  const { section, index } = state.selected;
  const last = overview[section].jobs.length - 1;
  const page = Math.max(1, seen[section]);
  switch (move) {
    case 'up':
    case 'down':
      return across(state, overview, STEPS[move] ?? 0);
    case 'back':
      return index > 0 ? select(state, overview, section, index - page) : across(state, overview, -1);
    case 'on':
      return index < last ? select(state, overview, section, index + page) : across(state, overview, 1);
    case 'first':
      return index > 0 ? select(state, overview, section, 0) : toEnd(state, overview, [...SECTIONS], 0);
    case 'last':
      return index < last
        ? select(state, overview, section, last)
        : toEnd(state, overview, [...SECTIONS].reverse(), Number.POSITIVE_INFINITY);
  }
}

/** By one, where needed into the nearest list that has jobs. */
function across(state: WatchState, overview: Overview, step: number): WatchState {
  const { section, index } = state.selected;
  const next = index + step;
  if (next >= 0 && next < overview[section].jobs.length) return select(state, overview, section, next);
  const place = SECTIONS.indexOf(section);
  const others = step > 0 ? SECTIONS.slice(place + 1) : SECTIONS.slice(0, place).reverse();
  const other = others.find((own) => overview[own].jobs.length > 0);
  if (other === undefined) return state;
  return select(state, overview, other, step > 0 ? 0 : Number.POSITIVE_INFINITY);
}

function toEnd(state: WatchState, overview: Overview, order: readonly Section[], index: number): WatchState {
  const section = order.find((own) => overview[own].jobs.length > 0);
  return section === undefined ? state : select(state, overview, section, index);
}

/** The first job of the next list that has some, after the last again the first. */
export function nextSection(state: WatchState, overview: Overview): WatchState {
  const place = SECTIONS.indexOf(state.selected.section) + 1;
  const order = [...SECTIONS.slice(place), ...SECTIONS.slice(0, place)];
  return toEnd(state, overview, order, 0);
}
