/** How the service's jobs run on its machines: each with its own folders, variables and limits. */
import { UsageError } from '../domain/errors.ts';
import type { Attempt, Job, JobId } from '../domain/job.ts';
import type { QueueJobSpec } from '../domain/queue.ts';
import type { KeptParts } from '../files/kept-parts.ts';
import type { JobSettings } from '../runner/job-settings.ts';
import type { RunnerOptions } from '../runner/machine-runner.ts';
import { removeEmptyPartialFolder } from '../runner/result-files.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { setAsideEarlier } from '../stores/result-folder.ts';
import { makeFolder } from '../util/make-folder.ts';
import { TOOL_VERSION } from '../util/tool-version.ts';
import { type InPlaceRun, inPlaceCommand } from './in-place.ts';
import { ResultsSync } from './results-sync.ts';
import { type ScriptStore, scriptCommand } from './script-store.ts';

const KILL_GRACE_MS = 10_000;

/** What the runs are made of. */
export interface ServiceRunsOptions extends Partial<Pick<RunnerOptions, 'outputPollMs' | 'gpuWaitMs'>> {
  readonly serviceId: string;
  readonly store: QueueStore;
  readonly parts: KeptParts;
  readonly scripts: ScriptStore;
  /** What is known of attempts of an earlier life of the service. */
  readonly earlier: () => {
    ownsOutput(attempt: Attempt): boolean;
    hasBegun(attempt: Attempt): boolean;
  };
  /** Results cannot be kept in this folder. */
  readonly onLocalProblem: (folder: string, error: Error) => void;
}

/** What the runners of all machines need. */
export class ServiceRuns {
  /** For every machine's runner. */
  readonly options: Omit<RunnerOptions, 'events'>;
  readonly #options: ServiceRunsOptions;
  readonly #sync = new ResultsSync();

  constructor(options: ServiceRunsOptions) {
    this.#options = options;
    const { serviceId, store, parts, earlier, onLocalProblem, outputPollMs, gpuWaitMs } = options;
    this.options = {
      batch: { id: serviceId, toolVersion: TOOL_VERSION },
      resultsFolder: undefined,
      resultsSync: this.#sync,
      treeOf: async (job) => await parts.tree(this.#spec(job).treeParts),
      settingsOf: (job, { isAdopted }) => this.#settingsOf(job, isAdopted),
      ownsOutput: (attempt) => earlier().ownsOutput(attempt),
      hasBegun: (attempt) => earlier().hasBegun(attempt),
      isCurrent: (attempt) => store.isCurrent(attempt),
      isLast: (attempt, outcome, machine) => store.isLast(attempt, outcome, machine),
      onLocalProblem: (error, job) => onLocalProblem(this.#spec(job).results, error),
      ...(outputPollMs === undefined ? {} : { outputPollMs }),
      ...(gpuWaitMs === undefined ? {} : { gpuWaitMs }),
    };
  }

  /** A job's result was written: it is put on the disk before its machine forgets it. */
  noteEnd(job: JobId): void {
    const spec = this.#options.store.spec(job);
    if (spec === undefined || spec.inPlace !== undefined) return;
    this.#sync.note(spec.results);
    removeEmptyPartialFolder(spec.results);
  }

  #spec(job: Job): QueueJobSpec {
    const spec = this.#options.store.spec(job.id);
    if (spec === undefined) throw new UsageError(`job ${job.id} is not known any more`);
    return spec;
  }

  async #settingsOf(job: Job, isAdopted: boolean): Promise<JobSettings> {
    const whole = this.#spec(job);
    if (whole.inPlace !== undefined) return this.#settingsInPlace(job, whole, isAdopted);
    const { results, script, stdout, stderr, env, ...spec } = whole;
    const { timeoutMs, killAfterMs = KILL_GRACE_MS, maxOutputBytes } = spec;
    makeFolder(results);
    if (!isAdopted) await setAsideEarlier(results, job.name);
    return {
      resultsFolder: results,
      outputs: {
        ...(stdout === undefined ? {} : { out: stdout }),
        ...(stderr === undefined ? {} : { err: stderr }),
      },
      env,
      jobId: job.id,
      killGraceMs: killAfterMs,
      ...(script === undefined || isAdopted
        ? {}
        : { commandText: scriptCommand({ ...script, text: await this.#options.scripts.text(script.id) }) }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(maxOutputBytes === undefined ? {} : { maxOutputBytes }),
    };
  }

  #settingsInPlace(job: Job, spec: QueueJobSpec, isAdopted: boolean): JobSettings {
    const { scripts } = this.#options;
    const { script, inPlace, env, cwd, stdout, stderr, timeoutMs, killAfterMs = KILL_GRACE_MS } = spec;
    const settings: JobSettings = {
      ...{ resultsFolder: undefined, jobId: job.id, killGraceMs: killAfterMs, tellsFailedStart: true },
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    };
    if (isAdopted || script === undefined || inPlace === undefined || stdout === undefined) return settings;
    const { uid, gid, interpreter } = inPlace;
    const run: InPlaceRun = {
      ...{ cwd, env, stdout, interpreter },
      ...{ scriptPath: scripts.path(script.id), scriptName: script.name },
      ...(stderr === undefined ? {} : { stderr }),
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
    };
    return { ...settings, commandText: inPlaceCommand(run) };
  }
}
