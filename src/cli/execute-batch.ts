#!/usr/bin/env node
/** execute_batch: runs the lines of a file on many machines. */
import { BatchRun } from '../lib/batch/batch-run.ts';
import { findMachines } from '../lib/machine/find-machines.ts';
import { type BatchArguments, parseBatchArguments } from './batch-arguments.ts';
import { exitCodeOf, failWith } from './exit-codes.ts';
import { printPlan } from './report/plan.ts';
import { openReport, type Report } from './report/report.ts';
import { onStopSignals } from './stop-signals.ts';

async function main(): Promise<number> {
  const args = await parseBatchArguments(process.argv.slice(2));
  const report = openReport(args);
  try {
    return await runBatch(args, report);
  } finally {
    report.close();
  }
}

async function runBatch(args: BatchArguments, report: Report): Promise<number> {
  const machines = await findMachines(args.machines);
  for (const warning of machines.warnings) report.warn(warning);
  const { request, copyForwards, shareForwards, copyBackwards } = args;
  await using batch = await BatchRun.open({
    file: args.file,
    machines,
    defaults: { request, copyForwards, shareForwards, copyBackwards },
    results: args.results,
    placement: args.placement,
    dryRun: args.dryRun,
    onWarning: report.warn,
    onOutput: report.onOutput,
    tuning: {
      ssh: {
        onNewHostKey: report.warn,
        ...(args.sshConfig === undefined ? {} : { configFile: args.sshConfig }),
      },
    },
  });
  batch.events.subscribe(report.report);
  const signals = onStopSignals(batch, report.warn);
  if (batch.toRun.length > 0) await Promise.race([batch.connect(), signals.left]);
  if (signals.exitCode !== undefined) return signals.exitCode;
  if (args.dryRun) return printPlan(batch.plan(), batch.skipped, report);
  const summary = await Promise.race([batch.run(), signals.left]);
  if (summary === 'left') return signals.exitCode ?? 255;
  return signals.exitCode ?? exitCodeOf(summary.jobs - summary.good);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => failWith('execute_batch', error),
);
