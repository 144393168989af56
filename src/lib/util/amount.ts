/**
 * Integers in place of decimal amounts, so that what is added and taken away all day comes back exactly. One unit
 * is 1/10000 (the idea of fixed-point resource amounts is HyperQueue's); whole amounts such as MiB are integers of 1.
 */

/** Units in an amount of 1. */
export const UNITS_PER_ONE = 10_000;

// 1.1 * 10000 is 11000.000000000002 and 0.29 * 10000 is 2899.9999999999995: a millionth of a unit
// either way is the multiplication's error, not the user's wish.
const TOLERANCE = 1e-6;

/** The least whole number that is not below the amount: for what is asked for and for what others use. */
export function wholeUp(amount: number): number {
  return Math.max(0, Math.ceil(amount - TOLERANCE));
}

/** The greatest whole number that is not above the amount: for what is free. */
export function wholeDown(amount: number): number {
  return Math.floor(amount + TOLERANCE);
}

/** An amount in units, rounded up. */
export function unitsUp(amount: number): number {
  return wholeUp(amount * UNITS_PER_ONE);
}

/** An amount in units, rounded down. */
export function unitsDown(amount: number): number {
  return wholeDown(amount * UNITS_PER_ONE);
}

/** The decimal amount of units. */
export function fromUnits(units: number): number {
  return units / UNITS_PER_ONE;
}
