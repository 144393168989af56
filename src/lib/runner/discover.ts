/** Finds the attempts that an earlier controller of the same batch left on a machine. */
import { type Job, type JobId, jobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { FoundAttempt } from '../domain/ports.ts';
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';

/**
 * Lists the attempts below a batch's folder of runs. One that never started is kept from ever starting, by the same
 * mkdir that its wrapper would have begun with. Folders that do not say whose they are, are left alone.
 */
export async function discoverAttempts(
  machine: MachineName,
  shell: RequestShell,
  runs: string,
): Promise<readonly FoundAttempt[]> {
  const { output } = await shell.text(
    `for a in ${shellQuote(runs)}/*/*; do
  [ -d "$a" ] || continue
  if [ ! -e "$a/started" ] && mkdir "$a/started" 2>/dev/null; then state=unstarted; elif [ -e "$a/exit" ]; then if [ -e "$a/cancelled" ]; then state=cancelled; else state=ended; fi
  elif [ -e "$a/cancelled" ]; then state=ending; else state=running; fi
  request=; { read -r request <"$a/request"; } 2>/dev/null
  printf '%s %s %s\\n' "$state" "\${a##*/}" "$request"
done`,
    16 * 1024 * 1024,
  );
  return output.split('\n').flatMap((line) => {
    const [, state, number, request] =
      /^(unstarted|running|ending|ended|cancelled) (\d{1,9}) (.*)$/.exec(line) ?? [];
    if (state === undefined || number === undefined || request === undefined) return [];
    const asked = askedIn(request);
    if (asked === undefined) return [];
    // One of the pattern's five.
    return [
      {
        attempt: { job: asked.job, number: Number(number) },
        machine,
        command: asked.command,
        tree: asked.tree,
        ...(asked.copyBackwards === undefined ? {} : { copyBackwards: asked.copyBackwards }),
        state: state as FoundAttempt['state'],
      },
    ];
  });
}

function askedIn(request: string):
  | {
      readonly job: JobId;
      readonly command: string;
      readonly tree: string;
      readonly copyBackwards: Job['copyBackwards'] | undefined;
    }
  | undefined {
  try {
    const parsed: unknown = JSON.parse(request);
    if (typeof parsed !== 'object' || parsed === null) return undefined;
    const { job, command, tree, copyBackwards } = parsed as { readonly [key: string]: unknown };
    if (typeof job !== 'string' || job === '' || typeof command !== 'string') return undefined;
    return {
      job: jobId(job),
      command,
      tree: typeof tree === 'string' ? tree : '',
      copyBackwards: isCopyBackwards(copyBackwards) ? copyBackwards : undefined,
    };
  } catch {
    return undefined;
  }
}

function isCopyBackwards(value: unknown): value is Job['copyBackwards'] {
  return value === 'changed' || (Array.isArray(value) && value.every((path) => typeof path === 'string'));
}
