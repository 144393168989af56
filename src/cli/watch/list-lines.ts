/** The three lists of jobs, and how they share the screen: running jobs come first, then those that wait, then ended ones. */
import type { Overview, OverviewJobs } from '../../lib/domain/overview.ts';
import type { QueueState } from '../../lib/domain/queue.ts';
import { type JobLines, jobLines } from './job-lines.ts';
import { type Line, line } from './line.ts';
import type { Seen } from './moves.ts';
import { SECTIONS, type Section, type WatchState } from './state.ts';

const HEADINGS: Readonly<Record<Section, string>> = {
  running: 'RUNNING',
  waiting: 'WAITING',
  ended: 'ENDED',
};

const STATES: Readonly<Record<Section, readonly QueueState[]>> = {
  running: ['running'],
  waiting: ['queued', 'holding', 'user-hold'],
  ended: ['success', 'fail', 'killed', 'abort', 'error'],
};

/** What is said of a list in which nothing was found though not all was looked at. */
export const NOT_ALL = 'none found so far; only the first ones were looked at';

/** Rows that a list has at least where there is room: its heading and a job. */
const FEWEST_ROWS = 2;
/** On fewer rows, jobs that wait and ended ones have none before all running ones are there. */
const ROWS_FOR_ALL = 8;
/** Rows that jobs that wait have before second lines of running ones. */
const WAITING_ROWS = 4;
/** The share of the rows that the list with the selection has before the others grow. */
const SELECTED_SHARE = 1 / 3;

/** What the lists are drawn from. */
export interface ListsPicture {
  readonly state: WatchState;
  readonly overview: Overview;
  /** Of the jobs: epoch milliseconds by the clock that their times are of. */
  readonly now: number;
}

/** Room for the lists. */
export interface ListsRoom {
  readonly columns: number;
  readonly rows: number;
}

/** The lists in at most so many lines. */
export function listsLines(picture: ListsPicture, room: ListsRoom): Line[] {
  const lists = listsOf(picture, room.columns);
  if (lists.length === 0)
    return [line(picture.state.filter === '' ? '  no jobs' : '  no job matches the filter', 'faint')];
  const rows = sharedRows(lists, room.rows);
  return lists.flatMap((list, i) => listLines(list, picture, rows[i] ?? 0));
}

/** How many jobs of each list these lines show. */
export function seenJobs(picture: ListsPicture, room: ListsRoom): Seen {
  const lists = listsOf(picture, room.columns);
  const rows = sharedRows(lists, room.rows);
  const seen = { running: 0, waiting: 0, ended: 0 };
  for (const [i, { section, jobs }] of lists.entries())
    seen[section] = Math.max(0, Math.min(jobs.length, (rows[i] ?? 0) - 1));
  return seen;
}

/** One list with all the lines that it would take. */
interface List {
  readonly section: Section;
  readonly jobs: readonly JobLines[];
  /** How many of its jobs have a second line. */
  readonly seconds: number;
  /** The place of the selected job; -1 when it is in another list. */
  readonly selected: number;
}

/** Those that have jobs, or may have some. */
function listsOf({ state, overview, now }: ListsPicture, columns: number): List[] {
  const { id } = state.selected;
  return SECTIONS.flatMap((section): List[] => {
    const { jobs, isCut } = overview[section];
    if (jobs.length === 0 && isCut !== true) return [];
    const lines = jobLines(jobs, { section, columns, now, selected: id });
    const seconds = lines.filter(({ last }) => last !== undefined).length;
    return [{ section, jobs: lines, seconds, selected: jobs.findIndex((job) => job.id === id) }];
  });
}

/** How many rows each list has, its heading among them: what each may grow to, one after the other, for as long as there are rows. */
function sharedRows(lists: readonly List[], rows: number): number[] {
  const heights = lists.map(() => 0);
  let left = rows;
  const grow = (i: number, list: List, upTo: number) => {
    const before = heights[i] ?? 0;
    const height = Math.min(upTo, 1 + list.jobs.length + list.seconds);
    const more = Math.min(left, height - before);
    // A heading without the job under it says nothing.
    if (more <= 0 || (before === 0 && more < Math.min(FEWEST_ROWS, height))) return;
    heights[i] = before + more;
    left -= more;
  };
  const all = [...lists.entries()];
  const selected = all.filter(([, list]) => list.selected !== -1);
  const only = (section: Section) => all.filter(([, list]) => list.section === section);
  // Alone in a row, the selected job has no heading.
  if (rows === 1) return lists.map(({ selected: place }) => (place === -1 ? 0 : 1));
  for (const [i, list] of selected) grow(i, list, FEWEST_ROWS);
  if (rows < ROWS_FOR_ALL) for (const [i, list] of only('running')) grow(i, list, 1 + list.jobs.length);
  for (const [i, list] of all) grow(i, list, FEWEST_ROWS);
  for (const [i, list] of selected) grow(i, list, Math.floor(rows * SELECTED_SHARE));
  for (const [i, list] of only('running')) grow(i, list, 1 + list.jobs.length);
  for (const [i, list] of only('waiting')) grow(i, list, WAITING_ROWS);
  for (const [i, list] of all) grow(i, list, Number.POSITIVE_INFINITY);
  return heights;
}

/** The heading and the jobs around the selected one, or the first ones, in just so many lines or fewer. */
function listLines(list: List, picture: ListsPicture, rows: number): Line[] {
  const { section, jobs, selected } = list;
  if (rows < 1) return [];
  if (rows === 1 && selected !== -1) return [jobs[selected]?.own ?? []];
  const room = rows - 1;
  const wanted = selected - Math.floor(room / 2);
  const from = Math.max(0, Math.min(wanted, jobs.length - room));
  const shown = jobs.slice(from, from + room);
  const seconds = withSecondLine(list, room - jobs.length);
  const lines = shown.flatMap(({ own, last }, i) =>
    last !== undefined && seconds.has(from + i) ? [own, last] : [own],
  );
  return [headingOf(section, picture, from, from + shown.length), ...lines];
}

/** The places of the jobs that have their second line: the selected one, then from the top, `rows` of them. */
function withSecondLine({ jobs, selected }: List, rows: number): ReadonlySet<number> {
  const places = [...jobs.keys()].filter((i) => jobs[i]?.last !== undefined);
  const order = [...places.filter((i) => i === selected), ...places.filter((i) => i !== selected)];
  return new Set(order.slice(0, Math.max(0, rows)));
}

/** `WAITING 286  151 to 200 shown, 86 more: a filter finds them`; `RUNNING 2 of 30` where a filter is on. */
function headingOf(section: Section, { state, overview }: ListsPicture, from: number, to: number): Line {
  const { jobs, count, isCut = false } = overview[section];
  const total = STATES[section].reduce((sum, own) => sum + overview.counts[own], 0);
  const isAll = from === 0 && to === jobs.length;
  const remarks = [
    ...(jobs.length === 0 ? [NOT_ALL] : []),
    ...(isAll ? [] : [`${from + 1} to ${to} shown`]),
    ...(jobs.length > 0 && to === jobs.length ? moreText(overview[section], state.filter) : []),
  ];
  const counted = `${HEADINGS[section]} ${count}${isCut ? '+' : ''}`;
  return [
    { text: state.filter === '' ? counted : `${counted} of ${total}`, style: 'title' },
    { text: remarks.length === 0 ? '' : `  ${remarks.join(', ')}`, style: 'faint' },
  ];
}

/** What comes behind the last job that is known. */
function moreText({ jobs, count, isCut = false }: OverviewJobs, filter: string): string[] {
  const more = count - jobs.length;
  if (more > 0)
    return [`${more}${isCut ? '+' : ''} more: a ${filter === '' ? '' : 'longer '}filter finds them`];
  return isCut ? ['only the first ones were looked at'] : [];
}
