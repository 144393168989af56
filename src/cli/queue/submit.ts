/** `submit` and `remove-job`. */
import { basename } from 'node:path';
import { UsageError } from '../../lib/domain/errors.ts';
import type { JobAnswer, RemoveJobRequest, SubmitAnswer } from '../../lib/queue/requests.ts';
import { comingText, momentText } from '../report/moment-text.ts';
import { allRows, answer } from './door.ts';
import { jobAnswerText } from './job-text.ts';
import { type Surroundings, subcommand } from './subcommand.ts';
import { readSubmit, SUBMIT_FLAGS, SUBMIT_HELP, type SubmitArguments } from './submit-arguments.ts';
import { planSubmit } from './submit-requests.ts';

const LINES_PER_WRITE = 5000;

/** The lines that tell of jobs whose ids follow each other, some thousand to a piece. */
export function* submittedText(
  { firstId, count }: SubmitAnswer,
  quiet: boolean,
): Generator<string, void, void> {
  for (let from = 0; from < count; from += LINES_PER_WRITE) {
    let text = '';
    for (let at = from; at < Math.min(count, from + LINES_PER_WRITE); at++) {
      const id = firstId + at;
      text += quiet
        ? `${id}\n`
        : `{"status":"OK","message":"job submitted successfully","code":0,"job_id":${id}}\n`;
    }
    yield text;
  }
}

async function submit(args: SubmitArguments, { door, outs, warn }: Surroundings): Promise<number> {
  const { requests, warnings } = await planSubmit(args);
  for (const warning of warnings) warn(warning);
  // 14:00 that is over means tomorrow's.
  const { beginAt } = args.common;
  const now = Date.now();
  if (beginAt !== undefined && comingText(beginAt, now) !== momentText(beginAt, beginAt))
    warn(`begins ${comingText(beginAt, now)} at the earliest`);
  const client = await door();
  const told = new Set<string>();
  let submitted = 0;
  for (const request of requests) {
    let answered: SubmitAnswer;
    try {
      answered = answer<SubmitAnswer>(
        await client.call('submit', request),
        { firstId: 'number', count: 'number', warnings: 'list' },
        'submit',
      );
    } catch (error) {
      if (submitted > 0)
        warn(
          `only the first ${submitted} jobs of ${requests.flatMap(({ jobs = [] }) => jobs).length} were submitted`,
        );
      throw error;
    }
    submitted += answered.count;
    for (const warning of answered.warnings) {
      if (!told.has(warning)) warn(warning);
      told.add(warning);
    }
    for (const text of submittedText(answered, args.quiet)) {
      outs.stdout.write(text);
      await outs.stdout.ready();
    }
  }
  return 0;
}

const REMOVE_USAGE = 'job_queue remove-job SCRIPT ARGS...';

export const COMMANDS = {
  submit: subcommand({
    name: 'submit',
    help: SUBMIT_HELP,
    flags: SUBMIT_FLAGS,
    endsAtWord: true,
    read: (words) => readSubmit(words),
    run: submit,
  }),
  'remove-job': subcommand({
    name: 'remove-job',
    help: `${REMOVE_USAGE}

Removes all waiting jobs with that script (its file's name) and exactly these arguments.

Example: job_queue remove-job job_script.sh data_1
`,
    flags: {},
    endsAtWord: true,
    read: ({ words: [script, ...args] }): RemoveJobRequest => {
      if (script === undefined || basename(script) === '')
        throw new UsageError(`no script is named: expected ${REMOVE_USAGE}`);
      return { script: basename(script), args };
    },
    run: async (args, { door, print }) => {
      const removed = await allRows<JobAnswer>(await door(), 'remove-job', args, {
        id: 'number',
        message: 'string',
      });
      for (const job of removed) print(jobAnswerText(job));
      if (removed.length === 0) print('no waiting job has that script and those arguments');
      return 0;
    },
  }),
} as const;
