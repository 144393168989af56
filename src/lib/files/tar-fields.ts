/** The fields of a tar archive's headers: text and numbers. What is no number is undefined; nothing is guessed. */

/** Text up to its first NUL. */
export function text(block: Buffer, at: number, length: number): string {
  const field = block.toString('latin1', at, at + length);
  const end = field.indexOf('\0');
  return end < 0 ? field : field.slice(0, end);
}

/** Octal digits between blanks and NULs; none are 0. */
export function octal(block: Buffer, at: number, length: number): number | undefined {
  const digits = block.toString('latin1', at, at + length).replace(/^[ \0]+|[ \0]+$/g, '');
  if (!/^[0-7]*$/.test(digits)) return undefined;
  const value = digits === '' ? 0 : Number.parseInt(digits, 8);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Octal digits, or GNU's binary form: first bit set, the rest in two's complement. */
export function number(block: Buffer, at: number, length: number): number | undefined {
  const first = block[at] ?? 0;
  if (first < 0x80) return octal(block, at, length);
  let value = first & 0x40 ? BigInt(first) - 0x100n : BigInt(first & 0x7f);
  for (let i = at + 1; i < at + length; i++) value = value * 256n + BigInt(block[i] ?? 0);
  const exact = Number(value);
  return Number.isSafeInteger(exact) ? exact : undefined;
}

/** Decimal digits alone, as pax has sizes. */
export function decimal(digits: string): number | undefined {
  const value = /^\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

/** A pax header's time: seconds with an optional sign and fraction. */
export function seconds(digits: string): number | undefined {
  return /^-?\d{1,16}(\.\d{1,20})?$/.test(digits) ? Number(digits) : undefined;
}

/** A pax header's records, `LENGTH KEY=VALUE\n` each, the length being that of the whole record. latin1. */
export function paxRecords(body: Buffer): Map<string, string> | undefined {
  const records = new Map<string, string>();
  for (let at = 0; at < body.length; ) {
    const blank = body.indexOf(0x20, at);
    const length = blank < 0 ? undefined : decimal(body.toString('latin1', at, blank));
    const equals = body.indexOf(0x3d, blank);
    if (length === undefined || equals < 0) return undefined;
    const end = at + length;
    if (equals >= end || end > body.length || body[end - 1] !== 0x0a) return undefined;
    records.set(body.toString('latin1', blank + 1, equals), body.toString('latin1', equals + 1, end - 1));
    at = end;
  }
  return records;
}
