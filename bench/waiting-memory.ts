/**
 * Peak memory of execute_batch with 10,000 jobs waiting behind one that runs: once with one short command for all, once
 * with long ones that all differ. Each batch is then ended by Ctrl-C twice, and nothing may be left on the host.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { SAME_PRESS_MS } from '../src/cli/interrupts.ts';
import type { HostProcess } from '../test/rig/test-hosts.ts';
import { until } from '../test/rig/until.ts';
import type { Figure } from './figure.ts';
import { peakMegabytes } from './peak-memory.ts';
import type { Bench } from './project.ts';

const JOBS = 10_000;
const GOAL_MB = 200;
const LONG_COMMAND_CHARACTERS = 1000;
const DEADLINE_MS = 60_000;
/** The peak counts as reached when it has not grown for so long: milliseconds. */
const STEADY_MS = 2000;

/** Measures both; empty where the system does not tell a process's peak memory (no /proc). */
export async function waitingMemoryBench(bench: Bench): Promise<readonly Figure[]> {
  if ((await peakMegabytes(process.pid)) === undefined) return [];
  const short = Array.from({ length: JOBS }, () => 'sleep 1000');
  const long = Array.from({ length: JOBS }, (_, i) => `sleep 1000; : ${filler(i)}`);
  const jobs = JOBS.toLocaleString('en');
  return [
    figureOf(`${jobs} waiting jobs, one command`, await peakOf(bench, short)),
    figureOf(
      `${jobs} waiting jobs, ${jobs} commands of ${LONG_COMMAND_CHARACTERS} characters`,
      await peakOf(bench, long),
    ),
  ];
}

function figureOf(what: string, peak: number): Figure {
  return {
    what,
    ours: `${Math.round(peak)} MB`,
    ratio: peak,
    goal: { type: 'at most', value: GOAL_MB, unit: 'MB' },
  };
}

/** Words that no two jobs share. */
function filler(job: number): string {
  return `--option-${job}=value-${job} `.repeat(LONG_COMMAND_CHARACTERS).slice(0, LONG_COMMAND_CHARACTERS);
}

async function peakOf(bench: Bench, lines: readonly string[]): Promise<number> {
  const { program, args, cwd } = bench.batchCommand(
    await bench.project(lines),
    await bench.machineFiles(1, 1),
  );
  const before = await processesOf(bench);
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    const peak = await peakWhileWaiting(child);
    await expectNothingNew(bench, before);
    return peak;
  } finally {
    child.kill('SIGKILL');
  }
}

async function peakWhileWaiting(child: ChildProcess): Promise<number> {
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const exit = once(child, 'exit');
  const wait = { deadlineMs: DEADLINE_MS, intervalMs: 50, describe: () => said.slice(-1000) };
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  await until(() => said.includes('started:') || hasEnded(), wait);
  let peak = 0;
  let grewAt = performance.now();
  const sample = async () => {
    const now = (await peakMegabytes(child.pid ?? 0)) ?? 0;
    if (now <= peak) return;
    peak = now;
    grewAt = performance.now();
  };
  await until(async () => {
    await sample();
    return performance.now() - grewAt > STEADY_MS || hasEnded();
  }, wait);
  child.kill('SIGINT');
  await until(() => said.includes('Ctrl-C:') || hasEnded(), wait);
  await sample();
  await new Promise((resolve) => setTimeout(resolve, 2 * SAME_PRESS_MS));
  child.kill('SIGINT');
  const [exitCode] = (await Promise.race([exit, deadline()])) as [number | null]; // what 'exit' emits
  if (exitCode !== 130) throw new Error(`execute_batch ended with ${exitCode} after Ctrl-C twice: ${said}`);
  return peak;
}

function deadline(): Promise<never> {
  return new Promise((_, reject) => {
    const error = new Error(`execute_batch did not end within ${DEADLINE_MS} ms after Ctrl-C twice`);
    setTimeout(() => reject(error), DEADLINE_MS).unref();
  });
}

/** Processes of the first host. */
async function processesOf({ hosts }: Bench): Promise<readonly HostProcess[]> {
  return (await hosts.hosts[0]?.processes()) ?? [];
}

async function expectNothingNew(bench: Bench, before: readonly HostProcess[]): Promise<void> {
  const known = new Set(before.map(({ pid }) => pid));
  const left = async () => (await processesOf(bench)).filter(({ pid }) => !known.has(pid));
  await until(async () => (await left()).length === 0, {
    describe: async () => `an empty host; there is ${JSON.stringify(await left())}`,
  });
}
