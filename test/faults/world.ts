/** The surroundings of one seeded run: hosts, folders, the process that the faults befall. */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Controller } from './controller.ts';
import { Fleet } from './fleet.ts';
import { time } from './ledger.ts';
import {
  type ControllerFaultKind,
  type FaultKind,
  type FaultPlan,
  faultText,
  type PlanSize,
  planOf,
} from './plan.ts';
import { BATCH_FILE, INPUT, JOB_SCRIPT, jobLine } from './workload.ts';

/** So few that the jobs last as long as the faults. */
const JOBS_AT_ONCE = 2;

/** What a run is made for. */
export interface WorldOptions {
  readonly seed: number;
  readonly size: PlanSize;
  readonly kinds: readonly FaultKind[];
  /** The command, as a built file, with its arguments in this world. */
  readonly command: string;
  readonly args: (world: World) => readonly string[];
  /** Which exit code of the command says that all is done; absent for a service. */
  readonly doneCode?: number;
  /** How long after the last fault all must be done. */
  readonly doneWithinMs: number;
  /** Hears what happens, a line each. */
  readonly say: (line: string) => void;
  /** Gets the way to take everything down before the end. */
  readonly onOpen?: (close: () => Promise<void>) => void;
}

/** Hosts, disks and folders. Everything goes with it, but for its folder: that is left when `keepFolder` was called. */
export class World implements AsyncDisposable {
  readonly plan: FaultPlan;
  /** What can be done here of what was asked for. */
  readonly kinds: readonly FaultKind[];
  readonly fleet: Fleet;
  readonly controller: Controller;
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
  readonly doneWithinMs: number;
  /** Folders: of the jobs' files, of logs, for results, for a service's data. */
  readonly project: string;
  readonly logs: string;
  readonly results: string;
  readonly data: string;
  readonly sshConfig: string;
  readonly machineFiles: readonly string[];
  /** What has struck, with the time of day. */
  readonly struck: string[] = [];
  readonly #folder: string;
  readonly #say: (line: string) => void;
  #isKept = false;

  static async start(options: WorldOptions): Promise<World> {
    const fleet = await Fleet.start();
    options.onOpen?.(() => fleet[Symbol.asyncDispose]());
    const folder = await mkdtemp(join(tmpdir(), `faults-${options.seed}-`));
    const world = new World(options, fleet, folder);
    await world.#makeFiles();
    return world;
  }

  private constructor(options: WorldOptions, fleet: Fleet, folder: string) {
    const { command, doneCode } = options;
    this.fleet = fleet;
    this.kinds = options.kinds.filter((kind) => fleet.kinds.includes(kind));
    this.plan = planOf(options.seed, options.size, this.kinds);
    this.#folder = folder;
    this.#say = options.say;
    this.command = command;
    this.doneWithinMs = options.doneWithinMs;
    this.project = join(folder, 'project');
    this.logs = join(folder, 'logs');
    this.results = join(fleet.resultsDisk?.path ?? folder, 'job_results');
    this.data = join(fleet.dataDisk?.path ?? folder, 'data');
    this.sshConfig = join(folder, 'ssh_config');
    this.machineFiles = fleet.machines.map((host) => join(folder, `${host.name}.yaml`));
    const [PATH, USER] = [process.env.PATH, process.env.USER ?? 'user'];
    this.env = { HOME: join(folder, 'home'), PATH, LANG: 'C.UTF-8', USER };
    const { project: cwd, logs, env } = this;
    this.controller = new Controller({
      ...{ command, args: options.args(this), cwd, env, logs },
      ...(doneCode === undefined ? {} : { doneCode }),
    });
    if (fleet.machines.length < fleet.hosts.hosts.length)
      this.#say(`hosts have no namespaces of their own here: one host, and only ${this.kinds.join(', ')}`);
  }

  async #makeFiles(): Promise<void> {
    const { fleet, plan } = this;
    for (const one of [this.project, this.logs, join(this.#folder, 'home')]) await mkdir(one);
    await writeFile(join(this.project, BATCH_FILE), plan.jobs.map((job) => `${jobLine(job)}\n`).join(''));
    await copyFile(JOB_SCRIPT, join(this.project, 'job.sh'));
    await writeFile(join(this.project, 'input.txt'), INPUT);
    // A configuration of its own: the user's known_hosts is found without HOME, and must not learn of test hosts.
    const knownHosts = join(this.#folder, 'known_hosts');
    await copyFile(fleet.hosts.knownHostsPath, knownHosts);
    await writeFile(
      this.sshConfig,
      `Host *\n  UserKnownHostsFile ${knownHosts}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n`,
    );
    for (const [index, host] of fleet.machines.entries()) {
      const ledger = fleet.hosts.capabilities.ownIdentity ? '/tmp/ledger' : join(host.tmpDir, 'ledger');
      const extra = `name: ${host.name}\nmax_jobs: ${JOBS_AT_ONCE}\nenv:\n  FAULT_LEDGER: ${ledger}\n`;
      await writeFile(this.machineFiles[index] ?? '', host.machineFile(extra), { mode: 0o600 });
    }
  }

  /** What every job asks for, as flags. Failed attempts are worth another one only where a full disk can fail them. */
  get jobFlags(): readonly string[] {
    const request = ['--no-gpu-required', '--memory-required', '10', '--num-cpus', '0.01'];
    return this.kinds.includes('full-disk') ? [...request, '--retries', '5'] : request;
  }

  /** Has every fault strike at its time, until `isDone` settles. Resolves when all that struck have passed. */
  async strikeAll(isDone: Promise<unknown>): Promise<void> {
    const done = isDone.then(() => 'done' as const);
    const beganAt = Date.now();
    const under: Promise<void>[] = [];
    for (const fault of this.plan.faults) {
      const waitMs = beganAt + fault.atMs - Date.now();
      if ((await within(done, Math.max(0, waitMs))) === 'done') break;
      this.#note(faultText(fault));
      const { kind, forMs } = fault;
      if (isOfController(kind)) {
        if (!this.controller.signal(SIGNALS[kind], forMs)) this.#note(`  (${kind}: nobody is there to tell)`);
      } else {
        under.push(this.fleet.strike({ ...fault, kind }));
      }
    }
    await Promise.all(under);
  }

  #note(line: string): void {
    this.struck.push(`${time(Date.now())} ${line}`);
    this.#say(line);
  }

  /** Leaves the logs, since there is something to look for in them. */
  keepFolder(): void {
    this.#isKept = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.controller.stop();
    await this.fleet[Symbol.asyncDispose]();
    if (!this.#isKept) await rm(this.#folder, { recursive: true, force: true });
  }
}

const SIGNALS = { kill: 'SIGKILL', interrupt: 'SIGINT', 'hang-up': 'SIGHUP', terminate: 'SIGTERM' } as const;

function isOfController(kind: FaultKind): kind is ControllerFaultKind {
  return Object.hasOwn(SIGNALS, kind);
}

/** What comes within a time; else undefined. */
export async function within<T>(coming: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  try {
    return await Promise.race([coming, late]);
  } finally {
    clearTimeout(timer);
  }
}
