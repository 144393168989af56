#!/usr/bin/env node
/** combine_folders: one folder of several, without losing anything. */
import { SchedulerError, UsageError } from '../lib/domain/errors.ts';
import { combineFolders } from '../lib/folders/combine.ts';
import { parseCombineArguments } from './combine-arguments.ts';
import { CombineProgressLine, conflictLines, leftOutLines, summaryLine } from './report/combine.ts';

const CONFLICTS = 1;
const WRONG_CALL = 2;

async function main(argv: readonly string[]): Promise<number> {
  const { dest, sources, onConflict, link, dryRun, json } = await parseCombineArguments(argv);
  const progress = new CombineProgressLine(process.stderr);
  const result = await combineFolders(dest, sources, {
    ...{ onConflict, link, dryRun },
    onProgress: (now) => progress.draw(now),
  }).finally(() => progress.clear());
  const { conflicts } = result;
  tell(leftOutLines(result));
  if (conflicts.length > 0) tell(conflictLines(conflicts, onConflict));
  if (json) print(JSON.stringify({ dest, dryRun, onConflict, ...result }));
  else if (conflicts.length === 0) print(summaryLine(result, dest, dryRun));
  return conflicts.length > 0 ? CONFLICTS : 0;
}

function tell([first, ...more]: readonly string[]): void {
  if (first !== undefined) process.stderr.write(`${[`combine_folders: ${first}`, ...more].join('\n')}\n`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

// Nobody reads any more (`| head`): that changes nothing about what was done.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code; // and not exit(): a long line in a pipe has to get out first
  },
  (error: unknown) => {
    tell([error instanceof SchedulerError ? error.message : String((error as Error).stack)]);
    process.exitCode = error instanceof UsageError ? WRONG_CALL : CONFLICTS;
  },
);
