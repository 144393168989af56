/** What the values of job_queue's flags mean: times, ids, states, variables. */
import { UsageError } from '../../lib/domain/errors.ts';
import { FINAL_STATES, type QueueJobId, type QueueState } from '../../lib/domain/queue.ts';
import { parseDurationMs } from '../../lib/util/duration.ts';
import { nearestWord } from '../../lib/util/nearest-word.ts';
import { badValue, quoted } from './words.ts';

/** All states, in the order in which people count them. */
export const QUEUE_STATES: readonly QueueState[] = [
  'running',
  'queued',
  'holding',
  'user-hold',
  ...FINAL_STATES,
];

/** A time in milliseconds. @throws UsageError */
export function parseTime(text: string, flag: string): number {
  try {
    return parseDurationMs(text);
  } catch (error) {
    throw new UsageError(`${flag}: ${(error as Error).message}`);
  }
}

/** The id of a job. @throws UsageError */
export function parseId(text: string): QueueJobId {
  const id = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (id > 0) return id;
  throw new UsageError(`found ${quoted(text)}, expected the id of a job such as 17`);
}

/** The ids of jobs; at least one. @throws UsageError */
export function parseIds(words: readonly string[], usage: string): readonly QueueJobId[] {
  if (words.length === 0) throw new UsageError(`no job is named: expected ${usage}`);
  return [...new Set(words.flatMap(parseIdRange))];
}

/** As many jobs as one submit may make. */
const MOST_IDS = 1_000_000;

/** `17`, or `17-20` for all from one to the other. @throws UsageError */
export function parseIdRange(text: string): readonly QueueJobId[] {
  const [, first, last] = /^(\d{1,15})-(\d{1,15})$/.exec(text) ?? [];
  if (first === undefined || last === undefined) return [parseId(text)];
  const [from, to] = [parseId(first), parseId(last)];
  if (from > to || to - from >= MOST_IDS)
    throw new UsageError(
      `found ${quoted(text)}, expected FIRST-LAST, ids that grow, at most ${MOST_IDS} of them`,
    );
  return Array.from({ length: to - from + 1 }, (_, at) => from + at);
}

/** A whole number, negative ones too. @throws UsageError */
export function parseWhole(text: string, flag: string, least = -1_000_000_000, most = 1_000_000_000): number {
  const number = /^[+-]?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw badValue(flag, text, `a whole number from ${least} to ${most}`);
}

/** `queued,running`. @throws UsageError */
export function parseStates(text: string, flag: string): readonly QueueState[] {
  return statesAmong(QUEUE_STATES, text, flag);
}

/** `success,fail`: states of jobs that have ended. @throws UsageError */
export function parseFinalStates(text: string, flag: string): readonly QueueState[] {
  return statesAmong(FINAL_STATES, text, flag);
}

function statesAmong(states: readonly QueueState[], text: string, flag: string): readonly QueueState[] {
  return text.split(',').map((word) => {
    const state = states.find((one) => one === word.trim());
    if (state !== undefined) return state;
    const near = nearestWord(word, states);
    const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
    const what = states === FINAL_STATES ? 'states of ended jobs' : 'states';
    throw badValue(flag, word, `${what} with commas between: ${states.join(', ')}${hint}`);
  });
}

/**
 * `K=V` as it stands; `K` alone takes the value that it has here, so that a secret need not stand in a command line, which
 * others on this computer can read.
 * @throws UsageError
 */
export function parseEnv(
  texts: readonly string[],
  here: NodeJS.ProcessEnv = process.env,
): Readonly<Record<string, string>> {
  const env = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const name = equals < 0 ? text : text.slice(0, equals);
    if (!/^[A-Za-z_]\w*$/.test(name))
      // What stands behind the name may be a secret.
      throw new UsageError(
        `--env: found the name ${quoted(name)}, expected NAME=VALUE, or NAME alone for the value that it has here; a name has letters, digits and _, no digit first`,
      );
    const value = equals < 0 ? here[name] : text.slice(equals + 1);
    if (value === undefined)
      throw new UsageError(`--env: ${name} is not set here, expected ${name}=VALUE or a variable that is`);
    env.set(name, value);
  }
  return Object.fromEntries(env);
}

const ISO =
  /^(?<day>\d{4}-\d\d-(?<dayOfMonth>\d\d))(?:[T ](?<clock>\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(?<zone>Z|[+-]\d\d:?\d\d)?)?$/i;
const CLOCK = /^(\d{1,2}):(\d\d)(?::(\d\d))?$/;
const MOST_EPOCH_S = 253_402_300_799; // the end of the year 9999

/**
 * When a job may begin, in epoch milliseconds: `@SECONDS` since 1970, ISO 8601 (in local time where it names no zone), `HH:MM`
 * for the next time that the clock shows it, `now+2h` or `+2h`.
 * @throws UsageError
 */
export function parseBegin(text: string, flag: string, now = Date.now()): number {
  const at = beginAt(text.trim(), flag, now);
  if (at !== undefined && Number.isFinite(at)) return at;
  throw badValue(flag, text, '@SECONDS, 2026-12-24T18:00, 18:00 (the next one), now+2h or +2h');
}

function beginAt(text: string, flag: string, now: number): number | undefined {
  const seconds = /^@(\d{1,12}(?:\.\d{1,3})?)$/.exec(text)?.[1];
  if (seconds !== undefined)
    return Number(seconds) <= MOST_EPOCH_S ? Math.round(Number(seconds) * 1000) : undefined;
  const after = /^(?:now)?\+(.+)$/.exec(text)?.[1];
  if (after !== undefined) return now + parseTime(after, flag);
  if (text === 'now') return now;
  const clock = CLOCK.exec(text);
  if (clock !== null)
    return nextClock(
      clock.slice(1).map((part) => Number(part ?? 0)),
      now,
    );
  const { day, dayOfMonth, clock: time = '00:00', zone = '' } = ISO.exec(text)?.groups ?? {};
  if (day === undefined) return undefined;
  // `Date` takes 30 February for 2 March.
  if (new Date(`${day}T00:00Z`).getUTCDate() !== Number(dayOfMonth)) return undefined;
  return Date.parse(`${day}T${time}${zone.toUpperCase().replace(/^([+-]\d\d)(\d\d)$/, '$1:$2')}`);
}

function nextClock(
  [hours = 0, minutes = 0, seconds = 0]: readonly number[],
  now: number,
): number | undefined {
  if (hours > 23 || minutes > 59 || seconds > 59) return undefined;
  const at = new Date(now);
  at.setHours(hours, minutes, seconds, 0);
  // By the calendar: a day is not always 24 hours long.
  if (at.getTime() <= now) at.setDate(at.getDate() + 1);
  return at.getTime();
}

/** `1-100`, `1-100:5` (every fifth), `1-100%5` (five at once). @throws UsageError */
export function parseArray(
  text: string,
  flag: string,
): { readonly first: number; readonly last: number; readonly step: number; readonly atOnce?: number } {
  const [, first, last, step = '1', atOnce] =
    /^(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?(?:%(\d{1,9}))?$/.exec(text) ?? [];
  const range = { first: Number(first), last: Number(last), step: Number(step) };
  if (range.first <= range.last && range.step > 0 && atOnce !== '0' && Number(atOnce ?? 1) > 0)
    return { ...range, ...(atOnce !== undefined && { atOnce: Number(atOnce) }) };
  throw badValue(flag, text, 'FIRST-LAST[:STEP][%AT_ONCE], such as 1-100, 0-90:10 or 1-100%5');
}
