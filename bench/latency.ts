/**
 * What a person waits for, from the start of the process to its end: a small batch and one remote command, beside a
 * plain `ssh host true`, in turn; and how long the command takes to start at all.
 */
import type { Figure } from './figure.ts';
import { type Bench, EXECUTE_BATCH, EXECUTE_REMOTE } from './project.ts';
import { interleaved, secondsOf, type TimedCommand } from './timing.ts';

const ROUNDS = 9;
const BATCH_JOBS = 8;
const BATCH_HOSTS = 2;
// "About 1 s where a plain ssh takes 0.15 s."
const BATCH_GOAL = 1 / 0.15;

/** Runs all of them in turn. */
export async function latencyBench(bench: Bench): Promise<readonly Figure[]> {
  const machineFiles = await bench.machineFiles(BATCH_HOSTS, BATCH_JOBS / BATCH_HOSTS);
  const [machineFile = ''] = machineFiles;
  const node = (...args: string[]): TimedCommand => ({
    program: process.execPath,
    args,
    cwd: bench.folder,
  });
  const [ssh = Number.NaN, remote = Number.NaN, batch = Number.NaN, help = Number.NaN, bare = Number.NaN] = (
    await interleaved(ROUNDS, [
      () => secondsOf(bench.sshCommand('node1', 'true')),
      () =>
        secondsOf(
          node(EXECUTE_REMOTE, '--machine', machineFile, '--ssh-config', bench.hosts.sshConfigPath, 'true'),
        ),
      async () => {
        const project = await bench.project(Array.from({ length: BATCH_JOBS }, () => 'true'));
        return await secondsOf(bench.batchCommand(project, machineFiles));
      },
      () => secondsOf(node(EXECUTE_BATCH, '--help')),
      () => secondsOf(node('-e', '0')),
    ])
  ).medians;
  const plainSsh = { name: 'ssh host true', value: milliseconds(ssh) };
  return [
    {
      what: `batch of ${BATCH_JOBS} no-op jobs on ${BATCH_HOSTS} hosts`,
      ours: milliseconds(batch),
      peer: plainSsh,
      ratio: batch / ssh,
      goal: { type: 'at most', value: Number(BATCH_GOAL.toFixed(1)) },
    },
    {
      what: 'execute_remote --machine M true',
      ours: milliseconds(remote),
      peer: plainSsh,
      ratio: remote / ssh,
      goal: { type: 'at most', value: 3 },
    },
    {
      what: 'execute_batch --help',
      ours: milliseconds(help),
      peer: { name: 'node -e 0', value: milliseconds(bare) },
      ratio: help / bare,
    },
  ];
}

function milliseconds(seconds: number): string {
  return `${Math.round(seconds * 1000)} ms`;
}
