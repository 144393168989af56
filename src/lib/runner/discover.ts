/** Finds the attempts that earlier controllers left on a machine. */
import { type Job, type JobId, jobId } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { FoundAttempt } from '../domain/ports.ts';
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';

/** How to look. */
export interface DiscoverOptions {
  /**
   * Whether an attempt that never started is kept from ever starting. Without, nothing is changed on the machine.
   * @default true
   */
  readonly claim?: boolean;
}

/** The most that one machine may tell of its attempts. */
export const LISTING_LIMIT_BYTES = 16 * 1024 * 1024;
const GPU_INDEX_LIMIT = 1023;
const GPU_COUNT_LIMIT = 1024;

/**
 * Lists the attempts below a batch's folder of runs. One that never started is kept from ever starting, by the same
 * mkdir that its wrapper would have begun with. One whose own record is missing (its disk was full, or it is being made
 * right now) is told without a command, and with its folder's name for its job.
 */
export async function discoverAttempts(
  machine: MachineName,
  shell: RequestShell,
  runs: string,
  { claim = true }: DiscoverOptions = {},
): Promise<readonly FoundAttempt[]> {
  const { output } = await shell.text(
    `for a in ${shellQuote(runs)}/*/*; do
  [ -d "$a" ] || continue
${attemptState(claim)}
  job=\${a%/*}
  printf '%s %s %s\\n' "$state" "\${job##*/}/\${a##*/}" "$request"
done`,
    LISTING_LIMIT_BYTES,
  );
  return output.split('\n').flatMap((line) => {
    const [, state, folder, number, request] =
      /^(unstarted|running|ending|ended|cancelled) ([\w.%-]+)\/(\d{1,9}) (.*)$/.exec(line) ?? [];
    if (state === undefined || folder === undefined || request === undefined) return [];
    const asked = readRequest(request) ?? {
      job: jobId(folder),
      command: '',
      tree: '',
      gpus: [],
      copyBackwards: undefined,
    };
    return [
      {
        attempt: { job: asked.job, number: Number(number) },
        machine,
        command: asked.command,
        tree: asked.tree,
        gpus: asked.gpus,
        ...(asked.copyBackwards === undefined ? {} : { copyBackwards: asked.copyBackwards }),
        state: state as FoundAttempt['state'], // one of the pattern's five
      },
    ];
  });
}

/**
 * Shell text that sets `state` and `request` for the attempt's folder `$a`, without a process (but for the mkdir that
 * claims). Whether its end was somebody's wish stands in its flags: a wish may come when it has ended by itself. An exit record that is not whole, since the power failed, is none: the attempt counts as running, and whoever
 * adopts it finds out.
 */
export function attemptState(claim: boolean): string {
  const isUnstarted = claim
    ? '[ ! -e "$a/started" ] && mkdir "$a/started" 2>/dev/null'
    : '[ ! -e "$a/started" ]';
  return `  record=; { read -r record <"$a/exit"; } 2>/dev/null
  if ${isUnstarted}; then state=unstarted; else case $record in
    *' done'*|*' unlisted'*) set -- $record; case $5 in *c*) state=cancelled ;; *) state=ended ;; esac ;;
    *) if [ -e "$a/cancelled" ]; then state=ending; else state=running; fi ;;
  esac; fi
  request=; { read -r request <"$a/request"; } 2>/dev/null`;
}

/** What an attempt was asked for, as its own record has it. */
export interface RecordedRequest {
  readonly job: JobId;
  readonly command: string;
  readonly tree: string;
  readonly gpus: readonly number[];
  readonly copyBackwards: Job['copyBackwards'] | undefined;
}

/** Understands an attempt's `request`; undefined when it does not say whose the attempt is. */
export function readRequest(request: string): RecordedRequest | undefined {
  try {
    const parsed: unknown = JSON.parse(request);
    if (typeof parsed !== 'object' || parsed === null) return undefined;
    const { job, command, tree, gpuIndexes, copyBackwards } = parsed as { readonly [key: string]: unknown };
    if (typeof job !== 'string' || job === '' || typeof command !== 'string') return undefined;
    return {
      job: jobId(job),
      command,
      tree: typeof tree === 'string' ? tree : '',
      gpus: isGpuIndexes(gpuIndexes) ? gpuIndexes : [],
      copyBackwards: isCopyBackwards(copyBackwards) ? copyBackwards : undefined,
    };
  } catch {
    return undefined;
  }
}

function isGpuIndexes(value: unknown): value is readonly number[] {
  const isIndex = (one: unknown) =>
    typeof one === 'number' && Number.isInteger(one) && one >= 0 && one <= GPU_INDEX_LIMIT;
  return Array.isArray(value) && value.length <= GPU_COUNT_LIMIT && value.every(isIndex);
}

function isCopyBackwards(value: unknown): value is Job['copyBackwards'] {
  return value === 'changed' || (Array.isArray(value) && value.every((path) => typeof path === 'string'));
}
