/**
 * The environment that a user has after logging in to a machine and opening a terminal: PATH with what .profile and
 * .bashrc put there. Read once per machine, so that jobs have it without a login shell each.
 */
import { shellQuote } from '../util/shell-quote.ts';
import type { RemoteHost } from './remote-host.ts';

/** Variables of one login or one terminal, which mean nothing to a job, and those that bash keeps for itself. */
const SESSION_VARIABLES =
  /^(SSH_.*|PWD|OLDPWD|SHLVL|_|TERM|TERM_.*|COLORTERM|TTY|TMUX.*|STY|WINDOW.*|DISPLAY|XDG_SESSION_.*|XDG_RUNTIME_DIR|XDG_SEAT|XDG_VTNR|DBUS_SESSION_BUS_ADDRESS|MAIL|LS_COLORS|PS[0-4]|PROMPT_COMMAND|IFS|HISTFILE|LINES|COLUMNS|BASHOPTS|SHELLOPTS|EUID|UID|PPID|JOB_NAME|JOB_ID|JOB_ATTEMPT|MACHINE_NAME)$/;
const SIZE_LIMIT_BYTES = 1024 * 1024;
const MARK = 'ssh-scheduler-environment';

/** What a login environment was read as. */
export interface LoginEnvironment {
  /** Shell text that exports it, safe to evaluate: names are checked, values are quoted. May hold any bytes. */
  readonly exports: Buffer;
  /** Why it could not be read; jobs then have what sshd gives. */
  readonly problem?: string;
}

/**
 * Asks the user's own shell, started as a login and interactive one, for its environment.
 * Never rejects for a shell that hangs, prints noise or knows no such flags: `problem` then says so.
 */
export async function readLoginEnvironment(host: RemoteHost, timeoutMs = 10_000): Promise<LoginEnvironment> {
  const channel = await host.open('exec /bin/sh');
  channel.stdin.on('error', () => {});
  channel.stderr.resume();
  const seconds = Math.max(1, Math.ceil(timeoutMs / 1000));
  // The mark stands between NULs, so that it cannot be mistaken for what a start file prints or a variable holds.
  const ask = `printf "\\0${MARK}\\0"; env -0; printf "\\0${MARK}\\0"`;
  // setsid: an interactive shell would otherwise try to become the foreground of a terminal it does not have.
  channel.stdin.end(
    `shell=\${SHELL:-/bin/bash}\nset -- "$shell" -l -i -c ${shellQuote(ask)}\n` +
      'command -v setsid >/dev/null 2>&1 && set -- setsid "$@"\n' +
      `command -v timeout >/dev/null 2>&1 && set -- timeout -k 1 ${seconds} "$@"\n` +
      'exec "$@" </dev/null 2>/dev/null\n',
  );
  const chunks: Buffer[] = [];
  let size = 0;
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<'silent'>((resolve) => {
    timer = setTimeout(() => resolve('silent'), timeoutMs + 2000);
  });
  channel.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= SIZE_LIMIT_BYTES) chunks.push(chunk);
    else channel.close();
  });
  const end = await Promise.race([channel.ended, silence]);
  clearTimeout(timer);
  channel.close();
  const exports = parseEnvironment(Buffer.concat(chunks));
  if (exports !== undefined) return { exports };
  const reason = end === 'silent' ? `took longer than ${seconds} s` : 'did not answer';
  return {
    exports: Buffer.alloc(0),
    problem: `the login shell ${reason}; jobs get the plain environment of sshd`,
  };
}

/**
 * Turns the answer (`noise NUL mark NUL NAME=value NUL ... NUL mark NUL`) into export commands. Undefined when the
 * marks are not there.
 */
export function parseEnvironment(answer: Buffer): Buffer | undefined {
  // latin1 keeps every byte as it is: values need not be UTF-8.
  const text = answer.toString('latin1');
  const mark = `\0${MARK}\0`;
  const from = text.indexOf(mark);
  const to = text.indexOf(mark, from + mark.length);
  if (from < 0 || to < 0) return undefined;
  const lines: string[] = [];
  for (const entry of text.slice(from + mark.length, to).split('\0')) {
    const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(entry) ?? [];
    if (name === undefined || value === undefined || SESSION_VARIABLES.test(name)) continue;
    lines.push(`export ${name}=${shellQuote(value)}`);
  }
  return Buffer.from(lines.join('\n'), 'latin1');
}
