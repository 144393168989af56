/** `--json`: one JSON object per machine, on one line, for programs. */
import { isUtf8 } from 'node:buffer';
import { type HostOutcome, type HostResult, isGood } from '../../../lib/fanout/host-result.ts';
import type { ByteOut } from './byte-out.ts';
import type { Answer } from './gathered.ts';
import type { SpoolText } from './spool.ts';
import { wholeCharacters } from './utf8-pieces.ts';

const PIECE_LENGTH = 64 * 1024;
// A footer's stand-in for a terminal takes whole lines only.
const TERMINAL_PIECE_LENGTH = 64 * 1024 * 1024;
// JSON may hold these as they are, but a terminal would obey them.
const UNFIT = /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Writes the object with its newline, in pieces, so that output may be longer than a string can be:
 * `{"host":"gpu01","ok":false,"outcome":"exited","exitCode":3,"startedAt":"2026-01-31T12:00:00.000Z","endedAt":...,
 * "seconds":0.4,"stdout":"...","stderr":"..."}`. Output that is no UTF-8 is `stdoutBase64` or `stderrBase64` instead.
 * Where the command never began, `startedAt` and `seconds` are null. Write nothing else to `out` before it resolves.
 */
export async function writeHostJson(
  result: HostResult,
  { stdout, stderr }: Answer,
  out: ByteOut,
): Promise<void> {
  const { machine, outcome, startedAt, endedAt } = result;
  const head = {
    host: machine,
    ok: isGood(result),
    ...outcomeFields(outcome),
    startedAt: startedAt === undefined ? null : new Date(startedAt).toISOString(),
    endedAt: new Date(endedAt).toISOString(),
    seconds: startedAt === undefined ? null : (endedAt - startedAt) / 1000,
  };
  const mostLength = out.isTTY ? TERMINAL_PIECE_LENGTH : PIECE_LENGTH;
  let pending = '';
  for (const piece of linePieces(head, { stdout, stderr })) {
    pending += piece;
    if (pending.length < mostLength) continue;
    out.write(pending);
    pending = '';
    await out.ready?.();
  }
  if (pending !== '') out.write(pending);
}

function outcomeFields(outcome: HostOutcome): object {
  const { type, ...rest } = outcome;
  switch (outcome.type) {
    case 'timed-out':
      return { outcome: type, limitSeconds: outcome.limitMs / 1000, left: outcome.left };
    case 'unreachable':
    case 'lost':
    case 'transfer-failed': {
      const { reason, ...others } = outcome;
      return { outcome: type, ...others, type: undefined, reason: reason.brief, detail: reason.full };
    }
    default:
      return { outcome: type, ...rest };
  }
}

function* linePieces(head: object, answer: Answer): Iterable<string> {
  yield harmless(JSON.stringify(head).slice(0, -1));
  for (const name of ['stdout', 'stderr'] as const) {
    const text = answer[name];
    const isText = isValidUtf8(text);
    yield `,"${name}${isText ? '' : 'Base64'}":"`;
    yield* isText ? escapedPieces(text) : base64Pieces(text);
    yield '"';
  }
  yield '}\n';
}

function isValidUtf8(text: SpoolText): boolean {
  for (const piece of wholeCharacters(text.pieces())) if (!isUtf8(piece)) return false;
  return true;
}

function* escapedPieces(text: SpoolText): Iterable<string> {
  for (const piece of wholeCharacters(text.pieces()))
    yield harmless(JSON.stringify(piece.toString()).slice(1, -1));
}

function* base64Pieces(text: SpoolText): Iterable<string> {
  let rest: Buffer = Buffer.alloc(0);
  for (const piece of text.pieces()) {
    const bytes = Buffer.concat([rest, piece]);
    // Three bytes are four characters: only the last piece may need padding.
    const end = bytes.length - (bytes.length % 3);
    yield bytes.toString('base64', 0, end);
    rest = bytes.subarray(end);
  }
  yield rest.toString('base64');
}

function harmless(json: string): string {
  return json.replace(UNFIT, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
