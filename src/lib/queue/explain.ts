/** Why a job does not run, or how it does: what a person asks first when nothing seems to happen. */
import { UsageError } from '../domain/errors.ts';
import { type Job, type JobOutcome, jobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { QueueJob, QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import type { ResourceRequest, Shortfall } from '../domain/resources.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { durationText } from '../util/duration-text.ts';
import { visibleText } from '../util/terminal-text.ts';
import type { ExplainAnswer, MachineState, QueueOrder } from './requests.ts';

/** A machine as far as it decides whether a job goes there. */
export interface ExplainedMachine {
  readonly name: MachineName;
  readonly state: MachineState;
  /** Why it is in that state, where there is more to say. */
  readonly reason?: string;
  /** What is short for a request now. Absent before the machine was reached. */
  readonly explain?: (request: ResourceRequest) => readonly Shortfall[];
  /** What is short even when nobody uses the machine. Absent before it was reached. */
  readonly explainEver?: (request: ResourceRequest) => readonly Shortfall[];
  /** The job that runs on the service's machine for this one. */
  readonly runsHere?: QueueJobId;
}

/** What an explanation goes by. */
export interface ExplainOptions {
  readonly store: Pick<QueueStore, 'get' | 'job' | 'waitsFor' | 'running' | 'aheadInLine' | 'headSince'>;
  readonly machines: readonly ExplainedMachine[];
  /** Epoch milliseconds. @default the computer's clock */
  readonly now?: number;
  readonly order: QueueOrder;
  /** The machine that is kept free for a job that has waited at the head of the line for too long. */
  readonly keptFree?: { readonly machine: MachineName; readonly job: QueueJobId };
  /** Why a job has to wait whatever is free, as a sentence; undefined when it has not. */
  readonly barOf?: (spec: QueueJobSpec) => string | undefined;
  /** Why results cannot be kept in this folder now; undefined when they can. */
  readonly troubleIn?: (results: string) => string | undefined;
}

type MachineAnswer = ExplainAnswer['machines'][number];

const IDS_SHOWN = 10;

/** Explains a job. @throws UsageError for one that is not known */
export function explainJob(id: QueueJobId, options: ExplainOptions): ExplainAnswer {
  const job = options.store.get(id);
  if (job === undefined) throw new UsageError(`there is no job ${id}`);
  const { state } = job;
  const about = { id, name: job.spec.name, state };
  const now = options.now ?? Date.now();
  switch (state) {
    case 'running':
      return { ...about, reasons: [runningText(job, now), ...troubleText(job, options)], machines: [] };
    case 'holding':
    case 'user-hold':
      return { ...about, reasons: holdReasons(job, options), machines: [] };
    case 'queued':
      return { ...about, ...waitingReasons(job, options, now) };
    default:
      return { ...about, reasons: endReasons(job), machines: [] };
  }
}

function runningText({ machine, startedAt, spec, reason }: QueueJob, now: number): string {
  const where =
    machine === undefined ? '' : spec.runHere === true ? ` here for ${machine}` : ` on ${machine}`;
  const ending = reason === undefined ? '' : `; it is being ended: ${visibleText(reason)}`;
  if (startedAt === undefined) return `It is being started${where}${ending}.`;
  return `It runs${where} since ${timeText(startedAt)}, for ${durationText(now - startedAt)}${ending}.`;
}

function holdReasons({ id, state, isHeld, spec }: QueueJob, { store }: ExplainOptions): string[] {
  const held = isHeld ? [`It is held: job_queue release ${id} lets it go on.`] : [];
  if (state === 'user-hold') return held;
  const parents = store.waitsFor(id);
  const shown = parents
    .slice(0, IDS_SHOWN)
    .map((parent) => `${parent} (${store.get(parent)?.state ?? 'gone'})`);
  const more = parents.length > IDS_SHOWN ? ` and ${parents.length - IDS_SHOWN} more` : '';
  const how = spec.dependsOnAny ? 'to end' : 'to end well';
  const noun = parents.length === 1 ? 'job' : 'jobs';
  return [`It waits for ${noun} ${shown.join(', ')}${more} ${how}.`, ...held];
}

function endReasons({ state, machine, attempt, startedAt, endedAt, outcome, reason }: QueueJob): string[] {
  const where = machine === undefined || attempt === 0 ? '' : ` on ${machine}`;
  const when = endedAt === undefined ? '' : ` at ${timeText(endedAt)}`;
  const took =
    startedAt === undefined || endedAt === undefined ? '' : ` after ${durationText(endedAt - startedAt)}`;
  const tries = attempt > 1 ? `, in attempt ${attempt}` : '';
  const words = {
    success: 'It ended well',
    fail: 'It failed',
    killed: 'It was killed',
    error: 'It could not be run',
  };
  const first =
    state === 'abort'
      ? `It was given up without a start${when}.`
      : `${words[state as keyof typeof words]}${where}${when}${took}${tries}.`;
  const why = reason ?? (outcome === undefined || state === 'success' ? undefined : outcomeText(outcome));
  return [first, ...(why === undefined ? [] : [`The reason: ${visibleText(why)}.`])];
}

function outcomeText(outcome: JobOutcome): string {
  if (outcome.type === 'exited') return `exit code ${outcome.exitCode}`;
  if (outcome.type === 'timed-out') return `it ran longer than ${durationText(outcome.timeoutMs)}`;
  return outcome.reason;
}

function waitingReasons(
  job: QueueJob,
  options: ExplainOptions,
  now: number,
): Pick<ExplainAnswer, 'reasons' | 'machines'> {
  const { store, order, keptFree, machines } = options;
  const { id, spec } = job;
  const bar = options.barOf?.(spec);
  if (bar !== undefined) return { reasons: [bar], machines: [] };
  const ahead = store.aheadInLine(id);
  const reasons = [...pastText(job), ...notYet(job, ahead, options, now)];
  const asked = store.job(jobId(String(id)));
  if (asked === undefined) return { reasons, machines: [] };
  const places = machines
    .filter(({ name }) => spec.machine === undefined || name === spec.machine)
    .map((machine) => machineAnswer(machine, asked, spec.runHere === true, options));
  if (spec.machine !== undefined && places.length === 0)
    reasons.push(
      `It has to run on ${visibleText(spec.machine)}, which is not here: job_queue add-machine adds it.`,
    );
  else if (machines.length === 0) reasons.push('There are no machines: job_queue add-machine adds one.');
  else if (!places.some(({ everFits }) => everFits))
    reasons.push('No machine that is here can ever hold it: it waits for one that can.');
  if (ahead === undefined) return { reasons, machines: places };
  const head = store.headSince();
  if (head !== undefined && head.job !== id && order === 'strict')
    reasons.push(
      `The order is strict, and job ${head.job} comes first, for ${durationText(now - head.since)} now.`,
    );
  if (keptFree !== undefined && keptFree.job !== id)
    reasons.push(`${keptFree.machine} is kept free for job ${keptFree.job}, which has waited for long.`);
  if (keptFree?.job === id) reasons.push(`${keptFree.machine} is kept free for it until it fits there.`);
  if (ahead > 0) reasons.push(`${ahead} ${ahead === 1 ? 'job comes' : 'jobs come'} before it.`);
  const trouble = troubleText(job, options);
  reasons.push(...trouble);
  const open = places.filter((place) => place.everFits && place.reasons.length === 0);
  if (open.length > 0 && trouble.length === 0 && (order === 'skip' || ahead === 0))
    reasons.push(
      `It fits on ${open
        .slice(0, IDS_SHOWN)
        .map(({ machine }) => machine)
        .join(', ')} now, and starts when it is its turn.`,
    );
  return { reasons, machines: places };
}

function troubleText({ spec }: QueueJob, { troubleIn }: ExplainOptions): string[] {
  const trouble = spec.runHere === true ? undefined : troubleIn?.(spec.results);
  if (trouble === undefined) return [];
  const folder = visibleText(spec.results);
  return [`Results cannot be kept in ${folder} now: ${visibleText(trouble)}. That is tried again soon.`];
}

/** What has become of attempts before. */
function pastText({ attempt, outcome, machine, losses, failures }: QueueJob): string[] {
  if (attempt === 0 || outcome === undefined || losses + failures === 0) return [];
  const where = machine === undefined ? '' : ` on ${machine}`;
  return [`Attempt ${attempt}${where} was in vain: ${visibleText(outcomeText(outcome))}. It is tried again.`];
}

/** What keeps it out of the line of those that may start. */
function notYet(
  { spec }: QueueJob,
  ahead: number | undefined,
  { store }: ExplainOptions,
  now: number,
): string[] {
  if (ahead !== undefined) return [];
  const { beginAt, array } = spec;
  if (beginAt !== undefined && beginAt > now)
    return [`It begins at ${timeText(beginAt)} at the earliest, in ${durationText(beginAt - now)}.`];
  if (array?.atOnce === undefined) return [];
  const running = store.running().filter((other) => other.spec.array?.first === array.first).length;
  return [
    `No more than ${array.atOnce} jobs of its array run at once, and ${running} do, or come before it.`,
  ];
}

function machineAnswer(
  machine: ExplainedMachine,
  job: Job,
  isHere: boolean,
  { keptFree }: ExplainOptions,
): MachineAnswer {
  const { name, runsHere } = machine;
  // What runs here for a machine takes nothing of it, and needs no connection.
  const ever = isHere ? [] : (machine.explainEver?.(job.request) ?? []);
  const everFits = ever.length === 0;
  const short = isHere ? [] : everFits ? (machine.explain?.(job.request) ?? []) : ever;
  const reasons = stateReasons(machine, isHere);
  if (isHere && runsHere !== undefined)
    reasons.push(`Job ${runsHere} runs here for it already, and one at a time may.`);
  if (!isHere && job.avoid?.includes(name) === true)
    reasons.push('The job failed there before: it goes there only when no other machine can ever hold it.');
  if (!isHere && keptFree?.machine === name && keptFree.job !== Number(job.id))
    reasons.push(`It is kept free for job ${keptFree.job}.`);
  reasons.push(...short.map(({ message }) => `${everFits ? 'Now' : 'Ever'}: ${message}.`));
  return { machine: name, everFits, reasons, shortfalls: short };
}

function stateReasons({ state, reason }: ExplainedMachine, isHere: boolean): string[] {
  const why = reason === undefined ? '' : `: ${visibleText(reason)}`;
  switch (state) {
    case 'ready':
      return [];
    case 'draining':
      return ['It gets no new jobs: its --max-jobs-running is 0.'];
    case 'leaving':
      return ['It gets no new jobs: it goes when its last one has ended.'];
    default: {
      if (isHere) return [];
      const words = {
        connecting: 'It was not reached yet, and is tried again',
        away: 'It cannot be reached now',
        unusable: 'It cannot be used, and is not tried any more',
        quarantined: 'It gets no jobs, since those that it had failed at once',
      };
      return [`${words[state]}${why}.`];
    }
  }
}

function timeText(at: number): string {
  return new Date(at).toISOString().replace(/\.\d+Z$/, 'Z');
}
