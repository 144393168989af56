/** Events of the queue service, for people and for programs. */
import { EVENT_SCHEMA_VERSION, type SchedulerEvent } from '../../lib/domain/events.ts';
import type { QueueEvent } from '../../lib/stores/queue-event.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { momentText } from '../report/moment-text.ts';
import { outcomeText } from '../report/outcome-text.ts';

/** What the service streams: what happens to jobs of the queue, and what happens on machines as it was told. */
export type StreamedEvent =
  | QueueEvent
  | (SchedulerEvent & { readonly sequence: number })
  /** What lies between was kept no longer. */
  | {
      readonly sequence: number;
      readonly at: number;
      readonly type: 'queue:events-forgotten';
      readonly after: number;
      readonly oldest: number;
    };

/** An event as a program reads it: as those of a batch, with its number in the row of all. */
export function eventRecord(event: StreamedEvent): object {
  const { sequence, type, at, ...rest } = event;
  return { schema: EVENT_SCHEMA_VERSION, sequence, type, at, ...rest };
}

/** An event as a person reads it; undefined for what says nothing to one. `now`: epoch milliseconds. */
export function eventLine(event: StreamedEvent, now: number): string | undefined {
  const text = eventText(event);
  return text === undefined ? undefined : `${momentText(event.at, now)} ${text}`;
}

/** The same without its time. */
export function eventText(event: StreamedEvent): string | undefined {
  switch (event.type) {
    case 'queue:added':
      return `job ${event.job} (${visibleText(event.name)}): ${event.state}`;
    case 'queue:state': {
      const where = event.machine === undefined ? '' : ` on ${visibleText(event.machine)}`;
      const attempt = event.attempt > 1 ? `, attempt ${event.attempt}` : '';
      const why =
        event.outcome === undefined
          ? event.reason === undefined
            ? ''
            : `: ${visibleText(event.reason)}`
          : `: ${outcomeText(event.outcome)}`;
      // Another attempt, or its machine became known.
      const states = event.from === event.state ? event.state : `${event.from} -> ${event.state}`;
      return `job ${event.job}: ${states}${where}${attempt}${why}`;
    }
    case 'queue:ending':
      return `job ${event.job}: its end was asked for: ${visibleText(event.reason)}`;
    case 'queue:held':
      return `job ${event.job}: ${event.isHeld ? 'held' : 'released'}`;
    case 'queue:priority':
      return `job ${event.job}: priority ${event.from} -> ${event.priority}`;
    case 'queue:removed':
      return `job ${event.job}: forgotten`;
    case 'queue:imported':
      return `the whole state was replaced: ${event.jobs} jobs`;
    case 'queue:events-forgotten':
      return `what happened before event ${event.oldest} is not kept any more`;
    case 'told':
      return undefined;
    default:
      return serviceText(event);
  }
}

/** What a service says of its machines and of jobs that need a look; undefined for what the states of jobs tell. */
export function serviceText(event: SchedulerEvent): string | undefined {
  switch (event.type) {
    case 'machine:queried':
      return `${visibleText(event.machine)}: ready`;
    case 'machine:unreachable':
      return `${visibleText(event.machine)} cannot be reached: ${visibleText(event.reason)}${event.isTriedAgain ? ' (tried again)' : ''}`;
    case 'machine:quarantined':
      return `${visibleText(event.machine)} gets no more jobs, since they fail there at once: ${visibleText(event.reason)}`;
    case 'machine:given-up':
      return `${visibleText(event.machine)} has been away for ${durationText(event.awayMs)}: ${event.jobs === 1 ? 'its 1 job runs' : `its ${event.jobs} jobs run`} again elsewhere`;
    case 'machine:away':
      return `${visibleText(event.machine)}: connection lost, its jobs may run on: ${visibleText(event.reason)}`;
    case 'machine:back':
      return `${visibleText(event.machine)}: connected again`;
    case 'machine:warned':
      return `warning: ${visibleText(event.machine)}: ${visibleText(event.message)}`;
    case 'gpu:still-held':
      return `${visibleText(event.machine)}: GPU ${event.gpu} still holds ${Math.round(event.heldMiB)} MiB ${durationText(event.waitedMs)} after its job ended`;
    case 'job:warned':
      return `warning: ${visibleText(event.name)}: ${visibleText(event.message)}`;
    default:
      return undefined;
  }
}
