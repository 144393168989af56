/** Jobs as one who watches sees them. */
import type { OverviewJob } from '../domain/overview.ts';
import type { QueueJob, QueueJobId } from '../domain/queue.ts';
import type { QueueEvent } from '../stores/queue-event.ts';
import { lastLine } from '../util/last-line.ts';
import { visibleText } from '../util/terminal-text.ts';
import { withTimeLimit } from '../util/time-limit.ts';
import type { JobOutputs } from './job-output.ts';

/** No more of a text is told: it fits no screen anyway. */
const MOST_CHARACTERS = 500;

/** What is told of a job in any state. `reason` is why it waits, where it does. */
export function overviewJob(job: QueueJob, more: Partial<OverviewJob> = {}): OverviewJob {
  const { id, spec, state, machine, startedAt, endedAt, outcome } = job;
  const reason = more.reason ?? job.reason;
  return {
    id: String(id),
    name: shortened(spec.inPlace?.title ?? spec.name),
    command: shortened(spec.command),
    state,
    ...(machine === undefined ? {} : { machine }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(outcome === undefined ? {} : { outcome }),
    ...more,
    ...(reason === undefined ? {} : { reason: shortened(visibleText(reason)) }),
  };
}

function shortened(text: string): string {
  return text.length <= MOST_CHARACTERS
    ? text
    : [...text.slice(0, 2 * MOST_CHARACTERS)].slice(0, MOST_CHARACTERS).join('');
}

/** Whether a job has that text in what is told of its id, name, command or machine; also the machine that it waits for. */
export function hasText(filter: string | undefined): (job: QueueJob) => boolean {
  if (filter === undefined || filter === '') return () => true;
  const wanted = filter.toLowerCase();
  return ({ id, spec, machine }) =>
    [String(id), spec.inPlace?.title ?? spec.name, spec.command, machine, spec.machine].some(
      (text) => text?.toLowerCase().includes(wanted) === true,
    );
}

/** Which GPUs the jobs that run have, from what is told of their starts. */
export class RunningGpus {
  readonly #gpus = new Map<QueueJobId, readonly number[]>();

  hear(events: readonly QueueEvent[]): void {
    for (const event of events) {
      if (event.type === 'queue:imported') this.#gpus.clear();
      else if (event.type === 'told') this.#hearTold(event.event as { readonly type?: unknown });
      else if (event.type === 'queue:state' && event.state !== 'running') this.#gpus.delete(event.job);
    }
  }

  of(id: QueueJobId): readonly number[] | undefined {
    return this.#gpus.get(id);
  }

  #hearTold(event: { readonly type?: unknown; readonly job?: unknown; readonly gpus?: unknown }): void {
    if (event.type !== 'job:started' || !Array.isArray(event.gpus) || event.gpus.length === 0) return;
    this.#gpus.set(Number(event.job), event.gpus as readonly number[]); // our own event, as it was told
  }
}

/** The last lines that jobs have printed. */
export class LastLines {
  readonly #limitMs: number;
  readonly #underWay = new Map<QueueJobId, Promise<string | undefined>>();

  /** `limitMs`: files on a network disk may not answer; longer than that nobody waits for them. */
  constructor(limitMs = 1000) {
    this.#limitMs = limitMs;
  }

  /** Undefined when there is none, and when it does not come in time. Never rejects. */
  async of(id: QueueJobId, { out, err }: JobOutputs): Promise<string | undefined> {
    let reading = this.#underWay.get(id);
    if (reading === undefined) {
      // One that hangs is not asked for once more with each look.
      reading = lastLine(err === undefined ? [out] : [out, err]).finally(() => this.#underWay.delete(id));
      this.#underWay.set(id, reading);
    }
    return await withTimeLimit(reading, this.#limitMs, () => new Error('too late')).catch(() => undefined);
  }
}
