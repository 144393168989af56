/** The last lines of the screen: what has to be seen, and below it keys, a question, a field or a message. */
import { visibleText } from '../../lib/util/terminal-text.ts';
import { cutAtLeft, type Line, line, wrapText } from './line.ts';
import type { WatchAction } from './source.ts';
import { MESSAGE_MS, type WatchState } from './state.ts';

/** What these lines are drawn from. */
export interface BottomPicture {
  readonly state: WatchState;
  readonly actions: readonly WatchAction[];
  /** Epoch milliseconds. */
  readonly now: number;
}

/** On fewer rows, what has to be seen stands in place of the keys. */
const NOTICE_BESIDE_ROWS = 8;
/** On fewer rows it has one. */
const NOTICE_TWICE_ROWS = 5;

/** One to five lines. */
export function bottomLines(
  picture: BottomPicture,
  { columns, rows }: { readonly columns: number; readonly rows: number },
): Line[] {
  const { notice, mode, message } = picture.state;
  const own = lowestLine(picture, columns);
  if (notice === undefined) return [own];
  const most = rows >= NOTICE_BESIDE_ROWS ? 4 : rows >= NOTICE_TWICE_ROWS ? rows - 2 : 1;
  const lines = noticeLines(notice.text, columns, most);
  if (rows >= NOTICE_BESIDE_ROWS) return [...lines, own];
  const isNewer = message !== undefined && isShown(message, picture.now) && message.at > notice.at;
  return isNewer || mode.type === 'question' || mode.type === 'filter' ? [own] : lines;
}

function noticeLines(text: string, columns: number, most: number): Line[] {
  const lines = wrapText(text, columns);
  const first = lines.slice(0, most - 1);
  // What does not fit is cut at its end when it is drawn.
  return [...first, lines.slice(most - 1).join(' ')]
    .map((own) => line(own, 'warning'))
    .slice(0, lines.length);
}

function isShown({ at }: { readonly at: number }, now: number): boolean {
  return now - at < MESSAGE_MS;
}

function lowestLine({ state, actions, now }: BottomPicture, columns: number): Line {
  const { mode, message, filter } = state;
  switch (mode.type) {
    case 'question':
      return line(`y/n: ${mode.action} job ${labelOf(mode)}?`, 'title');
    case 'filter':
      return filterField(filter, columns);
    default:
      break;
  }
  if (message !== undefined && isShown(message, now)) return line(message.text, 'title');
  switch (mode.type) {
    case 'help':
      return keysLine(['up/down scroll', 'any other key: back'], ['any other key: back'], columns);
    case 'machines':
      return keysLine(['up/down move', 'm back'], ['m back'], columns);
    case 'follow':
      return keysLine(FOLLOW_KEYS, ['q back', '? help'], columns);
    default:
      return keysLine(
        KEYS.filter(([, action]) => action === undefined || actions.includes(action)).map(([word]) => word),
        ['? help', 'q quit'],
        columns,
      );
  }
}

const KEYS: readonly (readonly [string, WatchAction?])[] = [
  ['/ filter'],
  ['f follow'],
  ['h hold', 'hold'],
  ['r release', 'release'],
  ['K kill', 'kill'],
  ['m machines'],
  ['? help'],
  ['q quit'],
];
const FOLLOW_KEYS = ['up/down scroll', 'left/right', 'End newest', '? help', 'q back'] as const;

/** All of them where they fit, else these first ones and of the others as many as fit whole. */
function keysLine(all: readonly string[], first: readonly string[], columns: number): Line {
  const text = all.join('  ');
  if (text.length <= columns) return line(text, 'faint');
  let shown = '';
  for (const word of [...first, ...all.filter((own) => !first.includes(own))]) {
    const longer = shown === '' ? word : `${shown}  ${word}`;
    if (shown !== '' && longer.length > columns) break;
    shown = longer;
  }
  return line(shown, 'faint');
}

/** Columns of the field besides its text: the sign before it, the place for the next letter, and what shows that more is cut. */
const FIELD_FRAME = 5;
const FILTER_KEYS = '   Enter keeps it, Esc ends it, Ctrl-U clears';

/** What is typed, of which the end is always seen. */
function filterField(filter: string, columns: number): Line {
  return [
    { text: `/${cutAtLeft(filter, Math.max(1, columns - FIELD_FRAME))}_`, style: 'title' },
    { text: FILTER_KEYS, style: 'faint' },
  ];
}

/** `17 (train_17)`, or the name alone where that is the id. */
function labelOf({ id, name }: { readonly id: string; readonly name: string }): string {
  return id === name ? id : `${visibleText(id)} (${visibleText(name)})`;
}
