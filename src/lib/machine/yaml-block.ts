/**
 * One block of `key: value` lines in a YAML file, read key by key, so that every mistake names its own line and
 * column. It knows nothing of machines. A schema library is not used: each message needs the node's place and its
 * text as written, which leaves little for one to do, and loading one costs every command some 45 ms.
 */
import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type Pair,
  type Scalar,
  type YAMLMap,
} from 'yaml';
import { MachineConfigError } from '../domain/errors.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { parseSizeMiB } from '../util/size.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';

const SHOWN_COLUMNS = 80;

/** The file that nodes stand in. */
export interface YamlFile {
  readonly path: string;
  readonly document: Document;
  readonly lines: LineCounter;
}

/** A mistake at a node: `file:line:column: found ..., expected ...`. */
export function mistakeAt(
  file: YamlFile,
  node: unknown,
  found: string,
  expected: string,
): MachineConfigError {
  const { line, column } = positionOf(file, node);
  return new MachineConfigError(`${file.path}:${line}:${column}: found ${found}, expected ${expected}`);
}

/** Where a node begins, from 1; the file's first character for what is no node. */
export function positionOf(file: YamlFile, node: unknown): { line: number; column: number } {
  const range = (node as { range?: readonly number[] } | null | undefined)?.range; // every yaml node may have one
  const { line, col } = file.lines.linePos(range?.[0] ?? 0);
  return { line: Math.max(1, line), column: Math.max(1, col) }; // linePos answers 0 for an empty file
}

/** What kind of node it is, without any of its text: where a whole block is expected, the text may be a secret. */
export function kindOf(node: unknown): string {
  if (isMap(node)) return 'a block of keys';
  if (isSeq(node)) return 'a list';
  const value = isScalar(node) ? node.value : undefined;
  if (value === null || value === undefined) return 'nothing';
  return typeof value === 'string' ? 'text' : `a ${typeof value}`;
}

/** What a node is, in words, with its text where that is short. */
export function describe(node: unknown): string {
  const value = isScalar(node) ? node.value : undefined;
  if (value === null || value === undefined) return kindOf(node);
  if (typeof value === 'string') return cutToWidth(`"${visibleText(value)}"`, SHOWN_COLUMNS);
  return `the ${typeof value} ${cutToWidth(visibleText(sourceText(node)), SHOWN_COLUMNS)}`;
}

/** A scalar's text as it is written in the file: `010` stays `010`. */
function sourceText(node: unknown): string {
  if (!isScalar(node)) return '';
  return typeof node.value === 'string' ? node.value : (node.source ?? '');
}

/** One block. A key that nobody has read is a mistake: see `refuseUnknownKeys`. */
export class YamlBlock {
  readonly #pairs = new Map<string, Pair>();

  constructor(
    readonly file: YamlFile,
    readonly node: YAMLMap,
  ) {
    for (const pair of node.items) this.#pairs.set(sourceText(pair.key), pair);
  }

  /** The value's node with aliases followed; undefined when the key is not there. */
  at(key: string): unknown {
    const value = this.#pairs.get(key)?.value;
    if (!isAlias(value)) return value;
    const target = (value as Alias).resolve(this.file.document);
    if (target !== undefined) return target;
    // Not the alias's name: behind `password:` it may be the secret itself, left unquoted.
    throw mistakeAt(this.file, value, 'a value that begins with `*`', 'it in quotes');
  }

  /** A mistake in the value of a key. */
  mistake(key: string, found: string, expected: string): MachineConfigError {
    return mistakeAt(this.file, this.#pairs.get(key)?.value ?? this.node, `${found} as ${key}`, expected);
  }

  /** Text that passes the test; undefined when the key is not there. */
  text(key: string, expected: string, isRight: (text: string) => boolean): string | undefined {
    const node = this.at(key);
    if (node === undefined) return undefined;
    if (isScalar(node) && typeof node.value === 'string' && isRight(node.value)) return node.value;
    const quotes = isScalar(node) && typeof node.value === 'number' ? ' (a number goes in quotes)' : '';
    throw this.mistake(key, describe(node), expected + quotes);
  }

  /** Text that no message may show. */
  secret(key: string): string | undefined {
    const node = this.at(key);
    if (node === undefined) return undefined;
    if (isScalar(node) && typeof node.value === 'string' && node.value !== '') return node.value;
    throw this.mistake(key, 'what is no text (not shown)', 'text; put it in quotes');
  }

  /** An amount such as `20G`, in MiB; a plain number is MB, counted as MiB. */
  sizeMiB(key: string): number | undefined {
    const node = this.at(key);
    if (node === undefined) return undefined;
    try {
      if (isScalar(node)) return parseSizeMiB(sourceText(node));
    } catch {
      // said below, with its place
    }
    throw this.mistake(key, describe(node), 'a size such as 20G, 800M or a number of megabytes');
  }

  /** One of some words. */
  oneOf<W extends string>(key: string, words: readonly W[]): W | undefined {
    const text = this.text(key, words.join(', '), (found) => (words as readonly string[]).includes(found));
    return words.find((word) => word === text);
  }

  /** A whole number between two bounds, both included. */
  wholeNumber(key: string, least: number, most: number): number | undefined {
    const node = this.at(key);
    if (node === undefined) return undefined;
    const value = this.#wholeNumberIn(node, least, most);
    if (value !== undefined) return value;
    throw this.mistake(key, describe(node), `a whole number from ${least} to ${most}`);
  }

  /** A list of different whole numbers, or one alone; ascending. */
  wholeNumbers(key: string, least: number, most: number): readonly number[] | undefined {
    const node = this.at(key);
    if (node === undefined) return undefined;
    const expected = `different whole numbers from ${least} to ${most}, as in [0, 1]`;
    if (!isSeq(node) && !isScalar(node)) throw this.mistake(key, describe(node), expected);
    const numbers = new Set<number>();
    for (const item of isSeq(node) ? node.items : [node]) {
      const value = this.#wholeNumberIn(item, least, most);
      if (value === undefined || numbers.has(value)) {
        throw mistakeAt(
          this.file,
          item,
          `${describe(item)}${numbers.has(value ?? -1) ? ' again' : ''} in ${key}`,
          expected,
        );
      }
      numbers.add(value);
    }
    return [...numbers].sort((a, b) => a - b);
  }

  /** A block of names and plain values, each value's text as written. */
  texts(
    key: string,
    isName: (name: string) => boolean,
    expectedName: string,
  ): Record<string, string> | undefined {
    const node = this.at(key);
    if (node === undefined) return undefined;
    if (!isMap(node)) throw this.mistake(key, describe(node), 'a block of NAME: value lines');
    const texts: Record<string, string> = {};
    for (const { key: nameNode, value } of node.items) {
      const name = sourceText(nameNode);
      if (!isName(name))
        throw mistakeAt(this.file, nameNode, `the name "${visibleText(name)}" in ${key}`, expectedName);
      const scalar = isAlias(value) ? value.resolve(this.file.document) : value;
      if (scalar !== null && !isScalar(scalar)) {
        throw mistakeAt(this.file, value, `${describe(scalar)} as ${key}.${name}`, 'text or a number');
      }
      const text = sourceText(scalar satisfies Scalar | null);
      if (text.includes('\0'))
        throw mistakeAt(this.file, value, `a NUL in ${key}.${name}`, 'text without one');
      texts[name] = text;
    }
    return texts;
  }

  /** @throws MachineConfigError at the first key that is not among the known ones, with the nearest of them. */
  refuseUnknownKeys(known: readonly string[]): void {
    for (const [key, pair] of this.#pairs) {
      if (known.includes(key)) continue;
      const nearest = nearestWord(key, known);
      const meant =
        nearest === undefined ? `one of ${known.join(', ')}` : `\`${nearest}\`, if that is what is meant`;
      throw mistakeAt(this.file, pair.key, `the unknown key \`${cutToWidth(visibleText(key), 40)}\``, meant);
    }
  }

  #wholeNumberIn(node: unknown, least: number, most: number): number | undefined {
    const value = isScalar(node) ? node.value : undefined;
    return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
      ? value
      : undefined;
  }
}
