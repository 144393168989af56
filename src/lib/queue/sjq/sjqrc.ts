/** `~/.sjqrc`: lines `sjq.key=value`, with the defaults of the sjq document. */
import { isAbsolute, join } from 'node:path';
import { UsageError } from '../../domain/errors.ts';
import { nearestWord } from '../../util/nearest-word.ts';
import { visibleText } from '../../util/terminal-text.ts';

/** What the keys of the file set. */
export interface SjqSettings {
  /** `sjq.socket`, absolute. @default $HOME/.sjq.sock */
  readonly socketPath: string;
  /** `sjq.logfile`, absolute. */
  readonly logFile?: string;
  /** `sjq.daemon`: whether the server leaves the terminal. */
  readonly isDaemon: boolean;
  /** `sjq.pidfile`, absolute. @default $HOME/.sjq.pid */
  readonly pidFile: string;
  /** `sjq.autoshutdown`: whether the server ends when it has had no jobs for `waitTimeMs`. */
  readonly autoshutdown: boolean;
  /** `sjq.schedtime`: between two rounds of scheduling. */
  readonly schedTimeMs: number;
  readonly waitTimeMs: number;
  /** `sjq.maxprocs`: CPUs that are managed. @default all of the system */
  readonly maxProcs: number;
  /** `sjq.maxmem`: memory that is managed; unlimited when absent. */
  readonly maxMemMiB?: number;
  /** `sjq.defaults.procs`: what a job gets that does not say. */
  readonly defaultProcs: number;
  readonly defaultMemMiB: number;
}

/** The defaults that depend neither on the user nor on the system. */
export const SJQ_DEFAULTS = {
  isDaemon: false,
  autoshutdown: true,
  schedTimeMs: 60_000,
  waitTimeMs: 60_000,
  defaultProcs: 1,
  defaultMemMiB: 2048,
} as const satisfies Partial<SjqSettings>;

/** Whose file it is, and where. */
export interface SjqrcPlace {
  /** The user's home, absolute: `~/` and `$HOME/` begin there. */
  readonly home: string;
  /** CPUs of the system. */
  readonly cpus: number;
}

type Setting = Partial<{ -readonly [name in keyof SjqSettings]: SjqSettings[name] | undefined }>;

/** How each key is read. What they throw says only what is expected. */
const KEYS: { readonly [key: string]: (value: string, place: SjqrcPlace) => Setting } = {
  'sjq.socket': (value, { home }) => ({ socketPath: readPath(value, home) }),
  'sjq.logfile': (value, { home }) => ({ logFile: isNone(value) ? undefined : readPath(value, home) }),
  'sjq.daemon': (value) => ({ isDaemon: readBoolean(value) }),
  'sjq.pidfile': (value, { home }) => ({ pidFile: readPath(value, home) }),
  'sjq.autoshutdown': (value) => ({ autoshutdown: readBoolean(value) }),
  'sjq.schedtime': (value) => ({ schedTimeMs: readSeconds(value) }),
  'sjq.waittime': (value) => ({ waitTimeMs: readSeconds(value) }),
  'sjq.maxprocs': (value) => ({ maxProcs: readProcs(value) }),
  'sjq.maxmem': (value) => ({ maxMemMiB: isNone(value) ? undefined : readMem(value, 1) }),
  'sjq.defaults.procs': (value) => ({ defaultProcs: readProcs(value) }),
  'sjq.defaults.mem': (value) => ({ defaultMemMiB: readMem(value, 0) }),
};

/**
 * The settings in the text of a `~/.sjqrc`, an empty one for the defaults. Of a key that comes twice the last line counts; lines
 * of other programs are passed over.
 * @throws UsageError that names the line, and what is expected there
 */
export function readSjqrc(text: string, place: SjqrcPlace): SjqSettings {
  const found: Setting = {};
  for (const { number, key, value } of sjqLines(text)) {
    const where = `~/.sjqrc line ${number}: ${shown(key)}`;
    const read = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
    if (read === undefined) throw new UsageError(`${where}: there is no such key; ${hint(key)}`);
    if (value === undefined) throw new UsageError(`${where}: no value, expected ${key}=value`);
    try {
      Object.assign(found, read(value, place));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new UsageError(`${where}: found '${shown(value)}', expected ${error.message}`);
    }
  }
  const { logFile, maxMemMiB, ...others } = found;
  const defaults = {
    ...SJQ_DEFAULTS,
    socketPath: join(place.home, '.sjq.sock'),
    pidFile: join(place.home, '.sjq.pid'),
    maxProcs: place.cpus,
  };
  return {
    ...defaults,
    ...(others as Partial<SjqSettings>), // only the two above can be undefined
    ...(logFile === undefined ? {} : { logFile }),
    ...(maxMemMiB === undefined ? {} : { maxMemMiB }),
  };
}

/** Whether the text has a line that is meant for sjq. */
export function hasSjqKeys(text: string): boolean {
  return !sjqLines(text).next().done;
}

const BYTES_PER_UNIT: Readonly<Record<string, number>> = {
  '': 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};
const MEM = /^(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]?)(?:i?B)?$/i;
/** Beyond any machine. */
const MOST_MIB = 2 ** 40;
const SIZE_EXPECTED = 'a size such as 8M, 2G (powers of 1024; a plain number is bytes)';

/**
 * A size as sjq writes it, in MiB, rounded up: `100M`, `2G`, `1.5T`, `2GB`; a plain number is bytes.
 * @throws RangeError that says what was found and what is expected
 */
export function parseSjqMem(text: string): number {
  const sizeMiB = sjqMemMiB(text);
  if (sizeMiB === undefined)
    throw new RangeError(`found the size '${shown(text)}', expected ${SIZE_EXPECTED}`);
  return sizeMiB;
}

function sjqMemMiB(text: string): number | undefined {
  const [, amount, unit = ''] = MEM.exec(text.trim()) ?? [];
  const sizeMiB = Math.ceil(
    (Number(amount) * (BYTES_PER_UNIT[unit.toUpperCase()] ?? Number.NaN)) / 1024 ** 2,
  );
  return sizeMiB <= MOST_MIB ? sizeMiB : undefined; // not for NaN either
}

/** The lines whose key begins with `sjq.`; without a value where there is no `=`. */
function* sjqLines(text: string): Generator<{ number: number; key: string; value: string | undefined }> {
  for (const [index, line] of text.split('\n').entries()) {
    const [, key = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(line.trim()) ?? []; // `trim` also takes CR and a byte order mark
    if (key.startsWith('sjq.'))
      yield {
        number: index + 1,
        key: key.trim(),
        value: value === undefined ? undefined : unquoted(value.trim()),
      };
  }
}

function unquoted(value: string): string {
  return /^".*"$/s.test(value) && value.length > 1 ? value.slice(1, -1) : value;
}

function hint(key: string): string {
  const near = nearestWord(key, Object.keys(KEYS));
  return near === undefined ? `the keys are ${Object.keys(KEYS).join(', ')}` : `did you mean ${near}?`;
}

/** The document says `default: None`, so people write it. */
function isNone(value: string): boolean {
  return value === '' || value.toLowerCase() === 'none';
}

function readPath(value: string, home: string): string {
  const path = value.replace(/^(?:~|\$HOME|\$\{HOME\})(?=\/)/, () => home);
  if (isAbsolute(path) && !path.endsWith('/') && !/\p{Cc}/u.test(path)) return path;
  throw new RangeError('the path of a file that begins with /, ~/ or $HOME/');
}

function readBoolean(value: string): boolean {
  if (/^(?:t|true|y|yes)$/i.test(value)) return true;
  if (/^(?:f|false|n|no)$/i.test(value)) return false;
  throw new RangeError('T or F');
}

/** Timers count to 24 days. */
const MOST_SECONDS = 2_000_000;

function readSeconds(value: string): number {
  const ms = /^(?:\d+(?:\.\d*)?|\.\d+)$/.test(value) ? Math.round(Number(value) * 1000) : Number.NaN;
  if (ms > 0 && ms <= MOST_SECONDS * 1000) return ms;
  throw new RangeError(`seconds such as 60 or 0.5, more than 0 and at most ${MOST_SECONDS}`);
}

const MOST_PROCS = 1_000_000;

function readProcs(value: string): number {
  const procs = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (procs >= 1 && procs <= MOST_PROCS) return procs;
  throw new RangeError(`a whole number from 1 to ${MOST_PROCS}`);
}

function readMem(value: string, leastMiB: number): number {
  const sizeMiB = sjqMemMiB(value);
  if (sizeMiB !== undefined && sizeMiB >= leastMiB) return sizeMiB;
  throw new RangeError(`${SIZE_EXPECTED}${leastMiB > 0 ? ', more than 0' : ''}`);
}

function shown(text: string): string {
  return visibleText(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}
