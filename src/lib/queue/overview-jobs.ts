/** Jobs as one who watches sees them. */
import type { OverviewJob } from '../domain/overview.ts';
import type { QueueJob, QueueJobId } from '../domain/queue.ts';
import type { QueueEvent } from '../stores/queue-event.ts';
import { visibleText } from '../util/terminal-text.ts';

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
