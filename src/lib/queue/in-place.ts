/**
 * Jobs that run in place, on the service's own machine: in the folder that was named, under their own output files, and
 * with nothing sent or brought home. So do the jobs of the sjq door.
 */
import { UsageError } from '../domain/errors.ts';
import type { QueueJobSpec } from '../domain/queue.ts';
import { isOfAnother } from '../stores/queue-kept.ts';
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
  readonly interpreter: string;
  /** Absolute. */
  readonly stdout: string;
  /** Absolute; absent where both streams go to one file. */
  readonly stderr?: string;
  /** Whose it is; both absent for the service's own user. */
  readonly uid?: number;
  readonly gid?: number;
}

/** The program behind a script's `#!`; undefined where there is none. */
export function interpreterOf(script: Buffer): string | undefined {
  const end = script.indexOf('\n');
  const first = script.subarray(0, end < 0 ? undefined : end).toString('utf8');
  return /^#![ \t]*([^ \t]+)/.exec(first)?.[1];
}

/**
 * Shell text for bash, run by a supervisor as the service's user: becomes the script. Where that is not possible, exit code
 * 126 and the reason on standard error; once the script's own files are open, nothing comes there any more. The job's
 * variables must not be in the environment: any could change what we do. They are set at the very end.
 * @throws UsageError when the run is to have another user's rights, and we are not root
 */
export function inPlaceCommand(run: InPlaceRun): string {
  const { scriptPath, scriptName } = run;
  checkScriptName(scriptName);
  // A copy: the service removes its own when nobody needs it, and a shell reads a script while it runs.
  const copy = `set -- "\${0%/*}/script-file/"${shellQuote(scriptName)}
(umask 077 && mkdir -p -- "\${1%/*}" && cat -- ${shellQuote(scriptPath)} >"$1" && chmod 700 -- "$1") || exit 126`;
  if (!isOfAnother(run)) return `${copy}\n${asOneself(run)}`;
  if (process.geteuid?.() !== 0) throw new UsageError('only root can run a job as another user');
  return `${copy}\n${asAnother(run)}`;
}

/** What jobs are told of themselves, whatever a client that runs in a job of ours hands on. */
const OURS: ReadonlySet<string> = new Set(['JOB_ID', 'JOB_NAME', 'JOB_ATTEMPT', 'MACHINE_NAME']);

/** Becomes the script in `$1`. */
function asOneself({ cwd, env, interpreter, stdout, stderr }: InPlaceRun): string {
  const program = shellQuote(interpreter);
  const errors = stderr === undefined ? '2>&1' : `2>${shellQuote(stderr)}`;
  const exports = Object.entries(env)
    .filter(([name]) => !OURS.has(name))
    .map(([name, value]) => `export ${name}=${shellQuote(value)}\n`);
  return `cd -- ${shellQuote(cwd)} || exit 126
[ -f ${program} ] && [ -x ${program} ] || { printf 'its interpreter %s is no program here\\n' ${program} >&2; exit 126; }
shopt -s execfail
exec >${shellQuote(stdout)} ${errors} || exit 126
${exports.join('')}exec "$1"`;
}

/** What a job of another user keeps of the service's variables: ours may hold what is not for others. */
const KEPT = 'LANG|LANGUAGE|LC_ALL|TZ|JOB_*|MACHINE_*|SSH_SCHEDULER_*';
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Becomes the script in `$1` with that user's rights. As long as we are root nothing that the client has said is in force.
 * Our folder is closed to that user, so the script, and the text that becomes it, go along as files that are open: what
 * /proc tells of them can be run and read by their owner. On a command line everybody could read the job's variables.
 */
function asAnother(run: InPlaceRun): string {
  const { uid, gid } = run;
  return `for name in $(compgen -e); do
  case $name in ${KEPT}) ;; *) unset -v "$name" 2>/dev/null ;; esac
done
export PATH=${SYSTEM_PATH}
uid=${uid ?? process.geteuid?.() ?? 0} gid=${gid ?? ''} begin="\${1%/*}/../begin"
IFS=: read -r user _ _ group _ home shell <<<"$(getent passwd "$uid")"
gid=\${gid:-\${group:-$uid}}
if [ -n "$user" ]; then groups=--init-groups; else groups=--clear-groups; fi
(umask 077 && printf %s ${shellQuote(`exec 8<&-\n${asOneself(run)}`)} >"$begin") &&
  chown -- "$uid:$gid" "$1" "$begin" && exec 8<"$begin" 9<"$1" || exit 126
command -v setpriv >/dev/null || { echo 'there is no setpriv (util-linux) to run it as another user' >&2; exit 126; }
export HOME="\${home:-/}" USER="\${user:-$uid}" LOGNAME="\${user:-$uid}" SHELL="\${shell:-/bin/sh}"
exec setpriv --reuid "$uid" --regid "$gid" "$groups" -- bash /proc/self/fd/8 /proc/self/fd/9`;
}

/** What decides whether jobs may run in place. */
export interface InPlaceRules {
  /** Whether the machine of that name is the service's own. */
  readonly isHere: boolean;
  /** Whether jobs may run as other users. */
  readonly allowsUid: boolean;
}

/** Why a job cannot run in place now, as a sentence; undefined where it can, or runs otherwise. */
export function inPlaceBar(
  { inPlace }: QueueJobSpec,
  { isHere, allowsUid }: InPlaceRules,
): string | undefined {
  if (inPlace === undefined) return undefined;
  if (!isHere)
    return `It runs on the service's own machine, which is not here: job_queue add-machine ${IN_PLACE_MACHINE} adds it.`;
  if (isOfAnother(inPlace) && !allowsUid)
    return 'It is to run as another user: that takes a service that was started with --allow-uid.';
  return undefined;
}
