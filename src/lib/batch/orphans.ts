/** Jobs that run, or have left something, on machines and that no run of a batch will ever pick up again. */
import { resolve } from 'node:path';
import type { MachineName } from '../domain/machine.ts';
import { connectMachine } from '../remote/connect.ts';
import { endAttempts, type ListedAttempt } from '../runner/all-attempts.ts';
import { isFromHere } from '../runner/batch-origin.ts';
import { jobFolder } from '../runner/job-folder.ts';
import { knownBatches, rememberedRequest } from '../stores/batch-record.ts';
import { fileBytes, type JobDefaults, jobNameStem, readBatch } from './batch-file.ts';
import { type LookOptions, lookAtMachines } from './machine-look.ts';

/** Where to look, and for what. */
export interface OrphanOptions extends LookOptions {
  /** Only orphans of this batch file. */
  readonly file?: string;
  readonly defaults: JobDefaults;
  /** The batches of this results folder are known. @default 'job_results' */
  readonly results?: string;
  /** @default the working directory */
  readonly cwd?: string;
}

/** One attempt that nobody follows. Texts come from its machine: they are not fit for a terminal as they are. */
export interface Orphan extends ListedAttempt {
  readonly machine: MachineName;
  readonly machineKey: string;
  /** Why it is one, for people. */
  readonly because: string;
  /** False when it may belong to a batch that somebody will go on with, here or on another computer. */
  readonly isCertain: boolean;
}

/** What was found. */
export interface OrphanList {
  readonly orphans: readonly Orphan[];
  readonly unreachable: readonly { readonly machine: MachineName; readonly reason: string }[];
}

/** Lists the orphans on some machines; changes nothing. */
export async function listOrphans(options: OrphanOptions): Promise<OrphanList> {
  const { file, defaults, results = 'job_results', cwd = process.cwd() } = options;
  const folder = resolve(cwd, results);
  const here = knownBatches(folder) ?? new Map<string, string>();
  const lines = new Map<string, ReadonlyMap<string, string> | undefined>();
  for (const key of here.values()) lines.set(key, await rememberedLines(folder, key, defaults));
  if (file !== undefined) lines.set(jobFolder(jobNameStem(file)), await commandsIn(file, file, defaults));
  const { seen, unreachable } = await lookAtMachines(options);
  const isOfFile = ({ origin }: ListedAttempt, batchKey: string | undefined) =>
    file !== undefined &&
    (batchKey === undefined
      ? origin?.file === resolve(cwd, file)
      : batchKey === jobFolder(jobNameStem(file)));
  const reasonFor = (attempt: ListedAttempt): Pick<Orphan, 'because' | 'isCertain'> | undefined => {
    const batchKey = here.get(attempt.batch);
    if (file !== undefined && !isOfFile(attempt, batchKey)) return undefined;
    if (batchKey !== undefined) {
      const commands = lines.get(batchKey);
      if (commands === undefined)
        return { because: 'its batch file cannot be read any more', isCertain: false };
      if (commands.get(attempt.job) === attempt.command) return undefined;
      return { because: 'its line is gone or has another command now', isCertain: true };
    }
    if (attempt.isControlled) return undefined;
    const { origin } = attempt;
    if (origin === undefined) return { because: 'nobody noted where it comes from', isCertain: false };
    if (!isFromHere(origin))
      return {
        because: `it comes from another computer, ${origin.host}, which may go on with it`,
        isCertain: false,
      };
    const known = knownBatches(origin.folder);
    if (known === undefined)
      return { because: `its results folder ${origin.folder} cannot be read from here`, isCertain: false };
    if (known.has(attempt.batch)) return undefined;
    return { because: `${origin.folder} knows nothing of it any more`, isCertain: true };
  };
  const orphans = seen.flatMap(({ machine, machineKey, attempts }) =>
    attempts.flatMap((attempt) => {
      const reason = reasonFor(attempt);
      return reason === undefined ? [] : [{ ...attempt, machine, machineKey, ...reason }];
    }),
  );
  return { orphans, unreachable };
}

/** The commands of a batch by the names of its jobs, as its file is now; undefined when that cannot be told. */
async function rememberedLines(folder: string, key: string, defaults: JobDefaults) {
  const asked = rememberedRequest(folder, key);
  if (asked === undefined) return undefined;
  return await commandsIn(resolve(asked.cwd, asked.file), asked.file, defaults).catch(() => undefined);
}

/** `name`: the file as it was named when it was run, since jobs are named after that. */
async function commandsIn(path: string, name: string, defaults: JobDefaults) {
  const { lines } = readBatch(await fileBytes(path), { path: name, defaults });
  return new Map<string, string>(lines.map(({ job }) => [job.name, job.command]));
}

/**
 * Ends orphans: their processes get TERM, and KILL after the grace; what they left is removed. Resolves to the machines on
 * which that failed.
 */
export async function endOrphans(
  options: LookOptions,
  orphans: readonly Orphan[],
  graceMs: number,
): Promise<readonly { readonly machine: MachineName; readonly reason: string }[]> {
  const failed: { machine: MachineName; reason: string }[] = [];
  await Promise.all(
    options.machines.machines.map(async (entry) => {
      const { name, remoteDir } = entry.config;
      const mine = orphans.filter(({ machine }) => machine === name);
      const [first] = mine;
      if (first === undefined) return;
      try {
        const host = await connectMachine(entry, options);
        try {
          await endAttempts(host, { remoteDir, machineKey: first.machineKey }, mine, graceMs);
        } finally {
          await host.close();
        }
      } catch (error) {
        failed.push({ machine: name, reason: (error as Error).message });
      }
    }),
  );
  return failed;
}
