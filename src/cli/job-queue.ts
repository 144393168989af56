#!/usr/bin/env node
/** job_queue: a service that remembers jobs and runs them, and the commands that ask it. */
import { SchedulerError, UsageError } from '../lib/domain/errors.ts';
import { nearestWord } from '../lib/util/nearest-word.ts';
import { visibleText } from '../lib/util/terminal-text.ts';
import { OWN_FAILURE } from './exit-codes.ts';
import { outliveTerminal } from './lost-terminal.ts';
import type { DoorWay, Subcommand, Surroundings } from './queue/subcommand.ts';
import { DOOR_FLAGS, HelpAsked, quoted, unknownFlag } from './queue/words.ts';
import { WriteQueue } from './write-queue.ts';

const CODE_AFTER_SIGPIPE = 141;

type Group = () => Promise<{ readonly COMMANDS: Readonly<Record<string, Subcommand>> }>;

const service: Group = () => import('./queue/service.ts');
const machines: Group = () => import('./queue/machines.ts');
const submit: Group = () => import('./queue/submit.ts');
const look: Group = () => import('./queue/look.ts');
const jobs: Group = () => import('./queue/jobs.ts');
const follow: Group = () => import('./queue/follow.ts');
const watch: Group = () => import('./queue/watch.ts');
const state: Group = () => import('./queue/state.ts');

/** Each command loads what it needs, and no more: a question about the queue is asked often. */
const GROUPS: ReadonlyMap<string, Group> = new Map([
  ...['start', 'stop', 'service-file'].map((name) => [name, service] as const),
  ...['machines', 'add-machine', 'remove-machine', 'configure'].map((name) => [name, machines] as const),
  ...['submit', 'remove-job'].map((name) => [name, submit] as const),
  ...['status', 'list', 'explain'].map((name) => [name, look] as const),
  ...['hold', 'release', 'kill', 'rerun', 'priority', 'clean'].map((name) => [name, jobs] as const),
  ...['log', 'follow', 'wait', 'events'].map((name) => [name, follow] as const),
  ['watch', watch],
  ...['export', 'import'].map((name) => [name, state] as const),
]);

/** What other queues call them. */
const OTHER_WORDS: ReadonlyMap<string, string> = new Map([
  ...['cancel', 'delete', 'del', 'remove', 'scancel', 'qdel'].map((word) => [word, 'kill'] as const),
  ...['queue', 'squeue', 'qstat', 'ls', 'jobs'].map((word) => [word, 'list'] as const),
  ...['run', 'add', 'enqueue', 'sbatch', 'qsub'].map((word) => [word, 'submit'] as const),
  ...([
    ['tail', 'follow'],
    ['output', 'log'],
    ['serve', 'start'],
    ['drain', 'configure'],
    ['show', 'status'],
  ] as const),
]);

let isService = false;

async function main(argv: readonly string[], outs: WriteQueue): Promise<number> {
  // Node puts U+FFFD where an argument is not UTF-8: it would be another argument, or name another file, than was typed.
  if (argv.some((word) => word.includes('\uFFFD')))
    (await import('./queue/argument-bytes.ts')).checkArgumentBytes(argv);
  const { before, command, behind } = commandOf(argv);
  if (command === '--version') return await printVersion(outs);
  if (command === 'help' && behind[0] !== undefined) return await printHelp(outs, behind[0]);
  if (command === 'help' || command === '--help' || command === '-h') return await printHelp(outs);
  if (command === undefined)
    throw new UsageError('no command: expected job_queue COMMAND, see job_queue --help');
  const subcommand = await find(command);
  isService = command === 'start';
  const warn = (message: string) => outs.stderr.write(`job_queue: ${visibleLines(message)}\n`);
  const surroundings = (way: DoorWay): Surroundings => ({
    outs,
    warn,
    print: (line) => outs.stdout.write(`${line}\n`),
    door: async () => await (await import('./queue/door.ts')).openDoor(way, warn),
  });
  try {
    return await subcommand.run([...before, ...behind], surroundings);
  } catch (error) {
    if (error instanceof HelpAsked) return await printHelp(outs, command);
    throw error;
  }
}

/** The flags before the command are the common ones: `job_queue --host user@server status`. */
function commandOf(argv: readonly string[]) {
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (!word.startsWith('-') || /^(?:-h|--help|--version)$/.test(word)) break;
    const [flag = ''] = word.split('=');
    if (!Object.hasOwn(DOOR_FLAGS, flag))
      throw unknownFlag(flag, [...Object.keys(DOOR_FLAGS), '--help', '--version'], 'job_queue');
    if (!word.includes('=')) at++;
  }
  return { before: argv.slice(0, at), command: argv[at], behind: argv.slice(at + 1) };
}

async function find(name: string): Promise<Subcommand> {
  const group = GROUPS.get(name);
  const found = group === undefined ? undefined : (await group()).COMMANDS[name];
  if (found !== undefined) return found;
  const near = OTHER_WORDS.get(name) ?? nearestWord(name, GROUPS.keys());
  const hint = near === undefined ? 'see job_queue --help' : `did you mean ${near}?`;
  throw new UsageError(`unknown command ${quoted(name)} (${hint})`);
}

async function printHelp(outs: WriteQueue, name?: string): Promise<number> {
  outs.stdout.write(name === undefined ? (await import('./queue/help.ts')).HELP : (await find(name)).help);
  return 0;
}

async function printVersion(outs: WriteQueue): Promise<number> {
  const { TOOL_VERSION } = await import('../lib/util/tool-version.ts');
  outs.stdout.write(`${TOOL_VERSION}\n`);
  return 0;
}

/** What a service says may come from its machines, and from another computer. */
function visibleLines(message: string): string {
  return message.split('\n').map(visibleText).join('\n');
}

outliveTerminal();
const outs = new WriteQueue();
outs.onFailure = ({ stream, error, isReaderGone }) => {
  // A service goes on without whoever read its words, and when the disk of its log is full.
  if (isService) return;
  if (!isReaderGone) outs.stderr.write(`job_queue: cannot write ${stream}: ${error.message}\n`);
  process.exit(isReaderGone ? CODE_AFTER_SIGPIPE : OWN_FAILURE);
};
const exitCode = await main(process.argv.slice(2), outs).catch((error: unknown) => {
  const text = error instanceof SchedulerError ? visibleLines(error.message) : String((error as Error).stack);
  outs.stderr.write(`job_queue: ${text}\n`);
  return OWN_FAILURE;
});
await outs.written();
process.exit(exitCode);
