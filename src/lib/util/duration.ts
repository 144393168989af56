/** Times as people write them, read into milliseconds; `duration-text` writes them. */

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SECONDS = /^(?:\d+(?:\.\d*)?|\.\d+)$/;
const AMOUNT = '\\d+(?:\\.\\d+)?';
const UNITS = new RegExp(
  `^(?:(?<d>${AMOUNT})d)?(?:(?<h>${AMOUNT})h)?(?:(?<m>${AMOUNT})m)?(?:(?<s>${AMOUNT})s)?$`,
  'i',
);
// Only the largest part may be more than the next larger unit holds: anything else is a slip.
const SLURM_TIMES = [
  /^(?<d>\d+)-(?<h>[01]?\d|2[0-3])(?::(?<m>[0-5]?\d)(?::(?<s>[0-5]?\d))?)?$/,
  /^(?<h>\d+):(?<m>[0-5]?\d):(?<s>[0-5]?\d)$/,
  /^(?<m>\d+):(?<s>[0-5]?\d)$/,
] as const;
/** Beyond any batch; far inside exact integers. */
const MOST_MS = 10_000 * 86_400_000;

/**
 * A time in milliseconds. A plain number is seconds: `90`, `0.5`; with units `90s`, `5m`, `1h30m`, `2d`; and as Slurm
 * writes times, `5:00`, `12:00:00`, `1-02:00:00`, `1-02`.
 * @throws RangeError that says what was found and what is expected.
 */
export function parseDurationMs(text: string): number {
  const ms = readMs(text.trim());
  if (ms !== undefined && ms <= MOST_MS) return Math.round(ms);
  throw new RangeError(
    `found the time ${JSON.stringify(text.slice(0, 60))}, expected seconds such as 90, or 90s, 5m, 1h30m, 2d, 1-02:00:00`,
  );
}

function readMs(text: string): number | undefined {
  if (SECONDS.test(text)) return Number(text) * UNIT_MS.s;
  const parts =
    (text === '' ? undefined : UNITS.exec(text)?.groups) ??
    SLURM_TIMES.map((form) => form.exec(text)?.groups).find((groups) => groups !== undefined);
  if (parts === undefined) return undefined;
  let ms = 0;
  for (const unit of ['d', 'h', 'm', 's'] as const) ms += Number(parts[unit] ?? 0) * UNIT_MS[unit];
  return ms;
}
