/** The queue service under faults: it is started again whenever it ends, and jobs come all the time. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FINAL_STATES } from '../../src/lib/domain/queue.ts';
import type { JobAnswer, JobRow, MachineRow } from '../../src/lib/queue/requests.ts';
import type { Form } from './form.ts';
import { QUEUE_KINDS } from './plan.ts';
import { checkQueue } from './queue-check.ts';
import { pause, QueueClient } from './queue-client.ts';
import { queueStepsOf } from './queue-plan.ts';
import { type World, within } from './world.ts';

const LOOK_EVERY_MS = 300;
const MOST_RERUNS = 5;
const MOST_ROWS = 1000;

export const queueForm: Form = {
  command: fileURLToPath(new URL('../../dist/cli/job-queue.js', import.meta.url)),
  kinds: QUEUE_KINDS,
  args: ({ data, sshConfig, machineFiles }) => [
    ...['start', '--data-dir', data, '--ssh-config', sshConfig, '--machines', ...machineFiles],
  ],
  run: async (world) => {
    const { controller, doneWithinMs } = world;
    const client = new QueueClient(world);
    const served = controller.runUntilDone();
    const worked = client.work(queueStepsOf(world.plan)).then(() => true);
    await world.strikeAll(new Promise(() => {}));
    const findings: string[] = [];
    const isWorked = await within(worked, doneWithinMs);
    if (isWorked === undefined)
      findings.push(`not all was acknowledged ${doneWithinMs / 1000} s after the last fault`);
    client.stop();
    const rerun = await within(settle(client), doneWithinMs);
    client.stop();
    if (rerun === undefined)
      findings.push(`not all jobs had ended ${doneWithinMs / 1000} s after all that was asked`);
    if (rerun !== undefined && rerun.length > 0 && world.fleet.fullDisks.length === 0)
      findings.push(`jobs ${rerun.join(' ')} failed, and no host's disk was full`);
    const rows = await client.list().catch((error: Error) => {
      findings.push(error.message);
      return [];
    });
    const events = await client.command('events', ['--json', '--after', '0', '--no-follow']);
    await writeFile(join(world.logs, 'events'), events.stdout);
    findings.push(...(await stopWhenIdle(world, client, served)));
    return {
      findings: [...findings, ...client.findings],
      figures: figuresOf(rows, client, rerun ?? []),
      check: (entries) =>
        checkQueue({ rows, entries, tries: client.tries, changes: client.changes, rerun: new Set(rerun) }),
    };
  },
};

function figuresOf(
  rows: readonly JobRow[],
  { tries, changes }: QueueClient,
  rerun: readonly number[],
): string {
  const lost = tries.filter(({ ids }) => ids === undefined).map(({ name }) => name);
  const kept = lost.filter((name) => rows.some(({ spec }) => spec.name.startsWith(`${name}_`)));
  const states = FINAL_STATES.map((state) => `${rows.filter((row) => row.state === state).length} ${state}`);
  return [
    `${tries.length} submits (${lost.length} without an answer, ${kept.length} of these kept)`,
    `${changes.length} changes, ${rerun.length} jobs run again by hand, ${states.join(' ')}`,
  ].join(', ');
}

/**
 * Releases what is still held and has failed jobs run again, until all have ended for good. Settles to the ids of
 * those that were run again.
 */
async function settle(client: QueueClient): Promise<readonly number[]> {
  const rerun: number[] = [];
  for (let round = 0; ; ) {
    await pause(LOOK_EVERY_MS);
    try {
      const rows = await allRows(client);
      if (rows.some(({ isHeld, state }) => isHeld && !FINAL_STATES.includes(state)))
        await client.ask('release', { ids: 'all' });
      if (rows.some(({ state }) => !FINAL_STATES.includes(state))) continue;
      if (round === MOST_RERUNS || !rows.some(({ state }) => state === 'fail' || state === 'error'))
        return rerun;
      const answers = (await client.ask('rerun', { ids: 'failed' })) as readonly JobAnswer[];
      rerun.push(...answers.filter(({ isDone }) => isDone).map(({ id }) => id));
      round += 1;
    } catch {
      // The service is being started; whoever waits for us has a time limit.
    }
  }
}

async function allRows(client: QueueClient): Promise<readonly JobRow[]> {
  const rows: JobRow[] = [];
  for (;;) {
    const from = (rows.at(-1)?.id ?? 0) + 1;
    const more = (await client.ask('list', { from, limit: MOST_ROWS })) as readonly JobRow[];
    if (more.length === 0) return rows;
    rows.push(...more);
  }
}

/** Stops it when nothing is left to do; and once more, since some host may have been away until then. */
async function stopWhenIdle(world: World, client: QueueClient, served: Promise<unknown>): Promise<string[]> {
  const { controller, doneWithinMs } = world;
  const findings: string[] = [];
  const stop = async (ended: Promise<unknown>) => {
    const { exitCode, stderr } = await client.command('stop', ['--when-idle']);
    if (exitCode !== 0) findings.push(`stop --when-idle ended with ${exitCode}: ${stderr.trim()}`);
    if (
      (await within(
        ended.then(() => true),
        exitCode === 0 ? doneWithinMs : 0,
      )) === undefined
    ) {
      findings.push('the service did not end when it was stopped');
      controller.stop();
      await ended;
    } else if (controller.ends.at(-1)?.exitCode !== 0) {
      findings.push(`the service that was stopped ended with ${controller.ends.at(-1)?.exitCode}`);
    }
  };
  controller.letEnd();
  await stop(served);
  const again = controller.runOnce();
  const isReady = async () => {
    for (;;) {
      await pause(LOOK_EVERY_MS);
      const machines = (await client.ask('machines', {}).catch(() => [])) as readonly MachineRow[];
      if (machines.length === world.machineFiles.length && machines.every(({ state }) => state === 'ready'))
        return true;
    }
  };
  if ((await within(isReady(), doneWithinMs)) === undefined)
    findings.push('not all machines are ready in the end');
  await stop(again);
  return findings;
}
