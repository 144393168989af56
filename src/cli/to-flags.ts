/**
 * The flags of execute_to, taken out of its command line. They stand before the command, since a flag behind it is more
 * likely the command's own whose quotes were forgotten (`execute_to gpu1 rm -f x`).
 */
import { UsageError } from '../lib/domain/errors.ts';
import { nearestWord } from '../lib/util/nearest-word.ts';
import { shellQuote } from '../lib/util/shell-quote.ts';
import { cutToWidth, visibleText } from '../lib/util/terminal-text.ts';
import { quotedWord } from './come-back.ts';

/** What a flag takes; `repeated` is a value that may be given several times. */
const FLAGS = {
  '--machines': 'list',
  '--exclude': 'repeated',
  '--list': 'switch',
  '--gather': 'switch',
  '--lines-and-gather': 'switch',
  '--diff': 'switch',
  '--no-names': 'switch',
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
  ['N', '--no-names'],
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
  ['-a', 'all machines of a file or a group are meant by its name: lab.yaml, @lab'],
  ['-q', 'nothing but output and failures is printed without --verbose; --list prints who is meant'],
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
 * More words than HOSTS and a quoted command: flags of ours behind it, blanks between hosts, or, mostly, quotes that
 * were forgotten. `words` are those before `found`: HOSTS, unless `hasMachines` leaves them out, and the first of the
 * command.
 */
export function behindCommand(
  found: readonly string[],
  words: readonly string[],
  hasMachines: boolean,
): UsageError {
  const { flags, rest } = leadingFlags(found);
  const lead = `found ${quoted(found[0] ?? '')} behind the command: `;
  const call = (own: readonly string[], hosts: string | undefined, command: readonly string[]) =>
    exampleCall({ flags: own, hosts, command: command.join(' '), hasMachines });

  const all = [...words, ...rest];
  const hostCount = countOfHosts(all);
  if (hostCount > 1) {
    const hosts = all.slice(0, hostCount).join(',').replaceAll(/,+/g, ',');
    const behind = leadingFlags(all.slice(hostCount));
    const command = behind.rest.length > 0 ? behind.rest : ['command'];
    const example = call([...flags, ...behind.flags], hosts, command);
    return new UsageError(`${lead}hosts are separated by commas, such as ${example}`);
  }

  const hasHosts = words.length > 1 || (words.length > 0 && !hasMachines);
  const hosts = hasHosts ? words[0] : undefined;
  const begun = words.slice(hasHosts ? 1 : 0);
  const isOurs = flags.length > 0 && rest.length === 0;
  const before = `flags stand before HOSTS, such as ${call(flags, hosts, begun)}`;
  // Blanks in it: it was quoted, so its own flags are in there.
  if (isOurs && begun.some((word) => /\s/.test(word))) return new UsageError(lead + before);
  const oneWord = `expected the command as one quoted word, such as ${call([], hosts, [...begun, ...found])}`;
  // It may be either's: `uptime -b`. But `df -h` and `rm -f x` are rather the command's.
  const isEither =
    isOurs &&
    !flags.some((flag) => /^(-h|--help|--version)$/.test(flag)) &&
    (flags.every(isFlag) || flags[0]?.startsWith('--'));
  return new UsageError(lead + oneWord + (isEither ? `; ${before}` : ''));
}

/** The flags of ours that the words begin with, with their values, and the words behind them. */
function leadingFlags(found: readonly string[]): { flags: readonly string[]; rest: readonly string[] } {
  let end = 0;
  while (end < found.length && isFlag(found[end] ?? '')) {
    let takes: string;
    try {
      takes = flagsIn(found[end] ?? '').reduce(
        (last, { flag, inline }) => (inline === undefined ? FLAGS[flag] : last),
        'switch',
      );
    } catch {
      break; // a flag that is not ours
    }
    const values = found.slice(end + 1);
    const next = values.findIndex(isFlag);
    const most = takes === 'switch' ? 0 : takes === 'list' ? values.length : 1;
    const count = Math.min(most, next < 0 ? values.length : next);
    if (most > 0 && count === 0) break;
    end += 1 + count;
  }
  return { flags: found.slice(0, end), rest: found.slice(end) };
}

/** How many of the first words look like hosts: gpu1 gpu2, or a comma with a blank behind it. */
function countOfHosts(words: readonly string[]): number {
  let count = Math.min(1, words.length);
  while (count < words.length && isAlsoHost(words[count] ?? '', words[count - 1] ?? '')) count++;
  return count;
}

function isAlsoHost(word: string, before: string): boolean {
  if (/\s/.test(word)) return false;
  if (before.endsWith(',') || word.startsWith(',')) return true;
  if (/^[@^!]|^[\w.-]+@|\.ya?ml$/.test(word)) return true;
  const shape = (text: string) => text.replaceAll(/\[[\d,-]+\]|\d+/g, '#');
  return /\d/.test(word) && shape(word) === shape(before);
}

interface ExampleCall {
  readonly flags: readonly string[];
  readonly hosts: string | undefined;
  readonly command: string;
  readonly hasMachines: boolean;
}

/** A call as a user would type it. */
function exampleCall({ flags, hosts, command, hasMachines }: ExampleCall): string {
  const onlyLists = flags.includes('--list');
  const parts = [
    'execute_to',
    ...(hasMachines ? ['--machines F...'] : []),
    ...flags.map((flag) => quotedWord(visibleText(flag))),
    // Ends the list that --machines, or a list among the flags, is.
    ...(hasMachines || flags.some((flag) => LISTS.some((list) => list === flag)) ? ['--'] : []),
    ...(hosts === undefined ? [] : [quotedWord(visibleText(hosts))]),
    ...(onlyLists ? [] : [shellQuote(visibleText(command))]),
  ];
  return cutToWidth(parts.join(' '), 200);
}

/** Foreign text for a message, in quotes. */
export function quoted(text: string): string {
  return `"${short(text)}"`;
}

function short(text: string): string {
  return cutToWidth(visibleText(text), 60);
}
