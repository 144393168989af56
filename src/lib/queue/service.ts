/**
 * The queue service: jobs come through its door at any time, machines come and go, and whatever happens to it, the next
 * one goes on where it was.
 *
 *     door -> verbs -> store <- engine -> backend -> pool of machines, or here
 *
 * What is acknowledged is on the disk. An attempt is claimed in the store, with its machine, before the machine hears of it;
 * so the next service knows where to ask, and none is started twice.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { watchAbsences } from '../allocator/absence.ts';
import { MachinePool, type PoolMachine } from '../allocator/machine-pool.ts';
import type { OpenPoolOptions } from '../allocator/open-pool.ts';
import { UsageError } from '../domain/errors.ts';
import type { SchedulerEvent } from '../domain/events.ts';
import type { Job } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { JobStore } from '../domain/ports.ts';
import type { QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import { DEFAULT_REQUEST } from '../domain/request-defaults.ts';
import { Engine } from '../engine/engine.ts';
import { KeptParts } from '../files/kept-parts.ts';
import { originOf } from '../runner/batch-origin.ts';
import { machineKey } from '../runner/job-folder.ts';
import type { BatchOrigin } from '../runner/machine-session.ts';
import { QueueStore } from '../stores/queue-store.ts';
import { EventStream } from '../util/event-stream.ts';
import { makeFolder } from '../util/make-folder.ts';
import { TOOL_VERSION } from '../util/tool-version.ts';
import { DataFolder } from './data-folder.ts';
import { DoorServer } from './door-server.ts';
import { type Adopted, EarlierClaims } from './earlier-claims.ts';
import type { ExplainOptions } from './explain.ts';
import { HereRuns } from './here-runs.ts';
import { IN_PLACE_MACHINE, inPlaceBar } from './in-place.ts';
import { outputsOf } from './job-output.ts';
import { LocalTrouble } from './local-trouble.ts';
import { checkMachines } from './machine-list.ts';
import { QueueMachines } from './queue-machines.ts';
import { rememberStart } from './remembered-start.ts';
import type { InfoAnswer, QueueOrder, StopAnswer, StopRequest } from './requests.ts';
import { ScriptStore } from './script-store.ts';
import { ServiceBackend } from './service-backend.ts';
import { serviceId } from './service-id.ts';
import type { ServiceOptions } from './service-options.ts';
import type { ServiceParts } from './service-parts.ts';
import { ServiceRuns } from './service-runs.ts';
import { SjqDoor } from './sjq/sjq-door.ts';
import { Starvation } from './starvation.ts';
import { StateTransfer } from './state-transfer.ts';
import { SubmissionTimeouts } from './submission-timeouts.ts';
import { verbsOf } from './verbs.ts';

export type { ServiceOptions } from './service-options.ts';

const STARVATION_LIMIT_MS = 10 * 60_000;
const LOOK_AGAIN_MS = 10_000;
const PAGE = 1000;
/** What was kept so lately may be of a submit that is still under way. */
const SETTLE_MS = 30_000;

/** A queue service that runs in this process. */
export class QueueService implements ServiceParts, AsyncDisposable {
  readonly id: string;
  readonly dataFolder: string;
  readonly logFolder: string;
  /** Everything that happens on its machines. */
  readonly events = new EventStream<SchedulerEvent>();
  /** Settles when it has ended, for whatever reason. */
  readonly stopped: Promise<StopAnswer>;
  readonly store: QueueStore;
  readonly parts: KeptParts;
  readonly scripts: ScriptStore;
  readonly pool: MachinePool;
  readonly machines: QueueMachines;
  readonly #here: HereRuns;
  readonly #engine: Engine;
  readonly #options: ServiceOptions;
  readonly #startedAt = Date.now();
  readonly #folder: DataFolder;
  readonly #ssh: NonNullable<OpenPoolOptions['ssh']>;
  readonly #runs: ServiceRuns;
  readonly #trouble: LocalTrouble;
  readonly #backend: ServiceBackend;
  readonly #earlier: EarlierClaims;
  readonly #starvation: Starvation;
  readonly #timeouts: SubmissionTimeouts;
  readonly #transfer: StateTransfer;
  readonly #stopWatching: (() => void)[] = [];
  #door: DoorServer | undefined;
  #sjqDoor: SjqDoor | undefined;
  #settleStopped: (answer: StopAnswer) => void = () => {};

  /**
   * Takes the data folder, goes on with what is in it, and opens the door; the machines join in the background.
   * @throws UsageError when another service has the folder, or an option is wrong; SchedulerError when it is damaged
   */
  static async open(options: ServiceOptions): Promise<QueueService> {
    const folder = DataFolder.take(options.dataFolder);
    let store: QueueStore | undefined;
    let started: QueueService | undefined;
    try {
      if (folder.isTakenOver) options.onNote?.('the service before this one died: taking over what it left');
      store = await privately(() =>
        QueueStore.open(folder.path, {
          ...(options.tuning?.clock === undefined ? {} : { clock: options.tuning.clock }),
          policy: {
            isWorth: () => true,
            canRun: ({ request }) => started?.machines.canEver(request).fits ?? true,
            canRunElsewhere: (job) => started?.pool.canRunElsewhere(job) ?? false,
          },
          machineKeyOf: (machine) => started?.machineKeyOf(machine),
          onProblem: (error) =>
            options.onNote?.(`the queue cannot be written: ${error.message}; trying again`),
        }),
      );
      const parts = await KeptParts.open(join(folder.path, 'parts'), { settleMs: SETTLE_MS });
      started = new QueueService(options, folder, store, parts);
      await started.#begin();
      return started;
    } catch (error) {
      // Why it could not begin matters more.
      if (started !== undefined) await started.#letGoOfAll().catch(() => {});
      store?.close();
      folder.release();
      throw error;
    }
  }

  private constructor(options: ServiceOptions, folder: DataFolder, store: QueueStore, parts: KeptParts) {
    this.#options = options;
    this.#folder = folder;
    this.store = store;
    this.parts = parts;
    this.dataFolder = folder.path;
    const { logFolder, sshConfig } = rememberStart(folder.path, options, options.onNote);
    this.logFolder = logFolder;
    this.#ssh = { ...options.tuning?.ssh, ...(sshConfig === undefined ? {} : { configFile: sshConfig }) };
    this.id = serviceId(folder.path);
    this.scripts = new ScriptStore(join(folder.path, 'scripts'), { settleMs: SETTLE_MS });
    this.stopped = new Promise((settle) => {
      this.#settleStopped = settle;
    });
    this.#trouble = new LocalTrouble(
      (folder, error) => this.#onTrouble(folder, error),
      options.tuning?.troublePauseMs,
    );
    const { outputPollMs, gpuWaitMs } = options.tuning ?? {};
    this.#runs = new ServiceRuns({
      ...{ serviceId: this.id, store, parts, scripts: this.scripts },
      earlier: () => this.#earlier,
      onLocalProblem: (results, error) => this.#trouble.note(results, error),
      ...(outputPollMs === undefined ? {} : { outputPollMs }),
      ...(gpuWaitMs === undefined ? {} : { gpuWaitMs }),
    });
    this.pool = new MachinePool([], {
      onQuarantined: (machine, reason) =>
        this.events.publish({ type: 'machine:quarantined', at: Date.now(), machine, reason }),
      onReturned: (_, attempt, machine) => void this.#earlier.onReturned(attempt, machine).catch(() => {}),
    });
    this.machines = new QueueMachines({
      folder: folder.path,
      pool: this.pool,
      poolOptions: this.#poolOptions(),
      onJoined: (machine) => this.#lookAround(machine),
      runningOn: (name) => store.runningOn(name),
      runsHere: (name) => this.#here.runningFor(name),
      waitingFor: (name) => this.#waitingByMachine().get(name) ?? [],
      end: (name, how) => this.#endOn(name, how),
      isWaiting: () => store.waitingKinds > 0,
      onOpened: () => this.#here.workersChanged(),
      ...(options.tuning?.measureEveryMs === undefined
        ? {}
        : { measureEveryMs: options.tuning.measureEveryMs }),
    });
    const { hasBegun, isCurrent, isLast } = this.#runs.options;
    this.#here = new HereRuns({
      ...{ hasBegun, isCurrent, isLast },
      serviceId: this.id,
      toolVersion: TOOL_VERSION,
      origin: this.#origin,
      workers: () => this.machines.names().map((name) => ({ name, isOpen: this.machines.isOpen(name) })),
      configOf: (name) => this.machines.entryOf(name)?.config,
      specOf: (id) => store.spec(id),
      workerOf: (id) => store.get(id)?.machine,
      scripts: this.scripts,
      logFolder: this.logFolder,
      ssh: this.#ssh,
      events: this.events,
    });
    this.#backend = new ServiceBackend({
      pool: this.pool,
      here: this.#here,
      trouble: this.#trouble,
      isBarred: (job) => this.#isBarred(job),
      resultsOf: (job) => store.spec(job.id)?.results ?? '',
      refetchPausesMs: options.tuning?.refetchPausesMs,
    });
    this.#engine = new Engine(this.#storeOfEngine(), this.#backend, {
      isEndless: true,
      isStrict: this.order === 'strict',
    });
    this.#earlier = new EarlierClaims({
      serviceId: this.id,
      store,
      pool: this.pool,
      here: this.#here,
      engine: this.#engine,
      patient: (job, running) => this.#backend.patient(job, running),
      onAdopted: (adopted) => this.#tellAdopted(adopted),
      onReplaced: (machine, jobs) => this.#tellReplaced(machine, jobs),
    });
    this.#starvation = new Starvation({
      pool: this.pool,
      store,
      isBarred: (job) => this.#isBarred(job),
      limitMs: options.starvationLimitMs ?? STARVATION_LIMIT_MS,
      ...(options.tuning?.clock === undefined ? {} : { clock: options.tuning.clock }),
    });
    this.#timeouts = new SubmissionTimeouts({ store });
    this.#transfer = new StateTransfer({
      ...{ store, parts, scripts: this.scripts, folder: folder.path, serviceId: this.id },
      machines: {
        toJSON: () => this.machines.listed(),
        check: (json) => this.machines.check(json),
        replace: async (json) => {
          const warnings = await this.machines.import(checkMachines(json, 'machines'));
          for (const warning of warnings) options.onNote?.(warning);
        },
      },
    });
  }

  async #begin(): Promise<void> {
    const { store } = this;
    const options = this.#options;
    makeFolder(this.logFolder, 0o700);
    this.events.subscribe((event) => this.#hear(event));
    const { onEvent } = options;
    if (onEvent !== undefined) this.events.subscribe(onEvent);
    store.onPending(() => this.machines.noteWaiting());
    const awaited = await this.#earlier.takeUp();
    if (awaited > 0) options.onNote?.(`${countOf(awaited, 'job')} of before: their machines are asked`);
    // Before anybody asks: a submit looks at what machines there are.
    for (const warning of await this.machines.start(this.#machinesToStart())) options.onNote?.(warning);
    this.#door = await privately(() =>
      DoorServer.open({
        dataFolder: this.dataFolder,
        verbs: verbsOf(this, this.#transfer),
        ...(options.group === undefined ? {} : { group: options.group }),
      }),
    );
    for (const note of this.#door.notes) options.onNote?.(note);
    await this.#openSjqDoor();
    const { machineLostAfterMs } = options;
    if (machineLostAfterMs !== undefined) this.#watchAbsences(machineLostAfterMs);
    this.#starvation.start();
    this.#timeouts.watch(() => this.#engine.running());
    void this.#engine.run();
    if (store.waitingKinds > 0) this.machines.noteWaiting();
  }

  async #openSjqDoor(): Promise<void> {
    const { sjq, group, onNote = () => {} } = this.#options;
    if (sjq === undefined) return;
    const local = this.machines.entryOf(IN_PLACE_MACHINE);
    if (local !== undefined && local.kind !== 'local')
      throw new UsageError(
        `the sjq door runs its jobs on this machine, and here another one is called ${IN_PLACE_MACHINE} (${local.config.host}): give that another name`,
      );
    const barred = this.store
      .list({ states: ['queued', 'holding', 'user-hold'] })
      .filter(({ spec }) => this.barOf(spec) !== undefined);
    if (barred.length > 0)
      onNote(`${countOf(barred.length, 'job')} of other users: they wait for a start with --allow-uid`);
    this.#sjqDoor = await SjqDoor.open({
      ...{ service: this, options: sjq, onNote },
      ...(group === undefined ? {} : { group }),
    });
  }

  /** What was named, and for the sjq door this machine, where it is not there anyway. */
  #machinesToStart(): readonly string[] {
    const { machines = [], sjq } = this.#options;
    if (sjq === undefined || machines.includes(IN_PLACE_MACHINE)) return machines;
    const there = this.machines.names();
    const isThere = there.length === 0 || there.some((name) => name === IN_PLACE_MACHINE);
    return machines.length === 0 && isThere ? [] : [...machines, IN_PLACE_MACHINE];
  }

  info(): InfoAnswer {
    return {
      version: TOOL_VERSION,
      id: this.id,
      host: hostname(),
      pid: process.pid,
      startedAt: this.#startedAt,
      dataFolder: this.dataFolder,
      logFolder: this.logFolder,
      order: this.order,
      counts: this.store.counts(),
    };
  }

  /** Looked up once for all machines that are asked about in a turn. */
  #waitingByMachine(): ReadonlyMap<MachineName, readonly QueueJobId[]> {
    if (this.#waiting === undefined) {
      this.#waiting = this.store.waitingByMachine();
      setImmediate(() => {
        this.#waiting = undefined;
      });
    }
    return this.#waiting;
  }
  #waiting: ReadonlyMap<MachineName, readonly QueueJobId[]> | undefined;

  /** Who a machine is, whatever it is called. */
  machineKeyOf(name: MachineName): string | undefined {
    const machine = this.pool.machines.find((one) => one.name === name);
    return machine === undefined ? undefined : machineKey(machine.snapshot.identity);
  }

  async endRunning(ids: readonly QueueJobId[], reason: string): Promise<void> {
    // A job that is being claimed right now is known to the engine a moment after the store's word.
    await new Promise((done) => setImmediate(done));
    const wanted = new Set(ids);
    for (const running of [...this.#engine.running()])
      if (wanted.has(Number(running.attempt.job))) running.cancel(reason);
  }

  async removeUnused(): Promise<number> {
    const scripts = new Set<string>();
    const parts = new Set<string>();
    let from = 1;
    for (
      let page = this.store.list({ limit: PAGE });
      page.length > 0;
      page = this.store.list({ from, limit: PAGE })
    ) {
      for (const { id, spec } of page) {
        if (spec.script !== undefined) scripts.add(spec.script.id);
        for (const part of spec.treeParts) parts.add(part);
        from = id + 1;
      }
      await new Promise((done) => setImmediate(done)); // others have questions, too
    }
    await this.scripts.removeExcept(scripts);
    return (await this.parts.removeExcept(parts)).bytes;
  }

  get order(): QueueOrder {
    return this.#options.order ?? 'skip';
  }

  get keptFree(): ExplainOptions['keptFree'] {
    return this.#starvation.kept;
  }

  /** Goes on with what an earlier service left on a machine; one that does not answer that question is asked again. */
  async #lookAround(machine: PoolMachine): Promise<void> {
    for (let hasFailed = false; !this.#isLeft; hasFailed = true) {
      try {
        return await this.#earlier.onJoined(machine);
      } catch (error) {
        if (this.pool.machineOf(machine.name) !== machine) throw error; // it was removed
        if (!hasFailed)
          this.#options.onNote?.(
            `${machine.name} does not tell what is there, and gets no jobs until it does: ${(error as Error).message}`,
          );
        await new Promise((done) => setTimeout(done, LOOK_AGAIN_MS).unref());
      }
    }
  }

  async takeUpImported(): Promise<void> {
    await this.#earlier.takeUp();
    // One that is away answers when it is back.
    for (const machine of this.pool.machines) void this.#lookAround(machine).catch(() => {}); // it was removed
  }

  /**
   * Ends the service; `answered` is waited for before the door closes. While a `kill` is under way, another stop lets go of
   * what has not ended by then.
   * @throws UsageError when it was to stop only when idle, and is not
   */
  async stop({ how }: StopRequest, answered: Promise<void> = Promise.resolve()): Promise<StopAnswer> {
    const { running } = this.store.counts();
    const waiting = this.#waitingCount();
    if (how === 'when-idle' && running + waiting > 0)
      throw new UsageError(
        `the service is not idle: ${countOf(running, 'job')} ${running === 1 ? 'runs' : 'run'} and ${waiting} wait`,
      );
    this.#answered.push(answered);
    if (this.#ending === undefined) {
      this.#isLetGo = false;
      this.#ending = how === 'kill' ? this.#killAll() : Promise.resolve();
      this.#ending.then(
        () => void Promise.all(this.#answered).then(() => this.#close()),
        () => {
          this.#ending = undefined; // the queue could not be written: it goes on
          this.#answered.length = 0;
        },
      );
    } else if (how === 'leave') this.#isLetGo = true;
    await this.#ending;
    return { running: this.store.counts().running, waiting: this.#waitingCount() };
  }
  #ending: Promise<void> | undefined;
  readonly #answered: Promise<void>[] = [];
  /** What a `kill` has not ended by now is left running. */
  #isLetGo = false;

  /** Whether it is about to end, and starts nothing more. */
  get isEnding(): boolean {
    return this.#ending !== undefined;
  }

  #waitingCount(): number {
    const { queued, holding, 'user-hold': held } = this.store.counts();
    return queued + holding + held;
  }

  async #killAll(): Promise<void> {
    const reason = 'the service was stopped with --kill';
    await this.store.kill(
      this.store.claimed().map(({ attempt }) => Number(attempt.job)),
      reason,
    );
    this.#engine.stop();
    // What was claimed meanwhile is not started any more, or is here now. From here on there is no way back.
    const ids = this.store.claimed().map(({ attempt }) => Number(attempt.job));
    await this.store
      .kill(ids, reason)
      .catch((error: unknown) => this.#options.onNote?.((error as Error).message));
    await this.endRunning(ids, reason);
    // Those on machines that are away cannot hear it now: the next service tells them.
    const isWithinReach = () => {
      const stranded = new Set(this.pool.stranded().map(({ attempt }) => attempt.job));
      return [...this.#engine.running()].some(({ attempt }) => !stranded.has(attempt.job));
    };
    while (!this.#isLetGo && isWithinReach()) await new Promise((done) => setTimeout(done, 50));
  }

  /** Ends all that goes on here, and lets go of the machines; jobs run on. */
  async #letGoOfAll(): Promise<void> {
    this.#isLeft = true;
    this.#engine.leave();
    this.#starvation.stop();
    this.#timeouts.stop();
    for (const stop of this.#stopWatching) stop();
    this.#trouble.close();
    try {
      await this.#sjqDoor?.close();
      await this.#door?.close();
      await this.#transfer.close();
      await this.machines.close();
      await this.#backend.close();
    } finally {
      this.#isClosed = true;
    }
  }

  async #close(): Promise<void> {
    let answer: StopAnswer = { running: 0, waiting: 0 };
    try {
      await this.#letGoOfAll();
      answer = { running: this.store.counts().running, waiting: this.#waitingCount() };
      this.store.close();
    } catch (error) {
      // Nobody is left to hear it but whoever started it.
      this.#options.onNote?.(`the service did not end well: ${(error as Error).message}`);
    } finally {
      this.#folder.release();
      this.#settleStopped(answer);
    }
  }
  #isClosed = false;
  #isLeft = false;

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop({ how: 'leave' });
    await this.stopped;
  }

  /** The store as the engine has it: when the service ends, what it sees of attempts that go on is no end of theirs. */
  #storeOfEngine(): JobStore {
    const { store } = this;
    return {
      pending: (refused) => store.pending(refused),
      get waitingKinds() {
        return store.waitingKinds;
      },
      claim: (job, machine) => this.#unlessLeft(() => store.claim(job, machine)),
      unclaim: (attempt) => this.#unlessLeft(() => store.unclaim(attempt)),
      finish: (attempt, outcome, machine) => this.#unlessLeft(() => store.finish(attempt, outcome, machine)),
      onPending: (listener) => store.onPending(listener),
    };
  }

  /** What did not reach the disk before the end is found again by the next service: nothing for it to come back to. */
  async #unlessLeft<T>(write: () => Promise<T>): Promise<T | undefined> {
    if (this.#isLeft) return undefined;
    try {
      return await write();
    } catch (error) {
      if (this.#isLeft) return undefined;
      throw error;
    }
  }

  #poolOptions(): Omit<OpenPoolOptions, 'machines'> {
    const { placement, sjq, tuning = {} } = this.#options;
    const { query, lateJoin, backoff } = tuning;
    const managed = sjq && {
      cpuCores: sjq.maxProcs,
      ...(sjq.maxMemMiB === undefined ? {} : { memoryMiB: sjq.maxMemMiB }),
    };
    return {
      events: this.events,
      typicalRequest: DEFAULT_REQUEST,
      isResumed: true,
      origin: this.#origin,
      runner: this.#runs.options,
      ...(managed === undefined
        ? {}
        : { managedOf: (name: MachineName) => (this.#isOwnMachine(name) ? managed : undefined) }),
      ...(placement === undefined ? {} : { placement }),
      ssh: this.#ssh,
      ...(query === undefined ? {} : { query }),
      ...(lateJoin === undefined ? {} : { lateJoin }),
      ...(backoff === undefined ? {} : { backoff }),
    };
  }

  /** For whoever finds its jobs on a machine. */
  get #origin(): BatchOrigin {
    return originOf(this.dataFolder, join(this.dataFolder, 'queue'));
  }

  outputsOf(spec: QueueJobSpec, id: QueueJobId): ReturnType<typeof outputsOf> {
    return outputsOf(spec, id, this.logFolder);
  }

  #hear(event: SchedulerEvent): void {
    if (this.#isClosed) return;
    this.#timeouts.hear(event);
    if (event.type === 'job:ended') this.#runs.noteEnd(event.job);
    if (event.type === 'job:started') {
      const { job, attempt: number, machine, startedAt } = event;
      const key = this.machineKeyOf(machine) ?? '';
      void this.#unlessLeft(() => this.store.noteStarted({ job, number }, machine, key, startedAt));
    }
    this.store.tell(event);
  }

  /** Ends what runs on a machine that is to go: its jobs wait again, or are dropped. */
  async #endOn(name: MachineName, { drop }: { readonly drop: boolean }): Promise<readonly QueueJobId[]> {
    const ids = [...this.store.runningOn(name), ...this.#here.runningFor(name)];
    const reason = `${name} was removed with --kill`;
    if (drop) await this.store.kill(ids, reason);
    else await this.store.requeue(ids, reason);
    await this.endRunning(ids, reason);
    // What cannot hear it is given up: the machine is to be ours no more.
    const stranded = this.pool.stranded().filter(({ machine }) => machine === name);
    for (const one of stranded) one.giveUp(reason);
    return stranded.map(({ attempt }) => Number(attempt.job));
  }

  #watchAbsences(lostAfterMs: number): void {
    this.#stopWatching.push(
      watchAbsences({
        machines: () => this.machines.names(),
        isUp: (machine) => this.pool.isUp(machine),
        lostAfterMs,
        onLost: (machine, awayMs) => {
          const seconds = Math.round(awayMs / 1000);
          const reason = `${machine} has been away for ${seconds} s (--machine-lost-after)`;
          const jobs = this.pool.giveUp(machine, reason);
          this.events.publish({ type: 'machine:given-up', at: Date.now(), machine, awayMs, jobs });
        },
      }),
    );
  }

  #tellAdopted(adopted: Adopted): void {
    const { machine, running, ended, unstarted } = adopted;
    this.store.tell({ type: 'queue:adopted', ...adopted });
    const where = machine === undefined ? 'here' : `on ${machine}`;
    this.#options.onNote?.(
      `adopted ${where}: ${running} running, ${ended} ended meanwhile, ${unstarted} not begun, which wait again`,
    );
  }

  #tellReplaced(machine: MachineName, jobs: readonly QueueJobId[]): void {
    const count = countOf(jobs.length, 'job');
    const message =
      `${count} of before may still run on another machine that had this name, or under another account: ${jobs.slice(0, 10).join(', ')}; ` +
      `when that is gone, \`job_queue remove-machine ${machine} --kill\` has them wait again`;
    this.#options.onNote?.(`${machine}: ${message}`);
    this.events.publish({ type: 'machine:warned', at: Date.now(), machine, message });
  }

  #onTrouble(folder: string, error: Error | undefined): void {
    if (error === undefined) this.#backend.tellCapacity();
    else
      this.#options.onNote?.(
        `results cannot be kept in ${folder}: ${error.message}; what leaves results there waits for a while`,
      );
  }

  /** Whether it is this machine, and not another one of its name. */
  #isOwnMachine(name: string): boolean {
    return name === IN_PLACE_MACHINE && this.machines.entryOf(name)?.kind === 'local';
  }

  barOf(spec: QueueJobSpec): string | undefined {
    if (spec.inPlace === undefined) return undefined;
    const { allowsUid = false } = this.#options.sjq ?? {};
    return inPlaceBar(spec, { isHere: this.#isOwnMachine(IN_PLACE_MACHINE), allowsUid });
  }

  #isBarred({ id }: Job): boolean {
    const spec = this.store.spec(id);
    return spec !== undefined && this.barOf(spec) !== undefined;
  }

  troubleIn(results: string): string | undefined {
    return this.#trouble.in(results)?.message;
  }
}

/** What it makes is for nobody else to read, whatever the caller's umask is. */
async function privately<T>(make: () => Promise<T>): Promise<T> {
  const before = process.umask(0o077);
  try {
    return await make();
  } finally {
    process.umask(before);
  }
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
