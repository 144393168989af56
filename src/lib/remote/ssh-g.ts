/** Asks the system's ssh what its configuration says about a destination. */
import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';

/** Where ssh's own configuration is found. */
export interface SshConfigOptions {
  /** The ssh program. @default `ssh` of the PATH */
  readonly sshPath?: string;
  /** Read this instead of the user's and the system's files, as `ssh -F` does. */
  readonly configFile?: string;
  /** @default the home folder of the user database, as ssh does, not $HOME */
  readonly home?: string;
  /** For SSH_AUTH_SOCK and variables in paths. @default this process's */
  readonly env?: NodeJS.ProcessEnv;
}

/** What is asked for: only `host` must be given. */
export interface SshDestination {
  readonly host: string;
  readonly user?: string;
  readonly port?: number;
}

const SYSTEM_CONFIG = '/etc/ssh/ssh_config';
const ASK_TIMEOUT_MS = 10_000;

/**
 * The settings that `ssh -G` prints; undefined where there is no ssh configuration, or no ssh program.
 * @throws RemoteError (`resolve`) when ssh refuses its configuration or does not answer
 */
export async function askSsh(
  machine: MachineName,
  destination: SshDestination,
  options: SshConfigOptions,
): Promise<Map<string, string[]> | undefined> {
  if (!(await hasConfig(options.home ?? userInfo().homedir, options))) return undefined;
  const answer = await runSsh(machine, destination, options);
  return answer === undefined ? undefined : parseSshG(answer);
}

/** Parses `ssh -G`: lines of a lower-case key, a space and the value; some keys come several times. */
export function parseSshG(text: string): Map<string, string[]> {
  const settings = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ');
    if (space <= 0) continue;
    const key = line.slice(0, space).toLowerCase();
    const value = line.slice(space + 1).trim();
    if (value !== '') settings.set(key, [...(settings.get(key) ?? []), value]);
  }
  return settings;
}

async function hasConfig(home: string, options: SshConfigOptions): Promise<boolean> {
  if (options.configFile !== undefined) return true;
  const files = [join(home, '.ssh', 'config'), SYSTEM_CONFIG];
  const found = await Promise.all(
    files.map((file) =>
      access(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** Runs `ssh -G`. Undefined when there is no ssh program. */
function runSsh(
  machine: MachineName,
  to: SshDestination,
  options: SshConfigOptions,
): Promise<string | undefined> {
  const file = options.configFile === undefined ? [] : ['-F', options.configFile];
  const user = to.user === undefined ? [] : ['-l', to.user];
  const port = to.port === undefined ? [] : ['-p', String(to.port)];
  const args = ['-G', ...file, ...user, ...port, '--', to.host];
  const settings = { timeout: ASK_TIMEOUT_MS, env: options.env ?? process.env, maxBuffer: 1 << 20 };
  return new Promise((resolve, reject) => {
    const child = execFile(options.sshPath ?? 'ssh', args, settings, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      if (error.code === 'ENOENT') return resolve(undefined);
      const why = error.killed
        ? `no answer within ${ASK_TIMEOUT_MS / 1000} s (a 'Match exec' that hangs?)`
        : stderr
            .trim()
            .split('\n')
            .filter((line) => !line.startsWith('Pseudo-terminal'))
            .join('; ') || error.message;
      reject(new RemoteError(machine, 'resolve', `ssh -G ${to.host} failed: ${why}`, { cause: error }));
    });
    child.stdin?.end(); // a 'Match exec' must not wait for our terminal
  });
}
