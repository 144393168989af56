import { expect, test } from 'vitest';
import { EventStream } from '../../src/lib/util/event-stream.ts';

type Sound = { readonly type: 'bark'; readonly times: number } | { readonly type: 'meow' };

test('listeners hear events at once, in order, until they stop', () => {
  const stream = new EventStream<Sound>();
  const heard: string[] = [];
  const stop = stream.subscribe((event) => heard.push(`all ${event.type}`));
  stream.on('bark', ({ times }) => heard.push(`bark ${times}`));
  stream.publish({ type: 'bark', times: 2 });
  stream.publish({ type: 'meow' });
  stop();
  stream.publish({ type: 'bark', times: 3 });
  expect(heard).toEqual(['all bark', 'bark 2', 'all meow', 'bark 3']);
});

test('a listener that stops another, or itself, disturbs nobody', () => {
  const stream = new EventStream<Sound>();
  const heard: string[] = [];
  const stopFirst = stream.subscribe(() => {
    heard.push('first');
    stopFirst();
  });
  stream.subscribe(() => heard.push('second'));
  stream.publish({ type: 'meow' });
  stream.publish({ type: 'meow' });
  expect(heard).toEqual(['first', 'second', 'second']);
});
