/** Ranges in names of hosts: `gpu[01-12,15]` to names, and names back to the shortest list. */
import { UsageError } from '../domain/errors.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';

/** The most names that a range, or a whole list of hosts, may stand for. */
export const MOST_HOSTS = 10_000;

// Up to here every whole number is exact, and so is the next one.
const MOST_DIGITS = 15;
// Longer than any user, host and port together; it bounds what many names of a long text take up.
const LONGEST_NAME = 1000;
const EXAMPLE = 'gpu[01-12,15]';

/** The numbers from `first` to `last`, written with at least `width` digits. */
interface Span {
  readonly first: number;
  readonly last: number;
  readonly width: number;
}

/** The parts of a list: it is split at commas outside brackets, and white space around a part is left out. */
export function splitHostList(text: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let isInside = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '[') isInside = true;
    else if (character === ']') isInside = false;
    else if (character === ',' && !isInside) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return [...parts, text.slice(start).trim()];
}

/**
 * The names that a text with ranges stands for, in their order, each once: `r[1-2]n[09-10]` is r1n09, r1n10, r2n09,
 * r2n10. Numbers have at least as many digits as the first of their range. A text without ranges is one name, and
 * brackets around an IPv6 address (`[::1]:22`) are no range.
 * @throws UsageError for a mistake in a range, and, before any name is made, for more than `mostNames` of them.
 */
export function expandRange(text: string, mostNames: number = MOST_HOSTS): string[] {
  const pieces = readPieces(text);
  if (pieces.every((piece) => typeof piece === 'string')) return [text];
  const count = pieces.reduce((product, piece) => product * countOf(piece), 1);
  if (count > mostNames) {
    const found = count > 10 ** MOST_DIGITS ? 'more than 10^15' : String(count);
    throw new UsageError(`found ${found} names in "${shown(text)}", expected at most ${mostNames}`);
  }
  const length = pieces.reduce((sum, piece) => sum + longestOf(piece), 0);
  if (length > LONGEST_NAME) {
    throw new UsageError(
      `found names of ${length} characters in "${shown(text)}", expected at most ${LONGEST_NAME}`,
    );
  }
  let names = [''];
  for (const piece of pieces) {
    const texts = typeof piece === 'string' ? [piece] : numbersIn(piece);
    names = names.flatMap((name) => texts.map((more) => name + more));
  }
  return [...new Set(names)];
}

/**
 * The shortest list that stands for the names: `gpu[01-03,07],login`. Each name is in it once, in natural order, and
 * expanding it gives the same names. A name that holds `[`, `]` or `,`, or a number of more than 15 digits, stands as
 * it is.
 */
export function foldNames(names: Iterable<string>): string {
  // Names are alike when only their numbers differ.
  const alike = new Map<string, { readonly between: readonly string[]; rows: string[][] }>();
  const folded: { readonly text: string; readonly first: string }[] = [];
  for (const name of new Set(names)) {
    const between = name.split(/\d+/);
    const numbers = name.match(/\d+/g) ?? [];
    if (/[[\],]/.test(name) || numbers.length === 0 || numbers.some((n) => n.length > MOST_DIGITS)) {
      folded.push({ text: name, first: name });
      continue;
    }
    const key = between.join('0');
    const group = alike.get(key);
    if (group === undefined) alike.set(key, { between, rows: [numbers] });
    else group.rows.push(numbers);
  }
  for (const { between, rows } of alike.values()) {
    for (const row of foldRows(rows, between.length - 1)) {
      const texts = row.map((numbers) => (/[-,]/.test(numbers) ? `[${numbers}]` : numbers));
      const firsts = row.map((numbers) => numbers.split(/[-,]/, 1)[0] ?? '');
      folded.push({ text: interleave(between, texts), first: interleave(between, firsts) });
    }
  }
  folded.sort((a, b) => compareNames(a.first, b.first));
  return folded.map(({ text }) => text).join(',');
}

/** Orders names as people do: gpu2 is before gpu10. Only equal names are equal. */
export function compareNames(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const endA = endOfDigits(a, i);
    const endB = endOfDigits(b, j);
    if (endA > i && endB > j) {
      const startA = skipZeros(a, i, endA);
      const startB = skipZeros(b, j, endB);
      if (endA - startA !== endB - startB) return endA - startA - (endB - startB);
      const order = comparePlain(a.slice(startA, endA), b.slice(startB, endB));
      if (order !== 0) return order;
      i = endA;
      j = endB;
    } else {
      const order = a.charCodeAt(i) - b.charCodeAt(j);
      if (order !== 0) return order;
      i++;
      j++;
    }
  }
  // They differ in zeros before a number at most, when neither has more.
  return a.length - i - (b.length - j) || comparePlain(a, b);
}

function comparePlain(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

function endOfDigits(text: string, start: number): number {
  let end = start;
  while (end < text.length && text.charCodeAt(end) >= 48 && text.charCodeAt(end) <= 57) end++;
  return end;
}

function skipZeros(text: string, start: number, end: number): number {
  let at = start;
  while (at < end - 1 && text[at] === '0') at++;
  return at;
}

/** Plain texts and what is in brackets between them, in turn as written. */
function readPieces(text: string): (string | readonly Span[])[] {
  const pieces: (string | readonly Span[])[] = [];
  let rest = text;
  while (rest !== '') {
    const open = rest.search(/[[\]]/);
    if (open < 0) return [...pieces, rest];
    if (rest[open] === ']') throw mistake('a `]` without `[`', text);
    if (open > 0) pieces.push(rest.slice(0, open));
    const end = rest.slice(open + 1).search(/[[\]]/);
    if (end < 0) throw mistake('a `[` without `]`', text);
    const inside = rest.slice(open + 1, open + 1 + end);
    if (rest[open + 1 + end] === '[') throw mistake('a `[` inside brackets', text);
    // Only an address has a colon there.
    pieces.push(inside.includes(':') ? `[${inside}]` : inside.split(',').map((part) => readSpan(part, text)));
    rest = rest.slice(open + end + 2);
  }
  return pieces;
}

function readSpan(part: string, text: string): Span {
  const written = `"${shown(part)}"`;
  const groups = /^\s*(?<first>\d+)(?:-(?<last>\d+))?\s*$/.exec(part)?.groups;
  const first = groups?.first;
  if (first === undefined) {
    throw mistake(part.trim() === '' ? 'nothing where a number belongs' : `${written} as a range`, text);
  }
  const last = groups?.last ?? first;
  if (first.length > MOST_DIGITS || last.length > MOST_DIGITS) {
    throw mistake(`a number of more than ${MOST_DIGITS} digits`, text);
  }
  // 01-100 can only mean 01, 02 ... 99, 100; but what 01-001 or 001-12 are to look like nobody can tell.
  const hasZeros = isPadded(first) || isPadded(last);
  if (hasZeros && first.length !== last.length && (isPadded(last) || last.length < first.length)) {
    throw mistake(`${written}, whose two numbers have zeros to different widths,`, text);
  }
  const span = { first: Number(first), last: Number(last), width: first.length };
  if (span.first > span.last) throw mistake(`${written}, which counts down,`, text);
  return span;
}

function isPadded(digits: string): boolean {
  return digits.length > 1 && digits.startsWith('0');
}

function mistake(found: string, text: string): UsageError {
  return new UsageError(`found ${found} in "${shown(text)}", expected ranges of numbers as in ${EXAMPLE}`);
}

function shown(text: string): string {
  // Cut first, since measuring a text of megabytes would take long.
  return cutToWidth(visibleText(text.slice(0, 200)), 80);
}

function countOf(piece: string | readonly Span[]): number {
  return typeof piece === 'string' ? 1 : piece.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

function longestOf(piece: string | readonly Span[]): number {
  if (typeof piece === 'string') return piece.length;
  return piece.reduce((most, { last, width }) => Math.max(most, width, String(last).length), 0);
}

function numbersIn(spans: readonly Span[]): string[] {
  return spans.flatMap(({ first, last, width }) =>
    Array.from({ length: last - first + 1 }, (_, i) => String(first + i).padStart(width, '0')),
  );
}

/** Joins rows that differ in one column only, the last column first: what is left is a full product of its columns. */
function foldRows(rows: readonly string[][], columns: number): readonly string[][] {
  let folded = rows;
  for (let column = columns - 1; column >= 0; column--) {
    const byOthers = new Map<string, { readonly row: string[]; readonly numbers: string[] }>();
    for (const row of folded) {
      const number = row[column] ?? '';
      const key = row.with(column, '').join('|');
      const same = byOthers.get(key);
      if (same === undefined) byOthers.set(key, { row, numbers: [number] });
      else same.numbers.push(number);
    }
    folded = [...byOthers.values()].map(({ row, numbers }) => row.with(column, foldNumbers(numbers)));
  }
  return folded;
}

/** Different numbers as written to `01-03,07`. */
function foldNumbers(numbers: readonly string[]): string {
  const [only = ''] = numbers;
  if (numbers.length === 1) return only;
  const left = new Set(numbers);
  const spans: { readonly first: string; readonly last: string }[] = [];
  // Those with zeros first: 10 can go on from 09 and from 9, but 09 only begins a range of its own kind.
  const starts = numbers.toSorted(compareNames).toSorted((a, b) => Number(isPadded(b)) - Number(isPadded(a)));
  for (const first of starts) {
    if (!left.delete(first)) continue;
    let last = first;
    for (;;) {
      const next = String(Number(last) + 1).padStart(first.length, '0');
      if (!left.delete(next)) break;
      last = next;
    }
    spans.push({ first, last });
  }
  spans.sort((a, b) => compareNames(a.first, b.first));
  return spans.map(({ first, last }) => (first === last ? first : `${first}-${last}`)).join(',');
}

function interleave(between: readonly string[], numbers: readonly string[]): string {
  return between.map((text, i) => text + (numbers[i] ?? '')).join('');
}
