/** `log`, `follow`, `wait` and `events`: what comes from the service as it happens. */
import { UsageError } from '../../lib/domain/errors.ts';
import type { DoorClient } from '../../lib/queue/door-client.ts';
import type { EventsRequest, JobRow, OutputItem, WaitItem, WaitRequest } from '../../lib/queue/requests.ts';
import { exitCodeOf } from '../exit-codes.ts';
import { answer, rowsOf } from './door.ts';
import { eventLine, eventRecord, type StreamedEvent } from './event-text.ts';
import { badEndText, endedText } from './job-text.ts';
import { type Surroundings, subcommand } from './subcommand.ts';
import { parseId, parseIds, parseWhole } from './values.ts';
import { noMoreWords } from './words.ts';

/** Writes a job's output as bytes, each stream to its own. Returns whether the job has ended well. */
async function output(
  { id, follow }: { readonly id: number; readonly follow: boolean },
  { door, outs, warn }: Surroundings,
): Promise<boolean> {
  const client = await door();
  if (follow) await sayWhetherItWaits(client, id, warn);
  const request = { id, ...(follow && { follow }) };
  for await (const value of client.stream('output', request)) {
    const item = answer<OutputItem>(value, { type: 'string' }, 'output');
    if (item.type === 'chunk') {
      const out = item.stream === 'err' ? outs.stderr : outs.stdout;
      out.write(Buffer.from(String(item.base64), 'base64'));
      await out.ready();
    } else if (item.type === 'restarted') {
      warn(`attempt ${item.attempt} of job ${id} begins: what came until now was of an earlier one`);
    } else if (item.type === 'end') {
      if (follow && item.state !== 'success')
        warn(badEndText({ ...item, id, ...(await reasonOf(client, id)) }));
      return item.state === 'success';
    }
  }
  return false;
}

/** Whoever follows a job that waits sees nothing for long. */
async function sayWhetherItWaits(
  client: DoorClient,
  id: number,
  warn: (line: string) => void,
): Promise<void> {
  const { state } = answer<JobRow>(await client.call('get', { id }), { state: 'string' }, 'get');
  if (state === 'queued' || state === 'holding' || state === 'user-hold')
    warn(`job ${id} waits (${state}); job_queue explain ${id} says why`);
}

/** Why a job has its state; nothing where that is not known any more. */
async function reasonOf(client: DoorClient, id: number): Promise<{ readonly reason?: string }> {
  try {
    const { reason } = answer<JobRow>(await client.call('get', { id }), { state: 'string' }, 'get');
    return reason === undefined ? {} : { reason };
  } catch {
    return {}; // it was cleaned meanwhile, or the service went
  }
}

function outputCommand(name: 'log' | 'follow', text: string) {
  return subcommand({
    name,
    help: `job_queue ${name} ID\n\n${text}\n\nExample: job_queue ${name} 17\n`,
    flags: {},
    read: ({ words }) => {
      noMoreWords(words, 1, `job_queue ${name} ID`);
      const [word] = words;
      if (word === undefined) throw new UsageError(`no job is named: expected job_queue ${name} ID`);
      return { id: parseId(word), follow: name === 'follow' };
    },
    run: async (args, surroundings) => {
      const isGood = await output(args, surroundings);
      return args.follow && !isGood ? 1 : 0;
    },
  });
}

async function wait(
  { ids, json }: WaitRequest & { readonly json: boolean },
  { door, print, outs }: Surroundings,
): Promise<number> {
  const shape = { id: 'number', name: 'string', state: 'string' } as const;
  let good = 0;
  for await (const job of rowsOf<WaitItem>(await door(), 'wait', { ids }, shape)) {
    if (job.state === 'success') good++;
    print(json ? JSON.stringify(job) : endedText(job));
    await outs.stdout.ready();
  }
  return exitCodeOf(ids.length - good);
}

async function events(
  { request, json }: { readonly request: EventsRequest; readonly json: boolean },
  { door, outs }: Surroundings,
): Promise<number> {
  for await (const event of rowsOf<StreamedEvent>(await door(), 'events', request, {
    type: 'string',
    sequence: 'number',
  })) {
    const line = json ? JSON.stringify(eventRecord(event)) : eventLine(event, Date.now());
    if (line === undefined) continue;
    outs.stdout.write(`${line}\n`);
    await outs.stdout.ready();
  }
  return 0;
}

export const COMMANDS = {
  log: outputCommand('log', 'What a job has printed so far: its output and, on standard error, its errors.'),
  follow: outputCommand(
    'follow',
    'What a job prints, until it has ended; then how, if not well. Exit code: 0 when it ended well, else 1.',
  ),
  wait: subcommand({
    name: 'wait',
    help: `job_queue wait ID... [--json]

Waits until the jobs have ended, and prints a line for each when it has. Exit code: how many have no good end,
101 for more than 100.

Example: job_queue wait 17 18 && job_queue submit --command 'make report'
`,
    flags: { '--json': 'switch' },
    read: (given) => ({ ids: parseIds(given.words, 'job_queue wait ID...'), json: given.has('--json') }),
    run: wait,
  }),
  events: subcommand({
    name: 'events',
    help: `job_queue events [--json] [--after N] [--no-follow]

What happens, as it happens.

  --json       one object per event, as execute_batch --json, with its number as sequence
  --after N    begins with the event behind that number; without it with what happens from now on
  --no-follow  ends when there are no more

Example: job_queue events --json --after 4711
`,
    flags: { '--json': 'switch', '--after': 'value', '--no-follow': 'switch' },
    read: (given) => {
      noMoreWords(given.words, 0, 'job_queue events [--json] [--after N] [--no-follow]');
      const after = given.read('--after', (text, flag) => parseWhole(text, flag, 0));
      if (given.has('--no-follow') && after === undefined)
        throw new UsageError(
          '--no-follow says nothing without --after N: expected the number to begin behind, 0 for all',
        );
      const request: EventsRequest = {
        ...(after !== undefined && { after }),
        ...(given.has('--no-follow') && { follow: false }),
      };
      return { request, json: given.has('--json') };
    },
    run: events,
  }),
} as const;
