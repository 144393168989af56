/** `--dry-run`: what would start where, and every line that cannot. */
import type { PlannedStart } from '../../lib/batch/batch-run.ts';
import { assertNever } from '../../lib/domain/errors.ts';
import type { SkippedJob } from '../../lib/stores/result-folder.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { exitCodeOf } from '../exit-codes.ts';
import type { Report } from './report.ts';

/** Prints a plan. Returns the exit code: how many lines can never run. */
export function printPlan(
  planned: readonly PlannedStart[],
  skipped: readonly SkippedJob[],
  { say }: Pick<Report, 'say'>,
): number {
  for (const { job } of skipped) say(`would skip:  ${job.name}: its result exists`);
  for (const start of planned) {
    const line = `${start.job.name}; ${visibleText(start.job.command)}`;
    switch (start.type) {
      case 'starts': {
        const gpus = start.gpus.length === 0 ? '' : `, GPU ${start.gpus.join(', ')}`;
        say(`would start: ${line} (on ${start.machine}${gpus})`);
        break;
      }
      case 'waits':
        say(`would wait:  ${line}`);
        break;
      case 'never-fits':
        say(`cannot run:  ${line}`);
        for (const reason of start.reasons) say(`             ${visibleText(reason)}`);
        break;
      default:
        assertNever(start);
    }
  }
  const count = (type: PlannedStart['type']) => planned.filter((start) => start.type === type).length;
  say(
    `dry run: ${count('starts')} would start at once, ${count('waits')} would wait, ${count('never-fits')} can never run, ${skipped.length} would be skipped`,
  );
  return exitCodeOf(count('never-fits'));
}
