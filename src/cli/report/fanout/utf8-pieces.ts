/** Bytes in pieces, regrouped so that no UTF-8 character is split between two of them. */

const LONGEST_CHARACTER = 4;

/** `at`, or up to three bytes less where a UTF-8 character would be split there: the place where that one begins. */
export function characterEnd(bytes: Buffer, at: number): number {
  for (let start = at - 1; start >= 0 && start > at - LONGEST_CHARACTER; start--) {
    const byte = bytes[start] ?? 0;
    if (byte >= 0x80 && byte < 0xc0) continue; // within a character
    return start + characterLength(byte) > at ? start : at;
  }
  return at;
}

function characterLength(firstByte: number): number {
  if (firstByte >= 0xf0) return firstByte < 0xf8 ? 4 : 1;
  if (firstByte >= 0xe0) return 3;
  return firstByte >= 0xc0 ? 2 : 1;
}

/** The same bytes in pieces that end where a character ends; of bytes that are no UTF-8 the pieces may end anywhere. */
export function* wholeCharacters(pieces: Iterable<Buffer>): Iterable<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for (const piece of pieces) {
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    const end = characterEnd(bytes, bytes.length);
    if (end > 0) yield bytes.subarray(0, end);
    rest = bytes.subarray(end);
  }
  if (rest.length > 0) yield rest;
}
