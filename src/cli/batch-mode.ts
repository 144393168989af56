/** What execute_batch is to do besides running a batch: the flags for it, and what cannot stand together. */
import { UsageError } from '../lib/domain/errors.ts';
import { quotedWord } from './come-back.ts';

const group = 'Batches that run or have run:';

/** The options as yargs wants them. */
export const MODE_OPTIONS = {
  leave: {
    group,
    type: 'boolean',
    describe: 'start what fits now, and leave: the same command goes on later',
  },
  watch: {
    group,
    type: 'boolean',
    describe: 'a live view of the batch, of one that runs here already too; that one needs no --machines',
  },
  status: { group, type: 'boolean', describe: 'say what became of each job; starts nothing' },
  cancel: { group, type: 'boolean', describe: 'end the jobs of the batch; what they wrote comes home' },
  orphans: {
    group,
    type: 'boolean',
    describe: 'list jobs on the machines that no batch comes back to; with FILE only those of that batch',
  },
  'kill-orphans': {
    group,
    type: 'string',
    array: true,
    describe: 'end these jobs; with the names of batches, only theirs',
  },
} as const;

/** `batches` are ids; none for all orphans that surely nobody comes back to. */
export type Mode =
  | { readonly type: 'run' | 'leave' | 'status' | 'cancel' | 'orphans' }
  | { readonly type: 'kill-orphans'; readonly batches: readonly string[] };

/** What else was given. */
interface Surroundings {
  readonly file: unknown;
  readonly machines: readonly string[];
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly joblog: string | undefined;
}

const BATCH_ID = /^[0-9a-f]{12}$/;

/**
 * Which mode was asked for, checked against the rest of the command line. Flags of a run that mean nothing to another
 * mode are let pass: the mode is added to the command of the run as it was.
 * @throws UsageError when two modes are asked for, or something is missing or does not go with the mode.
 */
export function readMode(
  parsed: Readonly<Partial<Record<keyof typeof MODE_OPTIONS, unknown>>>,
  { file, machines, dryRun, json, joblog }: Surroundings,
): Mode {
  const batches = parsed['kill-orphans'];
  const asked = (['leave', 'status', 'cancel', 'orphans', 'kill-orphans'] as const).filter(
    (flag) => parsed[flag] === true || Array.isArray(parsed[flag]),
  );
  const [type = 'run', another] = asked;
  if (another !== undefined)
    throw new UsageError(`--${type} and --${another} exclude each other: each is a command of its own`);
  if (dryRun && type !== 'run')
    throw new UsageError(`--dry-run cannot go with --${type}: ${WITHOUT_DRY_RUN[type]}`);
  const isWatched = parsed.watch === true;
  if (isWatched) refuseBesideWatch(type, { dryRun, json, joblog });
  const needsNoFile = type === 'orphans' || type === 'kill-orphans';
  if (!needsNoFile && typeof file !== 'string')
    throw new UsageError(
      'no batch file is named: expected execute_batch FILE --machines NAME... (FILE goes first: a list such as --machines takes all words up to the next flag)',
    );
  // The machines of the last run are remembered, but to start jobs somebody has to say where.
  if (machines.length === 0 && !isWatched && type !== 'status' && type !== 'cancel')
    throw new UsageError(
      'no machine is named: add --machines with machine files, ssh destinations, or `local` for this machine',
    );
  if (type !== 'kill-orphans') return { type };
  const ids = (batches as unknown[]).map(String);
  for (const id of ids) {
    if (!BATCH_ID.test(id))
      throw new UsageError(
        `--kill-orphans: found ${quotedWord(id)}, expected batches as --orphans names them (12 hex digits), or none for all`,
      );
  }
  return { type, batches: ids };
}

/** @throws UsageError for what leaves nothing to watch, or wants the terminal for itself */
function refuseBesideWatch(
  type: Mode['type'],
  { dryRun, json, joblog }: Pick<Surroundings, 'dryRun' | 'json' | 'joblog'>,
): void {
  if (type === 'leave')
    throw new UsageError('--watch cannot go with --leave: leave out one of them, or q leaves only the view');
  if (type !== 'run')
    throw new UsageError(`--watch and --${type} exclude each other: each is a command of its own`);
  if (dryRun) throw new UsageError('--watch cannot go with --dry-run: there is nothing to watch then');
  if (json) throw new UsageError('--watch cannot go with --json: one is for people, the other for programs');
  if (joblog === '-')
    throw new UsageError('--watch cannot go with --joblog -: both write to stdout; give the job log a file');
}

const WITHOUT_DRY_RUN = {
  leave: '--dry-run alone says what would be started',
  status: 'it starts nothing anyway',
  cancel: '--status says what runs',
  orphans: 'it ends nothing anyway',
  'kill-orphans': '--orphans says what would be ended',
} as const;
