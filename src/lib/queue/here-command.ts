/** What a script that runs here for a worker is told, and the shell text that runs it. */
import { userInfo } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import type { Job } from '../domain/job.ts';
import type { QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import { NO_RESOURCES } from '../domain/request-defaults.ts';
import type { Allocation } from '../domain/resources.ts';
import type { MachineConfig } from '../machine/config.ts';
import { resolveSsh } from '../remote/ssh-config.ts';
import type { SshConfigOptions } from '../remote/ssh-g.ts';
import type { JobSettings } from '../runner/job-settings.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { type ScriptCall, type ScriptStore, scriptCommand } from './script-store.ts';

const SSH_PORT = 22;

/** What a script's command is made of, besides its job and its worker. */
export interface HereCommandOptions {
  readonly scripts: Pick<ScriptStore, 'text'>;
  /** Absolute folder for `job_<id>.txt`. */
  readonly logFolder: string;
  /** Where to look for a user and a port that a worker's entry does not name. */
  readonly ssh?: SshConfigOptions;
}

/** The file with all that the script of a job prints, in the log folder. */
export function hereLog(logFolder: string, job: QueueJobId): string {
  return join(logFolder, `job_${job}.txt`);
}

/** What a script is given of this machine: what others use here is measured, and a script is not asked what it needs. */
export const NO_ALLOCATION: Allocation = { id: 0, request: NO_RESOURCES, gpus: [] };

/** The job as its runner sees it: it takes nothing along, brings nothing home, and counts for nothing here. */
export function innerJob(job: Job): Job {
  return { ...job, request: NO_RESOURCES, copyForwards: [], shareForwards: [], copyBackwards: [] };
}

/** The settings of a job whose script runs here, but for its command. Nothing of it is kept but its log. */
export function limitsOf(spec: QueueJobSpec | undefined): JobSettings {
  const { timeoutMs, killAfterMs } = spec ?? {};
  return {
    resultsFolder: undefined,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(killAfterMs === undefined ? {} : { killGraceMs: killAfterMs }),
  };
}

/**
 * The shell text that runs a job's script for a worker.
 * @throws ScriptMissingError, UsageError
 */
export async function commandOf(
  job: QueueJobId,
  spec: QueueJobSpec,
  worker: MachineConfig,
  { scripts, logFolder, ssh }: HereCommandOptions,
): Promise<string> {
  if (spec.script === undefined) throw new Error(`Internal error: job ${job} has no script`);
  const { name, id, args } = spec.script;
  const [text, { host, user, port }] = await Promise.all([scripts.text(id), loginOf(worker, ssh)]);
  const own = {
    JOB_ID: String(job),
    SLAVE_IP: host,
    MACHINE_NAME: worker.name,
    MACHINE_USER: user,
    MACHINE_PORT: String(port),
  };
  return hereCommand({
    script: { name, text, args },
    cwd: spec.cwd,
    log: hereLog(logFolder, job),
    env: [own, worker.env, spec.env].flatMap((variables) => Object.entries(variables)),
  });
}

async function loginOf(
  worker: MachineConfig,
  ssh: SshConfigOptions | undefined,
): Promise<{ readonly host: string; readonly user: string; readonly port: number }> {
  const { host, username, port } = worker;
  try {
    return await resolveSsh(worker, ssh);
  } catch {
    // A worker may be called whatever its scripts understand: ssh need not.
    return { host, user: username ?? userInfo().username, port: port ?? SSH_PORT };
  }
}

/** What a script that runs here for a worker is told, and where it runs. */
export interface HereCall {
  readonly script: ScriptCall;
  /** Absolute; has to be there. */
  readonly cwd: string;
  /** Absolute file that all output is appended to; it and its folder are made where they are missing, for us alone. */
  readonly log: string;
  /** In this order; later ones count. */
  readonly env: readonly (readonly [name: string, value: string])[];
}

/**
 * Shell text for bash that runs a script here. Its output goes to its log without anybody's help, so that it goes on
 * when the service is gone. What keeps it from being run is told in the log and on standard error, with exit 126.
 * @throws UsageError for what cannot be said in a shell
 */
export function hereCommand({ script, cwd, log, env }: HereCall): string {
  for (const path of [cwd, log])
    if (!isAbsolute(path)) throw new Error(`Internal error: ${path} is not absolute`);
  const folder = shellQuote(dirname(log));
  const exports = env.map(([name, value]) => {
    checkVariable(name, value);
    return `export ${name}=${shellQuote(value)}`;
  });
  const missing = shellQuote(`cannot run in ${cwd}: it is no folder, or is closed to us`);
  const before = `cd -- ${shellQuote(cwd)} 2>/dev/null || {
  printf '%s\\n' ${missing} | tee -a ${shellQuote(log)} >&2
  exit 126
}
exec >>${shellQuote(log)} 2>&1
${exports.join('\n')}`;
  return `(umask 077 && mkdir -p -- ${folder} && : >>${shellQuote(log)}) || exit 126
${scriptCommand(script, before)}`;
}

function checkVariable(name: string, value: string): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    throw new UsageError(
      `'${cutToWidth(visibleText(name), 60)}' is no variable's name: expected letters, digits and _`,
    );
  if (value.includes('\0')) throw new UsageError(`the variable ${name} contains a NUL`);
}
