/** What those hear of a queue who want the newest alone, and what it costs. */
import { expect, test } from 'vitest';
import type { EventsRequest } from '../../src/lib/queue/requests.ts';
import { streamEvents } from '../../src/lib/queue/streamed-events.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { until } from '../rig/until.ts';
import { smallSpec, temporaryFolder } from '../stores/queue-jobs.ts';

/** Hears in the background; `read` is raised by each event that is read from the store. */
function hear(store: QueueStore, request: EventsRequest, pauseMs = 50) {
  const stop = new AbortController();
  const heard = { sequences: [] as number[], read: 0 };
  const counted: Parameters<typeof streamEvents>[1]['store'] = {
    get lastEvent() {
      return store.lastEvent;
    },
    get oldestEvent() {
      return store.oldestEvent;
    },
    onEvents: (listener) => store.onEvents(listener),
    eventsAfter: (sequence, limit) => {
      const events = store.eventsAfter(sequence, limit);
      heard.read += events.length;
      return events;
    },
  };
  const over = (async () => {
    for await (const event of streamEvents(request, { store: counted, signal: stop.signal, pauseMs }))
      heard.sequences.push((event as { sequence: number }).sequence);
  })();
  const end = async () => {
    stop.abort();
    await over;
  };
  return { heard, end, over, last: (sequence: number) => until(() => heard.sequences.at(-1) === sequence) };
}

const many = (count: number) => Array.from({ length: count }, (_, n) => smallSpec(`job_${n}`));

test('of thousands at once the newest are read and told, with their numbers; the others are not even read', async () => {
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  await store.add(many(5));
  const all = hear(store, {});
  const newest = hear(store, { newest: 10 });
  await store.add(many(3));
  await newest.last(8);
  expect(newest.heard).toEqual({ sequences: [6, 7, 8], read: 3 });
  // Many commits, one after the other, while it is not looked.
  for (let round = 0; round < 20; round++) await store.add(many(100));
  await newest.last(2008);
  await all.last(2008);
  expect(newest.heard.sequences.slice(-10)).toEqual(Array.from({ length: 10 }, (_, n) => 1999 + n));
  expect(new Set(newest.heard.sequences).size).toBe(newest.heard.sequences.length);
  expect(newest.heard.sequences.length).toBe(newest.heard.read);
  expect(newest.heard.read).toBeLessThan(1000);
  expect(all.heard.sequences).toEqual(Array.from({ length: 2003 }, (_, n) => 6 + n));
  await newest.end();
  await all.end();

  // Who comes back goes on behind what it has heard, as far as that is among the newest.
  for (const [after, told] of [
    [2005, [2006, 2007, 2008]],
    [1, [2006, 2007, 2008]],
    [2007, [2008]],
    [2008, []],
  ] as const) {
    const back = hear(store, { after, newest: 3, follow: false });
    await back.over;
    expect(back.heard.sequences).toEqual(told);
  }
  store.close();
});

test('what is told of is not followed by more for half a second; who leaves meanwhile does not wait for that', async () => {
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  const newest = hear(store, { newest: 10 }, 3_600_000);
  await store.add(many(1));
  await newest.last(1);
  await store.add(many(1));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(newest.heard).toEqual({ sequences: [1], read: 1 });
  await newest.end();
  store.close();
});
