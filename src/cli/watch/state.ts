/** What the user has chosen in the view. Plain data; `press` in keys makes the next one. */
import type { Overview, OverviewJob } from '../../lib/domain/overview.ts';
import type { WatchAction } from './source.ts';

/** The lists of jobs, from the top of the screen. */
export const SECTIONS = ['running', 'waiting', 'ended'] as const;
export type Section = (typeof SECTIONS)[number];

/** What keys go to, apart from the list. */
export type Mode =
  | { readonly type: 'list' }
  /** A filter is typed; `before` is what it was. */
  | { readonly type: 'filter'; readonly before: string }
  | { readonly type: 'question'; readonly action: WatchAction; readonly id: string; readonly name: string }
  | { readonly type: 'help' }
  /** All of the screen is for machines, from the `first` one on. */
  | { readonly type: 'machines'; readonly first: number }
  /**
   * A job's output fills the screen. `top`: the number of the first line shown, counted since the output began; absent
   * while the end is shown. `left`: how many columns are hidden at the left.
   */
  | {
      readonly type: 'follow';
      readonly id: string;
      readonly name: string;
      readonly top?: number;
      readonly left: number;
    };

/** All that is chosen. */
export interface WatchState {
  readonly mode: Mode;
  readonly filter: string;
  /** The selected job's id, and where it stood among all jobs shown; -1 before there was one. */
  readonly selected: { readonly id: string | undefined; readonly index: number };
  /** What to say for a while. `at`: epoch milliseconds. */
  readonly message?: { readonly text: string; readonly at: number };
}

/** At the start. */
export const FIRST_STATE: WatchState = {
  mode: { type: 'list' },
  filter: '',
  selected: { id: undefined, index: -1 },
};

/** For how long a message is shown. */
export const MESSAGE_MS = 8000;

/** All jobs that can be selected, in the order of the screen. */
export function jobsOf(overview: Overview | undefined): readonly OverviewJob[] {
  return overview === undefined ? [] : SECTIONS.flatMap((section) => overview[section].jobs);
}

/** The selected job, if it is there. */
export function selectedJob(state: WatchState, overview: Overview | undefined): OverviewJob | undefined {
  const { id } = state.selected;
  return id === undefined ? undefined : jobsOf(overview).find((job) => job.id === id);
}

/** The selection stays with its job while lists change; when that has gone, what stands in its place is selected. */
export function keepSelection(state: WatchState, overview: Overview): WatchState {
  const jobs = jobsOf(overview);
  const found = jobs.findIndex(({ id }) => id === state.selected.id);
  return select(state, jobs, found === -1 ? Math.max(0, state.selected.index) : found);
}

/** Selects the job at this place, or the nearest. */
export function select(state: WatchState, jobs: readonly OverviewJob[], index: number): WatchState {
  const place = Math.min(Math.max(0, index), jobs.length - 1);
  const id = jobs[place]?.id;
  if (id === undefined) return { ...state, selected: { id: undefined, index: -1 } };
  return { ...state, selected: { id, index: place } };
}
