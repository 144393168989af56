/** Runs a program to its end and collects what it printed: for the rig and for tests that look at hosts from outside. */
import { spawn } from 'node:child_process';

/** How a program ended; `exitCode` is null when a signal ended it. */
export interface CommandResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Surroundings of one run. */
export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Text for standard input; empty without it. */
  readonly input?: string;
  /** Killed after this many milliseconds. @default no limit */
  readonly timeoutMs?: number;
}

/** Runs a program. @throws Error only when it cannot be started. */
export function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { input, timeoutMs, ...surroundings } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...surroundings, timeout: timeoutMs, killSignal: 'SIGKILL' });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => {}); // a program may end without reading its input
    child.on('error', reject);
    child.on('close', (exitCode) =>
      resolve({
        exitCode,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      }),
    );
    child.stdin.end(input ?? '');
  });
}

/** Runs a program that must succeed and returns what it printed. @throws Error with its stderr when it fails. */
export async function runOrThrow(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { exitCode, stdout, stderr } = await runCommand(program, args, options);
  if (exitCode !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${exitCode}: ${stderr.trim() || stdout.trim()}`);
  }
  return stdout;
}
