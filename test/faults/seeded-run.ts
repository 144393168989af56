/** One seeded run: jobs on four hosts under faults, and what is wrong with what they left. */
import { batchForm } from './batch-form.ts';
import { remainFindings, resultFindings } from './check.ts';
import { attemptFindings, readLedgers } from './ledger.ts';
import type { FaultKind } from './plan.ts';
import { queueForm } from './queue-form.ts';
import { World, type WorldOptions } from './world.ts';

/** What to run. */
export interface SeededRunOptions
  extends Pick<WorldOptions, 'seed' | 'size' | 'doneWithinMs' | 'say' | 'onOpen'> {
  /** @default 'batch' */
  readonly form?: keyof typeof FORMS;
  /** Only faults of these kinds. @default all that can be done here */
  readonly kinds?: readonly FaultKind[];
  /** The command, as a built file. @default that of this project */
  readonly command?: string;
}

/** How a run came out. */
export interface SeededRunResult {
  /** What must not be, a line each; empty when all is well. */
  readonly findings: readonly string[];
  /** One line of figures. */
  readonly figures: string;
}

const FORMS = { batch: batchForm, queue: queueForm };

/** Runs one seed. What it leaves on disk is removed, except the logs when something was found: they are named then. */
export async function seededRun(options: SeededRunOptions): Promise<SeededRunResult> {
  const { form: name = 'batch', kinds, command } = options;
  const form = FORMS[name];
  await using world = await World.start({
    ...options,
    kinds: form.kinds.filter((kind) => kinds?.includes(kind) ?? true),
    command: command ?? form.command,
    args: form.args,
    ...(form.doneCode === undefined ? {} : { doneCode: form.doneCode }),
  });
  const { fleet, controller, struck } = world;
  const beganAt = Date.now();
  const result = await form.run(world);
  const findings = [...result.findings];
  const entries = await readLedgers(fleet.machines);
  const checked = result.check(entries);
  findings.push(...checked.findings);
  for (const job of checked.jobs) findings.push(...attemptFindings(job.name, job.entries, fleet));
  findings.push(...(await resultFindings(world.results, checked.jobs)));
  for (const host of fleet.machines) findings.push(...(await remainFindings(host)));
  const figures = [
    `seed ${options.seed}: ${checked.jobs.length} jobs, ${entries.length} attempts, ${struck.length} faults`,
    `${controller.ends.length} controllers, ${Math.round((Date.now() - beganAt) / 1000)} s`,
    ...(result.figures === undefined ? [] : [result.figures]),
  ].join(', ');
  if (findings.length > 0) {
    world.keepFolder();
    findings.push(`logs: ${world.logs}`, 'faults:', ...struck.map((line) => `  ${line}`));
  }
  return { findings, figures };
}
