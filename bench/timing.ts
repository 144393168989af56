/** Times whole commands, from the start of the process to its end, and sums up what several rounds found. */
import { type CommandOptions, runCommand } from '../test/rig/command.ts';

/** No command of the bench may take longer: milliseconds. */
const COMMAND_TIMEOUT_MS = 90_000;

/** A command that is to end with 0. */
export interface TimedCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Standard input. @default empty */
  readonly input?: string;
}

/** Runs a command. Resolves to its seconds. @throws Error with what it printed when it does not end with 0. */
export async function secondsOf(command: TimedCommand): Promise<number> {
  const { program, args, cwd, env, input } = command;
  const options: CommandOptions = {
    timeoutMs: COMMAND_TIMEOUT_MS,
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    ...(input === undefined ? {} : { input }),
  };
  const began = performance.now();
  const { exitCode, stdout, stderr } = await runCommand(program, args, options);
  const seconds = (performance.now() - began) / 1000;
  if (exitCode === 0) return seconds;
  const said = `${stderr.trim()}\n${stdout.trim().slice(-500)}`.trim();
  throw new Error(`${program} ${args.join(' ')} ended with ${exitCode ?? 'a signal'}: ${said}`);
}

/** The middle of some figures. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b);
  const above = sorted[sorted.length >> 1] ?? Number.NaN;
  const below = sorted[(sorted.length - 1) >> 1] ?? Number.NaN;
  return (above + below) / 2;
}

/** No round begins later, so that a busy machine makes the bench coarse and not endless: milliseconds. */
const LAST_ROUND_MS = 90_000;

/**
 * Measures several things in turn, round after round, so that whatever else the machine does meets all of them.
 * Resolves to the median of each, in order, and to the number of rounds that there was time for.
 */
export async function interleaved(
  wantedRounds: number,
  measures: readonly (() => Promise<number>)[],
): Promise<{ readonly medians: readonly number[]; readonly rounds: number }> {
  const figures = measures.map((): number[] => []);
  const began = performance.now();
  let rounds = 0;
  do {
    for (const [i, measure] of measures.entries()) figures[i]?.push(await measure());
    rounds++;
  } while (rounds < wantedRounds && performance.now() - began < LAST_ROUND_MS);
  return { medians: figures.map(median), rounds };
}
