/**
 * Amounts of memory as people write and read them. Read here and not by a package: the usual ones answer `8G` with
 * 8 bytes.
 */

const MIB_PER_UNIT: Readonly<Record<string, number>> = {
  K: 1 / 1024,
  M: 1,
  G: 1024,
  T: 1024 * 1024,
};
const SIZE = /^(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGT])(?:i?B)?)?$/i;
// Beyond any machine; keeps sums of sizes far inside exact integers.
const MOST_MIB = 2 ** 40;

/**
 * A size in MiB: a plain number is MB, counted as MiB; `800K`, `512M`, `1.5G`, `2T` (also `GB`, `GiB`) are powers of
 * 1024.
 * @throws RangeError that says what was found and what is expected.
 */
export function parseSizeMiB(text: string): number {
  const match = SIZE.exec(text.trim());
  const sizeMiB = Number(match?.[1]) * (MIB_PER_UNIT[match?.[2]?.toUpperCase() ?? 'M'] ?? Number.NaN);
  if (sizeMiB >= 0 && sizeMiB <= MOST_MIB) return sizeMiB;
  throw new RangeError(
    `found the size ${JSON.stringify(text.slice(0, 60))}, expected a number of megabytes such as 2000, or 800K, 512M, 1.5G, 2T`,
  );
}

/** MiB for people: `512 MiB`, `29.9 GiB`. */
export function formatMiB(sizeMiB: number): string {
  return formatBytes(sizeMiB * 1024 * 1024);
}

/** Bytes for people, in powers of 1024: `0 B`, `14 KiB`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let amount = Math.max(0, bytes);
  let unit = 0;
  // 1023.95 would be shown as 1024.0: it is the next unit's 1.0.
  while (amount >= 1023.95 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || amount >= 99.95 || Number.isInteger(amount) ? 0 : 1;
  return `${amount.toFixed(digits)} ${units[unit]}`;
}
