/** `--orphans` and `--kill-orphans`: jobs on the machines that no batch will come back to. */
import type { Orphan } from '../../lib/batch/orphans.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import type { Report } from './report.ts';

/** How they are printed. */
export interface OrphansOptions {
  /** One object per orphan instead of text. */
  readonly json: boolean;
}

type Outs = Pick<Report, 'print' | 'warn'>;

/**
 * Lists them on stdout, those of one batch together:
 * ```
 * batch 4f0c2a9b1d22 of laptop:/home/ben/project, train.sh: its line is not in the file any more
 *   gpubox: train.sh.3, running, started 2h03m ago: python train.py 3
 * ```
 */
export function printOrphans(
  orphans: readonly Orphan[],
  { json, areAllReached = true }: OrphansOptions & { readonly areAllReached?: boolean },
  { print, warn }: Outs,
): void {
  if (json) {
    for (const orphan of orphans) print(JSON.stringify(record(orphan)));
    return;
  }
  const batches = new Map<string, Orphan[]>();
  for (const orphan of orphans) {
    const head = headText(orphan);
    const group = batches.get(head);
    if (group) group.push(orphan);
    else batches.set(head, [orphan]);
  }
  for (const [head, group] of batches) {
    print(head);
    for (const orphan of group) print(`  ${orphanText(orphan)}`);
  }
  warn(
    orphans.length === 0
      ? `no orphans${areAllReached ? '' : ' on the machines that were reached'}`
      : `${countText(orphans.length)}; --kill-orphans in place of --orphans ends them, --kill-orphans BATCH those of one batch`,
  );
}

/** What became of a try to end some. */
export interface EndedOrphans {
  readonly chosen: readonly Orphan[];
  /** Machines on which that failed. */
  readonly failed: readonly { readonly machine: string; readonly reason: string }[];
  /** Not chosen, since their batch may go on elsewhere and was not named. */
  readonly spared: readonly Orphan[];
}

/** Says which have ended. Returns the exit code: 0 when all of the chosen have. */
export function printEnded(
  { chosen, failed, spared }: EndedOrphans,
  { json }: OrphansOptions,
  { print, warn }: Outs,
): number {
  const isOnFailed = ({ machine }: Orphan) => failed.some((one) => one.machine === machine);
  for (const orphan of chosen) {
    const hasEnded = !isOnFailed(orphan);
    if (json) print(JSON.stringify({ ...record(orphan), hasEnded }));
    else
      print(
        `${hasEnded ? 'ended' : 'still there'}: ${orphanText(orphan)} (batch ${visibleText(orphan.batch)})`,
      );
  }
  for (const { machine, reason } of failed)
    warn(`${visibleText(machine)}: not all could be ended: ${visibleText(reason)}`);
  const left = chosen.filter(isOnFailed).length;
  warn(`${countText(chosen.length - left)} ended${left > 0 ? `, ${left} not` : ''}`);
  if (spared.length > 0) {
    const batches = [...new Set(spared.map(({ batch }) => batch))].join(' ');
    const them = spared.length === 1 ? 'it' : 'them';
    warn(
      `${spared.length} left alone, since somebody may still go on with ${them}: --kill-orphans ${batches} ends ${them}`,
    );
  }
  return left === 0 ? 0 : 1;
}

function record({
  machine,
  batch,
  job,
  place,
  command,
  state,
  startedAgoMs,
  origin,
  because,
  isCertain,
}: Orphan) {
  return {
    machine,
    batch,
    job,
    attempt: place.number,
    command,
    state,
    startedAgoMs,
    origin,
    because,
    isCertain,
  };
}

function headText({ batch, origin, because }: Orphan): string {
  const from =
    origin === undefined
      ? ''
      : ` of ${visibleText(origin.host)}:${visibleText(origin.folder)}, ${visibleText(origin.file)}`;
  return `batch ${visibleText(batch)}${from}: ${visibleText(because)}`;
}

function orphanText({ machine, job, place, state, startedAgoMs, command }: Orphan): string {
  const facts = [visibleText(job), ...(place.number > 1 ? [`attempt ${place.number}`] : []), state];
  if (startedAgoMs !== undefined) facts.push(`started ${durationText(startedAgoMs, 0)} ago`);
  return `${visibleText(machine)}: ${facts.join(', ')}: ${visibleText(command)}`;
}

function countText(count: number): string {
  return `${count} orphan${count === 1 ? '' : 's'}`;
}
