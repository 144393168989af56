/** The screen of a job's output. */
import type { Overview } from '../../lib/domain/overview.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import type { FollowedOutput, OutputLine } from './followed-output.ts';
import { STATE_WORDS } from './job-lines.ts';
import { type Line, line, withoutColumns } from './line.ts';
import { type FollowMode, jobsOf } from './state.ts';

/** How many rows of the screen are not output: title, job, keys. */
export const FOLLOW_FRAME_ROWS = 3;

/** Which job it is, then its last lines or those that were scrolled to. */
export function followLines(
  output: FollowedOutput | undefined,
  mode: FollowMode,
  overview: Overview | undefined,
  { rows }: { readonly rows: number },
): Line[] {
  const room = Math.max(0, rows - 1);
  const first = output?.first ?? 0;
  const end = output?.end ?? 0;
  const newest = Math.max(first, end - room);
  const top = Math.min(newest, Math.max(first, mode.top ?? newest));
  const shown = output?.lines(top, room) ?? [];
  const state = jobsOf(overview).find(({ id }) => id === mode.id)?.state;
  const words = [
    mode.id === mode.name ? mode.id : `${mode.id}  ${mode.name}`,
    ...(state === undefined ? [] : [STATE_WORDS[state]]),
    end === 0 ? 'nothing to show yet' : `lines ${top + 1} to ${top + shown.length} of ${end}`,
    ...(output?.isCut === true ? ['earlier ones left out'] : []),
    ...(mode.left === 0 ? [] : [`from column ${mode.left + 1}`]),
    ...(mode.top === undefined ? [] : ['scrolled back']),
  ];
  return [line(words.join('  '), 'title'), ...shown.map((own) => outputLine(own, mode.left))];
}

function outputLine({ stream, text }: OutputLine, left: number): Line {
  if (stream === 'note') return line(`--- ${text} ---`, 'faint');
  const rest = { text: left === 0 ? text : withoutColumns(visibleText(text), left) };
  return stream === 'err' ? [{ text: '! ', style: 'warning' }, rest] : [{ text: '  ' }, rest];
}
