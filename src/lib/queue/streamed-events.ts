/** What happens in the queue, for those who ask for it through the door. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { QueueEvent } from '../stores/queue-event.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { Bell } from './bell.ts';
import type { EventsRequest } from './requests.ts';

/** Where events come from, and who hears them. */
export interface StreamEventsOptions {
  readonly store: Pick<QueueStore, 'lastEvent' | 'oldestEvent' | 'eventsAfter' | 'onEvents'>;
  readonly signal: AbortSignal;
  /** How long those who want the newest alone are told nothing more. @default 500 */
  readonly pauseMs?: number;
}

const EVENTS_AT_ONCE = 1000;
const PAUSE_MS = 500;

/** Streams events as they are asked for, until the signal aborts. */
export async function* streamEvents(
  request: EventsRequest,
  { store, signal, pauseMs = PAUSE_MS }: StreamEventsOptions,
): AsyncGenerator<unknown, void, void> {
  const { after, follow = true, newest } = request;
  const bell = new Bell(signal);
  let last = after ?? store.lastEvent;
  const stopHearing = store.onEvents(() => bell.ring());
  try {
    const oldest = store.oldestEvent;
    if (newest === undefined && oldest !== undefined && last + 1 < oldest && after !== 0)
      yield { sequence: oldest - 1, at: Date.now(), type: 'queue:events-forgotten', after: last, oldest };
    while (!signal.aborted) {
      // What lies before the newest is not even read: thousands may have come at once, and many may watch.
      if (newest !== undefined) last = Math.max(last, store.lastEvent - newest);
      const events = store.eventsAfter(last, newest ?? EVENTS_AT_ONCE);
      for (const event of events) {
        last = event.sequence;
        yield toldAs(event);
      }
      if (events.length > 0 && newest === undefined) continue;
      if (!follow) return;
      if (events.length > 0) await sleep(pauseMs, undefined, { signal }).catch(() => {});
      await bell.rung();
    }
  } finally {
    stopHearing();
  }
}

/** What was told is told as it was, with its own time. */
function toldAs(event: QueueEvent): unknown {
  return event.type === 'told' ? { sequence: event.sequence, ...(event.event as object) } : event;
}
