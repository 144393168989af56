/** The whole state of a queue as JSON that people can edit, and the checks when it comes back. */
import { UsageError } from '../domain/errors.ts';
import { FINAL_STATES, type QueueJob, type QueueJobId } from '../domain/queue.ts';
import * as check from './queue-check.ts';
import { type KeptJob, keptOf, type QueueJobExtras } from './queue-kept.ts';
import { checkSpec, MAX_ID, MAX_TIME, machine, REQUEST, wholeWithin } from './queue-spec-check.ts';

export const STATE_FORMAT = 'job_queue state';
export const STATE_VERSION = 1;

/** An exported state. */
export interface QueueStateFile {
  readonly format: typeof STATE_FORMAT;
  readonly version: typeof STATE_VERSION;
  /** The id of the next job. */
  readonly nextId: QueueJobId;
  readonly jobs: readonly (QueueJob & QueueJobExtras)[];
  /** Which service it comes from. */
  readonly service?: string;
  /** The list of machines, which is checked by whoever keeps that. */
  readonly machines?: unknown;
  /** Scripts by their SHA-256: texts, or what is no UTF-8 as base64. */
  readonly scripts?: Readonly<Record<string, string | { readonly base64: string }>>;
}

const anything: check.Check = () => {};
/** Of attempts, which names of folders have in them. */
const MAX_COUNT = 1e9;
const id = wholeWithin(1, MAX_ID);
const time = wholeWithin(0, MAX_TIME);
const count = wholeWithin(0, MAX_COUNT);

const reason = check.text;
const exitCode = check.wholeNumber;
const type = anything; // looked at by byType
const outcome = check.byType({
  exited: check.fields({ type, exitCode }, { machineFault: check.text }),
  'timed-out': check.fields({ type, timeoutMs: check.numberWithin(0) }),
  'out-of-memory': check.fields({ type, reason, memory: check.oneOf('main', 'gpu'), exitCode }),
  lost: check.fields({ type, reason }, { neverStarted: check.truth }),
  'transfer-failed': check.fields(
    { type, reason },
    { exitCode, machineFault: check.text, stage: check.oneOf('start') },
  ),
  cancelled: check.fields({ type, reason }),
  'never-fits': check.fields({ type, reason }),
});

const job = check.fields(
  {
    id,
    spec: checkSpec,
    state: check.oneOf('queued', 'holding', 'user-hold', 'running', ...FINAL_STATES),
    isHeld: check.truth,
    submittedAt: time,
    attempt: count,
    losses: count,
    failures: count,
  },
  {
    startedAt: time,
    endedAt: time,
    machine,
    outcome,
    reason,
    machineKey: check.text,
    wanted: check.oneOf('killed', 'queued'),
    avoid: check.listOf(machine),
    grown: check.fields({}, { memoryMiB: REQUEST.memoryMiB, gpuMemoryMiB: REQUEST.gpuMemoryMiB }),
  },
);

const script: check.Check = (value, path) => {
  if (typeof value === 'object') check.fields({ base64: check.text })(value, path);
  else check.text(value, path);
};

const file = check.fields(
  {
    format: check.oneOf(STATE_FORMAT),
    version: anything,
    nextId: wholeWithin(1, MAX_ID + 1),
    jobs: check.listOf(job),
  },
  { service: check.filledText, machines: anything, scripts: check.mapOf(script) },
);

/** Reads an exported state. @throws UsageError that names the path of the first mistake. */
export function readStateFile(json: unknown): { jobs: KeptJob[]; nextId: QueueJobId } {
  const { jobs, nextId } = checkStateFile(json);
  return { jobs: jobs.map(keptOf), nextId };
}

/** The same as it stands. @throws UsageError that names the path of the first mistake. */
export function checkStateFile(json: unknown): QueueStateFile {
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > STATE_VERSION)
    throw new UsageError(
      `version: ${version} is of a newer version of this program; ${STATE_VERSION} is known here`,
    );
  file(json, '');
  const state = json as QueueStateFile; // as was checked
  if (version !== STATE_VERSION) check.mistake('version', String(STATE_VERSION), version);
  const byId = new Map<QueueJobId, number>();
  state.jobs.forEach(({ id }, index) => {
    const other = byId.get(id);
    if (other !== undefined)
      throw new UsageError(`jobs[${index}].id: jobs[${other}] has the id ${id} as well`);
    if (id >= state.nextId) check.mistake(`jobs[${index}].id`, `less than nextId (${state.nextId})`, id);
    byId.set(id, index);
  });
  for (const [index, one] of state.jobs.entries()) checkTogether(one, `jobs[${index}]`, byId);
  return state;
}

/** What has to be true of several fields, and of several jobs. */
function checkTogether(one: QueueJob, path: string, ids: ReadonlyMap<QueueJobId, number>): void {
  const { id, state, spec, isHeld, attempt, endedAt } = one;
  // Two jobs of one name would take each other's results.
  if (!spec.name.endsWith(`_${id}`))
    check.mistake(`${path}.spec.name`, `a name that ends in its own id, _${id}`, spec.name);
  spec.dependsOn.forEach((parent, index) => {
    const at = `${path}.spec.dependsOn[${index}]`;
    if (parent >= id) check.mistake(at, `an id below its own (${id})`, parent);
    if (state === 'holding' && !ids.has(parent)) check.mistake(at, 'the id of a job of this state', parent);
  });
  if (spec.array !== undefined && spec.array.first > id)
    check.mistake(`${path}.spec.array.first`, `its own id (${id}) or one below`, spec.array.first);
  if (state === 'queued' && isHeld) check.mistake(`${path}.isHeld`, 'false with the state queued', isHeld);
  if (state === 'user-hold' && !isHeld)
    check.mistake(`${path}.isHeld`, 'true with the state user-hold', isHeld);
  if (state === 'running' && attempt === 0)
    check.mistake(`${path}.attempt`, 'at least 1 with the state running', attempt);
  if (FINAL_STATES.includes(state) && endedAt === undefined)
    check.mistake(`${path}.endedAt`, `the time of its end with the state ${state}`, endedAt);
}
