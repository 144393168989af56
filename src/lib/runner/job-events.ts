/** What is told of one attempt: that it has started, and how it ended. */
import type { JobEnded, JobStarted } from '../domain/events.ts';
import { type Attempt, isSuccess, type Job, type JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import { lastErrorLine } from './evidence.ts';
import type { AttemptReport } from './supervisor.ts';

/** A machine's word that a command has ended. */
export type EndReport = Extract<AttemptReport, { type: 'ended' }>;

/** Whose events they are. */
export interface AttemptFacts {
  readonly job: Job;
  readonly attempt: Attempt;
  readonly machine: MachineName;
}

/** The command has started. */
export function startedEvent(
  facts: AttemptFacts,
  start: Pick<JobStarted, 'at' | 'startedAt' | 'gpus'> & {
    readonly isAdopted: boolean;
    readonly hasEnded: boolean;
    readonly cudaVisibleDevices: string | undefined;
  },
): JobStarted {
  const { at, startedAt, isAdopted, hasEnded, gpus, cudaVisibleDevices } = start;
  return {
    type: 'job:started',
    at,
    ...namesOf(facts),
    ...(isAdopted ? { isAdopted } : {}),
    ...(hasEnded ? { hasEnded } : {}),
    startedAt,
    gpus,
    request: facts.job.request,
    ...(cudaVisibleDevices === undefined ? {} : { cudaVisibleDevices }),
  };
}

/** The attempt is over. `report`: absent when no end of its command was heard of. */
export function endedEvent(
  facts: AttemptFacts,
  end: Pick<JobEnded, 'at' | 'sentBytes' | 'returnedBytes' | 'willRetry'> & {
    readonly outcome: JobOutcome;
    readonly startedAt: number | undefined;
    readonly report: EndReport | undefined;
    readonly errorTail: Buffer;
  },
): JobEnded {
  const { at, outcome, startedAt, report, sentBytes, returnedBytes, errorTail, willRetry } = end;
  const isFailure = !isSuccess(outcome) && outcome.type !== 'cancelled';
  const lastLine = isFailure ? lastErrorLine(errorTail) : undefined;
  return {
    type: 'job:ended',
    at,
    ...namesOf(facts),
    outcome,
    ...(startedAt === undefined ? {} : { startedAt }),
    durationMs: report?.durationMs ?? 0,
    sentBytes,
    returnedBytes,
    leftBehind: report?.leftBehind ?? 0,
    ...(lastLine === undefined ? {} : { lastErrorLine: lastLine }),
    willRetry,
  };
}

function namesOf({ job, attempt, machine }: AttemptFacts) {
  const { id, name, line, command } = job;
  return { job: id, name, line, command, machine, attempt: attempt.number };
}
