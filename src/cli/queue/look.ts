/** `status`, `list` and `explain`: what there is, and why a job does not run. */
import { UsageError } from '../../lib/domain/errors.ts';
import type { QueueState } from '../../lib/domain/queue.ts';
import type { ExplainAnswer, InfoAnswer, JobRow, ListRequest, MachineRow } from '../../lib/queue/requests.ts';
import { nearestWord } from '../../lib/util/nearest-word.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { allRows, answer } from './door.ts';
import { countsText, explainLines, jobDetails, jobLines } from './job-text.ts';
import { MACHINE_ROW } from './machine-row.ts';
import { statusLines, statusRecord } from './machine-text.ts';
import { type Surroundings, subcommand } from './subcommand.ts';
import { parseId, parseStates } from './values.ts';
import { noMoreWords, quoted } from './words.ts';

interface StatusArguments {
  readonly of:
    | { readonly type: 'all' }
    | { readonly type: 'job'; readonly id: number }
    | { readonly type: 'machine'; readonly name: string };
  readonly json: boolean;
}

const JOB_ROW = {
  id: 'number',
  spec: 'object',
  state: 'string',
  submittedAt: 'number',
  outputs: 'object',
} as const;
const ROWS_AT_ONCE = 1000;

async function status({ of, json }: StatusArguments, surroundings: Surroundings): Promise<number> {
  const { print } = surroundings;
  const client = await surroundings.door();
  if (of.type === 'job') {
    const job = answer<JobRow>(await client.call('get', { id: of.id }), JOB_ROW, 'get');
    if (json) print(JSON.stringify(job));
    else for (const line of jobDetails(job, Date.now())) print(line);
    return 0;
  }
  const [machines, info] = await Promise.all([
    allRows<MachineRow>(client, 'machines', {}, MACHINE_ROW),
    of.type === 'all' && !json ? client.call('info', {}) : undefined,
  ]);
  if (of.type === 'machine') {
    const machine = machines.find(({ name }) => name === of.name) ?? noMachine(of.name, machines);
    for (const line of json ? [statusRecord(machine)] : statusLines([machine])) print(line);
    return 0;
  }
  if (json) {
    for (const machine of machines) print(`[${visibleText(machine.name)}] ${statusRecord(machine)}`);
    return 0;
  }
  for (const line of machines.length === 0 ? ['no machines'] : statusLines(machines)) print(line);
  print(countsText(answer<InfoAnswer>(info, { counts: 'object' }, 'info').counts));
  return 0;
}

function noMachine(name: string, machines: readonly MachineRow[]): never {
  const near = nearestWord(
    name,
    machines.map((machine) => machine.name),
  );
  const hint = near === undefined ? 'see job_queue machines' : `did you mean ${visibleText(near)}?`;
  throw new UsageError(`there is no machine ${quoted(name)} (${hint})`);
}

interface ListArguments {
  readonly states?: readonly QueueState[];
  readonly json: boolean;
}

async function list({ states, json }: ListArguments, { door, outs }: Surroundings): Promise<number> {
  const client = await door();
  for (let from = 1; ; ) {
    const request: ListRequest = { from, limit: ROWS_AT_ONCE, ...(states !== undefined && { states }) };
    const jobs = await allRows<JobRow>(client, 'list', request, JOB_ROW);
    const last = jobs.at(-1);
    if (last === undefined || last.id < from) return 0;
    const lines = json ? jobs.map((job) => JSON.stringify(job)) : jobLines(jobs, Date.now());
    outs.stdout.write(`${lines.join('\n')}\n`);
    await outs.stdout.ready();
    from = last.id + 1;
  }
}

export const COMMANDS = {
  status: subcommand({
    name: 'status',
    help: `job_queue status [ID | MACHINE | all] [--json]

How many jobs run where, and how many there are in each state; or all about one job, or one machine.

  --json  one object; for all a line [NAME] {...} per machine

Example: job_queue --host me@gpubox status
`,
    flags: { '--json': 'switch' },
    read: (given): StatusArguments => {
      noMoreWords(given.words, 1, 'job_queue status [ID | MACHINE | all]');
      const [name = 'all'] = given.words;
      const json = given.has('--json');
      if (name === 'all') return { of: { type: 'all' }, json };
      if (/^\d+$/.test(name)) return { of: { type: 'job', id: parseId(name) }, json };
      if (name === '')
        throw new UsageError('found an empty word, expected job_queue status [ID | MACHINE | all]');
      return { of: { type: 'machine', name }, json };
    },
    run: status,
  }),
  list: subcommand({
    name: 'list',
    help: `job_queue list [--state STATE,...] [--json]

A line per job, by id. States: running, queued, holding, user-hold, success, fail, killed, abort, error.

  --state S,...  only jobs in these states
  --json         one object per job

Example: job_queue list --state running,queued
`,
    flags: { '--state': 'value', '--json': 'switch' },
    read: (given): ListArguments => {
      noMoreWords(given.words, 0, 'job_queue list [--state STATE,...] [--json]');
      const states = given.read('--state', parseStates);
      return { json: given.has('--json'), ...(states !== undefined && { states }) };
    },
    run: list,
  }),
  explain: subcommand({
    name: 'explain',
    help: `job_queue explain ID [--json]

Why a job does not run: what it waits for, and per machine what is missing and how much.

Example: job_queue explain 17
`,
    flags: { '--json': 'switch' },
    read: (given) => {
      noMoreWords(given.words, 1, 'job_queue explain ID');
      const [word] = given.words;
      if (word === undefined) throw new UsageError('no job is named: expected job_queue explain ID');
      return { id: parseId(word), json: given.has('--json') };
    },
    run: async ({ id, json }, { door, print }) => {
      const shape = {
        id: 'number',
        name: 'string',
        state: 'string',
        reasons: 'list',
        machines: 'list',
      } as const;
      const explained = answer<ExplainAnswer>(await (await door()).call('explain', { id }), shape, 'explain');
      for (const line of json ? [JSON.stringify(explained)] : explainLines(explained)) print(line);
      return 0;
    },
  }),
} as const;
