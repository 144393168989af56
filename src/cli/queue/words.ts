/** The command line of one job_queue command, its flags apart from the rest. Read without a library, which would take most of a start. */
import { SchedulerError, UsageError } from '../../lib/domain/errors.ts';
import { nearestWord } from '../../lib/util/nearest-word.ts';
import { cutToWidth, visibleText } from '../../lib/util/terminal-text.ts';

/** What a flag takes: nothing, a value, one value each time it is given, or all words up to the next flag or `--`. */
export type Takes = 'switch' | 'value' | 'repeated' | 'list';

/** The flags of a command, with their dashes. */
export type FlagTable = Readonly<Record<string, Takes>>;

/** The flags that a command which asks the service has besides its own. */
export const DOOR_FLAGS = { '--data-dir': 'value', '--host': 'value', '--ssh-config': 'value' } as const;

/** `--help` or `-h` stands among the flags: nothing else counts then. */
export class HelpAsked extends SchedulerError {
  override readonly name = 'HelpAsked';
}

/** How words are read. */
export interface WordOptions {
  /** The command as typed, for messages: `job_queue submit`. */
  readonly command: string;
  /** The first word that is no flag ends the flags: it and all behind it belong to somebody else. @default false */
  readonly endsAtWord?: boolean;
}

/** What a command line says. */
export class Words<Flag extends string> {
  /** All that is neither a flag nor a value of one. */
  readonly words: readonly string[];
  readonly #given: ReadonlyMap<string, readonly string[]>;

  constructor(given: ReadonlyMap<string, readonly string[]>, words: readonly string[]) {
    this.#given = given;
    this.words = words;
  }

  has(flag: Flag): boolean {
    return this.#given.has(flag);
  }

  /** The value of a flag that is given once; undefined where it is not given. */
  value(flag: Flag): string | undefined {
    return this.#given.get(flag)?.[0];
  }

  /** All values of a flag; undefined where it is not given. */
  values(flag: Flag): readonly string[] | undefined {
    return this.#given.get(flag);
  }

  /** What the value of a flag means. */
  read<Value>(flag: Flag, parse: (text: string, flag: string) => Value): Value | undefined {
    const text = this.value(flag);
    return text === undefined ? undefined : parse(text, flag);
  }
}

/**
 * Takes the flags out of a command line.
 * @throws UsageError for a flag that is none, is given twice, misses its value or has one too many
 * @throws HelpAsked
 */
export function readWords<Table extends FlagTable>(
  argv: readonly string[],
  table: Table,
  { command, endsAtWord = false }: WordOptions,
): Words<keyof Table & string> {
  const given = new Map<string, string[]>();
  const words: string[] = [];
  /** The list that takes the words that follow, if one does. */
  let open: string[] | undefined;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--') {
      words.push(...argv.slice(at + 1));
      break;
    }
    if (!isFlag(word)) {
      if (open === undefined && endsAtWord) {
        words.push(...argv.slice(at));
        break;
      }
      (open ?? words).push(word);
      continue;
    }
    if (word === '--help' || word === '-h') throw new HelpAsked();
    open = undefined;
    const equals = word.startsWith('--') ? word.indexOf('=') : -1;
    const flag = equals < 0 ? word : word.slice(0, equals);
    const inline = equals < 0 ? undefined : word.slice(equals + 1);
    const takes = Object.hasOwn(table, flag) ? table[flag] : undefined;
    if (takes === undefined) throw unknownFlag(flag, Object.keys(table), command);
    if (takes === 'value' && given.has(flag)) throw new UsageError(`${flag} is given twice: expected once`);
    const values = given.get(flag) ?? [];
    given.set(flag, values);
    if (takes === 'switch') {
      if (inline !== undefined) throw new UsageError(`${flag} takes no value, found ${quoted(inline)}`);
    } else if (takes === 'list' && inline === undefined) {
      open = values;
    } else {
      values.push(flagValue(flag, inline, inline === undefined ? argv[++at] : undefined));
    }
  }
  for (const [flag, values] of given) {
    if (table[flag] === 'list' && values.includes('')) throw new UsageError(`${flag}: found an empty value`);
  }
  return new Words(given, words);
}

/** A single dash is a word, and so is a negative number. */
function isFlag(word: string): boolean {
  return word.startsWith('-') && word !== '-' && !/^-\d/.test(word);
}

function flagValue(flag: string, inline: string | undefined, behind: string | undefined): string {
  const value = inline ?? behind;
  if (value === undefined) throw new UsageError(`${flag} needs a value, found nothing behind it`);
  if (value === '' || (inline === undefined && isFlag(value)))
    throw new UsageError(
      `${flag} needs a value, found ${quoted(value)}${value === '' ? '' : ` (if that is the value: ${flag}=VALUE)`}`,
    );
  return value;
}

/** The error for a flag that a command does not have. */
export function unknownFlag(flag: string, known: readonly string[], command: string): UsageError {
  const near = nearestWord(flag, known);
  const hint = near === undefined ? `see ${command} --help` : `did you mean ${near}?`;
  return new UsageError(`unknown flag ${short(flag)} (${hint})`);
}

/** Refuses words where a command takes none, or no more. */
export function noMoreWords(words: readonly string[], most: number, usage: string): void {
  const extra = words[most];
  if (extra !== undefined) throw new UsageError(`found ${quoted(extra)} besides what is expected: ${usage}`);
}

/** The error for a value that is none. */
export function badValue(flag: string, found: string, expected: string): UsageError {
  return new UsageError(`${flag}: found ${quoted(found)}, expected ${expected}`);
}

/** Text of others for a message, in quotes and not too long. */
export function quoted(text: string): string {
  return `"${short(text)}"`;
}

function short(text: string): string {
  return cutToWidth(visibleText(text), 80);
}
