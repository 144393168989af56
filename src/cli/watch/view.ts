/** The whole screen as lines, from what is known and the room there is. */
import type { Overview } from '../../lib/domain/overview.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { momentText } from '../report/moment-text.ts';
import { bottomLines } from './bottom-lines.ts';
import { followLines } from './follow-lines.ts';
import type { FollowedOutput } from './followed-output.ts';
import { helpLines } from './help-lines.ts';
import { countsText } from './job-lines.ts';
import { bothEnds, fitLine, type Line, line, lineWidth } from './line.ts';
import { type ListsRoom, listsLines, seenJobs } from './list-lines.ts';
import { machineLines } from './machine-lines.ts';
import type { Seen } from './moves.ts';
import type { WatchAction, WatchEvent, WatchSource } from './source.ts';
import { selectedJob, type WatchState } from './state.ts';
import { filterText, fitTitle } from './title-text.ts';

/** All that is drawn. */
export interface Picture {
  readonly title: string;
  readonly actions: readonly WatchAction[];
  /** Epoch milliseconds. */
  readonly now: number;
  readonly state: WatchState;
  /** Absent before the first answer. */
  readonly overview: Overview | undefined;
  /** When that came. Epoch milliseconds. @default now */
  readonly heardAt?: number | undefined;
  /** For how long a question has been without an answer. */
  readonly unansweredMs?: number | undefined;
  /** From then on it is said that there is no answer. @default 5000 */
  readonly silentMs?: number | undefined;
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
/** For so long after an answer jobs are taken to run on. A little more than lies between two answers. */
const TRUSTED_MS = 3000;

/** At most `rows` lines, none wider than `columns`; the last one is for keys, questions and messages. */
export function viewLines(picture: Picture, size: Size): Line[] {
  const { rows, columns } = size;
  if (rows < 1 || columns < 1) return [];
  const bottom = bottomLines(picture, size);
  const room = rows - bottom.length;
  const above = linesAbove(picture, { columns, rows: room }).slice(0, room);
  while (above.length < room) above.push([]);
  return [...above, ...bottom].map((spans) => fitLine(spans, columns));
}

/** How many jobs of each list are seen in the list's screen. */
export function seenIn(picture: Picture, size: Size): Seen {
  const { overview } = picture;
  if (overview === undefined) return { running: 0, waiting: 0, ended: 0 };
  const above = { columns: size.columns, rows: size.rows - bottomLines(picture, size).length };
  const head = headLines(picture, above);
  const room = { columns: above.columns, rows: above.rows - head.length };
  const { lists } = partsOf(picture, overview, room);
  return seenJobs(listsPicture(picture, overview), lists);
}

function linesAbove(picture: Picture, size: Size): Line[] {
  const { mode } = picture.state;
  if (mode.type === 'help') return helpPart(mode.first, size);
  const head = headLines(picture, size);
  const room = { columns: size.columns, rows: size.rows - head.length };
  if (mode.type === 'follow') return [...head, ...followLines(picture.output, mode, picture.overview, room)];
  if (picture.overview === undefined) return [...head, line(`  ${firstAnswerText(picture)}`, 'faint')];
  if (mode.type === 'machines') return [...head, ...machinesPart(picture.overview, mode.first, room)];
  return [...head, ...listPart(picture, picture.overview, room)];
}

function helpPart(first: number, { columns, rows }: Size): Line[] {
  const lines = helpLines(columns);
  const start = Math.max(0, Math.min(first, lines.length - rows));
  return lines.slice(start).map((text) => line(text));
}

/** Filter, title and clock; counts; and whether it is away. */
function headLines(picture: Picture, { columns, rows }: Size): Line[] {
  const { title, now, state, overview } = picture;
  const clock = line(clockText(now));
  const room = columns - clockText(now).length - 2;
  const filter: Line =
    state.filter === '' ? [] : [{ text: filterText(state.filter, room), style: 'warning' }, { text: '  ' }];
  const shown = fitTitle(title, room - lineWidth(filter));
  const lines: Line[] = [bothEnds([...filter, { text: shown, style: 'title' }], clock, columns)];
  if (overview !== undefined && rows >= 5 && state.mode.type !== 'follow')
    lines.push(line(countsText(overview.counts, columns)));
  const away = awayText(picture);
  if (away !== undefined) lines.push(line(away, 'warning'));
  return lines;
}

function awayText({
  away,
  trouble,
  now,
  overview,
  unansweredMs,
  silentMs = 5000,
}: Picture): string | undefined {
  if (away !== undefined) {
    const since = `${momentText(away.since, now)} (${durationText(now - away.since, 0)})`;
    return `away since ${since}: ${away.reason}; trying again`;
  }
  if (trouble !== undefined) return `no answer: ${trouble}; trying again`;
  if (overview === undefined || unansweredMs === undefined || unansweredMs < silentMs) return undefined;
  return `no answer for ${durationText(unansweredMs, 0)}: it is stopped or very busy; still waiting`;
}

function firstAnswerText({ unansweredMs = 0 }: Picture): string {
  return unansweredMs < 1000
    ? 'waiting for an answer'
    : `waiting for an answer for ${durationText(unansweredMs, 0)}`;
}

function clockText(now: number): string {
  const seconds = String(new Date(now).getSeconds()).padStart(2, '0');
  return `${momentText(now, now)}:${seconds}`;
}

/** Machines from the first one on, as many as fit. */
function machinesPart({ machines }: Overview, first: number, { columns, rows }: Size): Line[] {
  const lines = machineLines(machines.slice(first), columns).flat();
  return [
    machinesHeading(machines.length, first > 0 ? `from ${first + 1} on` : ''),
    ...lines.slice(0, rows - 1),
  ];
}

function machinesHeading(count: number, remark: string): Line {
  return [
    { text: `MACHINES ${count}`, style: 'title' },
    { text: remark === '' ? '' : `  ${remark}`, style: 'faint' },
  ];
}

/** What stands above and below the lists, and the room that is left to them. */
function partsOf(picture: Picture, overview: Overview, { columns, rows }: Size) {
  const machines = machinesInShort(overview, { columns, rows: Math.floor((rows + 2) * MACHINES_SHARE) });
  const last = lastLines(picture, rows);
  const lists: ListsRoom = { columns, rows: rows - machines.length - last.length };
  return { machines, last, lists };
}

/** Machines, the three lists, the selected job's command, the last events. */
function listPart(picture: Picture, overview: Overview, room: Size): Line[] {
  const { machines, last, lists } = partsOf(picture, overview, room);
  const lines = listsLines(listsPicture(picture, overview), lists).slice(0, lists.rows);
  while (lines.length < lists.rows) lines.push([]);
  return [...machines, ...lines, ...last];
}

/** Times of jobs go on for a little while after an answer, by the clock of who gave it: then nobody knows whether they still run. */
function listsPicture({ state, now, heardAt = now }: Picture, overview: Overview) {
  const beyondMs = Math.min(TRUSTED_MS, Math.max(0, now - heardAt));
  return { state, overview, now: overview.at + beyondMs };
}

/** As many machines as fit, each whole, and how many there are besides. */
function machinesInShort({ machines }: Overview, { columns, rows }: Size): Line[] {
  if (machines.length === 0 || rows < 2) return [];
  const all = machineLines(machines, columns);
  if (all.flat().length + 1 <= rows) return [machinesHeading(machines.length, ''), ...all.flat()];
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
  return [machinesHeading(machines.length, more === 0 ? 'm: more' : `and ${more} more below: m`), ...lines];
}

/** The selected job's command in one line, and the last events, where there is room. */
function lastLines({ state, overview, events, now }: Picture, rows: number): Line[] {
  if (rows < 12) return [];
  const job = selectedJob(state, overview);
  const command = line(job === undefined ? '' : `$ ${job.command}`, 'faint');
  const shown = events.slice(rows >= 18 ? -2 : -1);
  return [command, ...shown.map(({ at, text }) => line(`${momentText(at, now)} ${text}`, 'faint'))];
}
