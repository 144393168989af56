/** What combine_folders says: the lines for people, and the progress on a terminal. */
import { assertNever } from '../../lib/domain/errors.ts';
import type { CombineProgress, CombineResult } from '../../lib/folders/combine.ts';
import type { Conflict, OnConflict } from '../../lib/folders/plan.ts';
import { formatBytes } from '../../lib/util/size.ts';
import { cutToWidth, visibleText } from '../../lib/util/terminal-text.ts';
import type { TerminalStream } from './live-footer.ts';

const MOST_LISTED = 50;
const MOST_PLACES = 8;

/** Lines about conflicts, the first of them a sentence; no more than fifty paths. */
export function conflictLines(conflicts: readonly Conflict[], onConflict: OnConflict): string[] {
  const hint =
    onConflict === 'error' && conflicts.some(({ type }) => type === 'content')
      ? ' (--on-conflict keep-first, keep-newest or rename settles files that differ)'
      : '';
  return [
    `${counted(conflicts.length, 'conflict')}, nothing was written${hint}:`,
    ...upToMost(conflicts.map(conflictText)),
  ];
}

function conflictText({ path, type, found }: Conflict): string {
  const shown = visibleText(path);
  const places = found.map(({ folder, what }) => ({ folder: visibleText(folder), what: visibleText(what) }));
  switch (type) {
    case 'content':
      return `${shown}: differs in ${listed(places.map(({ folder }) => folder))}`;
    case 'kind':
      return `${shown}: ${listed(places.map(({ folder, what }) => `a ${what} in ${folder}`))}`;
    case 'case':
      return `${shown}: ${places.map(({ folder, what }) => `${what} in ${folder}`).join(', ')}: one name to the destination's disk`;
    default:
      return assertNever(type);
  }
}

/** Names in a line: some, and how many more. */
function listed(names: readonly string[]): string {
  const first = names.slice(0, MOST_PLACES).join(', ');
  return names.length > MOST_PLACES ? `${first} and ${names.length - MOST_PLACES} more` : first;
}

/** Lines about what was left out; empty when nothing was. */
export function leftOutLines({ leftOut }: CombineResult): string[] {
  if (leftOut.length === 0) return [];
  const texts = leftOut.map(({ folder, path, what }) => {
    const why = what === 'unfinished' ? 'from an interrupted combine_folders' : `a ${what}`;
    return `${visibleText(folder)}: ${visibleText(path)} (${why})`;
  });
  return [`left out ${counted(leftOut.length, 'path')}:`, ...upToMost(texts)];
}

/** The one line at the end. */
export function summaryLine(result: CombineResult, dest: string, isDryRun: boolean): string {
  const { counts, renamed } = result;
  const shown = visibleText(dest);
  const parts = [
    `${counted(counts.files, 'file')} (${formatBytes(counts.bytes)})`,
    ...(counts.links > 0 ? [counted(counts.links, 'link')] : []),
    counted(counts.folders, 'new folder'),
  ];
  const notes = [
    [counts.identical, 'identical'],
    [counts.dropped, 'dropped for others of the same path'],
    [counts.replaced, 'replaced by newer ones'],
    [renamed.length, 'renamed'],
    [counts.linked, 'hard-linked'],
    [counts.copiedInstead, 'copied, as they cannot be linked'],
    [result.leftOut.length, 'left out'],
  ] as const;
  const said = notes.filter(([count]) => count > 0).map(([count, what]) => `; ${number(count)} ${what}`);
  if (counts.files + counts.links + counts.folders === 0) {
    return `${isDryRun ? 'dry run: ' : ''}${shown} has everything already${said.join('')}`;
  }
  const verb = isDryRun ? 'dry run: would put' : 'put';
  return `${verb} ${parts.join(', ')} into ${shown}${said.join('')}`;
}

/** A progress line that is drawn over and over on a terminal. */
export class CombineProgressLine {
  readonly #terminal: TerminalStream | undefined;
  #isDrawn = false;

  /** Draws nothing where stderr is no terminal that can move the cursor. */
  constructor(stderr: TerminalStream, environment: NodeJS.ProcessEnv = process.env) {
    // A pseudo-terminal of unknown size has 0 columns.
    const canDraw = stderr.isTTY === true && Boolean(stderr.columns) && environment.TERM !== 'dumb';
    this.#terminal = canDraw ? stderr : undefined;
  }

  draw({ phase, files, ofFiles, bytes, ofBytes }: CombineProgress): void {
    if (this.#terminal === undefined) return;
    const text =
      phase === 'listing'
        ? `comparing: ${counted(files, 'path')} so far`
        : `writing: ${number(files)} of ${counted(ofFiles, 'file')}, ${formatBytes(bytes)} of ${formatBytes(ofBytes)}`;
    this.#terminal.write(`\r\x1b[K${cutToWidth(text, (this.#terminal.columns ?? 80) - 1)}`);
    this.#isDrawn = true;
  }

  /** Takes the line off the screen. */
  clear(): void {
    if (this.#isDrawn) this.#terminal?.write('\r\x1b[K');
    this.#isDrawn = false;
  }
}

function upToMost(texts: readonly string[]): string[] {
  const lines = texts.slice(0, MOST_LISTED).map((text) => `  ${text}`);
  if (texts.length > MOST_LISTED) lines.push(`  and ${number(texts.length - MOST_LISTED)} more`);
  return lines;
}

function counted(count: number, noun: string): string {
  return `${number(count)} ${noun}${count === 1 ? '' : 's'}`;
}

function number(value: number): string {
  return value.toLocaleString('en');
}
