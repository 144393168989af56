/** What can be asked of the service through its door: each verb checks what it is given, and answers. */
import { UsageError } from '../domain/errors.ts';
import { FINAL_STATES, type QueueJob, type QueueJobId, type QueueState } from '../domain/queue.ts';
import { ALL_STATES } from '../stores/queue-store-options.ts';
import type { VerbAnswer } from '../stores/queue-verbs.ts';
import { Bell } from './bell.ts';
import type { RequestContext, Verb } from './door-connection.ts';
import { DoorError } from './door-protocol.ts';
import { explainJob } from './explain.ts';
import { streamOutput } from './job-output.ts';
import { Overviews } from './overview.ts';
import type {
  AddMachineRequest,
  CleanAnswer,
  CleanRequest,
  ConfigureRequest,
  EventsRequest,
  JobRow,
  JobsRequest,
  ListRequest,
  OutputRequest,
  OverviewRequest,
  RemoveJobRequest,
  RemoveMachineRequest,
  StopRequest,
  SubmitAnswer,
  WaitItem,
  WaitRequest,
} from './requests.ts';
import { sameScript } from './script-store.ts';
import type { ServiceParts } from './service-parts.ts';
import type { StateTransfer } from './state-transfer.ts';
import { streamEvents } from './streamed-events.ts';
import { prepareSubmit } from './submission.ts';
import * as check from './verb-checks.ts';
import { explainOptions, submissionOptions } from './verb-context.ts';

const LIST_LIMIT = 1000;

/** The verbs of a service. */
export function verbsOf(service: ServiceParts, transfer: StateTransfer): { readonly [verb: string]: Verb } {
  const { store, machines } = service;
  const overviews = new Overviews(service);

  const live = () => store.ids(['queued', 'holding', 'user-hold', 'running']);
  const idsOf = (request: JobsRequest, all: () => readonly QueueJobId[]): readonly QueueJobId[] => {
    if (request.ids === 'all') return all();
    if (request.ids === 'failed') throw new UsageError('only rerun knows the failed ones');
    return request.ids;
  };
  const kill = async (ids: readonly QueueJobId[], reason: string): Promise<readonly VerbAnswer[]> => {
    const answers = await store.kill(ids, reason);
    const running = answers.filter(({ isDone, state }) => isDone && state === 'running').map(({ id }) => id);
    if (running.length > 0) await service.endRunning(running, reason);
    return answers;
  };

  return {
    info: () => service.info(),
    submit: async (args): Promise<SubmitAnswer> => {
      const prepared = await prepareSubmit(args, submissionOptions(service));
      if (service.isEnding)
        throw new DoorError('closing', 'the service is about to end: nothing was submitted');
      const firstId = store.nextId;
      const specs = prepared.specs(firstId);
      const ids = await store.add(specs, { hold: prepared.hold });
      return { firstId, count: ids.length, warnings: prepared.warnings };
    },
    machines: () => machines.rows(),
    'add-machine': (args) => machines.add(check.addMachine(args) as AddMachineRequest),
    'remove-machine': (args, { signal }) =>
      machines.remove(check.removeMachine(args) as RemoveMachineRequest, signal),
    configure: (args) => machines.configure(check.configure(args) as ConfigureRequest),
    list: (args): readonly JobRow[] => {
      const { states = ALL_STATES, from = 1, limit = LIST_LIMIT } = check.list(args) as ListRequest;
      const jobs = store.list({ states, from, limit: Math.min(limit, LIST_LIMIT) });
      return jobs.map((job) => rowOf(service, job));
    },
    get: (args): JobRow => rowOf(service, known(service, check.oneId(args))),
    explain: (args) => explainJob(check.oneId(args), explainOptions(service)),
    hold: (args) => {
      const waiting = () => store.ids(['queued', 'holding']);
      return store.hold(idsOf(check.jobs(args) as JobsRequest, waiting));
    },
    release: (args) => {
      const held = () => store.list({ states: ['user-hold', 'holding'] }).filter(({ isHeld }) => isHeld);
      return store.release(idsOf(check.jobs(args) as JobsRequest, () => held().map(({ id }) => id)));
    },
    kill: (args) => kill(idsOf(check.jobs(args) as JobsRequest, live), 'killed by hand'),
    'remove-job': (args) => {
      const wanted = check.removeJob(args) as RemoveJobRequest;
      const waiting = store.list({ states: ['queued', 'holding', 'user-hold'] });
      const ids = waiting.filter(({ spec }) => sameScript(spec, wanted)).map(({ id }) => id);
      return kill(ids, 'removed by remove-job');
    },
    rerun: (args) => {
      const { ids } = check.jobs(args) as JobsRequest;
      if (ids === 'all') throw new UsageError('rerun takes ids or --failed');
      if (ids !== 'failed') return store.rerun(ids);
      return store.rerun(store.ids(['fail', 'error', 'abort']));
    },
    priority: (args) => {
      const request = check.jobs(args) as JobsRequest;
      if (request.priority === undefined) throw new UsageError('priority: expected a whole number');
      return store.setPriority(
        idsOf(request, () => []),
        request.priority,
      );
    },
    clean: async (args): Promise<CleanAnswer> => {
      const { olderThanMs, states = FINAL_STATES } = check.clean(args) as CleanRequest;
      const ids = await store.clean(olderThanMs, states);
      return { ids, freedBytes: await service.removeUnused() };
    },
    output: (args, { signal }) => {
      const request = check.output(args) as OutputRequest;
      known(service, request.id);
      const outputs = (job: QueueJob) => service.outputsOf(job.spec, job.id);
      return streamOutput({ ...request, store, outputsOf: outputs, signal });
    },
    overview: (args) => overviews.of(check.overview(args) as OverviewRequest),
    wait: (args, context) => waitFor(service, check.wait(args) as WaitRequest, context),
    events: (args, { signal }) => streamEvents(check.events(args) as EventsRequest, { store, signal }),
    export: async function* () {
      for await (const text of transfer.export()) yield { text };
    },
    import: async (args) => {
      const answer = await transfer.import(args);
      if (answer.jobs !== undefined) await service.takeUpImported();
      return answer;
    },
    stop: (args, { answered }) => service.stop(check.stop(args) as StopRequest, answered),
  };
}

function known({ store }: ServiceParts, id: QueueJobId): QueueJob {
  const job = store.get(id);
  if (job === undefined) throw new UsageError(`job ${id} is not known`);
  return job;
}

function rowOf(service: ServiceParts, job: QueueJob): JobRow {
  const { env: _, treeParts: __, ...spec } = job.spec;
  return {
    ...job,
    spec,
    ...(job.state === 'holding' ? { waitsFor: service.store.waitsFor(job.id) } : {}),
    outputs: service.outputsOf(job.spec, job.id),
  };
}

/** Tells jobs as they end, until all have. */
async function* waitFor(
  { store }: ServiceParts,
  { ids }: WaitRequest,
  { signal }: RequestContext,
): AsyncGenerator<WaitItem> {
  const unknown = ids.filter((id) => store.get(id) === undefined);
  if (unknown.length > 0)
    throw new UsageError(`${unknown.length === 1 ? 'job' : 'jobs'} ${unknown.join(', ')}: not known`);
  const left = new Set(ids);
  // To ask for each of many jobs whenever one of them changes would take longer than they run.
  let changed = new Set(left);
  const bell = new Bell(signal);
  const stopHearing = store.onEvents((events) => {
    for (const event of events)
      if ('job' in event && typeof event.job === 'number' && left.has(event.job)) changed.add(event.job);
    if (changed.size > 0) bell.ring();
  });
  try {
    while (left.size > 0 && !signal.aborted) {
      const toLookAt = changed;
      changed = new Set();
      for (const id of toLookAt) {
        if (!left.has(id)) continue; // told already
        const job = store.get(id);
        const state: QueueState = job?.state ?? 'error';
        if (!FINAL_STATES.includes(state)) continue;
        left.delete(id);
        const { outcome, reason, spec } = job ?? {};
        yield {
          ...{ id, name: spec?.name ?? '', state },
          ...(outcome === undefined ? {} : { outcome }),
          ...(reason === undefined ? {} : { reason }),
        };
      }
      if (left.size > 0) await bell.rung();
    }
  } finally {
    stopHearing();
  }
}
