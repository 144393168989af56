/** Checks of JSON that people may have edited. A mistake is told with its path, what was found and what is expected. */
import { UsageError } from '../domain/errors.ts';

/** Throws a UsageError when the value at this path is not as it has to be. */
export type Check = (value: unknown, path: string) => void;

/** Throws the error for a mistake. */
export function mistake(path: string, expected: string, value: unknown): never {
  const text = shownValue(value);
  throw new UsageError(
    `${path}: expected ${expected}, found ${text.length > 60 ? `${text.slice(0, 57)}...` : text}`,
  );
}

function shownValue(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'nothing';
  } catch {
    return 'something nested too deeply'; // JSON.parse reads what JSON.stringify cannot write
  }
}

const simple =
  (expected: string, holds: (value: unknown) => boolean): Check =>
  (value, path) => {
    if (!holds(value)) mistake(path, expected, value);
  };

export const text = simple('text', (value) => typeof value === 'string');
export const filledText = simple(
  'text that is not empty',
  (value) => typeof value === 'string' && value !== '',
);
export const truth = simple('true or false', (value) => typeof value === 'boolean');
export const wholeNumber = simple('a whole number', Number.isSafeInteger);
export const absolutePath = simple(
  'an absolute path',
  (value) => typeof value === 'string' && value.startsWith('/') && !value.includes('\0'),
);

/** A whole number of at least so many. */
export const wholeFrom = (least: number): Check =>
  simple(
    `a whole number of at least ${least}`,
    (value) => Number.isSafeInteger(value) && (value as number) >= least,
  );

/** A number from `least` to `most`, fractions allowed. */
export const numberWithin = (least: number, most = Number.POSITIVE_INFINITY): Check =>
  simple(
    most === Number.POSITIVE_INFINITY ? `a number of at least ${least}` : `a number from ${least} to ${most}`,
    (value) => typeof value === 'number' && Number.isFinite(value) && value >= least && value <= most,
  );

/** One of these words. */
export const oneOf = (...words: readonly string[]): Check =>
  simple(`one of ${words.join(', ')}`, (value) => typeof value === 'string' && words.includes(value));

/** A list whose items are all such. */
export const listOf =
  (item: Check): Check =>
  (value, path) => {
    if (!Array.isArray(value)) mistake(path, 'a list', value);
    for (const [index, one] of (value as unknown[]).entries()) item(one, `${path}[${index}]`);
  };

/** An object by names, whose values are all such. */
export const mapOf =
  (item: Check): Check =>
  (value, path) => {
    for (const [key, one] of Object.entries(objectAt(value, path))) item(one, `${path}.${key}`);
  };

/** This word, or a list of such items. */
export const wordOrList =
  (word: string, item: Check): Check =>
  (value, path) => {
    if (value === word) return;
    if (!Array.isArray(value)) mistake(path, `a list, or "${word}"`, value);
    listOf(item)(value, path);
  };

/** An object with all fields of `needed`, some of `optional`, and no others. */
export const fields =
  (needed: Readonly<Record<string, Check>>, optional: Readonly<Record<string, Check>> = {}): Check =>
  (value, path) => {
    const object = objectAt(value, path);
    for (const [key, check] of Object.entries(needed)) {
      if (!Object.hasOwn(object, key)) throw new UsageError(`${join(path, key)}: is missing`);
      check(object[key], join(path, key));
    }
    for (const key of Object.keys(object)) {
      if (Object.hasOwn(needed, key)) continue;
      const check = Object.hasOwn(optional, key) ? optional[key] : undefined;
      if (check === undefined) throw new UsageError(`${join(path, key)}: there is no such field`);
      check(object[key], join(path, key));
    }
  };

/** As the member of a union that its `type` says. */
export const byType =
  (members: Readonly<Record<string, Check>>): Check =>
  (value, path) => {
    const { type } = objectAt(value, path);
    oneOf(...Object.keys(members))(type, join(path, 'type'));
    members[type as string]?.(value, path); // one of them, as was checked
  };

function objectAt(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    mistake(path === '' ? 'the state' : path, 'an object', value);
  return value as Record<string, unknown>; // as was checked
}

function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}
