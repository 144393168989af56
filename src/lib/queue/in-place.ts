/**
 * Jobs that run in place, on the service's own machine: in the folder that was named, under their own output files, and
 * with nothing sent or brought home. So do the jobs of the sjq door.
 */
import { UsageError } from '../domain/errors.ts';
import type { QueueJobSpec } from '../domain/queue.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { checkScriptName } from './script-store.ts';

/** The machine that such jobs run on. */
export const IN_PLACE_MACHINE = 'local';

/** What runs in place. */
export interface InPlaceRun extends Pick<QueueJobSpec, 'cwd' | 'env'> {
  /** Absolute path of the script's file. */
  readonly scriptPath: string;
  /** What the script is to be called: a file's name without folders. */
  readonly scriptName: string;
  /** Absolute path of the program behind `#!`; undefined where nothing is known of it. */
  readonly interpreter: string | undefined;
  /** Absolute. */
  readonly stdout: string;
  /** Absolute; absent where both streams go to one file. */
  readonly stderr?: string;
  /** Whose it is, where not the service's own user's. */
  readonly uid?: number;
  readonly gid?: number;
}

/** The program behind a script's `#!`; undefined where there is none. */
export function interpreterOf(script: Buffer): string | undefined {
  const end = script.indexOf('\n');
  const first = script.subarray(0, end < 0 ? undefined : end).toString('utf8');
  return /^#!\s*(\S+)/.exec(first)?.[1];
}

/**
 * Shell text for bash, run by a supervisor as the service's user: becomes the script. Where that is not possible, exit code
 * 126 and the reason on standard error; once the script's own files are open, nothing comes there any more.
 * @throws UsageError when the run is to have another user's rights, and we are not root
 */
export function inPlaceCommand(run: InPlaceRun): string {
  const { scriptPath, scriptName, uid, gid } = run;
  checkScriptName(scriptName);
  // A copy: the service removes its own when nobody needs it, and a shell reads a script while it runs.
  const copy = `set -- "\${0%/*}/script-file/"${shellQuote(scriptName)}
(umask 077 && mkdir -p -- "\${1%/*}" && cat -- ${shellQuote(scriptPath)} >"$1" && chmod 700 -- "$1") || exit 126`;
  if (uid === undefined && gid === undefined) return `${copy}\n${asOneself(run)}`;
  if (process.getuid?.() !== 0) throw new UsageError('only root can run a job as another user');
  return `${copy}\n${asAnother(run)}`;
}

/** Becomes the script in `$1`. */
function asOneself({ cwd, interpreter, stdout, stderr }: InPlaceRun): string {
  const program =
    interpreter === undefined
      ? ''
      : `[ -x ${shellQuote(interpreter)} ] || { printf 'its interpreter %s is no program here\\n' ${shellQuote(interpreter)} >&2; exit 126; }\n`;
  const errors = stderr === undefined ? '2>&1' : `2>${shellQuote(stderr)}`;
  return `cd -- ${shellQuote(cwd)} || exit 126
${program}shopt -s execfail
exec >${shellQuote(stdout)} ${errors} || exit 126
exec "$1"`;
}

/** What a job of another user keeps of the service's variables: ours may hold what is not for others. */
const KEPT = ['PATH', 'LANG', 'LANGUAGE', 'LC_ALL', 'TZ', 'TERM', 'JOB_*', 'MACHINE_*', 'SSH_SCHEDULER_*'];
/** What such a job is told of its user, unless its own variables say so; shell words. */
const OF_USER: Readonly<Record<string, string>> = {
  HOME: `\${home:-/}`,
  USER: `\${user:-$uid}`,
  LOGNAME: `\${user:-$uid}`,
  SHELL: `\${shell:-/bin/sh}`,
};

/**
 * Becomes the script in `$1` with that user's rights. Our folder is closed to that user, so the script goes along as a file
 * that is open: what /proc tells of it can be run and read by its owner.
 */
function asAnother(run: InPlaceRun): string {
  const { uid, gid, env } = run;
  const own = uid ?? 0;
  const kept = [...KEPT, ...Object.keys(env)].join('|');
  const exports = Object.entries(OF_USER)
    .filter(([name]) => !Object.hasOwn(env, name))
    .map(([name, word]) => `export ${name}="${word}"`)
    .join('\n');
  return `uid=${own} gid=${gid ?? ''}
IFS=: read -r user _ _ group _ home shell <<<"$(getent passwd "$uid")"
gid=\${gid:-\${group:-$uid}}
if [ -n "$user" ]; then groups=--init-groups; else groups=--clear-groups; fi
chown -- "$uid:$gid" "$1" && exec 9<"$1" || exit 126
set -- /proc/self/fd/9 "$uid" "$gid" "$groups"
for name in $(compgen -e); do
  case $name in ${kept}) ;; *) unset -v "$name" 2>/dev/null ;; esac
done
${exports}
command -v setpriv >/dev/null || { echo 'there is no setpriv (util-linux) to run it as another user' >&2; exit 126; }
exec setpriv --reuid "$2" --regid "$3" "$4" -- bash -c ${shellQuote(asOneself(run))} "$0" "$1"`;
}
