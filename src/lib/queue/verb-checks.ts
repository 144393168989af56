/** Checks of what comes through the door: any program may ask, and a mistake is told in one line. */

import type { QueueJobId } from '../domain/queue.ts';
import * as check from '../stores/queue-check.ts';
import { ALL_STATES } from '../stores/queue-store-options.ts';

const id = check.wholeFrom(1);
const ids = check.listOf(id);
const states = check.listOf(check.oneOf(...ALL_STATES));
const texts = check.listOf(check.text);

const idsOrWord: check.Check = (value, path) => {
  if (value !== 'all' && value !== 'failed') ids(value, path);
};

/** A check whose value comes back. */
const taking =
  (shape: check.Check) =>
  (value: unknown): unknown => {
    shape(value ?? {}, '');
    return value ?? {};
  };

export const addMachine = taking(
  check.fields(
    { names: check.listOf(check.filledText) },
    { env: check.mapOf(check.text), skipCheck: check.truth, cwd: check.absolutePath },
  ),
);
export const removeMachine = taking(
  check.fields({ name: check.filledText, how: check.oneOf('refuse', 'wait', 'kill') }, { drop: check.truth }),
);
export const configure = taking(check.fields({ machine: check.filledText, maxJobs: check.wholeNumber }));
export const list = taking(check.fields({}, { states, from: id, limit: id }));
export const jobs = taking(check.fields({ ids: idsOrWord }, { priority: check.wholeNumber }));
export const removeJob = taking(check.fields({ script: check.filledText, args: texts }));
export const clean = taking(check.fields({ olderThanMs: check.numberWithin(0) }, { states }));
export const output = taking(check.fields({ id }, { follow: check.truth }));
export const wait = taking(check.fields({ ids }));
export const events = taking(check.fields({}, { after: check.wholeFrom(0), follow: check.truth }));
export const stop = taking(check.fields({ how: check.oneOf('leave', 'when-idle', 'kill') }));

const oneIdShape = check.fields({ id });
/** The id of a request for one job. */
export function oneId(value: unknown): QueueJobId {
  oneIdShape(value, '');
  return (value as { readonly id: QueueJobId }).id; // as was checked
}
