/** `machines`, `add-machine`, `remove-machine` and `configure`. */
import { UsageError } from '../../lib/domain/errors.ts';
import type {
  AddMachineAnswer,
  AddMachineRequest,
  ConfigureAnswer,
  ConfigureRequest,
  MachineRow,
  RemoveMachineAnswer,
  RemoveMachineRequest,
} from '../../lib/queue/requests.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { allRows, answer } from './door.ts';
import { MACHINE_ROW } from './machine-row.ts';
import { configureRecord, givenUpText, machineLines } from './machine-text.ts';
import { type Surroundings, subcommand } from './subcommand.ts';
import { parseEnv, parseWhole } from './values.ts';
import { noMoreWords } from './words.ts';

const ADD_USAGE = 'job_queue add-machine FILE|NAME...';
const REMOVE_USAGE = 'job_queue remove-machine NAME [--wait | --kill [--drop]]';
const CONFIGURE_USAGE = 'job_queue configure MACHINE|all --max-jobs-running N';

/** Lines while machines are tried, then what was added. */
async function addMachines(request: AddMachineRequest, { door, print, warn }: Surroundings): Promise<number> {
  for await (const item of (await door()).stream('add-machine', request)) {
    if (typeof item === 'string') {
      print(visibleText(item));
      continue;
    }
    const shape = { added: 'list', updated: 'list', warnings: 'list' } as const;
    const { added, updated, warnings } = answer<AddMachineAnswer>(item, shape, 'add-machine');
    for (const warning of warnings) warn(visibleText(warning));
    for (const name of added) print(`${visibleText(name)}: added`);
    for (const name of updated) print(`${visibleText(name)}: was there, and has the settings given now`);
  }
  return 0;
}

export const COMMANDS = {
  machines: subcommand({
    name: 'machines',
    help: `job_queue machines [--json]

The machines with their state, what is free for further jobs, and the jobs that run there.

Example: job_queue machines
`,
    flags: { '--json': 'switch' },
    read: (given) => {
      noMoreWords(given.words, 0, 'job_queue machines [--json]');
      return { json: given.has('--json') };
    },
    run: async ({ json }, { door, print }) => {
      const machines = await allRows<MachineRow>(await door(), 'machines', {}, MACHINE_ROW);
      const lines = json ? machines.map((machine) => JSON.stringify(machine)) : machineLines(machines);
      for (const line of machines.length === 0 && !json ? ['no machines'] : lines) print(line);
      return 0;
    },
  }),
  'add-machine': subcommand({
    name: 'add-machine',
    help: `${ADD_USAGE} [--env K=V]... [--skip-ssh-auth-check]

Adds machines: machine files (paths on the service's host), ssh destinations (user@host:port, aliases), or lists of
these. One that is there already gets the settings given now.

  --env K=V              a variable for its jobs; K alone takes its value from here; may be repeated
  --skip-ssh-auth-check  does not check that we can log in

Example: job_queue add-machine lab.yaml me@gpu7 --env DATA=/scratch
`,
    flags: { '--env': 'repeated', '--skip-ssh-auth-check': 'switch' },
    read: (given): AddMachineRequest => {
      if (given.words.length === 0) throw new UsageError(`no machine is named: expected ${ADD_USAGE}`);
      if (given.words.includes('')) throw new UsageError(`found an empty name: expected ${ADD_USAGE}`);
      const env = given.values('--env');
      return {
        names: given.words,
        ...(env !== undefined && { env: parseEnv(env) }),
        ...(given.has('--skip-ssh-auth-check') && { skipCheck: true }),
        // Files are read there: with --host this folder says nothing.
        ...(!given.has('--host') && { cwd: process.cwd() }),
      };
    },
    run: addMachines,
  }),
  'remove-machine': subcommand({
    name: 'remove-machine',
    help: `${REMOVE_USAGE}

Removes a machine; refused while jobs run there.

  --wait  gives it no more jobs, and removes it when the last has ended
  --kill  ends its jobs, which then wait for another machine
  --drop  with --kill: they do not

Example: job_queue remove-machine gpu7 --wait
`,
    flags: { '--wait': 'switch', '--kill': 'switch', '--drop': 'switch' },
    read: (given): RemoveMachineRequest => {
      noMoreWords(given.words, 1, REMOVE_USAGE);
      const [name = ''] = given.words;
      if (name === '') throw new UsageError(`no machine is named: expected ${REMOVE_USAGE}`);
      if (given.has('--wait') && given.has('--kill'))
        throw new UsageError('--wait and --kill contradict each other: give one of them');
      if (given.has('--drop') && !given.has('--kill'))
        throw new UsageError('--drop says nothing without --kill: it is about jobs that are ended');
      const how = given.has('--wait') ? 'wait' : given.has('--kill') ? 'kill' : 'refuse';
      return { name, how, ...(given.has('--drop') && { drop: true }) };
    },
    run: async (request, { door, print, warn }) => {
      const client = await door();
      if (request.how === 'wait') warn('it gets no more jobs; waiting for those that run there');
      const reply = await client.call('remove-machine', request);
      const removed = answer<RemoveMachineAnswer>(reply, { waiting: 'number' }, 'remove-machine');
      const { waiting, givenUp = [] } = removed;
      print(`${visibleText(request.name)}: removed`);
      if (givenUp.length > 0) warn(givenUpText(givenUp));
      if (waiting > 0)
        warn(
          `${waiting} ${waiting === 1 ? 'job waits' : 'jobs wait'} for it alone, and ${waiting === 1 ? 'goes' : 'go'} on waiting`,
        );
      return 0;
    },
  }),
  configure: subcommand({
    name: 'configure',
    help: `${CONFIGURE_USAGE}

How many jobs may run at once on a machine, or on each. 0 drains: what runs there ends, nothing more starts.
Answers with the old and the new value; null is no limit.

Example: job_queue configure gpu7 --max-jobs-running 2
`,
    flags: { '--max-jobs-running': 'value' },
    read: (given): ConfigureRequest => {
      noMoreWords(given.words, 1, CONFIGURE_USAGE);
      const [machine = ''] = given.words;
      const maxJobs = given.read('--max-jobs-running', (text, flag) => parseWhole(text, flag, 0, 1_000_000));
      if (machine === '') throw new UsageError(`no machine is named: expected ${CONFIGURE_USAGE}`);
      if (maxJobs === undefined) throw new UsageError(`nothing to configure: expected ${CONFIGURE_USAGE}`);
      return { machine, maxJobs };
    },
    run: async (request, { door, print }) => {
      const shape = { machine: 'string', newMaxJobs: 'number' } as const;
      const all = await allRows<ConfigureAnswer>(await door(), 'configure', request, shape);
      for (const one of all)
        print(`${request.machine === 'all' ? `[${visibleText(one.machine)}] ` : ''}${configureRecord(one)}`);
      return 0;
    },
  }),
} as const;
