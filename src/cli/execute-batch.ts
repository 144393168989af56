#!/usr/bin/env node
/** execute_batch: runs the lines of a file on many machines, and goes on with them later. */
import { resolve } from 'node:path';
import { jobNameStem } from '../lib/batch/batch-file.ts';
import { type BatchOptions, BatchRun } from '../lib/batch/batch-run.ts';
import { batchStatus } from '../lib/batch/batch-status.ts';
import { endOrphans, listOrphans, type Orphan } from '../lib/batch/orphans.ts';
import { assertNever, UsageError } from '../lib/domain/errors.ts';
import { findMachines } from '../lib/machine/find-machines.ts';
import { jobFolder } from '../lib/runner/job-folder.ts';
import { type RememberedRequest, rememberedRequest } from '../lib/stores/batch-record.ts';
import { type BatchArguments, parseBatchArguments } from './batch-arguments.ts';
import { comeBackCommand } from './come-back.ts';
import { exitCodeOf, failWith, OWN_FAILURE } from './exit-codes.ts';
import { openFailedLines } from './failed-lines.ts';
import { outliveTerminal } from './lost-terminal.ts';
import { printEnded, printOrphans } from './report/orphans.ts';
import { printPlan } from './report/plan.ts';
import { openReport, type Report } from './report/report.ts';
import { printStatus, printUnreachable } from './report/status.ts';
import { checkSshConfig } from './ssh-config-file.ts';
import { onStopSignals, strandedText } from './stop-signals.ts';
import { WatchedRun, watchOther } from './watched-run.ts';

const argv = process.argv.slice(2);
const comeBack = () => comeBackCommand(argv, process.argv[1] ?? 'execute_batch');

async function main(): Promise<number> {
  outliveTerminal();
  const args = await parseBatchArguments(argv);
  const watched = args.isWatched ? await watchOther(args) : undefined;
  if (watched !== undefined) return watched;
  const isRun = args.mode.type === 'run' || args.mode.type === 'leave';
  const report = openReport({ ...args, joblog: isRun ? args.joblog : undefined });
  try {
    switch (args.mode.type) {
      case 'run':
      case 'leave':
        return await run(args, report);
      case 'status':
        return await status(args, report);
      case 'cancel':
        return await cancel(args, report);
      case 'orphans':
      case 'kill-orphans':
        return await orphans(args, report);
      default:
        return assertNever(args.mode);
    }
  } finally {
    report.close();
  }
}

/** Runs what is left of the batch, or starts what fits and leaves. */
async function run(args: BatchArguments, report: Report): Promise<number> {
  const failedLines = args.dryRun ? undefined : openFailedLines(args);
  const watched = new WatchedRun(args, report);
  await using batch = await BatchRun.open(await runOptions(args, watched.report));
  batch.events.subscribe(report.report);
  const signals = onStopSignals(batch, (...words) => watched.say(...words), comeBack());
  const isLeft = args.mode.type === 'leave';
  const canBeWatched = !args.dryRun && !isLeft && batch.needsMachines;
  await using _door = canBeWatched ? watched.open(batch) : undefined;
  if (batch.needsMachines) await Promise.race([batch.connect(), signals.left]);
  if (signals.isLeft) return signals.exitCode ?? OWN_FAILURE;
  if (args.dryRun) return printPlan(batch.plan(), batch.skipped, report);
  if (isLeft && batch.toRun.length > 0) return await leave(batch, signals, report);
  if (args.isWatched) watched.show(batch, signals);
  const summary = await Promise.race([batch.run(), signals.left]);
  await watched.end();
  if (summary === 'left') return signals.exitCode ?? OWN_FAILURE;
  failedLines?.write(batch.failedLines(), report.warn);
  return signals.exitCode ?? exitCodeOf(summary.jobs - summary.good);
}

async function leave(
  batch: BatchRun,
  signals: ReturnType<typeof onStopSignals>,
  report: Report,
): Promise<number> {
  const left = await Promise.race([batch.leave(), signals.left]);
  if (left === 'left') return signals.exitCode ?? OWN_FAILURE;
  const { started, running, waiting } = left;
  report.warn(`leaving: ${started} started, ${running} running now, ${waiting} waiting`);
  if (running + waiting > 0) {
    const rest = waiting === 0 ? 'to bring the results home' : 'to start the rest and bring the results home';
    report.warn(`${rest}, run in this folder: ${comeBack()}`);
  }
  return signals.exitCode ?? 0;
}

async function status(args: BatchArguments, report: Report): Promise<number> {
  const { tuning, ...options } = await batchOptions(args, report);
  printStatus(
    await batchStatus({ ...options, ...tuning }),
    { json: args.json, verbose: args.verbose, now: Date.now() },
    report,
  );
  return 0;
}

/** Ends what runs of the batch. 0 when nothing of it runs any more. */
async function cancel(args: BatchArguments, report: Report): Promise<number> {
  const { killAfterMs } = args.survival;
  await using batch = await BatchRun.open({
    ...(await batchOptions(args, report)),
    ...(killAfterMs === undefined ? {} : { killAfterMs }),
    onOutput: report.onOutput,
    startsNothing: true,
  });
  batch.events.subscribe(report.report);
  if (batch.needsMachines) {
    await batch.connect();
    const stranded = await batch.cancelRunning('ended by --cancel');
    for (const one of stranded) report.warn(strandedText(one));
    if (stranded.length > 0) return 1;
  }
  report.warn('nothing of this batch runs any more');
  return 0;
}

/** Lists what no batch comes back to, or ends it: 0 when nothing of what was to be ended is left. */
async function orphans(args: BatchArguments, report: Report): Promise<number> {
  const { file, results, mode } = args;
  const { tuning, ...options } = await lookOptions(args, args.machines, report);
  const look = { ...options, ...tuning };
  const found = await listOrphans({ ...look, results, ...(file === '' ? {} : { file }) });
  printUnreachable(found.unreachable, report);
  if (mode.type !== 'kill-orphans') {
    printOrphans(found.orphans, { ...args, areAllReached: found.unreachable.length === 0 }, report);
    return 0;
  }
  const { chosen, spared } = chooseOrphans(found.orphans, mode.batches, report);
  const failed = await endOrphans(look, chosen, args.survival.killAfterMs ?? KILL_AFTER_MS);
  const code = printEnded({ chosen, failed, spared }, args, report);
  return found.unreachable.length > 0 ? Math.max(code, 1) : code;
}

const KILL_AFTER_MS = 10_000;

/** Those of the batches named; without any, those that surely nobody comes back to. */
function chooseOrphans(all: readonly Orphan[], batches: readonly string[], report: Report) {
  for (const batch of batches) {
    if (!all.some((orphan) => orphan.batch === batch)) report.warn(`no orphan of batch ${batch} was found`);
  }
  const isChosen = ({ batch, isCertain }: Orphan) =>
    batches.length === 0 ? isCertain : batches.includes(batch);
  const spared = batches.length === 0 ? all.filter((orphan) => !isChosen(orphan)) : [];
  return { chosen: all.filter(isChosen), spared };
}

async function runOptions(args: BatchArguments, report: Report): Promise<BatchOptions> {
  return {
    ...(await batchOptions(args, report)),
    ...args.survival,
    asked: {
      machines: args.machines,
      ...(args.sshConfig === undefined ? {} : { sshConfig: resolve(args.sshConfig) }),
    },
    placement: args.placement,
    dryRun: args.dryRun,
    onOutput: report.onOutput,
  };
}

/** Which batch, and how to reach its machines; those of its last run where none is named. */
async function batchOptions(args: BatchArguments, report: Report) {
  const { file, results, machines } = args;
  if (machines.length > 0)
    return { file, results, onWarning: report.warn, ...(await lookOptions(args, machines, report)) };
  const last = lastRun(args, report);
  const sshConfig = args.sshConfig ?? last.sshConfig;
  return {
    file,
    results,
    onWarning: report.warn,
    ...(await lookOptions({ ...args, sshConfig }, last.machines, report)),
  };
}

async function lookOptions(args: BatchArguments, names: readonly string[], { warn }: Report) {
  const { request, copyForwards, shareForwards, copyBackwards, sshConfig } = args;
  checkSshConfig(sshConfig);
  const machines = await findMachines(names);
  for (const warning of machines.warnings) warn(warning);
  const ssh = { onNewHostKey: warn, ...(sshConfig === undefined ? {} : { configFile: sshConfig }) };
  const defaults = { request, copyForwards, shareForwards, copyBackwards };
  return { machines, defaults, tuning: { ssh } };
}

/** How the batch was last run, for a question about it. */
function lastRun({ file, results }: BatchArguments, report: Report): RememberedRequest {
  const last = rememberedRequest(resolve(results), jobFolder(jobNameStem(file)));
  if (last === undefined)
    throw new UsageError(
      `no machine is named, and ${results} remembers no run of ${file}: add --machines, or run this in the folder of the batch`,
    );
  report.warn(`using the machines of the last run: ${last.machines.join(' ')}`);
  return last;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => failWith('execute_batch', error),
);
