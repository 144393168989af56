/** What is watched and the filter, where there is little room for both. */
import { cutToWidth, textWidth, visibleText } from '../../lib/util/terminal-text.ts';
import { cutAtLeft } from './line.ts';

/** At least so many columns of a filter are shown. */
const LEAST_FILTER = 10;

/** `filter: TEXT`, cut to half of so many columns. */
export function filterText(filter: string, columns: number): string {
  const words = 'filter: ';
  const room = Math.max(LEAST_FILTER, Math.floor(columns / 2) - words.length);
  return words + cutToWidth(visibleText(filter), room);
}

/** The title in so many columns if it can be: its longest paths lose their beginnings first, each but its last part. */
export function fitTitle(title: string, columns: number): string {
  const words = visibleText(title).split(' ');
  const paths = [...words.keys()]
    .filter((i) => words[i]?.includes('/'))
    .sort((a, b) => textWidth(words[b] ?? '') - textWidth(words[a] ?? ''));
  for (const i of paths) {
    const beyond = textWidth(words.join(' ')) - columns;
    if (beyond <= 0) break;
    words[i] = shortPath(words[i] ?? '', beyond);
  }
  return words.join(' ');
}

/** `(/home/ann/data)` becomes `(...ann/data)`. */
function shortPath(word: string, beyond: number): string {
  const [, opening = '', path = ''] = /^([([]?)(.*)$/s.exec(word) ?? [];
  const lastPart = path.slice(path.lastIndexOf('/', path.length - 2));
  const least = textWidth(lastPart) + '...'.length;
  const width = textWidth(path);
  return width <= least ? word : opening + cutAtLeft(path, Math.max(least, width - beyond));
}
