/**
 * The shell text of one command on one of many machines: how it is started under whatever login shell there is, and how
 * it is ended with all that it started. POSIX sh and no more is asked of a machine.
 */
import { shellQuote } from '../util/shell-quote.ts';

/** What a machine is told in order to start a command. */
export interface CommandStart {
  readonly command: string;
  /** Run in the same shell before it. */
  readonly setup: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  /** Where it runs, absolute. @default the home folder, as after a login */
  readonly folder: string | undefined;
}

/** Who the command is on its machine. */
export interface CommandProcess {
  /** Leads a session of its own, as sshd starts every program. */
  readonly pid: number;
  /** Clock ticks after boot, as text; empty where there is no /proc. */
  readonly startTime: string;
}

/** The longest command: Linux takes 128 KiB in one argument. */
export const LONGEST_COMMAND_BYTES = 120_000;

/**
 * What the login shell is asked to run; it has to be the same text to sh, csh and fish. The shell says the mark on both
 * output streams, so that what a login printed before can be told apart, and waits for a line: a login that hangs and
 * comes back when nobody waits any more finds no line and does nothing. It reads byte by byte, as POSIX has it, so all
 * that follows the line on standard input is the command's.
 *
 * @param mark random hex digits: tell our words from those of a login, and the command's processes from others
 */
export function waitingShell(mark: string): string {
  const words = [
    `{ read -r _t </proc/$$/stat; } 2>/dev/null`,
    `echo`,
    `echo ${mark} $$ "$_t"`,
    `echo >&2`,
    `echo ${mark} >&2`,
    `IFS= read -r _s`,
    `eval "$_s"`,
  ];
  return `exec /bin/sh -c '${words.join('; ')}'`;
}

const MARK_VARIABLE = 'SSH_SCHEDULER_RUN';

/**
 * The line that makes a waiting shell the command: bash where there is one, as for jobs, else sh. Without --norc bash
 * would read ~/.bashrc, which the login shell did already, again: it thinks that sshd started it.
 */
export function startLine(mark: string, { command, setup, env, folder }: CommandStart): string {
  const text = setup === undefined ? command : `${setup}\n${command}`;
  const exports = Object.entries({ ...env, [MARK_VARIABLE]: mark }).map(
    ([name, value]) => `export ${name}=${quoteOnOneLine(value)}; `,
  );
  return [
    `_n=$(printf '\\nx'); _n=\${_n%x}; _c=${quoteOnOneLine(text)}; `,
    ...exports,
    folder === undefined ? '' : `cd ${quoteOnOneLine(folder)} || exit 255; `,
    // A command may begin with + or -. Not every sh takes `--` after -c, so there a newline stands before it.
    `if command -v bash >/dev/null 2>&1; then exec bash --norc -c -- "$_c"; fi; exec /bin/sh -c "$_n$_c"\n`,
  ].join('');
}

/** Quotes text so that no newline is in it: `_n` holds one. */
function quoteOnOneLine(text: string): string {
  return text.split('\n').map(shellQuote).join('"$_n"');
}

/** Reads what stands behind the mark on standard output. Undefined when it is not what a waiting shell says. */
export function readProcess(text: string): CommandProcess | undefined {
  const [, pid = '', stat = ''] = /^ (\d{1,10}) (.*)$/.exec(text) ?? [];
  if (!(Number(pid) > 1)) return undefined;
  // proc(5): the name in brackets may hold blanks and brackets itself; the start is field 22, and 3 follows the name.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const startTime = stat.includes(')') ? (fields[22 - 3] ?? '') : '';
  return { pid: Number(pid), startTime: /^\d{1,20}$/.test(startTime) ? startTime : '' };
}

/**
 * A script that ends a command with its descendants: those in its session, and, where there is /proc, those that carry
 * the mark in their environment, which are in sessions of their own. Those get TERM, and KILL after the grace. It says
 * `left N`: so many could not be ended.
 */
export function endScript(mark: string, { pid, startTime }: CommandProcess, graceMs: number): string {
  const tenths = Math.ceil(graceMs / 100);
  return `
find_ids() { # -> ids
  ids=
  if [ -r /proc/$$/stat ]; then
    is_ours=1
    # Another process that has got the number since then leads another session.
    if { read -r line </proc/${pid}/stat; } 2>/dev/null; then
      set -f; set -- \${line##*) }; set +f
      [ "\${20}" = '${startTime}' ] || is_ours=
    fi
    for folder in /proc/[0-9]*; do
      { read -r line <"$folder/stat"; } 2>/dev/null || continue
      set -f; set -- \${line##*) }; set +f
      case $1 in [ZX]) continue ;; esac
      if [ -n "$is_ours" ] && [ "$4" = ${pid} ]; then ids="$ids \${folder#/proc/}"; fi
    done
    for file in $(grep -lzxF -e ${MARK_VARIABLE}=${mark} /proc/[0-9]*/environ 2>/dev/null); do
      id=\${file#/proc/}; id=\${id%/environ}
      case "$ids " in *" $id "*) ;; *) { read -r line <"/proc/$id/stat"; } 2>/dev/null && ids="$ids $id" ;; esac
    done
  else
    ids=$(ps -A -o pid= -o pgid= -o stat= | while read -r id group stat; do
      case $stat in Z*) continue ;; esac
      if [ "$group" = ${pid} ]; then printf ' %s' "$id"; fi
    done)
  fi
}
pause() { sleep 0.1 2>/dev/null || sleep 1; }
tell() { kill -s "$1" $ids 2>/dev/null; kill -s CONT $ids 2>/dev/null; }
find_ids
tell TERM
tenths=0 looks_in_vain=0
while [ "$tenths" -lt ${tenths + 30} ]; do
  find_ids
  if [ -n "$ids" ]; then
    looks_in_vain=0
    if [ "$tenths" -ge ${tenths} ]; then tell KILL; fi
  else
    # One look may miss a process that is just being made.
    looks_in_vain=$((looks_in_vain + 1))
    if [ "$looks_in_vain" -ge 2 ]; then break; fi
  fi
  pause
  tenths=$((tenths + 1))
done
set -- $ids
echo "left $#"
`;
}

/** Reads the answer of `endScript`. Undefined when it is none. */
export function readLeft(output: string): number | undefined {
  const [, left] = /(?:^|\n)left (\d{1,7})\n$/.exec(output) ?? [];
  return left === undefined ? undefined : Number(left);
}
