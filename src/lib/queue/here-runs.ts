/**
 * Scripts that run on the service's own machine for the machines of its list, here called workers: one script per worker
 * at a time, whether or not the worker can be reached.
 *
 * They are attempts like all others, below a batch of their own on this machine: detached, with an exit record, and
 * adopted by the next service. Their output goes to their log by redirection, so nothing comes home but how they ended.
 * The shells for that are opened when there is a script to run, or one of an earlier service to find.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { FollowedRun } from '../allocator/followed-run.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { Attempt, Job } from '../domain/job.ts';
import { type MachineName, machineName } from '../domain/machine.ts';
import type {
  ExecutionBackend,
  FoundAttempt,
  Refusal,
  Reservation,
  RunningAttempt,
} from '../domain/ports.ts';
import type { QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import type { SourceTree } from '../files/source-part.ts';
import type { MachineConfig } from '../machine/config.ts';
import { LocalHost, type LocalHostOptions } from '../remote/local-host.ts';
import { machineKey } from '../runner/job-folder.ts';
import type { JobSettings } from '../runner/job-settings.ts';
import { type LinkOptions, MachineLink } from '../runner/machine-link.ts';
import { MachineRunner, type RunnerOptions } from '../runner/machine-runner.ts';
import type { BatchOrigin } from '../runner/machine-session.ts';
import { EventStream } from '../util/event-stream.ts';
import { commandOf, type HereCommandOptions, innerJob, limitsOf, NO_ALLOCATION } from './here-command.ts';
import { missingTool } from './here-tools.ts';
import { HereWorkers, type Worker } from './here-workers.ts';

/** What runs of scripts need of the service. */
export interface HereRunsOptions
  extends HereCommandOptions,
    Pick<RunnerOptions, 'beforeStart' | 'hasBegun' | 'isCurrent' | 'isLast' | 'killGraceMs' | 'now'> {
  /** Names the service: the same at its next start. */
  readonly serviceId: string;
  readonly toolVersion: string;
  /** Where the service is, for whoever finds its scripts. Scripts are found again by the same `host` and `machineId`. */
  readonly origin: BatchOrigin;
  /** The machines of the list. */
  readonly workers: () => readonly Worker[];
  readonly configOf: (worker: MachineName) => MachineConfig | undefined;
  readonly specOf: (job: QueueJobId) => QueueJobSpec | undefined;
  /** The worker that a job's attempt was given to, as the store has it: asked about what an earlier service started. */
  readonly workerOf: (job: QueueJobId) => MachineName | undefined;
  readonly events: EventStream<SchedulerEvent>;
  /** Where and with what environment programs start here. */
  readonly host?: LocalHostOptions;
  readonly backoff?: LinkOptions['backoff'];
}

/** A script under way, or about to be. */
interface Underway {
  readonly job: Job;
  readonly worker: MachineName;
  /**
   * As it was when the worker was taken, since it may leave the list meanwhile. Absent for a script that an earlier
   * service started: all was said to it then.
   */
  readonly config?: MachineConfig;
}

const NO_TREE: SourceTree = { id: '', parts: [], shared: [], files: 0, bytes: 0, isSmall: false };
const HERE = machineName('local');

/** Runs scripts here, for workers. Jobs come with `runHere` in their spec; all others belong to the pool. */
export class HereRuns implements ExecutionBackend {
  readonly #options: HereRunsOptions;
  readonly #batch: string;
  readonly #workers: HereWorkers;
  readonly #held = new WeakMap<Reservation, Underway>();
  readonly #underway = new Map<string, Underway>();
  readonly #listeners = new Set<() => void>();
  #opening: Promise<MachineRunner> | undefined;
  #isAway = false;
  #isClosed = false;

  constructor(options: HereRunsOptions) {
    this.#options = options;
    // Another id than the service's, whose jobs on the machine `local` lie beside. An id is 12 hex digits.
    this.#batch = createHash('sha256').update(`${options.serviceId} here`).digest('hex').slice(0, 12);
    this.#workers = new HereWorkers(options.workers);
  }

  /** Takes the job's worker, or the idle one that was used longest ago. A job that finds none waits. */
  reserve(job: Job): Reservation | Refusal {
    const isOpen = !this.#isAway && !this.#isClosed;
    const worker = isOpen ? this.#workers.idleFor(job) : undefined;
    const config = worker === undefined ? undefined : this.#options.configOf(worker);
    if (worker === undefined || config === undefined)
      return { type: 'refused', everFits: true, shortfalls: [] };
    const reservation: Reservation = { type: 'reserved', machine: worker, gpus: [] };
    this.#workers.take(worker, job.id);
    this.#held.set(reservation, { job, worker, config });
    return reservation;
  }

  /** The jobs whose scripts run for a worker now, or are about to. */
  runningFor(worker: MachineName): readonly QueueJobId[] {
    return this.#workers.jobsOf(worker).map((job) => Number(job));
  }

  release(reservation: Reservation): void {
    this.#giveBack(this.#use(reservation));
  }

  start(job: Job, attempt: Attempt, reservation: Reservation): RunningAttempt {
    const followed = this.#follow(attempt, { ...this.#use(reservation), job });
    followed.attach(this.#runner().then((runner) => runner.queueUp(innerJob(job), attempt, NO_ALLOCATION)));
    return followed;
  }

  /** What an earlier service of the same id left here. Its machine is the worker that the store has for it. */
  async discover(): Promise<readonly FoundAttempt[]> {
    if (!this.#hasLeftovers()) return [];
    const found = await (await this.#runner()).discover();
    return found.map((one) => ({ ...one, machine: this.#options.workerOf(Number(one.attempt.job)) ?? HERE }));
  }

  adopt(job: Job, found: FoundAttempt): RunningAttempt {
    this.#workers.take(found.machine, job.id);
    const followed = this.#follow(found.attempt, { job, worker: found.machine });
    if (found.state === 'unstarted') {
      this.discard(found);
      followed.neverStarted('the service ended before it was begun');
      return followed;
    }
    followed.attach(this.#runner().then((runner) => runner.adopt(innerJob(job), found, NO_ALLOCATION)));
    return followed;
  }

  discard(found: FoundAttempt): void {
    void this.#runner().then(
      (runner) => runner.discard(found),
      () => {}, // it is found again by the next service
    );
  }

  /** Ends an attempt that nobody wants, and throws away what it left. Its log stays. */
  end(found: FoundAttempt): void {
    void this.#runner().then(
      (runner) => runner.end(found),
      () => {}, // as above
    );
  }

  onCapacity(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** To be called when a worker has come, or is open again. */
  workersChanged(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Lets go of the shells. Scripts run on. Resolves to whether nothing is left here. */
  async close(): Promise<boolean> {
    this.#isClosed = true;
    const runner = await this.#opening?.catch(() => undefined);
    return runner === undefined ? !this.#hasLeftovers() : await runner.close();
  }

  #use(reservation: Reservation): Underway {
    const held = this.#held.get(reservation);
    if (held === undefined)
      throw new Error('Internal error: a reservation is given to start or release, once');
    this.#held.delete(reservation);
    return held;
  }

  #follow(attempt: Attempt, underway: Underway): FollowedRun {
    const key = keyOf(attempt);
    this.#underway.set(key, underway);
    const followed = new FollowedRun(innerJob(underway.job), attempt, underway.worker);
    void followed.freed.finally(() => this.#giveBack(underway));
    void followed.ended.finally(() => {
      if (this.#underway.get(key) === underway) this.#underway.delete(key);
    });
    return followed;
  }

  #giveBack({ worker, job }: Underway): void {
    this.#workers.giveBack(worker, job.id);
    this.workersChanged();
  }

  #runner(): Promise<MachineRunner> {
    if (this.#opening === undefined) {
      if (this.#isClosed) return Promise.reject(new Error('the service is about to stop'));
      this.#opening = this.#open();
      this.#opening.catch(() => {
        this.#opening = undefined; // the next script tries again
      });
    }
    return this.#opening;
  }

  async #open(): Promise<MachineRunner> {
    const { origin, host, backoff, toolVersion, events, now = Date.now } = this.#options;
    const { killGraceMs, hasBegun, isCurrent, isLast = () => true, beforeStart } = this.#options;
    // Asked first, since without bash the shells fail in a way that tells nothing.
    const missing = missingTool(host?.env ?? process.env);
    if (missing !== undefined) throw new Error(cannotRun(`no ${missing} on the service's machine`));
    const first = new LocalHost(HERE, host);
    const link = await MachineLink.open(HERE, first, {
      connect: async () => new LocalHost(HERE, host),
      machineKey: this.#machineKey,
      batch: this.#batch,
      origin,
      loginEnvironment: false,
      onAway: () => {
        this.#isAway = true;
      },
      onBack: () => {
        this.#isAway = false;
        this.workersChanged();
      },
      onWarning: (message) =>
        events.publish({ type: 'machine:warned', at: now(), machine: HERE, message: cannotRun(message) }),
      ...(backoff === undefined ? {} : { backoff }),
    }).catch(async (error: unknown) => {
      await first.close();
      throw new Error(cannotRun((error as Error).message), { cause: error });
    });
    const inner = new EventStream<SchedulerEvent>();
    inner.subscribe((event) => events.publish(this.#translated(event)));
    return new MachineRunner(link, {
      events: inner,
      // Its marks in processes' environments have the batch's name.
      batch: { id: this.#batch, toolVersion },
      resultsFolder: undefined,
      treeOf: async () => NO_TREE,
      settingsOf: (job, how) => this.#settingsOf(job, how),
      ...(killGraceMs === undefined ? {} : { killGraceMs }),
      now,
      hasBegun,
      isCurrent,
      beforeStart:
        beforeStart &&
        ((job, attempt, runs) => beforeStart(this.#underway.get(keyOf(attempt))?.job ?? job, attempt, runs)),
      isLast: (attempt, outcome, machine) =>
        isLast(attempt, outcome, this.#underway.get(keyOf(attempt))?.worker ?? machine),
    });
  }

  /** The host's own word for itself: a data folder, and a home folder, may be shared by several. */
  get #machineKey(): string {
    const { host, machineId = '' } = this.#options.origin;
    return machineKey(`${host}\n${machineId}`);
  }

  /** Looks without a shell, since most services never had such a job. */
  #hasLeftovers(): boolean {
    const { env = process.env } = this.#options.host ?? {};
    const base = join(env.HOME ?? homedir(), '.cache', 'ssh-scheduler');
    return existsSync(join(base, 'runs', this.#machineKey, this.#batch));
  }

  async #settingsOf(job: Job, { isAdopted }: { readonly isAdopted: boolean }): Promise<JobSettings> {
    const spec = this.#options.specOf(Number(job.id));
    const settings = limitsOf(spec);
    if (isAdopted) return settings;
    const config = [...this.#underway.values()].findLast((one) => one.job.id === job.id)?.config;
    if (spec?.script === undefined || config === undefined)
      throw new Error(`Internal error: job ${job.id} has no script to run here`);
    const commandText = await commandOf(Number(job.id), spec, config, this.#options);
    return { ...settings, commandText };
  }

  /** To all others a script's machine is its worker, and its request what was asked for. */
  #translated(event: SchedulerEvent): SchedulerEvent {
    if (event.type !== 'job:started' && event.type !== 'job:ended') return event;
    const underway = this.#underway.get(keyOf({ job: event.job, number: event.attempt }));
    if (underway === undefined) return event;
    const { worker, job } = underway;
    if (event.type === 'job:ended') return { ...event, machine: worker };
    return { ...event, machine: worker, request: job.request };
  }
}

function keyOf({ job, number }: Attempt): string {
  return `${job}/${number}`;
}

function cannotRun(reason: string): string {
  return `no script can run here: ${reason}`;
}
