/** `-b`: what machines printed, once for all that printed the same. */

import type { ByteOut, ByteOuts } from './byte-out.ts';
import type { AnswerGroup } from './gathered.ts';
import { countedHosts, hostsWithin } from './hosts-text.ts';
import { LineWriter } from './line-writer.ts';
import type { SpoolText } from './spool.ts';

const RULE = '-'.repeat(15);
/** Before every line a long list of machines would hide the line. */
const PREFIX_LENGTH = 60;

/** Options of `printGathered` and `printErrors`. */
export interface PrintOptions {
  /** Whether lines on stderr have the machines' names before them. @default true */
  readonly names?: boolean;
}

/**
 * ```
 * ---------------
 * gpu[01-03] (3)
 * ---------------
 * what they printed
 * ```
 * The heading and the text go to stdout, without them where nothing was printed there. What a group printed to stderr
 * follows on stderr, its names before each line.
 */
export async function printGathered(
  groups: readonly AnswerGroup[],
  outs: ByteOuts,
  options: PrintOptions = {},
): Promise<void> {
  for (const group of groups) {
    await printAnswer(group, outs.out);
    await printErrors(group, outs.err, options);
  }
}

/** What a group printed to stdout under its heading; nothing where it printed nothing. */
export async function printAnswer({ machines, stdout }: AnswerGroup, out: ByteOut): Promise<void> {
  if (stdout.bytes === 0) return;
  out.write(`${RULE}\n${countedHosts(machines)}\n${RULE}\n`);
  await printText(stdout, out);
}

/** What a group printed to stderr, as `gpu[01-03]: line`. */
export async function printErrors(
  { machines, stderr }: AnswerGroup,
  err: ByteOut,
  { names = true }: PrintOptions = {},
): Promise<void> {
  if (stderr.bytes === 0) return;
  await printLines(stderr, err, names ? `${hostsWithin(machines, PREFIX_LENGTH)}: ` : '');
}

async function printLines(text: SpoolText, out: ByteOut, prefix: string): Promise<void> {
  const lines = new LineWriter(out, prefix);
  for (const piece of text.pieces()) {
    lines.write(piece);
    await out.ready?.();
  }
  lines.end();
}

async function printText(text: SpoolText, out: ByteOut): Promise<void> {
  if (out.isTTY) return await printLines(text, out, '');
  let last: number | undefined;
  for (const piece of text.pieces()) {
    out.write(piece);
    last = piece.at(-1);
    await out.ready?.();
  }
  // The next heading begins a line.
  if (last !== 0x0a) out.write('\n');
}
