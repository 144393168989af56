/** All attempts that lie on a machine, of whichever batch: those that nobody follows any more are found and ended here. */
import { RemoteError } from '../domain/errors.ts';
import type { FoundAttempt } from '../domain/ports.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import type { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { withTimeLimit } from '../util/time-limit.ts';
import { attemptState, LISTING_LIMIT_BYTES, readRequest } from './discover.ts';
import { removeAttempts, removeEmptyBatch } from './job-folder.ts';
import { type BatchOrigin, MachineSession, type SessionOptions } from './machine-session.ts';
import { type AttemptPlace, type AttemptReport, placeText } from './supervisor.ts';

/** Where one attempt lies on its machine. */
export interface PlacedAttempt {
  /** The batch's id: 12 hex digits. */
  readonly batch: string;
  readonly place: AttemptPlace;
}

/** One attempt, as its machine tells of it. All texts come from there: they are not fit for a terminal as they are. */
export interface ListedAttempt extends PlacedAttempt {
  /** Who controlled the batch; undefined when that was not noted. */
  readonly origin: BatchOrigin | undefined;
  /** A controller's supervisor lives there now, so it is no orphan. It may outlive a controller that was cut off. */
  readonly isControlled: boolean;
  /** The job's name; that of its folder when its own record does not tell. */
  readonly job: string;
  /** Empty when its own record does not tell. */
  readonly command: string;
  /** As `FoundAttempt` has it; `gone`: nothing of it runs, and it has not told how it ended. */
  readonly state: FoundAttempt['state'] | 'gone';
  /** How long ago its command started; undefined when it did not, or before the machine was started anew. */
  readonly startedAgoMs: number | undefined;
}

const ORIGIN_TEXT_LIMIT = 4096;
const END_WITHIN_MS = 15_000;

/** Lists every attempt of every batch below our folder on a machine, and changes nothing there. */
export async function listAllAttempts(
  shell: RequestShell,
  base: string,
  machineKey: string,
): Promise<readonly ListedAttempt[]> {
  const { output } = await shell.text(
    listing(`${shellQuote(base)}/runs/${shellQuote(machineKey)}`),
    LISTING_LIMIT_BYTES,
  );
  const attempts: ListedAttempt[] = [];
  let batch: Pick<ListedAttempt, 'batch' | 'origin' | 'isControlled'> | undefined;
  for (const line of output.split('\n')) {
    const [, id, lives, origin = ''] = /^batch (\S+) (yes|no) (.*)$/.exec(line) ?? [];
    if (id !== undefined) {
      batch = /^[0-9a-f]{12}$/.test(id)
        ? { batch: id, origin: readOrigin(origin), isControlled: lives === 'yes' }
        : undefined;
      continue;
    }
    const [, state, folder, number, ago, request = ''] =
      /^(unstarted|running|ending|ended|cancelled|gone) ([\w.%-]+)\/(\d{1,9}) (\S+) (.*)$/.exec(line) ?? [];
    if (batch === undefined || state === undefined || folder === undefined) continue;
    const asked = readRequest(request);
    attempts.push({
      ...batch,
      place: { folder, number: Number(number) },
      job: asked?.job ?? folder,
      command: asked?.command ?? '',
      state: state as ListedAttempt['state'], // one of the pattern's six
      startedAgoMs: /^\d{1,12}$/.test(ago ?? '') ? Number(ago) * 1000 : undefined,
    });
  }
  return attempts;
}

/** Shell text: `batch ID yes|no ORIGIN` for each batch, and behind it `STATE JOB/N SECONDS-AGO REQUEST` for each attempt. */
function listing(runs: string): string {
  return `(
start_of() { # pid -> start: its start time, empty when it is gone
  start=
  if [ ! -r /proc/self/stat ]; then start=$(LC_ALL=C TZ=UTC0 ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _); return; fi
  stat=; { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  set -- \${stat##*) }
  case $1 in [ZX]) ;; *) start=\${20} ;; esac
}
lives() { # file with pid, start and boot of a process
  pid=; { read -r pid its_start its_boot _ <"$1"; } 2>/dev/null || return 1
  case $pid in ''|*[!0-9]*) return 1 ;; esac
  case $its_boot in ''|-|"$boot") ;; *) return 1 ;; esac
  start_of "$pid"
  [ -n "$start" ] && [ "$start" = "$its_start" ]
}
boot=; { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
start_of 1
boot=$boot:$start
up=; { read -r up _ </proc/uptime; } 2>/dev/null || up=$(date +%s)
for b in ${runs}/*; do
  [ -d "$b" ] || continue
  origin=; { read -r origin <"$b/.origin"; } 2>/dev/null
  if lives "$b/.controller"; then controlled=yes; else controlled=no; fi
  printf 'batch %s %s %s\\n' "\${b##*/}" $controlled "$origin"
  for a in "$b"/*/*; do
    [ -d "$a" ] || continue
${attemptState(false)}
    case $state in running|ending)
      if [ -e "$a/wrapper" ] && ! lives "$a/wrapper" && [ ! -s "$a/exit" ]; then state=gone; fi ;;
    esac
    ago=- its_boot= began=; { read -r _ _ its_boot began <"$a/pid"; } 2>/dev/null
    case $began in ''|*[!0-9.]*|*.*.*) ;; *) if [ "$its_boot" = "$boot" ]; then ago=$((\${up%.*} - \${began%.*})); fi ;; esac
    job=\${a%/*}
    printf '%s %s %s %s\\n' "$state" "\${job##*/}/\${a##*/}" "$ago" "$request"
  done
done)`;
}

function readOrigin(text: string): BatchOrigin | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null) return undefined;
    const { host, machineId, folder, file } = parsed as { readonly [key: string]: unknown };
    if (!isText(host) || !isText(folder) || !isText(file)) return undefined;
    return { host, folder, file, ...(isText(machineId) && { machineId }) };
  } catch {
    return undefined;
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= ORIGIN_TEXT_LIMIT;
}

/**
 * Ends attempts on one machine: TERM to all of their processes, KILL after the grace. Then removes their folders, and
 * their batches' where nothing is left in them.
 * @throws RemoteError when the machine does not hear, or they do not end.
 */
export async function endAttempts(
  host: RemoteHost,
  session: Pick<SessionOptions, 'remoteDir' | 'machineKey'>,
  attempts: readonly PlacedAttempt[],
  graceMs: number,
): Promise<void> {
  for (const batch of new Set(attempts.map((one) => one.batch))) {
    const places = attempts.filter((one) => one.batch === batch).map(({ place }) => place);
    await endInBatch(host, { ...session, batch }, places, { graceMs });
  }
}

/** How attempts are ended. */
export interface EndOptions {
  /** From TERM to KILL. */
  readonly graceMs: number;
  /** Whether an attempt's folder goes, by how it ended. @default all go */
  readonly removes?: (report: AttemptReport) => boolean;
  /** Leaves the batch's own folder, also where nothing is left in it. @default false */
  readonly keepsBatch?: boolean;
}

/**
 * As `endAttempts`, for attempts of one batch. Resolves to how each has ended, by `placeText`.
 * @throws RemoteError when the machine does not hear, or they do not end; nothing is removed then.
 */
export async function endInBatch(
  host: RemoteHost,
  options: Pick<SessionOptions, 'remoteDir' | 'machineKey' | 'batch'>,
  places: readonly AttemptPlace[],
  { graceMs, removes = () => true, keepsBatch = false }: EndOptions,
): Promise<ReadonlyMap<string, AttemptReport>> {
  const wanted = new Set(places.map(placeText));
  const reports = new Map<string, AttemptReport>();
  let settle: () => void = () => {};
  const allEnded = new Promise<void>((resolve) => {
    settle = resolve;
  });
  const session = await MachineSession.open(host, {
    ...options,
    loginEnvironment: false,
    isForOneJob: true,
    onWarning: () => {},
    onReport: (place, report) => {
      if (report.type === 'started' || !wanted.has(placeText(place))) return;
      reports.set(placeText(place), report);
      if (reports.size === wanted.size) settle();
    },
  });
  try {
    for (const place of places) {
      session.supervisor.adopt(place);
      session.supervisor.cancel(place, graceMs);
    }
    const limitMs = graceMs + END_WITHIN_MS;
    const problem = (why: string) =>
      new RemoteError(
        host.name,
        'run',
        `${host.name}: ${wanted.size - reports.size} jobs did not end: ${why}`,
      );
    const tooLong = () => problem(`not within ${limitMs / 1000} s`);
    const broken = session.supervisor.ended.then((reason) => Promise.reject(problem(reason)));
    await withTimeLimit(Promise.race([allEnded, broken]), limitMs, tooLong);
    const { runs } = session.folders;
    const over = places.filter((place) => {
      const report = reports.get(placeText(place));
      return report !== undefined && removes(report);
    });
    const steps = [
      ...(over.length > 0 ? [removeAttempts(runs, over)] : []),
      ...(keepsBatch ? [] : [removeEmptyBatch(runs)]),
    ];
    if (steps.length > 0) await session.output.run(steps.join('; '));
    return reports;
  } finally {
    await session.close();
  }
}
