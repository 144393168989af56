/** One command on 4 and on 64 hosts, and much output of 8 hosts gathered, beside clush and pdsh, in turn. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FanoutHosts, startFanoutHosts } from './fanout-hosts.ts';
import type { Figure } from './figure.ts';
import { peakMegabytes } from './peak-memory.ts';
import { type Bench, EXECUTE_TO } from './project.ts';
import { interleaved } from './timing.ts';

const FEW = 4;
const GATHERED_HOSTS = 8;
const GATHERED_BYTES = 10_000_000;
const ROUNDS = 7;
const COMMAND_TIMEOUT_MS = 60_000;
const MEMORY_GOAL_MB = 200;

interface Fanout {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts 64 hosts of its own; `bench` gives the folder. */
export async function fanoutBench(bench: Bench): Promise<readonly Figure[]> {
  await using hosts = await startFanoutHosts();
  const figures: Figure[] = [];
  for (const count of [FEW, hosts.names.length]) figures.push(...(await sameCommand(bench, hosts, count)));
  figures.push(...(await muchOutput(bench, hosts)));
  return figures;
}

async function sameCommand({ folder }: Bench, hosts: FanoutHosts, count: number): Promise<Figure[]> {
  const command = 'hostname';
  const timed = (fanout: Fanout, isGathered: boolean) => async () => {
    const { seconds, bytes } = await timeOf(fanout, folder);
    const least = isGathered ? 'node[01-00] (00)'.length : count * 'node01: x'.length;
    if (bytes < least) throw new Error(`${fanout.program} printed ${bytes} bytes for ${count} hosts`);
    return seconds;
  };
  const { medians } = await interleaved(ROUNDS, [
    timed(ours(hosts, count, command, []), false),
    timed(pdsh(hosts, count, command), false),
    timed(ours(hosts, count, command, ['-b']), true),
    timed(clush(hosts, count, command), true),
  ]);
  const [lines = Number.NaN, byPdsh = Number.NaN, gathered = Number.NaN, byClush = Number.NaN] = medians;
  const isFew = count === FEW;
  return [
    {
      what: `execute_to, ${count} hosts, hostname`,
      ours: milliseconds(lines),
      peer: { name: 'pdsh', value: milliseconds(byPdsh) },
      ratio: lines / byPdsh,
      goal: { type: 'at most', value: isFew ? 1.2 : 1 },
    },
    {
      what: `execute_to -b, ${count} hosts, hostname`,
      ours: milliseconds(gathered),
      peer: { name: 'clush -b', value: milliseconds(byClush) },
      ratio: gathered / byClush,
      ...(isFew ? {} : { goal: { type: 'at most', value: 1 } as const }),
    },
  ];
}

async function muchOutput({ folder }: Bench, hosts: FanoutHosts): Promise<Figure[]> {
  const file = join(folder, 'much-output.txt');
  const lines = Array.from({ length: GATHERED_BYTES / 50 }, (_, i) => `${String(i).padStart(49, 'line ')}\n`);
  await writeFile(file, lines.join('').slice(0, GATHERED_BYTES));
  let mostMB = 0;
  const timed = (fanout: Fanout) => async () => {
    const { seconds, bytes, peakMB } = await timeOf(fanout, folder);
    if (bytes < GATHERED_BYTES) throw new Error(`${fanout.program} printed ${bytes} bytes`);
    if (fanout.program === process.execPath) mostMB = Math.max(mostMB, peakMB);
    return seconds;
  };
  // Alike on all hosts, so that each prints it once.
  const command = `cat ${file}`;
  const { medians } = await interleaved(ROUNDS, [
    timed(ours(hosts, GATHERED_HOSTS, command, ['-b'])),
    timed(clush(hosts, GATHERED_HOSTS, command)),
  ]);
  await rm(file);
  const [gathered = Number.NaN, byClush = Number.NaN] = medians;
  return [
    {
      what: `execute_to -b, ${GATHERED_HOSTS} hosts, 10 MB from each`,
      ours: milliseconds(gathered),
      peer: { name: 'clush -b', value: milliseconds(byClush) },
      ratio: gathered / byClush,
      goal: { type: 'at most', value: 1 },
    },
    {
      what: 'the same, peak memory',
      ours: `${Math.round(mostMB)} MB`,
      ratio: mostMB,
      goal: { type: 'at most', value: MEMORY_GOAL_MB, unit: 'MB' },
    },
  ];
}

function ours(
  { sshConfigPath }: FanoutHosts,
  count: number,
  command: string,
  flags: readonly string[],
): Fanout {
  const args = [EXECUTE_TO, ...flags, '--ssh-config', sshConfigPath, range(count), command];
  return { program: process.execPath, args };
}

function pdsh({ sshConfigPath }: FanoutHosts, count: number, command: string): Fanout {
  const env = { ...process.env, PDSH_SSH_ARGS_APPEND: `-F ${sshConfigPath}` };
  return { program: 'pdsh', args: ['-R', 'ssh', '-w', range(count), command], env };
}

function clush({ sshConfigPath }: FanoutHosts, count: number, command: string): Fanout {
  // Quiet: it would count on stderr.
  return { program: 'clush', args: ['-q', '-b', '-o', `-F ${sshConfigPath}`, '-w', range(count), command] };
}

function range(count: number): string {
  return `node[01-${String(count).padStart(2, '0')}]`;
}

/** Runs a command with its output in a file: reading it here would cost all of them the same, and hide what they differ in. */
async function timeOf(
  { program, args, env }: Fanout,
  folder: string,
): Promise<{ readonly seconds: number; readonly bytes: number; readonly peakMB: number }> {
  const path = join(folder, 'fanout-output');
  const errorPath = `${path}.err`;
  const [out, err] = await Promise.all([open(path, 'w'), open(errorPath, 'w')]);
  try {
    const began = performance.now();
    const stdio = ['ignore', out.fd, err.fd] as const;
    const child = spawn(program, args, {
      env,
      stdio: [...stdio],
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    let peakMB = 0;
    const timer = setInterval(() => {
      void peakMegabytes(child.pid ?? 0).then((now) => {
        peakMB = Math.max(peakMB, now ?? 0);
      });
    }, 50);
    const [exitCode] = (await once(child, 'exit')) as [number | null]; // what 'exit' emits
    const seconds = (performance.now() - began) / 1000;
    clearInterval(timer);
    if (exitCode !== 0) {
      const said = (await readFile(errorPath, 'utf8')).slice(-500);
      throw new Error(`${program} ${args.join(' ')} ended with ${exitCode ?? 'a signal'}: ${said}`);
    }
    return { seconds, bytes: (await stat(path)).size, peakMB };
  } finally {
    await Promise.all([out.close(), err.close()]);
  }
}

function milliseconds(seconds: number): string {
  return `${Math.round(seconds * 1000)} ms`;
}
