/** `hold`, `release`, `kill`, `rerun`, `priority` and `clean`. */
import { UsageError } from '../../lib/domain/errors.ts';
import type { CleanAnswer, CleanRequest, JobAnswer, JobsRequest } from '../../lib/queue/requests.ts';
import { formatBytes } from '../../lib/util/size.ts';
import { answer, rowsOf } from './door.ts';
import { jobAnswerText } from './job-text.ts';
import { type Surroundings, subcommand } from './subcommand.ts';
import { parseFinalStates, parseId, parseIds, parseTime, parseWhole } from './values.ts';
import { noMoreWords } from './words.ts';

const DAY_MS = 86_400_000;
const CLEAN_USAGE = 'job_queue clean [--older-than 7d] [--state STATE,...]';

/** Asks, and says what became of each job. Jobs of which it could not be done count, but for `kill`: those have ended anyway. */
async function change(
  verb: 'hold' | 'release' | 'kill' | 'rerun' | 'priority',
  request: JobsRequest,
  { door, outs, warn }: Surroundings,
): Promise<number> {
  let isAllDone = true;
  let count = 0;
  for await (const job of rowsOf<JobAnswer>(await door(), verb, request, {
    id: 'number',
    isDone: 'boolean',
    message: 'string',
  })) {
    count++;
    if (job.isDone) {
      outs.stdout.write(`${jobAnswerText(job)}\n`);
      await outs.stdout.ready();
    } else {
      warn(jobAnswerText(job));
      isAllDone = false;
    }
  }
  if (count === 0) warn('there is no such job');
  return isAllDone || verb === 'kill' ? 0 : 1;
}

function idsOrAll(words: readonly string[], usage: string): JobsRequest {
  if (words.length === 1 && words[0] === 'all') return { ids: 'all' };
  return { ids: parseIds(words, usage) };
}

/** A command for some jobs or all. */
function forJobs(verb: 'hold' | 'release' | 'kill', what: string) {
  const usage = `job_queue ${verb} ID... | all`;
  return subcommand({
    name: verb,
    help: `${usage}\n\n${what}\n\nExample: job_queue ${verb} 17 18\n`,
    flags: {},
    read: ({ words }) => idsOrAll(words, usage),
    run: async (request, surroundings) => await change(verb, request, surroundings),
  });
}

export const COMMANDS = {
  hold: forJobs('hold', 'Has waiting jobs wait until they are released.'),
  release: forJobs('release', 'Ends what hold, or submit --hold, began.'),
  kill: forJobs(
    'kill',
    'Ends jobs, also those that wait. Jobs that have ended or are not known are said, and no failure.',
  ),
  rerun: subcommand({
    name: 'rerun',
    help: `job_queue rerun ID... | --failed

Has jobs that have ended run again; with --failed all that failed, were aborted or could not be started. Those that
were killed are to be named.

Example: job_queue rerun --failed
`,
    flags: { '--failed': 'switch' },
    read: (given): JobsRequest => {
      if (!given.has('--failed')) return { ids: parseIds(given.words, 'job_queue rerun ID... | --failed') };
      noMoreWords(given.words, 0, 'job_queue rerun ID... | --failed');
      return { ids: 'failed' };
    },
    run: async (request, surroundings) => await change('rerun', request, surroundings),
  }),
  priority: subcommand({
    name: 'priority',
    help: `job_queue priority ID N

Gives a waiting job another priority: higher ones first, 0 unless told, negative ones too.

Example: job_queue priority 17 10
`,
    flags: {},
    read: ({ words }): JobsRequest => {
      noMoreWords(words, 2, 'job_queue priority ID N');
      const [id, priority] = words;
      if (id === undefined || priority === undefined)
        throw new UsageError('expected a job and its priority: job_queue priority ID N');
      return { ids: [parseId(id)], priority: parseWhole(priority, 'priority') };
    },
    run: async (request, surroundings) => await change('priority', request, surroundings),
  }),
  clean: subcommand({
    name: 'clean',
    help: `${CLEAN_USAGE} [--json]

Forgets jobs that have ended, and removes what was kept for them. Their results stay.

  --older-than T  only those that ended so long ago [7d]; 0 for all
  --state S,...   only those in these states: success, fail, killed, abort, error
  --json          the ids, and how many bytes were freed

Example: job_queue clean --older-than 1d --state success
`,
    flags: { '--older-than': 'value', '--state': 'value', '--json': 'switch' },
    read: (given) => {
      noMoreWords(given.words, 0, CLEAN_USAGE);
      const states = given.read('--state', parseFinalStates);
      const request: CleanRequest = {
        olderThanMs: given.read('--older-than', parseTime) ?? 7 * DAY_MS,
        ...(states !== undefined && { states }),
      };
      return { request, json: given.has('--json'), isDefaultAge: !given.has('--older-than') };
    },
    run: async ({ request, json, isDefaultAge }, { door, print }) => {
      const reply = await (await door()).call('clean', request);
      const cleaned = answer<CleanAnswer>(reply, { ids: 'list', freedBytes: 'number' }, 'clean');
      const { ids, freedBytes } = cleaned;
      const hint = isDefaultAge ? ' (those that ended more than 7 days ago; --older-than changes that)' : '';
      const text = `${ids.length} ${ids.length === 1 ? 'job' : 'jobs'} forgotten, ${formatBytes(freedBytes)} freed${hint}`;
      print(json ? JSON.stringify(cleaned) : text);
      return 0;
    },
  }),
} as const;
