/** Finds jobs of a batch by what people know of them. */
import type { Job, JobId } from '../domain/job.ts';
import type { OverviewJob } from '../domain/overview.ts';
import { statesCalled } from '../domain/state-words.ts';
import type { SkippedJob } from '../stores/result-folder.ts';

/** The jobs of one batch. All of them are looked through once, when the first is asked for. */
export class BatchLookup {
  readonly #jobs: readonly Job[];
  readonly #skipped: readonly SkippedJob[];
  #byId: ReadonlyMap<string, Job> | undefined;
  #byName: ReadonlyMap<string, Job> | undefined;
  #skippedById: ReadonlyMap<JobId, SkippedJob> | undefined;

  constructor(jobs: readonly Job[], skipped: readonly SkippedJob[]) {
    this.#jobs = jobs;
    this.#skipped = skipped;
  }

  byId(id: string): Job | undefined {
    this.#byId ??= new Map(this.#jobs.map((job) => [job.id, job]));
    return this.#byId.get(id);
  }

  /** The job with exactly this id, or else this name. */
  named(text: string): Job | undefined {
    this.#byName ??= new Map(this.#jobs.map((job) => [job.name, job]));
    return this.byId(text) ?? this.#byName.get(text);
  }

  /** What is known of a job with a result of an earlier run. */
  skipped(id: JobId): SkippedJob | undefined {
    this.#skippedById ??= new Map(this.#skipped.map((one) => [one.job.id, one]));
    return this.#skippedById.get(id);
  }
}

/**
 * Whether a job has the text in its id, name, command or machine, or a word for its state begins so; in any case of letters.
 */
export function matcher(filter: string): (job: OverviewJob) => boolean {
  const wanted = filter.toLowerCase();
  if (wanted === '') return () => true;
  const states = statesCalled(wanted);
  return ({ id, name, command, machine = '', state }) =>
    states.has(state) || [id, name, command, machine].some((text) => text.toLowerCase().includes(wanted));
}
