/**
 * No-op jobs a second through a service, beside execute_batch on the same hosts, in turn. The service runs before the clock
 * starts, with its connections; submitting and waiting for the last end are inside. Both leave the same files, which are counted.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { BenchService, folderIn, JOB_QUEUE, SMALL_JOBS } from './queue-service.ts';
import { interleaved, secondsOf, type TimedCommand } from './timing.ts';

const HOSTS = 4;
const AT_A_TIME = 4;
const JOBS = 1000;
const ROUNDS = 3;
/** Folders and files of each job: `.out`, `.err`, `.json`, and what it made. */
const RESULTS_PER_JOB = 4;

/** One service for all rounds, as a lab has it: the jobs of earlier rounds are in its list. */
export async function queueThroughputBench(bench: Bench): Promise<readonly Figure[]> {
  const machineFiles = await bench.machineFiles(HOSTS, AT_A_TIME);
  const root = await folderIn(bench.folder, 'queue');
  await using service = await BenchService.start({
    dataFolder: join(root, 'throughput'),
    flags: ['--ssh-config', bench.hosts.sshConfigPath, '--machines', ...machineFiles],
  });
  await service.ready(HOSTS);
  const timed = (commandIn: (project: string) => TimedCommand) => async () => {
    const project = await bench.project(Array.from({ length: JOBS }, () => 'true'));
    const seconds = await secondsOf(commandIn(project));
    const results = (await readdir(join(project, 'job_results'))).filter((name) => !name.startsWith('.'));
    if (results.length !== RESULTS_PER_JOB * JOBS) {
      throw new Error(`found ${results.length} results, expected ${RESULTS_PER_JOB * JOBS}`);
    }
    return JOBS / seconds;
  };
  const { medians, rounds } = await interleaved(ROUNDS, [
    timed((project) => submitAndWait(service, root, project)),
    timed((project) => bench.batchCommand(project, machineFiles)),
  ]);
  const [queue = Number.NaN, batch = Number.NaN] = medians;
  const jobs = JOBS.toLocaleString('en');
  return [
    {
      what: `job_queue submit and wait, ${jobs} \`true\` jobs, ${HOSTS} hosts, ${AT_A_TIME} at a time each (${rounds} rounds)`,
      ours: `${queue.toFixed(0)} jobs/s`,
      peer: { name: 'execute_batch', value: `${batch.toFixed(0)} jobs/s` },
      ratio: queue / batch,
      goal: { type: 'at least', value: 0.8 },
    },
  ];
}

/** Both commands, one behind the other. The ids are kept outside the project, which the jobs have as their source tree. */
function submitAndWait(service: BenchService, folder: string, project: string): TimedCommand {
  const line =
    'ids=$1; shift; "$@" submit $SMALL_JOBS --quiet --command-file jobs.sh >"$ids"; "$@" wait $(cat "$ids")';
  const words = [process.execPath, JOB_QUEUE, '--data-dir', service.dataFolder];
  return {
    program: '/bin/sh',
    args: ['-ec', line, 'sh', join(folder, 'ids'), ...words],
    cwd: project,
    env: { ...service.env, SMALL_JOBS: SMALL_JOBS.join(' ') },
  };
}
