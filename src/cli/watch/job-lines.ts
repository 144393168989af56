/** Jobs as lines: those that run, those that wait, those that have ended. */
import type { OverviewJob } from '../../lib/domain/overview.ts';
import type { QueueState } from '../../lib/domain/queue.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { textWidth, visibleText } from '../../lib/util/terminal-text.ts';
import { momentText } from '../report/moment-text.ts';
import { outcomeText } from '../report/outcome-text.ts';
import { cell, type Line, type Span } from './line.ts';
import { printedLine } from './printed-text.ts';
import type { Section } from './state.ts';

/** From here on a job's last line stands beside it, not below. */
const WIDE_COLUMNS = 120;
const DURATION_WIDTH = 6;

/** States in words, in the order of the first lines of the screen: what may be cut comes last. */
export const STATE_WORDS: Readonly<Record<QueueState, string>> = {
  running: 'running',
  queued: 'queued',
  'user-hold': 'held',
  holding: 'waiting for others',
  fail: 'failed',
  abort: 'aborted',
  error: 'not started',
  success: 'done',
  killed: 'killed',
};
/** The same where there is little room; what went wrong comes early, since the end may be cut. */
const SHORT_WORDS: Readonly<Record<QueueState, string>> = {
  running: 'run',
  fail: 'fail',
  abort: 'abort',
  error: 'error',
  queued: 'queued',
  'user-hold': 'held',
  holding: 'for others',
  success: 'done',
  killed: 'killed',
};

/** How jobs of a list are drawn. */
export interface JobLinesOptions {
  readonly section: Section;
  readonly columns: number;
  /** Epoch milliseconds. */
  readonly now: number;
  /** The selected job. */
  readonly selected?: string | undefined;
}

/** A job's line, and a second one with what it printed last where that does not stand beside it. */
export interface JobLines {
  readonly own: Line;
  readonly last?: Line;
}

/** The lines of each job. */
export function jobLines(jobs: readonly OverviewJob[], options: JobLinesOptions): JobLines[] {
  const { columns, section } = options;
  const width = (texts: readonly string[], most: number) =>
    Math.min(Math.max(0, ...texts.map((text) => textWidth(visibleText(text)))), most);
  const ids = width(
    jobs.map(({ id, name }) => (id === name ? '' : id)),
    Math.floor(columns / 6),
  );
  const names = width(
    jobs.map(({ name }) => name),
    Math.floor(columns / 4),
  );
  const places = section === 'waiting' ? 0 : width(jobs.map(placeText), Math.floor(columns / 4));
  return jobs.map((job) => {
    const isSelected = job.id === options.selected;
    const id = job.id === job.name ? '' : job.id;
    const label = ids === 0 ? cell(job.name, names) : `${cell(id, ids)} ${cell(job.name, names)}`;
    const head: Line = [
      { text: isSelected ? '> ' : '  ' },
      isSelected ? { text: label, style: 'selected' } : { text: label },
      { text: places === 0 ? '' : `  ${cell(placeText(job), places)}` },
    ];
    if (section === 'running') return runningLines(job, head, options);
    const remark: Span =
      section === 'waiting'
        ? { text: `  ${waitingText(job)}` }
        : { text: `  ${endedText(job, options.now)}`, style: job.state === 'success' ? 'good' : 'bad' };
    return { own: [...head, remark] };
  });
}

/** `gpubox gpu 0,1`. */
function placeText({ machine = '', gpus = [] }: OverviewJob): string {
  return gpus.length === 0 ? machine : `${machine} gpu ${gpus.join(',')}`;
}

function runningLines(job: OverviewJob, head: Line, { columns, now }: JobLinesOptions): JobLines {
  const own: Line = [...head, { text: `  ${forText(job, now).padStart(DURATION_WIDTH)}` }];
  const last = lastLineText(job);
  if (last === '') return { own };
  return columns >= WIDE_COLUMNS
    ? { own: [...own, { text: `  ${last}`, style: 'faint' }] }
    : { own, last: [{ text: `      ${last}`, style: 'faint' }] };
}

/** For how long it has been running. */
export function forText({ startedAt }: OverviewJob, now: number): string {
  return startedAt === undefined ? '' : durationText(now - startedAt, 0);
}

/** What it printed last, as a terminal would show it. */
export function lastLineText({ lastLine = '' }: OverviewJob): string {
  return printedLine(lastLine).trim();
}

/** What it waits for. */
export function waitingText({ state, reason = '' }: OverviewJob): string {
  const word = STATE_WORDS[state];
  if (reason === '') return word;
  return state === 'user-hold' && !reason.includes(word) ? `${word}: ${reason}` : reason;
}

/** How it ended, and when. */
export function endedText({ state, outcome, reason = '', endedAt }: OverviewJob, now: number): string {
  const when = endedAt === undefined ? '' : `, ${momentText(endedAt, now)}`;
  if (state === 'success') return STATE_WORDS.success + when;
  const how = outcome === undefined ? reason : outcomeText(outcome);
  return `${STATE_WORDS[state]}${when}${how === '' ? '' : `: ${how}`}`;
}

/** `3 running  12 queued  1 failed`; states of which there is none are left out. Short words where it is wider than `columns`. */
export function countsText(
  counts: Readonly<Record<QueueState, number>>,
  columns = Number.POSITIVE_INFINITY,
): string {
  const text = (words: Readonly<Record<QueueState, string>>) =>
    (Object.keys(words) as QueueState[]) // it has just these keys
      .flatMap((state) => (counts[state] > 0 ? [`${counts[state]} ${words[state]}`] : []))
      .join('  ');
  const long = text(STATE_WORDS);
  if (long === '') return 'no jobs';
  return long.length <= columns ? long : text(SHORT_WORDS);
}
