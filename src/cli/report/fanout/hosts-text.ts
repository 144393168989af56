/** Names of machines, folded, as they stand in lines for people. */
import { compareNames, foldNames } from '../../../lib/machine/host-range.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';

/** `gpu[01-03] (3)`, and `gpu01` without a count. */
export function countedHosts(names: readonly string[]): string {
  const text = visibleText(foldNames(names));
  return names.length === 1 ? text : `${text} (${names.length})`;
}

/**
 * `gpu[01-03,07],login` where that fits into `length` characters, else the first names that do and how many more there
 * are: `gpu[01-03] and 500 more`. There is always one name.
 */
export function hostsWithin(names: readonly string[], length: number): string {
  const text = visibleText(foldNames(names));
  if (text.length <= length || names.length === 1) return text;
  const sorted = [...names].sort(compareNames);
  let shown = 1;
  let tooMany = sorted.length;
  while (tooMany - shown > 1) {
    const middle = Math.floor((shown + tooMany) / 2);
    if (visibleText(foldNames(sorted.slice(0, middle))).length <= length) shown = middle;
    else tooMany = middle;
  }
  return `${visibleText(foldNames(sorted.slice(0, shown)))} and ${names.length - shown} more`;
}
