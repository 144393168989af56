/** Numbers that a machine printed: plain decimals within bounds, or nothing. */

/** The number, or undefined for what is no plain decimal number from 0 to `most`. */
export function machineNumber(text: string | undefined, most: number): number | undefined {
  if (text === undefined || !/^\d{1,20}(\.\d{1,20})?$/.test(text)) return undefined;
  const value = Number(text);
  return value <= most ? value : undefined;
}
