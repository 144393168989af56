/** Checks of what comes through the door: any program may ask, and a mistake is told in one line. */

import { FINAL_STATES, type QueueJobId } from '../domain/queue.ts';
import * as check from '../stores/queue-check.ts';
import { ALL_STATES } from '../stores/queue-store-options.ts';

const id = check.wholeFrom(1);
const ids = check.listOf(id);
const states = check.listOf(check.oneOf(...ALL_STATES));
const ends = check.listOf(check.oneOf(...FINAL_STATES));
const texts = check.listOf(check.text);

const idsOrWord: check.Check = (value, path) => {
  if (value !== 'all' && value !== 'failed') ids(value, path);
};

/** The most jobs at once that a machine can be limited to. */
const MOST_JOBS = 1_000_000;
/** The most jobs of a list that an overview tells. */
const MOST_TOLD = 200;
/** The most events that are read at once for one who wants the newest. */
const MOST_NEWEST = 1000;

const wholeWithin =
  (least: number, most: number): check.Check =>
  (value, path) => {
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
      check.mistake(path, `a whole number from ${least} to ${most}`, value);
  };

/** A check of a verb's arguments, which come back. Without any, they are taken for an empty object. */
function taking(
  needed: Readonly<Record<string, check.Check>>,
  optional: Readonly<Record<string, check.Check>> = {},
): (value: unknown) => unknown {
  const shape = check.fields(needed, optional);
  const names = [...Object.keys(needed), ...Object.keys(optional).map((name) => `[${name}]`)].join(', ');
  return (value) => {
    const args = value ?? {};
    if (typeof args !== 'object' || Array.isArray(args))
      check.mistake('the arguments', `an object with ${names}`, args);
    shape(args, '');
    return args;
  };
}

export const addMachine = taking(
  { names: check.listOf(check.filledText) },
  { env: check.mapOf(check.text), skipCheck: check.truth, cwd: check.absolutePath },
);
export const removeMachine = taking(
  { name: check.filledText, how: check.oneOf('refuse', 'wait', 'kill') },
  { drop: check.truth },
);
export const configure = taking({ machine: check.filledText, maxJobs: wholeWithin(0, MOST_JOBS) });
export const list = taking({}, { states, from: id, limit: id });
export const jobs = taking({ ids: idsOrWord }, { priority: check.wholeNumber });
export const removeJob = taking({ script: check.filledText, args: texts });
export const clean = taking({ olderThanMs: check.numberWithin(0) }, { states: ends });
export const output = taking({ id }, { follow: check.truth, tailBytes: check.wholeFrom(0) });
export const wait = taking({ ids });
export const overview = taking({ limit: wholeWithin(0, MOST_TOLD) }, { filter: check.text });
export const events = taking(
  {},
  { after: check.wholeFrom(0), follow: check.truth, newest: wholeWithin(1, MOST_NEWEST) },
);
export const stop = taking({ how: check.oneOf('leave', 'when-idle', 'kill') });

const oneIdOf = taking({ id });
/** The id of a request for one job. */
export function oneId(value: unknown): QueueJobId {
  return (oneIdOf(value) as { readonly id: QueueJobId }).id; // as was checked
}
