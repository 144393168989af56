/**
 * The flags of execute_to, taken out of its command line. They stand before the command, since a flag behind it is more
 * likely the command's own whose quotes were forgotten (`execute_to gpu1 rm -f x`).
 */
import { UsageError } from '../lib/domain/errors.ts';
import { nearestWord } from '../lib/util/nearest-word.ts';
import { shellQuote } from '../lib/util/shell-quote.ts';
import { cutToWidth, visibleText } from '../lib/util/terminal-text.ts';

/** What a flag takes; `repeated` is a value that may be given several times. */
const FLAGS = {
  '--machines': 'list',
  '--exclude': 'repeated',
  '--gather': 'switch',
  '--lines-and-gather': 'switch',
  '--diff': 'switch',
  '--json': 'switch',
  '--outdir': 'value',
  '--verbose': 'switch',
  '--fanout': 'value',
  '--connect-timeout': 'value',
  '--timeout': 'value',
  '--fail-fast': 'switch',
  '--batches': 'value',
  '--no-stdin': 'switch',
  '--ssh-config': 'value',
  '--copy-forwards': 'list',
  '--copy-backwards': 'list',
  '--job-name': 'value',
  '--largest-exit-code': 'switch',
  '--help': 'switch',
  '--version': 'switch',
} as const;

/** The long name of a flag. */
export type Flag = keyof typeof FLAGS;

/** The flags that take all words up to the next flag. */
export const LISTS = ['--machines', '--copy-forwards', '--copy-backwards'] as const;

const LETTERS: ReadonlyMap<string, Flag> = new Map([
  ['x', '--exclude'],
  ['b', '--gather'],
  ['L', '--lines-and-gather'],
  ['f', '--fanout'],
  ['t', '--connect-timeout'],
  ['u', '--timeout'],
  ['n', '--no-stdin'],
  ['S', '--largest-exit-code'],
  ['h', '--help'],
]);

/** What other tools of this kind have flags for. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ['-w', 'machines stand without a flag before the command'],
  ['-g', 'a group is named @NAME in HOSTS'],
  ['-l', 'a user is named in HOSTS: user@host'],
]);

/** The values of each flag that was given; a switch has none. */
export type Given = Map<Flag, string[]>;

/** A command line, its flags apart from the rest. */
export interface Words {
  readonly given: Given;
  /** All that is neither a flag nor a value of one: at most HOSTS and the command, unless `--` stands before them. */
  readonly words: readonly string[];
}

/**
 * Takes the flags out, up to `--help` or `--version`.
 * @throws UsageError for a flag that is none, misses its value or has one too many.
 */
export function readFlags(argv: readonly string[]): Words {
  const given: Given = new Map();
  const words: string[] = [];
  /** The list that takes the words that follow, if one does. */
  let open: string[] | undefined;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (words.length >= 2) throw behindCommand(argv.slice(at), words, given.has('--machines'));
    if (word === '--') {
      words.push(...argv.slice(at + 1));
      break;
    }
    if (!isFlag(word)) {
      (open ?? words).push(word);
      continue;
    }
    open = undefined;
    // With --machines the one word before it may be the command.
    if (words.length > 0 && given.has('--machines')) throw behindCommand(argv.slice(at), words, true);
    for (const { flag, name, inline } of flagsIn(word)) {
      const takes = FLAGS[flag];
      const values = given.get(flag) ?? [];
      if (takes === 'value' && given.has(flag)) throw new UsageError(`${name} is given twice: expected once`);
      given.set(flag, values);
      if (flag === '--machines' && words.length > 0) {
        throw new UsageError(`${name} stands behind ${quoted(words[0] ?? '')}: expected it before HOSTS`);
      }
      if (flag === '--help' || flag === '--version') return { given, words };
      if (takes === 'switch') {
        if (inline !== undefined) throw new UsageError(`${name} takes no value, found ${quoted(inline)}`);
      } else if (takes === 'list' && inline === undefined) {
        open = values;
      } else {
        const value = inline ?? argv[++at];
        if (value === undefined) throw new UsageError(`${name} needs a value, found nothing behind it`);
        if (value === '' || (inline === undefined && isFlag(value))) {
          throw new UsageError(`${name} needs a value, found ${quoted(value)}`);
        }
        values.push(value);
      }
    }
  }
  return { given, words };
}

/** A single dash is a word, as everywhere. */
function isFlag(word: string): boolean {
  return word.startsWith('-') && word !== '-';
}

interface FoundFlag {
  readonly flag: Flag;
  /** As the user wrote it. */
  readonly name: string;
  /** A value in the same word: `--fanout=8`, `-f8`. */
  readonly inline?: string;
}

/** The flags in one word: `--fanout=8` is one, `-bSf8` are three. */
function flagsIn(word: string): FoundFlag[] {
  if (word.startsWith('--')) {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word : word.slice(0, equals);
    if (!isKnown(name)) throw unknownFlag(name, nearestWord(name, Object.keys(FLAGS)));
    return [{ flag: name, name, ...(equals < 0 ? {} : { inline: word.slice(equals + 1) }) }];
  }
  // `-timeout` would read as `-t imeout`.
  if (isKnown(`-${word}`)) throw unknownFlag(word, `-${word}`);
  const found: FoundFlag[] = [];
  for (let at = 1; at < word.length; at++) {
    const letter = word.charAt(at);
    const name = `-${letter}`;
    const flag = LETTERS.get(letter);
    if (flag === undefined) throw unknownFlag(name);
    const inline = word.slice(at + 1);
    if (FLAGS[flag] !== 'switch' && inline !== '') return [...found, { flag, name, inline }];
    found.push({ flag, name });
  }
  return found;
}

function isKnown(name: string): name is Flag {
  return Object.hasOwn(FLAGS, name);
}

function unknownFlag(flag: string, near?: string): UsageError {
  const hint = near === undefined ? (ELSEWHERE.get(flag) ?? 'see --help') : `did you mean ${near}?`;
  return new UsageError(`unknown flag ${short(flag)} (${hint})`);
}

/**
 * More words than a quoted command is: mostly its quotes were forgotten. `words` are those before: HOSTS, unless
 * `hasMachines` leaves them out, and the first of the command.
 */
export function behindCommand(
  found: readonly string[],
  words: readonly string[],
  hasMachines: boolean,
): UsageError {
  const hasHosts = words.length > 1 || (words.length > 0 && !hasMachines);
  const command = [...words.slice(hasHosts ? 1 : 0), ...found].map(visibleText).join(' ');
  const call = [
    'execute_to',
    ...(hasMachines ? ['--machines F... --'] : []),
    ...words.slice(0, hasHosts ? 1 : 0).map(visibleText),
    shellQuote(command),
  ];
  return new UsageError(
    `found ${quoted(found[0] ?? '')} behind the command: expected the command as one quoted word, and flags before it, ` +
      `such as ${cutToWidth(call.join(' '), 200)}`,
  );
}

/** Foreign text for a message, in quotes. */
export function quoted(text: string): string {
  return `"${short(text)}"`;
}

function short(text: string): string {
  return cutToWidth(visibleText(text), 60);
}
