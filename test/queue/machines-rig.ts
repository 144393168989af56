/** The machines of a queue service without the rest of it: a real pool, real runners, and jobs that a test starts itself. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MachinePool, type PoolMachine } from '../../src/lib/allocator/machine-pool.ts';
import type { SchedulerEvent } from '../../src/lib/domain/events.ts';
import { type Job, jobId } from '../../src/lib/domain/job.ts';
import type { RunningAttempt } from '../../src/lib/domain/ports.ts';
import { QueueMachines, type QueueMachinesOptions } from '../../src/lib/queue/queue-machines.ts';
import type { MachineRow } from '../../src/lib/queue/requests.ts';
import type { ConnectOptions } from '../../src/lib/remote/connect.ts';
import { EventStream } from '../../src/lib/util/event-stream.ts';
import { until } from '../rig/until.ts';
import { smallJob } from '../runner/local-runner.ts';

const WITHIN = { deadlineMs: 30_000 };

/** Machines with a data folder, until disposed of. What runs on them runs on. */
export class MachinesRig implements AsyncDisposable {
  readonly events: SchedulerEvent[] = [];
  readonly pool = new MachinePool();
  readonly joined: string[] = [];
  readonly waiting = new Map<string, readonly number[]>();
  readonly here = new Map<string, readonly number[]>();
  readonly machines: QueueMachines;

  private constructor(
    readonly folder: string,
    more: Partial<QueueMachinesOptions>,
    connecting: ConnectOptions,
  ) {
    const stream = new EventStream<SchedulerEvent>();
    stream.subscribe((event) => this.events.push(event));
    const noTree = { id: '', parts: [], shared: [], files: 0, bytes: 0, isSmall: false };
    this.machines = new QueueMachines({
      folder,
      pool: this.pool,
      poolOptions: {
        ...connecting,
        events: stream,
        typicalRequest: smallJob('', '').request,
        isResumed: true,
        query: { cpuIntervalMs: 20 },
        lateJoin: { pauses: { firstMs: 100, longestMs: 300 } },
        backoff: { firstMs: 50, longestMs: 200 },
        runner: {
          batch: { id: '0123456789ab', toolVersion: 'test' },
          resultsFolder: join(folder, 'results'),
          treeOf: async () => noTree,
          outputPollMs: 50,
          killGraceMs: 500,
        },
      },
      onJoined: async (machine: PoolMachine) => void this.joined.push(machine.name),
      runningOn: (name) => this.pool.attemptsOn(name).map(({ attempt }) => Number(attempt.job)),
      runsHere: (name) => this.here.get(name) ?? [],
      waitingFor: (name) => this.waiting.get(name) ?? [],
      end: async (name) => {
        for (const running of this.pool.attemptsOn(name)) running.cancel('removed');
        return [];
      },
      isWaiting: () => false,
      leaveLookMs: 20,
      ...more,
    });
  }

  /** The machines of an earlier rig's folder, or of a new one. */
  static async open(
    more: Partial<QueueMachinesOptions> = {},
    connecting: ConnectOptions = {},
  ): Promise<MachinesRig> {
    const folder = more.folder ?? (await mkdtemp(join(tmpdir(), 'queue-machines-')));
    await mkdir(join(folder, 'results'), { recursive: true });
    return new MachinesRig(folder, more, connecting);
  }

  row(name: string): MachineRow | undefined {
    return this.machines.rows().find((one) => one.name === name);
  }

  /** Waits until a machine is in a state. */
  async state(name: string, state: MachineRow['state']): Promise<MachineRow> {
    const row = () => this.row(name);
    return await until(() => row()?.state === state && row(), {
      ...WITHIN,
      describe: () => this.machines.rows(),
    });
  }

  /** Starts a job, which asks for next to nothing; undefined when it has to wait. */
  start(id: number, command: string, more: Partial<Job> = {}): RunningAttempt | undefined {
    const job = { ...smallJob(`job_${id}`, command, more), id: jobId(String(id)) };
    const placed = this.pool.reserve(job);
    if (placed.type === 'refused') return undefined;
    return this.pool.start(job, { job: job.id, number: 1 }, placed);
  }

  /** Resolves with the first event of that type that fits. */
  async event<T extends SchedulerEvent['type']>(
    type: T,
    fits: (event: Extract<SchedulerEvent, { type: T }>) => boolean = () => true,
  ): Promise<Extract<SchedulerEvent, { type: T }>> {
    const all = () => this.events.filter((e): e is Extract<SchedulerEvent, { type: T }> => e.type === type);
    return await until(() => all().find(fits), { ...WITHIN, describe: () => this.events });
  }

  /** Lets go of all, and keeps the folder for the next rig. */
  async stop(): Promise<void> {
    await this.machines.close();
    await this.pool.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}
