/** `-b`: what machines printed, once for all that printed the same. */

import type { ByteOut, ByteOuts } from './byte-out.ts';
import type { AnswerGroup } from './gathered.ts';
import { countedHosts, hostsWithin } from './hosts-text.ts';
import { LineWriter } from './line-writer.ts';
import type { SpoolText } from './spool.ts';

const RULE = '-'.repeat(15);
/** Before every line a long list of machines would hide the line. */
const PREFIX_LENGTH = 60;

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
export function printGathered(groups: readonly AnswerGroup[], outs: ByteOuts): void {
  for (const group of groups) {
    if (group.stdout.bytes > 0) {
      outs.out.write(`${RULE}\n${countedHosts(group.machines)}\n${RULE}\n`);
      printText(group.stdout, outs.out);
    }
    printErrors(group, outs.err);
  }
}

/** What a group printed to stderr, as `gpu[01-03]: line`. */
export function printErrors({ machines, stderr }: AnswerGroup, err: ByteOut): void {
  if (stderr.bytes === 0) return;
  const lines = new LineWriter(err, `${hostsWithin(machines, PREFIX_LENGTH)}: `);
  for (const piece of stderr.pieces()) lines.write(piece);
  lines.end();
}

function printText(text: SpoolText, out: ByteOut): void {
  if (out.isTTY) {
    const lines = new LineWriter(out, '');
    for (const piece of text.pieces()) lines.write(piece);
    lines.end();
    return;
  }
  let last: number | undefined;
  for (const piece of text.pieces()) {
    out.write(piece);
    last = piece.at(-1);
  }
  // The next heading begins a line.
  if (last !== 0x0a) out.write('\n');
}
