/** The live footer of a batch. */
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import { footerLines } from './footer-lines.ts';
import { type FooterStreams, LiveFooter } from './live-footer.ts';
import { Progress } from './progress.ts';

/** Draws nothing before `batch:started`, and nothing after `batch:ended` or `close()`. */
export class Footer extends LiveFooter {
  readonly #progress: Progress;

  constructor(streams: FooterStreams) {
    const progress = new Progress();
    super({ ...streams, lines: (now, columns, rows) => footerLines(progress, now, columns, rows) });
    this.#progress = progress;
  }

  /** Takes every event, before the reporters that write lines about it. */
  report(event: SchedulerEvent): void {
    this.#progress.report(event);
    if (event.type === 'batch:started') this.start();
    if (event.type === 'batch:ended') this.close();
  }
}
