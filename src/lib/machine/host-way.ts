/** The way into groups and files of hosts that name each other. */
import { UsageError } from '../domain/errors.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';

// Nobody nests by hand as deep as this, and looking for circles takes time that grows with the depth.
const MOST_DEPTH = 100;

/** A group or a file of hosts that is being looked into. */
export interface Step {
  readonly key: string;
  readonly shown: string;
}

/** @throws UsageError for a step that leads back, and for more than 100 inside one another. */
export function refuseEndlessWay(way: readonly Step[], step: Step): void {
  const start = way.findIndex(({ key }) => key === step.key);
  if (start >= 0) {
    const circle = [...way.slice(start), step].map(({ shown }) => shown).join(' -> ');
    throw new UsageError(`found a circle, ${shownWay(circle)}, expected groups and lists that lead to hosts`);
  }
  if (way.length < MOST_DEPTH) return;
  const begin = way.slice(0, 3).map(({ shown }) => shown);
  throw new UsageError(
    `found more than ${MOST_DEPTH} groups or lists inside one another, ${shownWay(begin.join(' -> '))} -> ..., expected at most ${MOST_DEPTH}`,
  );
}

function shownWay(text: string): string {
  return cutToWidth(visibleText(text.slice(0, 400)), 200);
}
