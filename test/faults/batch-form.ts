/** A batch under faults: the same command is run until every line has a good result. */
import { fileURLToPath } from 'node:url';
import type { Form } from './form.ts';
import { BATCH_KINDS } from './plan.ts';
import { BATCH_FILE, jobName } from './workload.ts';
import { within } from './world.ts';

export const batchForm: Form = {
  command: fileURLToPath(new URL('../../dist/cli/execute-batch.js', import.meta.url)),
  kinds: BATCH_KINDS,
  doneCode: 0,
  args: (world) => [
    ...[BATCH_FILE, '--ssh-config', world.sshConfig, '--results', world.results],
    ...['--machines', ...world.machineFiles, ...world.jobFlags, '--json'],
    ...(world.kinds.includes('full-disk') ? ['--rerun-failed'] : []),
  ],
  run: async (world) => {
    const { controller, doneWithinMs } = world;
    const findings: string[] = [];
    const done = controller.runUntilDone();
    await world.strikeAll(done);
    if ((await within(done, doneWithinMs)) === undefined) {
      controller.stop();
      await done;
      findings.push(`not all jobs were done ${doneWithinMs / 1000} s after the last fault`);
    } else {
      // Some host may have been away at the end: the same command, once more, has nothing left but to clear up.
      const end = await within(controller.runOnce(), doneWithinMs);
      if (end === undefined) controller.stop();
      if (end?.exitCode !== 0) findings.push(`the same command, run once more, ended with ${end?.exitCode}`);
    }
    return {
      findings,
      check: (entries) => ({
        findings: [],
        jobs: world.plan.jobs.map((planned, index) => {
          const name = jobName(index);
          return { name, planned, entries: entries.filter(({ job }) => job === name) };
        }),
      }),
    };
  },
};
