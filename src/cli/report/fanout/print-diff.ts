/** `--diff`: how machines differ from what most of them answer. */
import { isUtf8 } from 'node:buffer';
import type { StructuredPatch } from 'diff';
import type { MachineName } from '../../../lib/domain/machine.ts';
import { compareNames } from '../../../lib/machine/host-range.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';
import type { ByteOut, ByteOuts } from './byte-out.ts';
import type { AnswerGroup } from './gathered.ts';
import { countedHosts } from './hosts-text.ts';
import { printErrors } from './print-gathered.ts';
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
 * by itself; the names in the headers are machines. Binary, long and very different texts get one line. What machines
 * printed to stderr goes to stderr as with `printGathered`. Says through `tell` when there is nothing to show.
 */
export async function printDiff(
  groups: readonly AnswerGroup[],
  outs: ByteOuts,
  tell: (message: string) => void,
): Promise<void> {
  const ended = groups.filter(({ outcome }) => outcome.type === 'exited' || outcome.type === 'signalled');
  const [expected, ...others] = textsOf(ended);
  if (expected !== undefined && others.length > 0) await printDiffs(expected, others, outs.out);
  for (const group of groups) printErrors(group, outs.err);
  if (expected === undefined || others.length > 0) return;
  const count = expected.machines.length;
  if (count === 1) tell('one host answers: there is nothing to compare it with');
  else if (ended.length === 1) tell(`all ${count} hosts answer alike`);
  else tell(`all ${count} hosts print the same on stdout, but differ in exit code or on stderr`);
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
  for (const other of others) {
    const hosts = countedHosts(other.machines);
    const text = expectedText === undefined ? undefined : comparableText(other.stdout);
    const patch =
      expectedText === undefined || text === undefined
        ? undefined
        : structuredPatch('', '', expectedText, text, undefined, undefined, {
            context: CONTEXT_LINES,
            maxEditLength: MOST_CHANGED_LINES,
            timeout: Math.max(0, until - Date.now()),
          });
    out.write(
      patch === undefined
        ? `${hosts} differs (${bytesText(other.stdout.bytes)}; ${expected.stdout.bytes} expected)\n`
        : `--- ${countedHosts(expected.machines)}\n+++ ${hosts}\n${hunksText(patch, out.isTTY === true)}`,
    );
  }
}

/** Nothing for what is binary or too long. */
function comparableText(text: SpoolText): string | undefined {
  if (text.bytes > LONGEST_BYTES) return undefined;
  const bytes = Buffer.concat([...text.pieces()]);
  return isUtf8(bytes) && !bytes.includes(0) ? bytes.toString() : undefined;
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
