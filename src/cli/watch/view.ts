/** The whole screen as lines, from what is known and the room there is. */
import type { Overview } from '../../lib/domain/overview.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { momentText } from '../report/moment-text.ts';
import { followLines } from './follow-lines.ts';
import type { FollowedOutput } from './followed-output.ts';
import { HELP_LINES } from './help-lines.ts';
import { countsText, jobLines } from './job-lines.ts';
import { bothEnds, fitLine, type Line, line } from './line.ts';
import { machineLines } from './machine-lines.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';
import { MESSAGE_MS, SECTIONS, type Section, selectedJob, type WatchState } from './state.ts';

/** All that is drawn. */
export interface Picture {
  readonly title: string;
  readonly actions: readonly WatchAction[];
  /** Epoch milliseconds. */
  readonly now: number;
  readonly state: WatchState;
  /** Absent before the first answer. */
  readonly overview: Overview | undefined;
  readonly away: WatchSource['away'];
  /** Why the last question was not answered, though it is not away. */
  readonly trouble?: string | undefined;
  /** The last ones, oldest first. */
  readonly events: readonly WatchEvent[];
  /** Of the job that is followed. */
  readonly output?: FollowedOutput | undefined;
}

/** Room on the screen. */
export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** The share of the screen that machines get beside jobs. */
const MACHINES_SHARE = 1 / 3;

/** At most `rows` lines, none wider than `columns`; the last one is for keys, questions and messages. */
export function viewLines(picture: Picture, size: Size): Line[] {
  const { rows, columns } = size;
  if (rows < 1 || columns < 1) return [];
  const bottom = bottomLine(picture);
  const above = linesAbove(picture, { columns, rows: rows - 1 }).slice(0, rows - 1);
  while (above.length < rows - 1) above.push([]);
  return [...above, bottom].map((spans) => fitLine(spans, columns));
}

function linesAbove(picture: Picture, size: Size): Line[] {
  const { mode } = picture.state;
  if (mode.type === 'help') return [...HELP_LINES.map((text) => line(text))];
  const head = headLines(picture, size);
  const room = { columns: size.columns, rows: size.rows - head.length };
  if (mode.type === 'follow') return [...head, ...followLines(picture.output, mode, picture.overview, room)];
  if (picture.overview === undefined) return [...head, line('  no answer yet', 'faint')];
  if (mode.type === 'machines') return [...head, ...machinesPart(picture.overview, mode.first, room)];
  return [...head, ...listPart(picture, picture.overview, room)];
}

/** Title and clock, counts, and whether it is away. */
function headLines(picture: Picture, { columns, rows }: Size): Line[] {
  const { title, now, state, overview } = picture;
  const filter: Line =
    state.filter === '' ? [] : [{ text: '  filter: ' }, { text: state.filter, style: 'title' }];
  const lines: Line[] = [
    bothEnds([{ text: title, style: 'title' }, ...filter], line(clockText(now)), columns),
  ];
  if (overview !== undefined && rows >= 6 && state.mode.type !== 'follow')
    lines.push(line(countsText(overview.counts)));
  const away = awayText(picture);
  if (away !== undefined) lines.push(line(away, 'warning'));
  return lines;
}

function awayText({ away, trouble, now }: Picture): string | undefined {
  if (away !== undefined) {
    const since = `${momentText(away.since, now)} (${durationText(now - away.since, 0)})`;
    return `away since ${since}: ${away.reason}; trying again`;
  }
  return trouble === undefined ? undefined : `no answer: ${trouble}; trying again`;
}

function clockText(now: number): string {
  const seconds = String(new Date(now).getSeconds()).padStart(2, '0');
  return `${momentText(now, now)}:${seconds}`;
}

/** Machines from the first one on, as many as fit. */
function machinesPart({ machines }: Overview, first: number, { columns, rows }: Size): Line[] {
  const lines = machineLines(machines.slice(first), columns).flat();
  return [
    headingLine('MACHINES', machines.length, first > 0 ? `from ${first + 1} on` : ''),
    ...lines.slice(0, rows - 1),
  ];
}

function headingLine(word: string, count: number, remark: string): Line {
  return [
    { text: `${word} ${count}`, style: 'title' },
    { text: remark === '' ? '' : `  ${remark}`, style: 'faint' },
  ];
}

/** Machines, the three lists, the selected job's command, the last events. */
function listPart(picture: Picture, overview: Overview, { columns, rows }: Size): Line[] {
  const machines = machinesInShort(overview, { columns, rows: Math.floor((rows + 2) * MACHINES_SHARE) });
  const last = lastLines(picture, rows);
  const room = rows - machines.length - last.length;
  const lists = listsLines(picture, overview, { columns, rows: room });
  while (lists.length < room) lists.push([]);
  return [...machines, ...lists.slice(0, room), ...last];
}

/** As many machines as fit, each whole, and how many there are besides. */
function machinesInShort({ machines }: Overview, { columns, rows }: Size): Line[] {
  if (machines.length === 0 || rows < 2) return [];
  const heading = headingLine('MACHINES', machines.length, '');
  const all = machineLines(machines, columns);
  if (all.flat().length + 1 <= rows) return [heading, ...all.flat()];
  const lines: Line[] = [];
  let shown = 0;
  // One row for the heading, which says how many more there are.
  for (const own of all) {
    if (lines.length + own.length > rows - 1) break;
    lines.push(...own);
    shown++;
  }
  if (shown === 0) {
    lines.push(...(all[0] ?? []).slice(0, rows - 1));
    shown = 1;
  }
  const more = machines.length - shown;
  return [
    headingLine('MACHINES', machines.length, more === 0 ? 'm: more' : `and ${more} more below: m`),
    ...lines,
  ];
}

/** The selected job's command, and the last events, where there is room. */
function lastLines({ state, overview, events, now }: Picture, rows: number): Line[] {
  if (rows < 12) return [];
  const job = selectedJob(state, overview);
  const command = line(job === undefined ? '' : `$ ${job.command}`, 'faint');
  const shown = events.slice(rows >= 18 ? -2 : -1);
  return [command, ...shown.map(({ at, text }) => line(`${momentText(at, now)} ${text}`, 'faint'))];
}

const HEADINGS: Readonly<Record<Section, string>> = {
  running: 'RUNNING',
  waiting: 'WAITING',
  ended: 'ENDED',
};

/** One list with all the lines it would take. */
interface List {
  readonly section: Section;
  readonly jobs: readonly (readonly Line[])[];
  readonly height: number;
  /** The place of the selected job; -1 when it is in another list. */
  readonly selected: number;
}

function listsLines({ state, now }: Picture, overview: Overview, { columns, rows }: Size): Line[] {
  const { id } = state.selected;
  const lists = SECTIONS.flatMap((section): List[] => {
    const { jobs } = overview[section];
    if (jobs.length === 0) return [];
    const lines = jobLines(jobs, { section, columns, now, selected: id });
    const selected = jobs.findIndex((job) => job.id === id);
    return [{ section, jobs: lines, height: lines.flat().length + 1, selected }];
  });
  if (lists.length === 0)
    return [line(state.filter === '' ? '  no jobs' : '  no job matches the filter', 'faint')];
  const heights = sharedRows(lists, rows);
  return lists.flatMap((list, i) => listLines(list, overview, heights[i] ?? 0));
}

/** Each list gets its part; what one does not need goes to the list with the selection, then to the others from the top. */
function sharedRows(lists: readonly List[], rows: number): number[] {
  const part = Math.floor(rows / lists.length);
  const heights = lists.map(({ height }) => Math.min(height, part));
  let left = rows - heights.reduce((sum, height) => sum + height, 0);
  const order = lists
    .map((_, i) => i)
    .sort((a, b) => Number(isSelected(lists[b])) - Number(isSelected(lists[a])));
  for (const i of order) {
    const more = Math.min(left, (lists[i]?.height ?? 0) - (heights[i] ?? 0));
    heights[i] = (heights[i] ?? 0) + more;
    left -= more;
  }
  // A heading without a job under it says nothing, and the selected job has to be seen.
  return part >= 2 ? heights : lists.map((list, i) => (i === order[0] ? Math.min(list.height, rows) : 0));
}

function isSelected(list: List | undefined): boolean {
  return list !== undefined && list.selected !== -1;
}

/** The heading and the jobs around the selected one, or the first ones, in just so many lines or fewer. */
function listLines({ section, jobs, selected }: List, overview: Overview, rows: number): Line[] {
  if (rows < 1) return [];
  const room = rows - 1;
  // Where each job begins, and where the last one ends.
  const starts = [0];
  for (const own of jobs) starts.push((starts.at(-1) ?? 0) + own.length);
  const start = selected < 1 ? 0 : startLine(starts, selected, room);
  const from = starts.indexOf(start);
  const behind = starts.findLastIndex((begin) => begin < start + room);
  const { count, isCut } = overview[section];
  const isAll = from === 0 && behind >= jobs.length - 1 && count === jobs.length;
  const remarks = [
    ...(isCut === true ? ['or more'] : []),
    ...(isAll || room < 1 ? [] : [`${from + 1} to ${Math.min(behind + 1, jobs.length)} shown`]),
  ];
  const heading = headingLine(HEADINGS[section], count, remarks.join(', '));
  return [heading, ...jobs.flat().slice(start, start + room)];
}

/** The first line shown, so that the selected job stands about in the middle, whole if it can be. */
function startLine(starts: readonly number[], selected: number, room: number): number {
  const before = starts[selected] ?? 0;
  const wanted = Math.max(0, Math.min(before - Math.floor(room / 2), (starts.at(-1) ?? 0) - room));
  // A job's second line never stands at the top without its first.
  const start = starts.find((begin) => begin >= wanted) ?? 0;
  return Math.min(start, before);
}

const KEYS = '/ filter  f follow  h hold  r release  K kill  m machines  ? help  q quit';

function bottomLine({ state, actions, now }: Picture): Line {
  const { mode, message, filter } = state;
  switch (mode.type) {
    case 'question':
      return line(`${mode.action} job ${labelOf(mode)}? y/n`, 'title');
    case 'filter':
      return [
        { text: `/${filter}`, style: 'title' },
        { text: '_   Enter keeps it, Esc clears it', style: 'faint' },
      ];
    case 'help':
      return line('any key: back', 'faint');
    default:
      break;
  }
  if (message !== undefined && now - message.at < MESSAGE_MS) return line(message.text, 'title');
  if (mode.type === 'machines') return line('up/down move  m back', 'faint');
  if (mode.type === 'follow') return line('up/down scroll  left/right  End newest  q back', 'faint');
  const keys = KEYS.split('  ').filter((key) =>
    ACTION_KEYS.every(([action, word]) => key !== word || actions.includes(action)),
  );
  return line(keys.join('  '), 'faint');
}

const ACTION_KEYS: readonly (readonly [WatchAction, string])[] = [
  ['hold', 'h hold'],
  ['release', 'r release'],
  ['kill', 'K kill'],
];

/** `17 (train_17)`, or the name alone where that is the id. */
function labelOf({ id, name }: { readonly id: string; readonly name: string }): string {
  return id === name ? id : `${id} (${name})`;
}
