/** One job of the queue in memory, and what it is to others: a row, the engine's job, the record for people. */
import { type Attempt, type Job, type JobOutcome, jobId, placementKey } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import {
  FINAL_STATES,
  type QueueJob,
  type QueueJobId,
  type QueueJobSpec,
  type QueueState,
} from '../domain/queue.ts';
import type { GrownMemory } from './journal.ts';
import type { Value } from './queue-database.ts';

/** What somebody wants of an attempt that runs: that it ends for good, or that its job waits again. */
export type WantedEnd = 'killed' | 'queued';

/** A job with all that the store goes by. The store alone changes it. */
export interface KeptJob {
  readonly id: QueueJobId;
  readonly spec: QueueJobSpec;
  readonly submittedAt: number;
  state: QueueState;
  isHeld: boolean;
  priority: number;
  startedAt: number | undefined;
  endedAt: number | undefined;
  machine: MachineName | undefined;
  /** Who that machine is, whatever it is called. */
  machineKey: string | undefined;
  attempt: number;
  losses: number;
  failures: number;
  /** While it runs. */
  wanted: WantedEnd | undefined;
  outcome: JobOutcome | undefined;
  reason: string | undefined;
  /** Where it failed. */
  avoid: readonly MachineName[];
  grown: GrownMemory;
  /** The placement key of its engine's job, while it waits. */
  kind: string;
}

/** What a `KeptJob` has besides a `QueueJob`, for export. */
export interface QueueJobExtras {
  readonly machineKey?: string;
  readonly wanted?: WantedEnd;
  readonly avoid?: readonly MachineName[];
  readonly grown?: GrownMemory;
}

export function isFinal(state: QueueState): boolean {
  return FINAL_STATES.includes(state);
}

/** A job that has just been submitted. */
export function newJob(id: QueueJobId, spec: QueueJobSpec, submittedAt: number, isHeld: boolean): KeptJob {
  return keptOf({ id, spec, submittedAt, isHeld, state: 'queued', attempt: 0, losses: 0, failures: 0 });
}

/** A job as an exported record has it. */
export function keptOf(record: QueueJob & QueueJobExtras): KeptJob {
  return {
    id: record.id,
    spec: record.spec,
    submittedAt: record.submittedAt,
    state: record.state,
    isHeld: record.isHeld,
    priority: record.spec.priority,
    startedAt: record.startedAt,
    endedAt: record.endedAt,
    machine: record.machine,
    machineKey: record.machineKey,
    attempt: record.attempt,
    losses: record.losses,
    failures: record.failures,
    wanted: record.wanted,
    outcome: record.outcome,
    reason: record.reason,
    avoid: record.avoid ?? [],
    grown: record.grown ?? {},
    kind: '',
  };
}

/** The record for people and programs. */
export function recordOf(kept: KeptJob): QueueJob {
  const { id, state, isHeld, submittedAt, attempt, losses, failures } = kept;
  const spec = kept.priority === kept.spec.priority ? kept.spec : { ...kept.spec, priority: kept.priority };
  return {
    ...{ id, spec, state, isHeld, submittedAt },
    ...(kept.startedAt === undefined ? {} : { startedAt: kept.startedAt }),
    ...(kept.endedAt === undefined ? {} : { endedAt: kept.endedAt }),
    ...(kept.machine === undefined ? {} : { machine: kept.machine }),
    ...{ attempt, losses, failures },
    ...(kept.outcome === undefined ? {} : { outcome: kept.outcome }),
    ...(kept.reason === undefined ? {} : { reason: kept.reason }),
  };
}

/** The record with what else the store goes by, from which `keptOf` makes the same again. */
export function exportOf(kept: KeptJob): QueueJob & QueueJobExtras {
  return {
    ...recordOf(kept),
    ...(kept.machineKey === undefined ? {} : { machineKey: kept.machineKey }),
    ...(kept.wanted === undefined ? {} : { wanted: kept.wanted }),
    ...(kept.avoid.length === 0 ? {} : { avoid: kept.avoid }),
    ...(Object.keys(kept.grown).length === 0 ? {} : { grown: kept.grown }),
  };
}

/** The job as the engine tries it next. */
export function engineJobOf({ id, spec, avoid, grown }: KeptJob): Job {
  return {
    id: jobId(String(id)),
    name: spec.name,
    line: id,
    command: spec.command,
    request: { ...spec.request, ...grown },
    copyForwards: spec.copyForwards,
    shareForwards: spec.shareForwards,
    copyBackwards: spec.copyBackwards,
    ...(avoid.length === 0 ? {} : { avoid }),
    ...(spec.machine === undefined ? {} : { only: spec.machine }),
    ...(spec.runHere === true ? { runHere: true } : {}),
    ...(spec.inPlace === undefined
      ? {}
      : { inPlace: isOfAnother(spec.inPlace) ? ('as another' as const) : ('as ourselves' as const) }),
  };
}

/** Whether a job that runs in place is to have another user's or group's rights. */
export function isOfAnother({ uid, gid }: { readonly uid?: number; readonly gid?: number }): boolean {
  return uid !== undefined || gid !== undefined;
}

/** Its attempt that counts. */
export function attemptOf({ id, attempt }: KeptJob): Attempt {
  return { job: jobId(String(id)), number: attempt };
}

/** Looks its placement key up anew: what it asks for, or where it may go, has changed. */
export function refreshKind(kept: KeptJob): void {
  kept.kind = placementKey(engineJobOf(kept));
}

/** The columns, in the order of `rowOf`. */
export const COLUMNS = [
  ...[
    'id',
    'state',
    'is_held',
    'priority',
    'submitted_at',
    'started_at',
    'ended_at',
    'machine',
    'machine_key',
  ],
  ...['attempt', 'losses', 'failures', 'wanted', 'more', 'spec'],
] as const;

/** A row of the table of jobs. */
export interface Row {
  readonly id: number;
  readonly state: string;
  readonly is_held: number;
  readonly priority: number;
  readonly submitted_at: number;
  readonly started_at: number | null;
  readonly ended_at: number | null;
  readonly machine: string | null;
  readonly machine_key: string | null;
  readonly attempt: number;
  readonly losses: number;
  readonly failures: number;
  readonly wanted: string | null;
  readonly more: string;
  readonly spec: string;
}

export function rowOf(kept: KeptJob): Value[] {
  const { outcome, reason, avoid, grown } = kept;
  return [
    ...[kept.id, kept.state, kept.isHeld ? 1 : 0, kept.priority, kept.submittedAt, kept.startedAt ?? null],
    ...[kept.endedAt ?? null, kept.machine ?? null, kept.machineKey ?? null],
    ...[kept.attempt, kept.losses, kept.failures, kept.wanted ?? null],
    JSON.stringify({ outcome, reason, avoid, grown }),
    JSON.stringify(kept.spec),
  ];
}

/** What `rowOf` wrote: the file is ours alone, so that its values are taken for what they were. */
export function keptOfRow(row: Row): KeptJob {
  const more = JSON.parse(row.more) as Pick<KeptJob, 'outcome' | 'reason' | 'avoid' | 'grown'>;
  return {
    id: row.id,
    spec: JSON.parse(row.spec) as QueueJobSpec,
    submittedAt: row.submitted_at,
    state: row.state as QueueState,
    isHeld: row.is_held === 1,
    priority: row.priority,
    startedAt: row.started_at ?? undefined,
    endedAt: row.ended_at ?? undefined,
    machine: (row.machine ?? undefined) as MachineName | undefined,
    machineKey: row.machine_key ?? undefined,
    attempt: row.attempt,
    losses: row.losses,
    failures: row.failures,
    wanted: (row.wanted ?? undefined) as WantedEnd | undefined,
    outcome: more.outcome,
    reason: more.reason,
    avoid: more.avoid,
    grown: more.grown,
    kind: '',
  };
}
