/** What happens to a batch, as lines for those who watch it: those that its command would print. */
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { textReport } from '../report/text.ts';
import { PREFIX } from '../report/text-out.ts';
import type { WatchEvent } from './source.ts';

/** Tells of one batch. */
export class BatchEvents {
  readonly #listeners = new Set<(events: readonly WatchEvent[]) => void>();
  readonly #text: (event: SchedulerEvent) => void;

  /** `results`: the results folder as the user wrote it. */
  constructor(results: string) {
    const out = { write: (lines: string) => this.#tell(lines) };
    this.#text = textReport({ stdout: out, stderr: out, results });
  }

  /** Takes every event of the batch. */
  report(event: SchedulerEvent): void {
    // A hundred thousand lines that are done are nothing that happens.
    if (event.type !== 'job:skipped') this.#text(event);
  }

  /** A line for people that is no event of the batch's. */
  note(message: string): void {
    this.#tell(message);
  }

  /** Hears what happens from now on. Returns the way to stop hearing. */
  onEvents(listener: (events: readonly WatchEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(text: string): void {
    if (this.#listeners.size === 0) return;
    const at = Date.now();
    const lines = text.split('\n').filter((line) => line !== '');
    const events = lines.map((line) => ({ at, text: visibleText(withoutPrefix(line)) }));
    for (const listener of [...this.#listeners]) listener(events);
  }
}

function withoutPrefix(line: string): string {
  return line.startsWith(PREFIX) ? line.slice(PREFIX.length) : line;
}
