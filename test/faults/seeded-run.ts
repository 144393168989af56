/** One seeded run: a batch on four hosts under faults, and what is wrong with what it left. */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { remainFindings, resultFindings } from './check.ts';
import { Controller } from './controller.ts';
import { Fleet } from './fleet.ts';
import { attemptFindings, readLedger, time } from './ledger.ts';
import { type FaultKind, type FaultPlan, faultText, type PlanSize, planOf } from './plan.ts';
import { BATCH_FILE, INPUT, JOB_SCRIPT, jobLine, jobName } from './workload.ts';

const BUILT_COMMAND = fileURLToPath(new URL('../../dist/cli/execute-batch.js', import.meta.url));
/** So few that the batch lasts as long as its faults. */
const JOBS_AT_ONCE = 2;

/** What to run. */
export interface SeededRunOptions {
  readonly seed: number;
  readonly size: PlanSize;
  /** How long after the last fault all must be done. */
  readonly doneWithinMs: number;
  /** Only faults of these kinds. @default all that can be done here */
  readonly kinds?: readonly FaultKind[];
  /** The command, as a built file. @default that of this project */
  readonly command?: string;
  /** Hears what happens, a line each. */
  readonly say: (line: string) => void;
  /** Gets the way to take everything down before the end. */
  readonly onOpen?: (close: () => Promise<void>) => void;
}

/** How a run came out. */
export interface SeededRunResult {
  /** What must not be, a line each; empty when all is well. */
  readonly findings: readonly string[];
  /** One line of figures. */
  readonly figures: string;
}

/** Runs one seed. What it leaves on disk is removed, except the logs when something was found: they are named then. */
export async function seededRun(options: SeededRunOptions): Promise<SeededRunResult> {
  const { seed, size, say, command = BUILT_COMMAND } = options;
  await using fleet = await Fleet.start();
  options.onOpen?.(() => fleet[Symbol.asyncDispose]());
  const kinds = options.kinds?.filter((kind) => fleet.kinds.includes(kind)) ?? fleet.kinds;
  const plan = planOf(seed, size, kinds);
  if (fleet.machines.length < fleet.hosts.hosts.length)
    say(`hosts have no namespaces of their own here: one host, and only ${kinds.join(', ')}`);
  const folder = await mkdtemp(join(tmpdir(), `faults-${seed}-`));
  const results = join(fleet.resultsDisk?.path ?? folder, 'job_results');
  const project = await makeProject(folder, fleet, plan);
  const controller = new Controller({
    command,
    args: [
      ...[BATCH_FILE, '--ssh-config', project.sshConfig, '--results', results],
      ...['--machines', ...project.machineFiles, ...argumentsFor(kinds)],
    ],
    cwd: project.path,
    env: { HOME: project.home, PATH: process.env.PATH, LANG: 'C.UTF-8', USER: process.env.USER ?? 'user' },
    logs: project.logs,
  });
  const beganAt = Date.now();
  const struck: string[] = [];
  try {
    const done = controller.runUntilDone();
    await strikeAll(plan, done, fleet, controller, (line) => {
      struck.push(`${time(Date.now())} ${line}`);
      say(line);
    });
    const findings: string[] = [];
    const isDone = await within(done, options.doneWithinMs);
    const durationMs = Date.now() - beganAt;
    if (!isDone) {
      controller.stop();
      await done;
      findings.push(`not all jobs were done ${options.doneWithinMs / 1000} s after the last fault`);
    } else {
      // Some host may have been away at the end: the same command, once more, has nothing left but to clear up.
      const again = within(controller.runOnce(), options.doneWithinMs);
      const end = await again;
      if (end === undefined) controller.stop();
      if (end?.exitCode !== 0) findings.push(`the same command, run once more, ended with ${end?.exitCode}`);
    }
    const entries = (
      await Promise.all(fleet.machines.map((host) => readLedger(host.name, join(host.tmpDir, 'ledger'))))
    ).flat();
    for (const [index] of plan.jobs.entries()) {
      const name = jobName(index);
      findings.push(
        ...attemptFindings(
          name,
          entries.filter(({ job }) => job === name),
          fleet,
        ),
      );
    }
    findings.push(...(await resultFindings(results, plan.jobs, entries)));
    for (const host of fleet.machines) findings.push(...(await remainFindings(host)));
    const figures = `seed ${seed}: ${plan.jobs.length} jobs, ${entries.length} attempts, ${struck.length} faults, ${controller.ends.length} controllers, ${Math.round(durationMs / 1000)} s`;
    if (findings.length > 0) {
      const kept = [
        `logs of the controllers: ${project.logs}`,
        'faults:',
        ...struck.map((line) => `  ${line}`),
      ];
      return { findings: [...findings, ...kept], figures };
    }
    await rm(folder, { recursive: true, force: true });
    return { findings, figures };
  } finally {
    controller.stop();
  }
}

/** Failed attempts are worth another one only where a full disk can fail them. */
function argumentsFor(kinds: readonly FaultKind[]): string[] {
  const request = ['--no-gpu-required', '--memory-required', '10', '--num-cpus', '0.01', '--json'];
  const again = ['--retries', '5', '--rerun-failed'];
  return kinds.includes('full-disk') ? [...request, ...again] : request;
}

interface Project {
  readonly path: string;
  readonly home: string;
  readonly logs: string;
  readonly sshConfig: string;
  readonly machineFiles: readonly string[];
}

async function makeProject(folder: string, fleet: Fleet, plan: FaultPlan): Promise<Project> {
  const [path, home, logs] = ['project', 'home', 'logs'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]; // as many as there are names
  for (const one of [path, home, logs]) await mkdir(one);
  await writeFile(join(path, BATCH_FILE), plan.jobs.map((job) => `${jobLine(job)}\n`).join(''));
  await copyFile(JOB_SCRIPT, join(path, 'job.sh'));
  await writeFile(join(path, 'input.txt'), INPUT);
  // A configuration of its own: the user's known_hosts is found without HOME, and must not learn of test hosts.
  const sshConfig = join(folder, 'ssh_config');
  const knownHosts = join(folder, 'known_hosts');
  await copyFile(fleet.hosts.knownHostsPath, knownHosts);
  await writeFile(
    sshConfig,
    `Host *\n  UserKnownHostsFile ${knownHosts}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n`,
  );
  const machineFiles = await Promise.all(
    fleet.machines.map(async (host) => {
      const file = join(folder, `${host.name}.yaml`);
      const ledger = fleet.hosts.capabilities.ownIdentity ? '/tmp/ledger' : join(host.tmpDir, 'ledger');
      const extra = `name: ${host.name}\nmax_jobs: ${JOBS_AT_ONCE}\nenv:\n  FAULT_LEDGER: ${ledger}\n`;
      await writeFile(file, host.machineFile(extra), { mode: 0o600 });
      return file;
    }),
  );
  return { path, home, logs, sshConfig, machineFiles };
}

/** Has every fault strike at its time, until the batch is done. Resolves when all that struck have passed. */
async function strikeAll(
  plan: FaultPlan,
  done: Promise<unknown>,
  fleet: Fleet,
  controller: Controller,
  say: (line: string) => void,
): Promise<void> {
  const isDone = done.then(() => 'done' as const);
  const beganAt = Date.now();
  const under: Promise<void>[] = [];
  for (const fault of plan.faults) {
    const waitMs = beganAt + fault.atMs - Date.now();
    if ((await within(isDone, Math.max(0, waitMs))) === 'done') break;
    say(faultText(fault));
    const { kind, forMs } = fault;
    if (kind === 'kill' || kind === 'interrupt' || kind === 'hang-up') {
      if (!controller.signal(SIGNALS[kind], forMs)) say(`  (${kind}: there is no controller to tell)`);
    } else {
      under.push(fleet.strike({ ...fault, kind }));
    }
  }
  await Promise.all(under);
}

const SIGNALS = { kill: 'SIGKILL', interrupt: 'SIGINT', 'hang-up': 'SIGHUP' } as const;

/** What comes within a time; else undefined. */
async function within<T>(coming: Promise<T>, ms: number): Promise<T | undefined> {
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
