/** Why jobs wait, each in one short line: what `explain` says at length. */
import { jobId, placementKey } from '../domain/job.ts';
import type { QueueJob } from '../domain/queue.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { durationText } from '../util/duration-text.ts';
import { visibleText } from '../util/terminal-text.ts';
import { type ExplainOptions, explainJob } from './explain.ts';
import type { ExplainAnswer } from './requests.ts';

/** What reasons go by. */
export interface ReasonFacts extends Omit<ExplainOptions, 'store' | 'now'> {
  readonly store: Pick<QueueStore, 'job' | 'waitsFor' | 'headSince'>;
  /** Epoch milliseconds. */
  readonly now: number;
  /** Another one when anything has changed that machines are chosen by. */
  readonly version: string;
}

/** A job that waits. */
export interface Waiting {
  readonly job: QueueJob;
  /** How many come before it, where it may start now. */
  readonly ahead?: number;
  /** It was not come upon among the first so many: whether it may start now was not looked at. */
  readonly beyond?: number;
}

type Place = ExplainAnswer['machines'][number];

const IDS_SHOWN = 3;

/** Remembers what machines lack for each kind of job, until something has changed. */
export class WaitReasons {
  #version = '';
  readonly #byKind = new Map<string, string | undefined>();

  /** Why this job waits. */
  reasonOf({ job, ahead, beyond }: Waiting, facts: ReasonFacts): string {
    const { spec, state, isHeld } = job;
    if (state === 'user-hold') return 'held';
    if (state === 'holding')
      return parentsText(facts.store.waitsFor(job.id)) + (isHeld ? ', and is held' : '');
    const bar = facts.barOf?.(spec);
    if (bar !== undefined) return shortSentence(bar);
    if (ahead === undefined && (beyond === undefined || isBeside(job, facts.now)))
      return besideText(job, facts.now);
    const trouble = spec.runHere === true ? undefined : facts.troubleIn?.(spec.results);
    if (trouble !== undefined) return `results cannot be kept now: ${visibleText(trouble)}`;
    const missing = this.#missingFor(job, facts);
    if (missing !== undefined) return missing;
    if (ahead === undefined) return `more than ${beyond} jobs before it`;
    if (ahead === 0) return 'starts next';
    const first = facts.store.headSince()?.job;
    if (facts.order === 'strict' && first !== undefined) return `job ${first} comes first`;
    return `${ahead} ${ahead === 1 ? 'job' : 'jobs'} before it`;
  }

  /** What keeps it from every machine; undefined when it fits somewhere now. Jobs of a kind have the same answer. */
  #missingFor(job: QueueJob, facts: ReasonFacts): string | undefined {
    if (facts.version !== this.#version) this.#byKind.clear();
    this.#version = facts.version;
    const asked = facts.store.job(jobId(String(job.id)));
    if (asked === undefined) return undefined;
    const kind = placementKey(asked);
    if (this.#byKind.has(kind)) return this.#byKind.get(kind);
    const { machines } = explainJob(job.id, {
      ...facts,
      // The machines' answers are what is wanted of it: all else would have it look through the line.
      store: {
        get: () => job,
        job: () => asked,
        waitsFor: () => [],
        running: () => [],
        aheadInLine: () => 0,
        headSince: () => undefined,
      },
    });
    const missing = placesText(job, machines, facts.machines.length > 0);
    this.#byKind.set(kind, missing);
    return missing;
  }
}

function parentsText(parents: readonly number[]): string {
  const more = parents.length > IDS_SHOWN ? ` and ${parents.length - IDS_SHOWN} more` : '';
  return `waits for ${parents.length === 1 ? 'job' : 'jobs'} ${parents.slice(0, IDS_SHOWN).join(', ')}${more}`;
}

/** Whether it may have to wait for its time or its array: which of an array may start now is not looked for. */
function isBeside({ spec: { beginAt = 0, array } }: QueueJob, now: number): boolean {
  return beginAt > now || array?.atOnce !== undefined;
}

function besideText({ spec: { beginAt, array } }: QueueJob, now: number): string {
  if (beginAt !== undefined && beginAt > now) return `begins in ${durationText(beginAt - now, 0)}`;
  if (array?.atOnce !== undefined) return `at most ${array.atOnce} of its array run at once`;
  return 'starts soon';
}

function placesText({ spec }: QueueJob, places: readonly Place[], isAny: boolean): string | undefined {
  if (!isAny) return 'there are no machines';
  if (spec.machine !== undefined && places.length === 0) return `${visibleText(spec.machine)} is not here`;
  const able = places.filter(({ everFits }) => everFits);
  if (able.length === 0) return `no machine can ever hold it${onlyOne(places)}`;
  if (able.some(({ reasons }) => reasons.length === 0)) return undefined;
  // One that lacks amounts alone is nearer than one that is away; fewer are nearer than more.
  const [best] = [...able].sort((a, b) => farness(a) - farness(b));
  return best && `${visibleText(best.machine)}: ${shortText(best)}`;
}

function onlyOne(places: readonly Place[]): string {
  const [first, second] = places;
  return first === undefined || second !== undefined
    ? ''
    : `: ${visibleText(first.machine)}: ${shortText(first)}`;
}

function farness({ reasons, shortfalls }: Place): number {
  return reasons.length > shortfalls.length ? Number.MAX_SAFE_INTEGER : shortfalls.length;
}

function shortText({ reasons, shortfalls }: Place): string {
  const [first] = shortfalls;
  const isOther = reasons.length > shortfalls.length;
  if (isOther || first === undefined) return shortSentence(reasons[0] ?? '');
  const more = shortfalls.length > 1 ? `, and ${shortfalls.length - 1} more` : '';
  return `${first.message}${more}`;
}

function shortSentence(sentence: string): string {
  return sentence.replace(/^It /, '').replace(/\.$/, '');
}
