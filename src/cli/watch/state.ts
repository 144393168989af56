/** What the user has chosen in the view. Plain data; `press` in keys makes the next one. */
import type { Overview, OverviewJob } from '../../lib/domain/overview.ts';
import type { WatchAction } from './source.ts';

/** The lists of jobs, from the top of the screen. */
export const SECTIONS = ['running', 'waiting', 'ended'] as const;
export type Section = (typeof SECTIONS)[number];

/**
 * A job's output fills the screen. `top`: the number of the first line shown, counted since the output began; absent while
 * the end is shown. `left`: how many columns are hidden at the left.
 */
export interface FollowMode {
  readonly type: 'follow';
  readonly id: string;
  readonly name: string;
  readonly top?: number;
  readonly left: number;
}

/** What keys go to, apart from the list. */
export type Mode =
  | { readonly type: 'list' }
  /** A filter is typed; `before` is what it was. */
  | { readonly type: 'filter'; readonly before: string }
  | { readonly type: 'question'; readonly action: WatchAction; readonly id: string; readonly name: string }
  /** From its `first` line on. `back`: what it stands before, if not the list. */
  | { readonly type: 'help'; readonly first: number; readonly back?: FollowMode }
  /** All of the screen is for machines, from the `first` one on. */
  | { readonly type: 'machines'; readonly first: number }
  | FollowMode;

/** Something to say, and since when. `at`: epoch milliseconds. */
export interface Message {
  readonly text: string;
  readonly at: number;
}

/** All that is chosen. */
export interface WatchState {
  readonly mode: Mode;
  readonly filter: string;
  /** The selected job's id, and where it stood in which list; no id before there was one. */
  readonly selected: { readonly id: string | undefined; readonly section: Section; readonly index: number };
  /** What to say for a while. */
  readonly message?: Message;
  /** What has to be seen: it stays until a key is pressed `NOTICE_MS` later. */
  readonly notice?: Message;
}

/** At the start. */
export const FIRST_STATE: WatchState = {
  mode: { type: 'list' },
  filter: '',
  selected: { id: undefined, section: 'running', index: 0 },
};

/** For how long a message is shown. */
export const MESSAGE_MS = 4000;

/** For how long what has to be seen stays at least, whatever is typed. */
export const NOTICE_MS = 3000;

/** Shows the text for a while. */
export function saying(state: WatchState, text: string, now: number): WatchState {
  return { ...state, message: { text, at: now } };
}

/** All jobs that can be selected, in the order of the screen. */
export function jobsOf(overview: Overview | undefined): readonly OverviewJob[] {
  return overview === undefined ? [] : SECTIONS.flatMap((section) => overview[section].jobs);
}

/** The selected job, if it is there. */
export function selectedJob(state: WatchState, overview: Overview | undefined): OverviewJob | undefined {
  const { id } = state.selected;
  return id === undefined ? undefined : jobsOf(overview).find((job) => job.id === id);
}

/** The selection stays with its job while lists change; when that has gone, with its place in its list. */
export function keepSelection(state: WatchState, overview: Overview): WatchState {
  const { id, section, index } = state.selected;
  for (const own of SECTIONS) {
    const found = overview[own].jobs.findIndex((job) => job.id === id);
    if (found !== -1) return select(state, overview, own, found);
  }
  return select(state, overview, section, index);
}

/** Selects the job at this place of the list, or the nearest; where that list is empty, the first job of all; without jobs nothing changes. */
export function select(state: WatchState, overview: Overview, section: Section, index: number): WatchState {
  const { jobs } = overview[section];
  const place = Math.min(Math.max(0, index), jobs.length - 1);
  const id = jobs[place]?.id;
  if (id !== undefined) return { ...state, selected: { id, section, index: place } };
  const other = SECTIONS.find((own) => overview[own].jobs.length > 0);
  if (other !== undefined) return select(state, overview, other, 0);
  // A filter that finds nothing is soon another one.
  return state;
}
