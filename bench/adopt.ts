/**
 * How fast a batch that was left is picked up again: 1,000 jobs on 4 hosts have ended while no controller was there, and
 * the same command brings all results home. The jobs wait at a gate until the controller that started them has left.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../test/rig/until.ts';
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { secondsOf } from './timing.ts';

const HOSTS = 4;
const JOBS = 1000;
const GOAL_S = 10;
const DEADLINE_MS = 120_000;

/** Measures once: making the state takes longer than the measurement. */
export async function adoptBench(bench: Bench): Promise<readonly Figure[]> {
  const machineFiles = await bench.machineFiles(HOSTS, Math.ceil(JOBS / HOSTS));
  const hosts = bench.hosts.hosts.slice(0, HOSTS);
  for (const host of hosts) await host.exec('mkfifo gate');
  // Opening the gate to read waits for a writer, without a process of its own.
  const project = await bench.project(
    Array.from({ length: JOBS }, (_, i) => `read x <~/gate; echo ${i}; echo ${i} >made`),
  );
  const command = bench.batchCommand(project, machineFiles);
  await secondsOf({ ...command, args: [...command.args, '--leave'] });
  for (const host of hosts) await host.exec(': >gate');
  for (const host of hosts) {
    const count = async () =>
      Number((await host.exec('ls .cache/ssh-scheduler/runs/*/*/*/1/exit | wc -l')).stdout.trim());
    await until(async () => (await count()) === JOBS / HOSTS, {
      deadlineMs: DEADLINE_MS,
      describe: async () => `${await count()} jobs have ended on ${host.name}`,
    });
  }
  const seconds = await secondsOf(command);
  const results = await readdir(join(project, 'job_results'));
  const whole = results.filter((name) => name.endsWith('.json') && !name.startsWith('.')).length;
  if (whole !== JOBS) throw new Error(`found ${whole} results, expected ${JOBS}`);
  return [
    {
      what: `${JOBS.toLocaleString('en')} jobs that ended without a controller, ${HOSTS} hosts: all results home`,
      ours: `${seconds.toFixed(1)} s`,
      ratio: seconds,
      goal: { type: 'at most', value: GOAL_S, unit: 's' },
    },
  ];
}
