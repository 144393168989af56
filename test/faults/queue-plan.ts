/** What people ask of the queue service in one seeded run, and when. The same seed gives the same plan. */
import { type FaultPlan, type PlannedJob, randomFrom } from './plan.ts';

/** One submit. */
export interface PlannedSubmit {
  readonly kind: 'submit';
  readonly atMs: number;
  /** Several of them differ, but in an array, whose jobs are all alike. */
  readonly jobs: readonly PlannedJob[];
  /** `door`: asked by a program; the others are commands. */
  readonly way: 'command' | 'command-file' | 'script' | 'door';
  readonly isArray: boolean;
  /** How many jobs of the array may run at once. */
  readonly atOnce?: number;
  /** Jobs of earlier submits: the submit's index among all, and the job's within it. */
  readonly dependsOn: readonly JobPlace[];
  readonly dependsOnAny: boolean;
  readonly hold: boolean;
}

/** Where a job stands in a plan. */
export interface JobPlace {
  readonly submit: number;
  readonly job: number;
}

/** Something that is done to one job. */
export interface PlannedChange {
  readonly kind: 'kill' | 'hold' | 'release';
  readonly atMs: number;
  readonly place: JobPlace;
  readonly way: 'command' | 'door';
}

export type PlannedStep = PlannedSubmit | PlannedChange;

/** Until when jobs come, as a share of the time of the faults. */
const SUBMITS_SHARE = 0.9;
const LONGEST_WAIT_MS = 5000;
const MOST_AT_ONCE = 5;

/** The steps of a seed, by time. Its jobs are those of the plan of faults. */
export function queueStepsOf({ seed, jobs, faults }: FaultPlan): readonly PlannedStep[] {
  const random = randomFrom(seed ^ 0x5155_4555);
  const upTo = (limit: number) => Math.floor(random() * limit);
  const groups: PlannedJob[][] = [];
  for (let next = 0; next < jobs.length; ) {
    const size = random() < 0.4 ? 1 : 1 + upTo(MOST_AT_ONCE);
    groups.push(jobs.slice(next, next + size));
    next += size;
  }
  const untilMs = SUBMITS_SHARE * (faults.at(-1)?.atMs ?? 0);
  const submits: PlannedSubmit[] = [];
  const changes: PlannedChange[] = [];
  for (const [index, group] of groups.entries()) {
    const isArray = group.length > 1 && random() < 0.4;
    const [first] = group;
    const parents = index > 0 && random() < 0.3 ? 1 + upTo(2) : 0;
    const dependsOn = Array.from({ length: parents }, () => placeIn(submits, upTo));
    const submit: PlannedSubmit = {
      kind: 'submit',
      atMs: Math.floor((index * untilMs) / groups.length),
      jobs: isArray && first !== undefined ? group.map(() => first) : group,
      way: wayOf(group.length > 1 && !isArray, random),
      isArray,
      ...(isArray && random() < 0.5 ? { atOnce: 1 + upTo(2) } : {}),
      dependsOn,
      dependsOnAny: parents > 0 && random() < 0.3,
      hold: random() < 0.1,
    };
    submits.push(submit);
    const change = (kind: PlannedChange['kind'], job: number, afterMs: number) => {
      const way = random() < 0.5 ? 'door' : 'command';
      const step = { kind, atMs: submit.atMs + afterMs, place: { submit: index, job }, way } as const;
      changes.push(step);
    };
    // What is held is released a while later, each of its jobs by itself.
    if (submit.hold) for (const job of group.keys()) change('release', job, upTo(LONGEST_WAIT_MS));
    else if (random() < 0.15) {
      const [job, afterMs] = [upTo(group.length), upTo(1000)];
      change('hold', job, afterMs);
      change('release', job, afterMs + upTo(LONGEST_WAIT_MS));
    }
    if (random() < 0.2) change('kill', upTo(group.length), upTo(LONGEST_WAIT_MS));
  }
  return [...submits, ...changes].sort((a, b) => a.atMs - b.atMs);
}

/** One of the later jobs, which have often not ended yet. */
function placeIn(submits: readonly PlannedSubmit[], upTo: (limit: number) => number): JobPlace {
  const submit = submits.length - 1 - upTo(Math.min(submits.length, 8));
  return { submit, job: upTo(submits[submit]?.jobs.length ?? 1) };
}

function wayOf(isSeveral: boolean, random: () => number): PlannedSubmit['way'] {
  if (random() < 0.4) return 'door';
  if (isSeveral) return 'command-file';
  return random() < 0.5 ? 'script' : 'command';
}
