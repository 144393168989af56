/** `--diff`: how machines differ from what most of them answer. */
import { isUtf8 } from 'node:buffer';
import type { StructuredPatch } from 'diff';
import type { MachineName } from '../../../lib/domain/machine.ts';
import { compareNames } from '../../../lib/machine/host-range.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';
import type { ByteOut, ByteOuts } from './byte-out.ts';
import type { AnswerGroup } from './gathered.ts';
import { countedHosts } from './hosts-text.ts';
import { type PrintOptions, printAnswer, printErrors } from './print-gathered.ts';
import type { SpoolText } from './spool.ts';

const CONTEXT_LINES = 3;
/** Longer texts are only said to differ. */
const LONGEST_BYTES = 1024 * 1024;
/** Texts that differ in more lines are only said to differ: the time grows with the square. */
const MOST_CHANGED_LINES = 4000;
/** The same for those that are still to be compared after this time. */
const LONGEST_MS = 10_000;

/** Machines that print the same on stdout. */
interface Text {
  readonly machines: MachineName[];
  readonly stdout: SpoolText;
}

/**
 * Writes unified diffs of stdout to stdout, each against the most common text among the machines where the command ended
 * by itself; the names in the headers are machines. Binary, long and very different texts get one line that says so. What
 * machines printed where the command was cut short, and to stderr, is printed as by `printGathered`. Says through `tell`
 * when there is nothing to compare.
 */
export async function printDiff(
  groups: readonly AnswerGroup[],
  outs: ByteOuts,
  tell: (message: string) => void,
  options: PrintOptions = {},
): Promise<void> {
  const ended = groups.filter(hasEnded);
  const [expected, ...others] = textsOf(ended);
  if (expected !== undefined && others.length > 0) await printDiffs(expected, others, outs.out);
  // What was cut short is no answer to compare, but worth to be seen.
  for (const group of groups) {
    if (!hasEnded(group)) await printAnswer(group, outs.out);
    await printErrors(group, outs.err, options);
  }
  if (expected === undefined || others.length > 0) return;
  const count = expected.machines.length;
  if (count === 1) tell('one host answers: there is nothing to compare it with');
  else if (ended.length === 1) tell(`all ${count} hosts answer alike`);
  else tell(`all ${count} hosts print the same on stdout, but differ in exit code or on stderr`);
}

/** Whether the command ended by itself. */
function hasEnded({ outcome }: AnswerGroup): boolean {
  return outcome.type === 'exited' || outcome.type === 'signalled';
}

/** The most common first, among equals the one with the first machine. */
function textsOf(groups: readonly AnswerGroup[]): Text[] {
  const texts = new Map<string, Text>();
  for (const { stdout, machines } of groups) {
    const text = texts.get(stdout.digest);
    if (text === undefined) texts.set(stdout.digest, { stdout, machines: [...machines] });
    else text.machines.push(...machines);
  }
  for (const { machines } of texts.values()) machines.sort(compareNames);
  return [...texts.values()].sort(
    (a, b) => b.machines.length - a.machines.length || compareNames(a.machines[0] ?? '', b.machines[0] ?? ''),
  );
}

async function printDiffs(expected: Text, others: readonly Text[], out: ByteOut): Promise<void> {
  const { structuredPatch } = await import('diff');
  const expectedText = comparableText(expected.stdout);
  const until = Date.now() + LONGEST_MS;
  /** The difference, or why there is none. */
  const compare = (other: SpoolText): StructuredPatch | string => {
    const text = comparableText(other);
    if ('reason' in text) return text.reason;
    if ('reason' in expectedText) return `the most common one is ${expectedText.reason}`;
    const timeout = until - Date.now();
    const noTime = `more than ${LONGEST_MS / 1000} s of comparing`;
    if (timeout <= 0) return noTime;
    const options = { context: CONTEXT_LINES, maxEditLength: MOST_CHANGED_LINES, timeout };
    const patch = structuredPatch('', '', expectedText.text, text.text, undefined, undefined, options);
    return patch ?? (Date.now() >= until ? noTime : `more than ${MOST_CHANGED_LINES} lines differ`);
  };
  for (const other of others) {
    const hosts = countedHosts(other.machines);
    const found = compare(other.stdout);
    out.write(
      typeof found === 'string'
        ? `${hosts} differs: ${found} (${bytesText(other.stdout.bytes)}; ${expected.stdout.bytes} expected)\n`
        : `--- ${countedHosts(expected.machines)}\n+++ ${hosts}\n${hunksText(found, out.isTTY === true)}`,
    );
    await out.ready?.();
  }
}

function comparableText(text: SpoolText): { readonly text: string } | { readonly reason: string } {
  if (text.bytes > LONGEST_BYTES) return { reason: 'longer than 1 MiB' };
  const bytes = Buffer.concat([...text.pieces()]);
  return isUtf8(bytes) && !bytes.includes(0) ? { text: bytes.toString() } : { reason: 'binary' };
}

function hunksText(patch: StructuredPatch, isTerminal: boolean): string {
  const lines: string[] = [];
  for (const { oldStart, oldLines, newStart, newLines, lines: changes } of patch.hunks) {
    lines.push(`@@ -${rangeText(oldStart, oldLines)} +${rangeText(newStart, newLines)} @@`);
    // A difference in tabs or carriage returns has to be seen, so they are not drawn but named.
    for (const change of changes) lines.push(isTerminal ? visibleText(change) : change);
  }
  return `${lines.join('\n')}\n`;
}

function bytesText(bytes: number): string {
  return `${bytes} byte${bytes === 1 ? '' : 's'}`;
}

/** `first,count`; an empty range is named by the line before it. */
function rangeText(first: number, count: number): string {
  if (count === 1) return String(first);
  return `${count === 0 ? first - 1 : first},${count}`;
}
