/** Jobs of the queue service, for people and for programs. */
import { FINAL_STATES, type QueueState } from '../../lib/domain/queue.ts';
import type { ResourceRequest } from '../../lib/domain/resources.ts';
import type { ExplainAnswer, JobAnswer, JobRow, WaitItem } from '../../lib/queue/requests.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { formatMiB } from '../../lib/util/size.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { quotedWord } from '../come-back.ts';
import { comingText, momentText } from '../report/moment-text.ts';
import { outcomeText } from '../report/outcome-text.ts';
import { tableLines } from './table.ts';
import { QUEUE_STATES } from './values.ts';

/**
 * A line per job, in the order given:
 * ```
 * 17  running  train_17  gpubox  since 14:05 (1h02m)  python train.py 4
 * 18  holding  train_18          waits for 17         python train.py 5
 * ```
 * `now`: epoch milliseconds.
 */
export function jobLines(jobs: readonly JobRow[], now: number): string[] {
  return tableLines(
    jobs.map((job) => [
      String(job.id),
      job.state,
      visibleText(job.spec.name) + indexText(job),
      visibleText(job.machine ?? job.spec.machine ?? ''),
      remark(job, now),
      commandText(job),
    ]),
  );
}

/** `[3]` for a job of an array. */
function indexText({ spec: { array } }: JobRow): string {
  return array === undefined ? '' : `[${array.index}]`;
}

function remark(job: JobRow, now: number): string {
  if (job.state === 'running') return sinceText(job.startedAt, now);
  if (FINAL_STATES.includes(job.state)) return endText(job, now);
  return waitText(job, now);
}

function sinceText(startedAt: number | undefined, now: number): string {
  return startedAt === undefined
    ? ''
    : `since ${momentText(startedAt, now)} (${durationText(now - startedAt, 0)})`;
}

function endText({ endedAt, outcome, reason }: JobRow, now: number): string {
  const how = outcome === undefined ? visibleText(reason ?? '') : outcomeText(outcome);
  return [how, endedAt === undefined ? '' : momentText(endedAt, now)]
    .filter((text) => text !== '')
    .join(', ');
}

function waitText({ state, isHeld, spec, waitsFor = spec.dependsOn, attempt }: JobRow, now: number): string {
  const parts: string[] = [];
  if (state === 'holding' && waitsFor.length > 0) parts.push(`waits for ${listText(waitsFor)}`);
  if (isHeld) parts.push('held');
  if (spec.beginAt !== undefined && spec.beginAt > now)
    parts.push(`not before ${comingText(spec.beginAt, now)}`);
  if (spec.priority !== 0) parts.push(`priority ${spec.priority}`);
  if (attempt > 0) parts.push(`${attempt} ${attempt === 1 ? 'attempt' : 'attempts'} so far`);
  return parts.join(', ');
}

const IDS_NAMED = 5;

/** The first ids, and how many more there are. */
export function listText(ids: readonly number[]): string {
  const more = ids.length - IDS_NAMED;
  return `${ids.slice(0, IDS_NAMED).join(' ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** What it runs, as it would be typed. */
function commandText({ spec }: Pick<JobRow, 'spec'>): string {
  const { script, command } = spec;
  return visibleText(
    script === undefined ? command : [script.name, ...script.args].map(quotedWord).join(' '),
  );
}

/** All about one job: a name and a value per line. */
export function jobDetails(job: JobRow, now: number): string[] {
  const { spec } = job;
  const moment = (at: number | undefined) => (at === undefined ? undefined : momentText(at, now));
  const facts: readonly (readonly [string, string | undefined])[] = [
    ['job', `${job.id} (${visibleText(spec.name)})`],
    ['state', [job.state, remark(job, now)].filter((text) => text !== '').join(', ')],
    ['because', job.reason === undefined ? undefined : visibleText(job.reason)],
    ['command', commandText(job)],
    ['machine', visibleText(job.machine ?? spec.machine ?? 'any')],
    ['runs on', spec.runHere === true ? "the service's machine, for that machine" : undefined],
    ['asks for', spec.runHere === true ? undefined : requestText(spec.request)],
    ['attempts', job.attempt > 0 ? `${job.attempt} (${job.failures} failed, ${job.losses} lost)` : undefined],
    ['retries', spec.retries > 0 ? String(spec.retries) : undefined],
    ['time limit', timeLimitText(spec)],
    ['priority', String(spec.priority)],
    [
      'depends on',
      spec.dependsOn.length > 0
        ? listText(spec.dependsOn) + (spec.dependsOnAny ? ' (any end)' : '')
        : undefined,
    ],
    ['array', spec.array === undefined ? undefined : `index ${spec.array.index}, of ${spec.array.first}`],
    ['submitted', moment(job.submittedAt)],
    ['started', moment(job.startedAt)],
    ['ended', moment(job.endedAt)],
    ['folder', visibleText(spec.cwd)],
    ['results', visibleText(spec.results)],
    ['output', visibleText(job.outputs.out)],
    ['errors', job.outputs.err === undefined ? undefined : visibleText(job.outputs.err)],
  ];
  return tableLines(facts.flatMap(([name, value]) => (value === undefined ? [] : [[`${name}:`, value]])));
}

function requestText({
  cpuCores,
  memoryMiB,
  gpus,
  gpuMemoryMiB,
  gpuUtilization,
  reserveGpu,
  reserveMachine,
}: ResourceRequest): string {
  const parts = [`${cpuCores} ${cpuCores === 1 ? 'core' : 'cores'}`, formatMiB(memoryMiB)];
  if (gpus > 0) {
    const share = reserveGpu ? 'for itself' : `${Math.round(gpuUtilization * 100)} % of it`;
    parts.push(`${gpus} ${gpus === 1 ? 'GPU' : 'GPUs'} with ${formatMiB(gpuMemoryMiB)}, ${share}`);
  }
  if (reserveMachine) parts.push('the whole machine');
  return parts.join(', ');
}

function timeLimitText({ timeoutMs, timeoutPercent }: JobRow['spec']): string | undefined {
  if (timeoutMs !== undefined) return durationText(timeoutMs, 0);
  return timeoutPercent === undefined ? undefined : `${timeoutPercent} % of the median`;
}

/** `3 running, 99997 queued`; states of which there is none are left out. */
export function countsText(counts: Readonly<Partial<Record<QueueState, number>>>): string {
  const parts = QUEUE_STATES.flatMap((state) => {
    const count = counts[state] ?? 0;
    return count > 0 ? [`${count} ${state}`] : [];
  });
  return parts.length === 0 ? 'no jobs' : parts.join(', ');
}

/** What became of a job that something was asked for. */
export function jobAnswerText({ id, message }: JobAnswer): string {
  return `job ${id}: ${visibleText(message)}`;
}

/** A job that has ended: `success  17  train_17  exited 0`. */
export function endedText({ id, name, state, outcome, reason }: WaitItem): string {
  const why = outcome === undefined ? visibleText(reason ?? '') : outcomeText(outcome);
  return [state, String(id), visibleText(name), why].filter((text) => text !== '').join('  ');
}

/** A job that has no good end: `job 17: abort, job 16 failed`. */
export function badEndText({
  id,
  state,
  outcome,
  reason,
}: Pick<WaitItem, 'id' | 'state' | 'outcome' | 'reason'>): string {
  const how = outcome === undefined ? '' : outcomeText(outcome);
  const why = reason === undefined ? '' : visibleText(reason);
  // The reason often is in the outcome already.
  const texts = [state, how, how.includes(why) ? '' : why];
  return `job ${id}: ${texts.filter((text) => text !== '').join(', ')}`;
}

/** Why a job does not run: sentences, then a paragraph per machine that it might run on. */
export function explainLines({ id, name, state, reasons, machines }: ExplainAnswer): string[] {
  const lines = [`job ${id} (${visibleText(name)}): ${state}`, ...reasons.map(visibleText)];
  for (const { machine, everFits, reasons: own } of machines) {
    const texts = own.length === 0 ? ['it fits there now'] : own.map(visibleText);
    const never = everFits ? '' : ' (can never hold it)';
    lines.push(`${visibleText(machine)}${never}: ${texts.join('; ')}`);
  }
  return lines;
}
