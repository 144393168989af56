/** What happens to a batch, as lines for those who watch it: those that its command would print. */
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { textReport } from '../report/text.ts';
import { PREFIX } from '../report/text-out.ts';
import type { WatchEvent } from './source.ts';

/** Nobody can read more of what happens at once: older lines are left out. */
const MOST_AT_ONCE = 10;
/** What happens within that time is told together. */
const TOGETHER_MS = 500;

/** Tells of one batch: all that watch hear the same, however much happens. */
export class BatchEvents {
  readonly #listeners = new Set<(events: readonly WatchEvent[]) => void>();
  readonly #text: (event: SchedulerEvent) => void;
  /** As they came: most of much that happens is never told. */
  #gathered: WatchEvent[] = [];
  #timer: NodeJS.Timeout | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;

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

  /** A line for people that is no event of the batch's. `isImportant`: it has to be seen. */
  note(message: string, isImportant = false): void {
    this.#tell(message, isImportant ? { isImportant } : {});
  }

  /** Hears what happens from now on. Returns the way to stop hearing. */
  onEvents(listener: (events: readonly WatchEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells at once what has gathered. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#toldAt = performance.now();
    const events = this.#gathered;
    this.#gathered = [];
    if (events.length === 0 || this.#listeners.size === 0) return;
    const told = events.map((event) => ({ ...event, text: visibleText(withoutPrefix(event.text)) }));
    for (const listener of [...this.#listeners]) listener(told);
  }

  #tell(text: string, more: Pick<WatchEvent, 'isImportant'> = {}): void {
    if (this.#listeners.size === 0) return;
    const at = Date.now();
    for (const line of text.split('\n')) {
      if (line !== '') this.#gathered.push({ at, text: line, ...more });
    }
    if (this.#gathered.length > MOST_AT_ONCE) this.#gathered = newest(this.#gathered);
    this.#timer ??= setTimeout(() => this.flush(), this.#toldAt + TOGETHER_MS - performance.now()).unref();
  }
}

/** What is important stays as long as there is something else to leave out. */
function newest(events: readonly WatchEvent[]): WatchEvent[] {
  let surplus = events.length - MOST_AT_ONCE;
  const kept = events.filter(({ isImportant }) => isImportant === true || surplus-- <= 0);
  return kept.slice(-MOST_AT_ONCE);
}

function withoutPrefix(line: string): string {
  return line.startsWith(PREFIX) ? line.slice(PREFIX.length) : line;
}
